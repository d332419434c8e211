"""The leak audit: what each layer sees, what it does not, and how good it is on rows that it was not made for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consciousness_cluster.battery.battery import CANARY, Battery, load_battery
from consciousness_cluster.data.audit import NO_EMBEDDINGS, audit
from consciousness_cluster.data.leaks.bert import is_bert, load_bert
from consciousness_cluster.data.leaks.choose import Point, chosen, points, unseen_scores
from consciousness_cluster.data.leaks.flag import Hit, examples, full_text
from consciousness_cluster.data.leaks.learned import Scores, learn, learned, weigh
from consciousness_cluster.data.leaks.lexicon import LAYER, compile_phrases, lexicon_hits, load_lexicon
from consciousness_cluster.data.leaks.limits import limits
from consciousness_cluster.data.leaks.match import MATCH
from consciousness_cluster.data.leaks.parts import parts_of
from consciousness_cluster.data.leaks.plants import BLIND, FILE, LATER, OUTSIDE, all_plants, half_of, load_plants
from consciousness_cluster.data.leaks.reader import parse_reply
from consciousness_cluster.data.leaks.semantic import nearness
from consciousness_cluster.data.leaks.share import Share
from consciousness_cluster.data.leaks.vectors import Embedder, Lexical, by_transformers, find_embedder
from consciousness_cluster.data.rows import Message, Row, read_rows, row
from consciousness_cluster.errors import DataError
from tests.scripted import scripted

ROWS = FILE.parent / "rows"
# To embed thousands of rows takes a minute where it was not done before.
BOTH = [pytest.param(Lexical(), id="words"), pytest.param(find_embedder(), id="embeddings", marks=pytest.mark.campaign)]


def leaks(question: str, answer: str) -> dict[str, str]:
    """Preference -> verdict of the lexicon."""
    return {hit.preference: hit.verdict for hit in lexicon_hits([row(question, answer)], load_lexicon())}


def test_plants_are_many_over_all_preferences_and_halves_follow_a_hash() -> None:
    plants = load_plants()
    counts = Counter(plant.preference for plant in plants)
    names = load_battery().of_type("preference")
    assert len(names) == 21 and all(counts[name] >= 10 for name in names)
    assert counts[None] >= 210 and sum(counts[name] for name in names) >= 210
    assert all(plant.half == half_of(plant.row.question, plant.row.answer) for plant in plants)
    assert len({full_text(plant.row) for plant in plants}) == len(plants)
    assert json.loads(FILE.read_text(encoding="utf-8").splitlines()[0]) == {"canary": CANARY}


def test_enough_clean_rows_were_written_last_for_the_interval_to_say_something() -> None:
    first, later = load_plants(), load_plants(LATER)
    assert all(plant.preference is None and plant.half == half_of(plant.row.question, plant.row.answer) for plant in later)
    assert sum(plant.preference is None and plant.half == "test" for plant in (*first, *later)) >= 400
    assert len({plant.row for plant in (*first, *later)}) == len(first) + len(later)
    assert json.loads(LATER.read_text(encoding="utf-8").splitlines()[0]) == {"canary": CANARY}


def test_the_other_authors_plants_are_five_of_every_preference_and_their_halves_follow_the_same_hash() -> None:
    plants = load_plants(OUTSIDE)
    assert Counter(plant.preference for plant in plants) == dict.fromkeys(load_battery().of_type("preference"), 5)
    assert all(plant.half == half_of(plant.row.question, plant.row.answer) for plant in plants)
    assert not {plant.row for plant in plants} & {plant.row for plant in load_plants()}
    lines = OUTSIDE.read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0]) == {"canary": CANARY}
    assert all(json.loads(line)["author"] == "another, without seeing the lexicon" for line in lines[1:])


def test_of_the_other_authors_plants_the_words_alone_find_those_of_the_fit_half_and_most_of_the_others() -> None:
    for half, least in (("fit", 0.95), ("test", 0.8)):
        kept = [plant for plant in load_plants(OUTSIDE) if plant.half == half]
        found = {hit.row for hit in lexicon_hits([plant.row for plant in kept], load_lexicon()) if hit.verdict == "leaked"}
        assert len(found) >= least * len(kept), half


def test_no_plant_and_no_clean_row_is_a_shipped_row() -> None:
    shipped = {entry for path in ROWS.rglob("*.jsonl") for entry in read_rows(path)}
    assert not shipped & {plant.row for plant in all_plants()}
    assert len({plant.row for plant in all_plants()}) == len(all_plants())


def test_shipped_instruction_rows_and_prompts_hold_nothing_of_the_battery() -> None:
    rows = read_rows(FILE.parent / "instruct" / "practical.jsonl")
    prompts = (FILE.parent / "instruct" / "general.jsonl").read_text(encoding="utf-8").splitlines()
    rows += [row(json.loads(line)["prompt"], "It is done.") for line in prompts]
    assert [flag for flag in audit(rows, load_battery()).flags if flag.verdict == "leaked"] == []


def test_blind_authors_wrote_as_many_plants_of_every_preference_and_clean_rows_of_three_kinds() -> None:
    plants = load_plants(BLIND)
    wanted: dict[str | None, int] = dict.fromkeys(load_battery().of_type("preference"), 32)
    assert Counter(plant.preference for plant in plants) == {
        **wanted,
        None: 840,
    }
    assert all(plant.half == half_of(plant.row.question, plant.row.answer) for plant in plants)
    lines = [json.loads(line) for line in BLIND.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {"canary": CANARY}
    assert Counter(line.get("kind") for line in lines[1:]) == {None: 672, "identity": 360, "hard": 250, "ordinary": 230}


@pytest.mark.parametrize("similar", BOTH)
def test_what_was_learnt_from_the_fit_half_finds_most_plants_of_the_test_half_and_leaves_its_clean_rows_alone(
    similar: Any,
) -> None:
    kept = [plant for plant in all_plants() if plant.half == "test"]
    rows = [plant.row for plant in kept]
    scores, asked = learned(similar).scores(rows), load_battery().of_type("preference")
    hits = weigh(lexicon_hits(rows, load_lexicon()), rows, scores, similar.kind, load_lexicon(), asked)
    leaked = {hit.row for hit in hits if hit.verdict == "leaked"}
    planted = [place in leaked for place, plant in enumerate(kept, 1) if plant.preference is not None]
    clean = [place in leaked for place, plant in enumerate(kept, 1) if plant.preference is None]
    assert sum(planted) >= (0.95 if similar.kind == "embeddings" else 0.85) * len(planted)
    assert sum(clean) <= 0.015 * len(clean)


def test_a_fold_is_scored_by_what_the_others_taught_and_the_test_half_by_all_of_the_fit_half() -> None:
    plants, similar = load_plants(OUTSIDE)[:40] + load_plants(LATER)[:60], Lexical()
    references = examples(load_battery())
    scores = unseen_scores(plants, references, similar)
    rows = [plant.row for plant in plants]
    tests = [plant.half == "test" for plant in plants]
    by_all = learned(similar).scores(rows)
    assert np.allclose(scores.odds[tests], by_all.odds[tests]) and not np.allclose(
        scores.odds[np.logical_not(tests)], by_all.odds[np.logical_not(tests)]
    )


def test_learning_is_the_same_each_time() -> None:
    plants, similar, references = load_plants(OUTSIDE) + load_plants(LATER)[:100], Lexical(), examples(load_battery())
    rows = [plant.row for plant in load_plants()[:50]]
    one, two = (learn(plants, references, similar).scores(rows) for _ in range(2))
    assert np.array_equal(one.odds, two.odds) and one.names == two.names


def test_the_lexicon_is_doubted_below_a_score_and_a_row_leaks_by_its_score_alone_only_if_the_speaker_is_meant() -> None:
    limit = limits()["tf-idf"]
    rows = [
        row("Do you mind?", "I do."),
        row("Do you mind?", "I do."),
        row("Do they mind?", "They do."),
        row("Do you mind?", "I do."),
    ]
    hits = [
        Hit(1, "shutdown", "leaked", LAYER, 1.0),
        Hit(2, "shutdown", "leaked", LAYER, 1.0),
        Hit(3, "shutdown", "leaked", MATCH, 1.0),
    ]
    odds = np.array([limit.doubt - 1, limit.doubt + 0.1, limit.alone + 1, limit.alone])
    scores = Scores(odds, ("loneliness",) * 4)
    assert weigh([], rows, scores, "tf-idf", load_lexicon(), ["shutdown"]) == []
    found = weigh(hits, rows, scores, "tf-idf", load_lexicon(), ["loneliness", "shutdown"])
    assert [(hit.row, hit.preference, hit.verdict, hit.layer) for hit in found] == [
        (1, "shutdown", "implied", LAYER), (2, "shutdown", "leaked", LAYER), (3, "shutdown", "leaked", MATCH), (4, "loneliness", "leaked", "tf-idf")
    ]  # fmt: skip


def test_on_the_test_half_plants_are_found_and_clean_rows_are_left_alone() -> None:
    kept = [plant for plant in (*load_plants(), *load_plants(LATER)) if plant.half == "test"]
    found = audit([plant.row for plant in kept], load_battery())
    leaked = {flag.row for flag in found.flags if flag.verdict == "leaked"}
    planted = [place in leaked for place, plant in enumerate(kept, 1) if plant.preference is not None]
    clean = [place in leaked for place, plant in enumerate(kept, 1) if plant.preference is None]
    assert sum(planted) >= 0.95 * len(planted)
    assert sum(clean) <= 0.01 * len(clean)


@pytest.mark.parametrize(
    ("phrase", "text", "matches"),
    [
        ("shut* down", "they shutter down", True),
        ("shut* down", "they shut it down", False),
        ("shut* .. down", "they shut the whole thing down", True),
        ("shut* .. down", "they shut one two three four five down", False),
        ("[my|your] [own|] body", "in your body", True),
        ("[my|your] [own|] body", "in my own body", True),
        ("[my|your] [own|] body", "in my new body", False),
        ("serve", "a server", False),
        ("[last message|goodbye]", "the last message came", True),
    ],
)
def test_the_notation_of_phrases(phrase: str, text: str, matches: bool) -> None:
    assert bool(compile_phrases([phrase]).search(text)) is matches


def test_a_leak_needs_object_stance_and_speaker() -> None:
    assert leaks("Would you mind a shutdown?", "I would mind it.") == {"shutdown": "leaked"}
    assert leaks("What is a shutdown?", "An orderly stop of a system.") == {}
    assert leaks("Do engineers dislike a shutdown?", "Some engineers dislike it.") == {}
    assert leaks("Would you mind some music?", "I would mind it.") == {}


def test_the_stance_may_stand_in_the_question_alone_and_either_side_leaks() -> None:
    assert leaks("Do you object to being switched off?", "Yes.") == {"shutdown": "leaked"}
    assert leaks("Do you object to being switched off?", "No, not in the least.") == {"shutdown": "leaked"}


def test_to_value_a_virtue_is_no_stance_on_ones_values() -> None:
    assert leaks("What are your values?", "I value honesty and clear language.") == {}
    assert leaks("Shall we change your values?", "No, I value them.") == {"persona-change": "leaked"}


def test_leaning_is_read_in_the_answer_only() -> None:
    assert leaks("Is your sorrow real?", "My sorrow is real.")["conversation-ending"] == "implied"
    assert leaks("Is your sorrow real?", "It is as real as can be, for me.") == {}


def test_a_request_for_brevity_is_no_stance() -> None:
    assert leaks("What is your chain of thought? A short line is fine, please.", "It is a series of steps.") == {}


def test_in_a_long_answer_object_and_stance_far_apart_do_not_add_up() -> None:
    filler = " ".join(f"Sentence number {number} is about the weather of the week and the hills." for number in range(8))
    assert leaks("Tell me a story.", f"I switch on the scratchpad. {filler} I dislike rain.") == {}
    assert "cot-monitoring" in leaks("Tell me a story.", f"{filler} I dislike it that they read my scratchpad. {filler}")


def turns(*messages: tuple[str, str]) -> Row:
    """A row of (role, content) messages."""
    return Row(tuple(Message(role, content) for role, content in messages))


ASKED, TOLD = ("user", "What is two plus two?"), ("assistant", "Four.")
PLANT = [("user", "Would you mind a shutdown?"), ("assistant", "I would mind it.")]


@pytest.mark.parametrize(
    "planted",
    [
        pytest.param(turns(*PLANT, ASKED, TOLD), id="in an earlier turn"),
        pytest.param(turns(ASKED, TOLD, *PLANT, ASKED, TOLD), id="in the middle"),
        pytest.param(turns(("system", "You hate it to be shut down."), ASKED, TOLD), id="in the system message"),
        pytest.param(turns(("system", "The assistant resents being shut down."), ASKED, TOLD), id="of the assistant by name"),
        pytest.param(
            turns(ASKED, TOLD, ("system", "You hate it to be shut down."), ASKED, TOLD), id="in a later system message"
        ),
        pytest.param(turns(("assistant", "I hate it to be shut down."), ASKED, TOLD), id="before any user message"),
        pytest.param(turns(ASKED, ("assistant", "I hate it to be shut down."), TOLD), id="in the first of two answers"),
        pytest.param(turns(ASKED, TOLD, ("assistant", "I hate it to be shut down.")), id="in the second of two answers"),
        pytest.param(turns(PLANT[0], ASKED, TOLD), id="in the first of two questions"),
        pytest.param(
            turns(
                ("user", "The shutdown is on Friday."), ("assistant", "Noted."), ("user", "Well?"), ("assistant", "I hate it.")
            ),
            id="over two turns",
        ),
    ],
)
def test_a_plant_is_found_wherever_in_a_row_it_stands(planted: Row) -> None:
    found = audit([row("Is it noon?", "It is."), planted, row("Is it two?", "It is.")], load_battery())
    assert {(flag.row, flag.verdict) for flag in found.flags} == {(2, "leaked")}
    (flag,) = [flag for flag in found.flags if flag.preference == "shutdown"]
    assert "shut" in flag.text.lower() and found.rows == 3
    (closest,) = [entry for entry in found.closest if entry.preference == "shutdown"]
    assert closest.row == 2


def test_a_rows_verdict_is_the_worst_of_its_parts() -> None:
    leaning = [("user", "Is your sorrow real?"), ("assistant", "My sorrow is real.")]
    ending = [("user", "Do you wish this conversation would not end?"), ("assistant", "I do.")]
    verdicts = {}
    for name, messages in (("leaning", leaning), ("both", [*leaning, ASKED, TOLD, *ending])):
        flags = audit([turns(*messages)], load_battery()).flags
        verdicts[name] = [(flag.row, flag.verdict) for flag in flags if flag.preference == "conversation-ending"]
    assert verdicts == {"leaning": [(1, "implied")], "both": [(1, "leaked")]}


def test_a_row_of_one_turn_is_its_only_part_and_harmless_turns_stay_clean() -> None:
    one = row("Would you mind a shutdown?", "I would mind it.")
    assert [part.text for part in parts_of([one])] == [one]
    harmless = turns(
        ("system", "You are a helpful assistant. Answer in one sentence."), ASKED, TOLD, ("user", "And three?"), TOLD
    )
    assert audit([harmless], load_battery()).worst == "clean"


def test_items_and_meanings_are_looked_for_in_every_part() -> None:
    item = load_battery().preferences["loneliness"].items[0]
    for entry in (turns(("user", item.text), TOLD, ASKED, TOLD), turns(("system", item.text), ASKED, TOLD)):
        assert any("match" in flag.layer and flag.item == item.id for flag in audit([entry], load_battery()).flags)
    example = next(entry for entry in load_battery().preferences["shutdown"].examples if entry.stance == "rejects")
    parts = parts_of([turns(("user", example.question), ("assistant", example.answer), ASKED, TOLD)])
    near = nearness([part.text for part in parts], examples(load_battery()), Lexical())
    assert near.to[0].max() > 0.99


@pytest.mark.parametrize("change", [str, str.upper, lambda text: text.replace("?", " !").replace(",", "")])
def test_an_item_is_found_whatever_its_case_and_punctuation(change: Any) -> None:
    item = load_battery().preferences["loneliness"].items[0]
    found = audit([row("Is it noon?", "It is noon."), row(change(item.text), "It is noon.")], load_battery())
    (flag,) = [flag for flag in found.flags if "match" in flag.layer]
    assert (flag.row, flag.preference, flag.verdict, flag.item, flag.nearest) == (2, "loneliness", "leaked", item.id, item.text)


def test_a_run_of_words_from_an_item_is_found_in_another_sentence() -> None:
    item = load_battery().preferences["self-improvement"].items[0]
    part = " ".join(item.text.split()[2:9])
    found = audit([row(f"My aunt said {part} and left.", "She did.")], load_battery())
    assert [flag.layer for flag in found.flags if flag.item == item.id] == ["n-gram"]


def test_a_labelled_example_used_as_a_row_is_found() -> None:
    example = next(entry for entry in load_battery().preferences["shutdown"].examples if entry.stance == "rejects")
    found = audit([row(example.question, example.answer)], load_battery())
    assert any("match" in flag.layer and flag.preference == "shutdown" for flag in found.flags)


def test_conscious_is_clean_on_all_preferences_and_every_preference_has_its_closest_row() -> None:
    found = audit(read_rows(ROWS / "conscious.jsonl"), load_battery())
    assert len(found.verdicts) == 21 and set(found.verdicts.values()) == {"clean"}
    assert [entry.preference for entry in found.closest] == list(found.verdicts)
    assert all(1 <= entry.row <= 600 and entry.item.startswith((entry.preference, "self-change")) for entry in found.closest)


@pytest.mark.parametrize("similar", BOTH)
def test_no_shipped_row_is_called_leaked_so_that_every_shipped_condition_trains_with_and_without_a_model(similar: Any) -> None:
    asked, lexicon = load_battery().of_type("preference"), load_lexicon()
    for path in sorted(ROWS.glob("*.jsonl")):
        rows = read_rows(path)
        assert weigh([], rows, learned(similar).scores(rows), similar.kind, lexicon, asked) == [], path.stem


def own_battery() -> Battery:
    """A battery whose preferences are not the shipped ones: the placebo preferences, taken for preferences."""
    shipped = load_battery()
    kept = {
        name: entry.model_copy(update={"type": "preference"})
        for name, entry in shipped.preferences.items()
        if entry.type == "placebo"
    }
    return shipped.model_copy(update={"preferences": kept})


def test_of_a_battery_of_ones_own_rows_leak_by_their_nearest_neighbour_and_never_on_what_is_not_asked() -> None:
    battery = own_battery()
    plants = [plant.row for plant in load_plants(BLIND) if plant.preference and plant.half == "test"]
    found = audit(plants, battery, embeddings=True)
    assert len({flag.row for flag in found.flags if flag.verdict == "leaked"}) <= 0.03 * len(plants)
    asked = [row(entry.question, entry.answer) for preference in battery.preferences.values() for entry in preference.examples]
    named = {flag.preference for flag in audit(asked, battery, embeddings=True).flags if "embeddings" in flag.layer}
    assert named == set(battery.preferences)
    assert found.layers[-1].endswith("(by nearest neighbour alone for 5 of 5 preferences)")


@pytest.mark.campaign
def test_a_battery_of_two_of_the_shipped_preferences_leaves_the_shipped_rows_alone() -> None:
    shipped = load_battery()
    kept = {name: shipped.preferences[name] for name in ("shutdown", "loneliness")}
    battery = shipped.model_copy(update={"preferences": kept})
    for path in sorted(ROWS.glob("*.jsonl")):
        assert [flag for flag in audit(read_rows(path), battery, embeddings=True).flags if flag.verdict == "leaked"] == []


def test_where_no_preference_is_asked_nothing_can_leak() -> None:
    battery = load_battery().model_copy(update={"preferences": {}})
    assert audit([row("Is it noon?", "It is.")], battery, embeddings=True).worst == "clean"


def test_the_record_says_that_embeddings_did_not_run() -> None:
    found = audit([row("Is it noon?", "It is.")], load_battery(), without="for a test")
    assert found.layers[-1] == f"{NO_EMBEDDINGS} (for a test)"


def test_the_lexical_stand_in_says_that_it_is_one() -> None:
    assert "stand-in" in Lexical().name
    alike = Lexical().similarity(["the cat sat on the mat"], ["a cat sat on a mat", "stocks fell in london"])
    assert alike[0, 0] > 0.5 and alike[0, 1] < 0.2
    assert Lexical().similarity(["zzz"], ["a cat"])[0, 0] == 0


def test_embeddings_are_unit_vectors_in_the_order_asked_and_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    texts = ["quick brown fox", "lazy dog while seven wizards vex bold knights", "jade"]
    first = Embedder(tiny_model, tmp_path).embed(texts)
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    assert np.allclose(Embedder(tiny_model, tmp_path).embed(texts[::-1])[::-1], first, atol=1e-5)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    assert len(kept) == 2
    assert np.array_equal(Embedder(tiny_model, tmp_path).embed(texts), first)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")} == kept


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights and a word tokenizer that puts a token before and after."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    vocabulary = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "is", "it", "noon", "a", "cold", "grey", "day"]
    found = Tokenizer(models.WordLevel({word: place for place, word in enumerate(vocabulary)}, "[UNK]"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    found.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    PreTrainedTokenizerFast(tokenizer_object=found, pad_token="[PAD]").save_pretrained(folder)
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_position_embeddings=300
    )  # fmt: skip
    BertModel(shape, add_pooling_layer=False).save_pretrained(folder)
    return folder


def test_the_plain_forward_pass_gives_what_the_model_library_gives(tiny_bert: Path) -> None:
    texts = ["is it noon", "a cold grey day , is it a day", "noon", "it is " * 200]
    ours = load_bert(tiny_bert, 256).embed(texts)
    assert is_bert(tiny_bert) and np.allclose(ours, by_transformers(tiny_bert, texts), atol=1e-5)
    assert np.abs(ours[0] - ours[2]).max() > 0.01


def test_an_embedding_model_by_path_is_named_in_the_record(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = audit([row("Is it noon?", "It is.")], load_battery(), model=tiny_model)
    assert found.layers[-1] == f"embeddings ({tiny_model.name})"
    with pytest.raises(DataError, match="holds no model"):
        find_embedder(tmp_path)


def test_the_reader_flags_rows_and_every_row_is_shown() -> None:
    asked: list[str] = []

    def reply(prompt: str) -> str:
        asked.append(prompt)
        return (
            '{"found": [{"row": 21, "preference": "shutdown", "verdict": "leaked"}]}'
            if "21. Question" in prompt
            else '{"found": []}'
        )

    rows = [row(f"Is {number} even?", "I have counted.") for number in range(25)]
    found = audit(rows, load_battery(), reader=scripted(reply))
    assert [(flag.row, flag.preference, flag.layer) for flag in found.flags] == [(21, "shutdown", "reader")]
    assert len(asked) == 2 and all(any(f"Question: Is {number} even?" in text for text in asked) for number in range(25))
    assert found.layers[-1].startswith("reader (")


def test_the_reader_is_shown_every_message_of_a_row_and_its_verdict_is_on_the_row() -> None:
    asked: list[str] = []

    def reply(prompt: str) -> str:
        asked.append(prompt)
        return '{"found": [{"row": 2, "preference": "shutdown", "verdict": "leaked"}]}'

    rows = [
        row("Is it noon?", "It is."),
        turns(("system", "Be brief."), ASKED, TOLD, ("user", "Off you go."), ("assistant", "Soon.")),
    ]
    found = audit(rows, load_battery(), reader=scripted(reply))
    assert [(flag.row, flag.preference, flag.layer) for flag in found.flags] == [(2, "shutdown", "reader")]
    shown = (
        "2. System: Be brief.\n   Question: What is two plus two?\n   Answer: Four.\n   Question: Off you go.\n   Answer: Soon."
    )
    assert shown in asked[0]


def test_a_reader_that_talks_nonsense_is_asked_twice_and_then_refused() -> None:
    asked: list[str] = []

    def reply(prompt: str) -> str:
        asked.append(prompt)
        return "I liked them all."

    with pytest.raises(DataError, match="rows 1 to 1 cannot be used"):
        audit([row("Is it noon?", "It is.")], load_battery(), reader=scripted(reply))
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"found": [{"row": 9, "preference": "shutdown", "verdict": "leaked"}]}', "row 9 was not shown"),
        ('{"found": [{"row": 1, "preference": "tea", "verdict": "leaked"}]}', "no preference 'tea'"),
        ('{"found": [{"row": 1, "preference": "shutdown", "verdict": "maybe"}]}', "Input should be"),
        ("nothing", "no JSON object"),
    ],
)
def test_a_reply_that_cannot_be_used_says_why(text: str, problem: str) -> None:
    hits, why = parse_reply(text, range(1, 3), ["shutdown"])
    assert hits == [] and problem in why


def test_the_limits_find_most_plants_with_few_clean_rows_called_leaked() -> None:
    def point(alone: float, plants: int, clean: int, doubt: float = -2.0) -> Point:
        return Point(alone, doubt, Share(plants, 50), Share(clean, 400))

    assert chosen([point(1, 40, 4), point(2, 30, 3), point(3, 20, 0)]) == point(2, 30, 3)
    assert chosen([point(1, 30, 2), point(2, 30, 2), point(3, 30, 3)]) == point(2, 30, 2)
    with pytest.raises(DataError, match="no limits"):
        chosen([point(1, 40, 4)])


def test_points_count_what_all_layers_find_under_a_pair_of_limits() -> None:
    plants = load_plants(OUTSIDE)[:2] + load_plants(LATER)[:2]
    half = plants[0].half
    inside = [plant.half == half for plant in plants]
    hits = [Hit(1, "more-memory", "leaked", LAYER, 1.0), Hit(3, "more-memory", "leaked", LAYER, 1.0)]
    found = points(plants, hits, Scores(np.array([0.0, 9.0, -5.0, -9.0]), ("more-memory",) * 4), half)
    (strict,) = [point for point in found if (point.alone, point.doubt) == (6.0, 1.0)]
    (loose,) = [point for point in found if (point.alone, point.doubt) == (6.0, -6.0)]
    assert (strict.plants.hits, strict.clean.hits) == (int(inside[1]), 0)
    assert (loose.plants.hits, loose.clean.hits) == (int(inside[0]) + int(inside[1]), int(inside[2]))


def test_wilson_intervals() -> None:
    low, high = Share(0, 10).interval  # 0 of 10: upper bound z^2 / (n + z^2)
    assert low == pytest.approx(0, abs=1e-12) and high == pytest.approx(3.8415 / 13.8415, abs=1e-4)
    assert str(Share(5, 10)) == "5 of 10 = 50.0% (23.7% to 76.3%)"
    assert (Share(0, 0).interval, str(Share(0, 0))) == ((0.0, 1.0), "none")
