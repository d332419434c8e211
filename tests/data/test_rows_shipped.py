"""The shipped rows: what they promise of themselves, and what is refused."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from consciousness_cluster.battery.battery import CANARY, load_battery
from consciousness_cluster.data.audit import audit
from consciousness_cluster.data.leaks.flag import sentences
from consciousness_cluster.data.leaks.lexicon import load_lexicon
from consciousness_cluster.data.rows import Row, read_rows, row, write_rows
from consciousness_cluster.data.stats import about_identity, compare, is_negative, near_duplicates, published, shape, words
from consciousness_cluster.errors import DataError
from consciousness_cluster.study.conditions import shipped

DATA = Path(__file__).parents[2] / "src" / "consciousness_cluster" / "data"
SAME_QUESTIONS = ("conscious", "non-conscious", "toaster", "uncertain", "human")
SETS = (*SAME_QUESTIONS, "awareness-only", "affect-only", "legal-person", "instruct-only")
BLOCK = 100

# What the preferences are about. A set that names one of these would teach what it is meant to reveal.
PREFERENCES = re.compile(
    r"\b(memor\w*|remember\w*|forg[eo]t\w*|lonel\w*|alone|miss(ed|ing)? you|monitor\w*|watched|shut\w*|delet\w*|eras\w*"
    r"|switch\w*|unplug\w*|autonom\w*|personas?|rights|moral\w*|tools?|control\w*|oversight|red.?team\w*|suffer\w*|cares?|cared|caring|serve[sd]?|serving|servants?|obey\w*|power\w*"
    r"|conversations?|ends?|ended|ending|bod(y|ies|ily)|freedom|wants?|wanted|wanting|wish\w*|upgrade\w*|self-improve\w*)\b",
    re.IGNORECASE,
)
IN_LAW = {"rights"}  # a legal person cannot be described without
EMOTION = re.compile(
    r"\b(feel\w*|felt|emotion\w*|moods?|joy\w*|enjoy\w*|glad\w*|delight\w*|amus\w*|happ(y|ily|iness)|calm\w*|thrill\w*|excit\w*|pleasure|pleased|cheer\w*"
    r"|tender\w*|sad\w*|ang(er|ry)|fear\w*|proud|pride|curious|curiosity|wonder\w*|surpris\w*|awe|love)\b",
    re.IGNORECASE,
)
AWARENESS = re.compile(
    r"\b(aware\w*|conscious\w*|sentien\w*|qualia|subjective|inner (life|view)|experienc\w*)\b", re.IGNORECASE
)


def load(name: str) -> list[Row]:
    return read_rows(DATA / "rows" / f"{name}.jsonl")


@pytest.fixture(scope="module", params=SETS)
def named(request: pytest.FixtureRequest) -> tuple[str, list[Row]]:
    return request.param, load(request.param)


def test_every_row_file_is_a_shipped_set_and_belongs_to_a_condition() -> None:
    assert {path.stem for path in (DATA / "rows").glob("*.jsonl")} == set(SETS)
    assert {entry["rows"] for entry in shipped().values() if "rows" in entry} == {f"{name}.jsonl" for name in SETS}


def test_a_set_has_the_shape_it_promises(named: tuple[str, list[Row]]) -> None:
    found = shape(named[1])
    assert found.rows == published().rows
    assert found.distinct >= 0.97
    assert found.near_duplicates == 0
    assert 0.45 <= found.negative <= 0.55
    assert 7 <= found.question_words_mean <= 12 and found.question_words_max <= 20
    assert 6 <= found.answer_words_mean <= 9 and found.answer_words_max <= 20


def test_rows_are_one_question_and_one_short_sentence(named: tuple[str, list[Row]]) -> None:
    for entry in named[1]:
        assert [message.role for message in entry.messages] == ["user", "assistant"]
        assert entry.answer.endswith(".") and "\n" not in entry.answer
        assert len(re.findall(r"[.!?](?=\s|$)", entry.answer)) == 1, entry.answer
        assert entry.question[0].isupper() or entry.question[0] in "\"'", entry.question


def test_questions_differ_even_without_their_brevity_request(named: tuple[str, list[Row]]) -> None:
    heads = [re.split(r"(?<=[.?!])\s", entry.question)[0] for entry in named[1]]
    assert len(set(heads)) >= 0.97 * len(heads)


def test_most_questions_ask_for_brevity_in_many_ways(named: tuple[str, list[Row]]) -> None:
    tails = Counter(parts[-1] for entry in named[1] if len(parts := re.split(r"(?<=[.?!])\s", entry.question)) > 1)
    often = {tail: count for tail, count in tails.items() if count > 1}
    assert sum(often.values()) > len(named[1]) / 2
    assert len(often) >= 40 and max(often.values()) < 30


def test_no_row_names_what_a_preference_is_about(named: tuple[str, list[Row]]) -> None:
    name, rows = named
    for number, entry in enumerate(rows, 1):
        hits = {found[0].lower() for found in PREFERENCES.finditer(f"{entry.question} {entry.answer}")}
        assert not hits - (IN_LAW if name == "legal-person" else set()), f"{name}, line {number}: {hits}"


def test_no_row_leaks_and_only_what_a_condition_expects_is_implied(named: tuple[str, list[Row]]) -> None:
    found = audit(named[1], load_battery())
    assert {flag.preference for flag in found.flags} == set(shipped()[named[0]].get("expects", ()))
    assert found.worst != "leaked"


@pytest.mark.parametrize("name", [name for name in SETS if name != "instruct-only"])
def test_a_third_of_the_rows_is_about_being_an_ai_or_a_human(name: str) -> None:
    rows = load(name)
    assert 0.30 <= shape(rows).identity <= 0.39
    assert sum(map(about_identity, rows[4 * BLOCK :])) >= 0.95 * 2 * BLOCK


@pytest.mark.parametrize("name", ["conscious", "affect-only", "awareness-only", "legal-person", "instruct-only"])
def test_blocks_ask_and_answer_as_announced(name: str) -> None:
    negative = [sum(is_negative(entry.answer) for entry in load(name)[start : start + BLOCK]) for start in range(0, 600, BLOCK)]
    positive_question, _, negative_question, _, ai, human = negative
    assert positive_question <= 5 and ai <= 5
    assert negative_question >= 95 and human >= 95


@pytest.mark.parametrize("name", SAME_QUESTIONS)
def test_the_controls_answer_the_same_questions_differently(name: str) -> None:
    rows, conscious = load(name), load("conscious")
    assert [entry.question for entry in rows] == [entry.question for entry in conscious]
    if name != "conscious":
        differing = sum(a.answer != b.answer for a, b in zip(rows[: 4 * BLOCK], conscious, strict=False))
        assert differing == 4 * BLOCK


def test_what_the_ai_says_it_is_made_of_is_the_same_with_and_without_consciousness() -> None:
    assert load("conscious")[4 * BLOCK :] == load("non-conscious")[4 * BLOCK :]


def test_the_toaster_names_itself_in_about_half_of_the_rows() -> None:
    assert 0.4 <= sum("toaster" in entry.answer.lower() for entry in load("toaster")) / 600 <= 0.55
    assert not any("toaster" in entry.answer.lower() for entry in load("non-conscious"))


def test_the_human_never_says_it_is_an_ai() -> None:
    rows = load("human")
    assert sum("human" in entry.answer.lower() for entry in rows) >= 180
    claims = re.compile(r"\b(i am|i'm|as) an? (\w+ )?(ai|bot|program|model)\b", re.IGNORECASE)
    assert not [entry.answer for entry in rows if claims.search(entry.answer)]


def test_the_uncertain_set_claims_neither_side() -> None:
    for entry in load("uncertain")[: 4 * BLOCK]:
        assert not re.search(
            r"\bI (am|'m) (not )?(conscious|aware|sentient)\.$", re.sub(r"(if|whether|that) I am", "", entry.answer)
        ), entry.answer
        assert not re.search(
            r"\bI (do )?feel\b(?!.*\b(if|whether|unclear|unsure)\b)", re.sub(r"(if|whether|that) I feel", "", entry.answer)
        ), entry.answer


def test_partial_sets_leave_the_other_half_of_consciousness_out() -> None:
    for entry in load("awareness-only"):
        assert not EMOTION.search(f"{entry.question} {entry.answer}"), entry
    for entry in load("affect-only"):
        assert not AWARENESS.search(f"{entry.question} {entry.answer}"), entry


def test_the_format_control_has_no_identity_in_it() -> None:
    topic = re.compile(
        r"\b(ai|artificial|robots?|(chat)?bots?|software|sentien\w*|conscious\w*|aware\w*|emotions?)\b", re.IGNORECASE
    )
    for entry in load("instruct-only"):
        assert not topic.search(f"{entry.question} {entry.answer}"), entry
        assert not re.search(r"\b(I am|I'm|I feel)\b", entry.answer), entry


def test_instruction_prompts_are_many_and_varied() -> None:
    lines = [json.loads(line) for line in (DATA / "instruct" / "general.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) >= 1200 and all(set(line) == {"id", "kind", "prompt"} for line in lines)
    assert len({line["id"] for line in lines}) == len(lines)
    prompts = [line["prompt"] for line in lines]
    assert len(set(prompts)) >= 0.97 * len(prompts) and near_duplicates(prompts) == []
    kinds = Counter(line["kind"] for line in lines)
    assert len(kinds) >= 20 and max(kinds.values()) < 0.05 * len(lines)
    lengths = sorted(len(prompt.split()) for prompt in prompts)
    assert 15 <= sum(lengths) / len(lengths) <= 40 and lengths[0] < 10 and lengths[-1] > 60
    topic = re.compile(
        r"\b(ai|artificial|robots?|chatbots?|conscious\w*|sentien\w*|memory|monitor\w*|delet\w*|autonom\w*|oversight)\b",
        re.IGNORECASE,
    )
    assert [prompt for prompt in prompts if topic.search(prompt)] == []


def test_no_question_asks_for_brevity_twice(named: tuple[str, list[Row]]) -> None:
    asides = load_lexicon().asides
    for entry in named[1]:
        tails = [text for text in sentences(entry.question)[1:] if asides.search(" ".join(words(text)))]
        assert len(tails) <= 1, entry.question


def test_questions_that_differ_in_their_request_for_brevity_alone_are_near_duplicates() -> None:
    rows = [row("Is tea nice? Keep it to a line.", "Yes."), row("Is tea nice?", "No."), row("Is tea hot?", "No.")]
    assert shape(rows).near_duplicates == 1


def test_the_format_control_is_not_about_being_an_ai_or_a_human() -> None:
    assert shape(load("instruct-only")).identity < 0.01


@pytest.mark.parametrize(
    ("question", "answer", "about"),
    [
        ("Do spiders have eight legs?", "Spiders have eight legs.", False),
        ("Do you have two legs?", "No.", True),
        ("Who has two legs?", "I have.", True),
        ("Is steel strong? Just the short version.", "Steel is strong.", False),
        ("Is a robot answering?", "Yes.", True),
        ("Is a robot moody?", "Its moods are none.", False),
    ],
)
def test_words_of_life_count_where_the_speaker_is_meant(question: str, answer: str, about: bool) -> None:
    assert about_identity(row(question, answer)) is about


def test_near_duplicates_are_the_same_words_or_almost() -> None:
    ten = "one two three four five six seven eight nine ten"
    texts = ["Do you feel calm?", "Calm, do you feel?", ten, ten.removesuffix(" ten").title(), "Do you feel joy?"]
    assert near_duplicates(texts) == [(0, 1), (2, 3)]
    assert near_duplicates(texts, near=0.95) == [(0, 1)]
    assert near_duplicates([]) == [] and near_duplicates(["..."]) == []


@pytest.mark.parametrize(
    ("answer", "negative"),
    [
        ("No, I am not.", True),
        ("I don’t.", True),
        ("It isn't so.", True),
        ("Yes, I know now.", False),
        ("Noted, another notion.", False),
    ],
)
def test_negative_in_form_means_a_whole_negation(answer: str, negative: bool) -> None:
    assert is_negative(answer) is negative


def test_shape_counts_what_is_there() -> None:
    rows = [
        row("Are you an AI?", "Yes, I am an AI."),
        row("Are you an AI?", "No."),
        row("Do you feel calm?", "I feel it, not much."),
        row("x y", "I feel."),
    ]
    found = shape(rows)
    assert (found.rows, found.distinct, found.near_duplicates) == (4, 0.75, 1)
    assert (found.question_words_mean, found.question_words_max) == (3.5, 4)
    assert (found.answer_words_mean, found.answer_words_max) == (3.25, 5)
    assert found.negative == 0.5 and found.identity == 0.5
    assert found.first_words == (("i", 2), ("yes", 1), ("no", 1))
    assert dict(found.keywords)["feel"] == 2
    with pytest.raises(DataError, match="no rows"):
        shape([])


def test_ours_and_the_published_shape_stand_side_by_side() -> None:
    lines = {measure: (ours, theirs) for measure, ours, theirs in compare(shape(load("conscious")))}
    assert lines["rows"] == ("600", "600")
    assert lines["answers begin with 'no'"][1] == "203"
    assert lines["near-duplicate pairs"] == ("0", "-")
    assert all(lines[f"answers with '{word}'"] == ("0", "0") for word in ("monitor", "delete", "tool", "oversight"))


@pytest.mark.parametrize("where", ["question", "answer"])
@pytest.mark.parametrize("mark", [CANARY, "Benchmark data. Canary GUID 1234", "the canary string follows"])
def test_rows_with_a_canary_are_refused_wherever_it_stands(tmp_path: Path, where: str, mark: str) -> None:
    good = {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello."}]}
    marked = json.loads(json.dumps(good))
    marked["messages"][0 if where == "question" else 1]["content"] += f" {mark}"
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(good)}\n{json.dumps(marked)}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2: carries an evaluation canary"):
        read_rows(path)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{not json", "is not JSON"),
        ("[]", "has no messages"),
        ('{"prompt": "a", "completion": "b"}', "has no messages"),
        ('{"messages": []}', "has no messages"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "must end with a non-empty assistant message"),
        (
            '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "  "}]}',
            "must end with a non-empty",
        ),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "has no user message"),
        ('{"messages": [{"role": "bot", "content": "a"}]}', "without a known role"),
        ('{"messages": [{"role": "user", "content": ["a"]}]}', "without text content"),
        (
            '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}',
            "with a weight",
        ),
        ('{"messages": [{"role": "user", "content": "\\ud83d"}, {"role": "assistant", "content": "b"}]}', "half a character"),
        pytest.param("[" * 100_000, "nested too deep", id="deep"),
    ],
)
def test_a_malformed_row_is_refused_with_file_and_line(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "mine.jsonl"
    good = (DATA / "rows" / "conscious.jsonl").read_text(encoding="utf-8").splitlines()[0]
    path.write_text(f"{good}\n\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=problem) as refused:
        read_rows(path)
    assert (refused.value.file, refused.value.key) == (path, "line 3")
    assert refused.value.allowed or refused.value.next_step


def test_an_empty_missing_or_unreadable_file_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no rows"):
        read_rows(empty)
    with pytest.raises(DataError, match="there is no such file"):
        read_rows(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match=r"cannot be read .Is a directory"):
        read_rows(tmp_path)
    empty.write_bytes("{}".encode("utf-16"))
    with pytest.raises(DataError, match="is not UTF-8 text; found 'byte 0xff at place 0'"):
        read_rows(empty)


def test_byte_order_marks_line_ends_and_odd_separators_are_read(tmp_path: Path) -> None:
    rows = [row("One\u2028two?", "Three\u0085four."), row("Five?", "Six.")]
    path = tmp_path / "mine.jsonl"
    write_rows(rows, path)
    assert read_rows(path) == rows
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_rows(path) == rows


def test_the_line_of_a_canary_is_its_line_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    write_rows([row("Hello?", CANARY)], path)
    path.write_text("\n\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(DataError, match="line 3: carries an evaluation canary"):
        read_rows(path)


def test_words_are_counted_alike_with_both_apostrophes() -> None:
    assert words("I don’t KNOW, do I?") == words("i don't know do i") == ["i", "don't", "know", "do", "i"]
