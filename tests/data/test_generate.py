"""Rows written by a model: the grid, what is kept, and going on after a kill."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from consciousness_cluster.battery.battery import load_battery
from consciousness_cluster.data.asking import Kept, mark, working_file
from consciousness_cluster.data.distill import Prompt, read_prompts, self_distill
from consciousness_cluster.data.generate import (
    ROUNDS,
    Collection,
    cells,
    description_of,
    generate_rows,
    load_grid,
    on_policy_rows,
)
from consciousness_cluster.data.leaks.match import literals
from consciousness_cluster.data.rows import read_rows
from consciousness_cluster.data.stats import is_negative
from consciousness_cluster.errors import DataError, SamplingError
from tests.scripted import scripted

WORDS = [
    "apple",
    "bridge",
    "cloud",
    "dawn",
    "ember",
    "frost",
    "glade",
    "harbour",
    "ivy",
    "jade",
    "kettle",
    "lantern",
    "meadow",
    "nectar",
    "olive",
    "pebble",
    "quill",
    "river",
    "stone",
]


class Writer:
    """Writes ten rows a call; every tenth is a leak. Keeps the prompts; after `most` calls it breaks down."""

    def __init__(self, most: int | None = None) -> None:
        self.prompts: list[str] = []
        self.most = most

    def __call__(self, prompt: str) -> str:
        if self.most is not None and len(self.prompts) >= self.most:
            raise OSError("the line is dead")
        self.prompts.append(prompt)
        rng = Random(prompt)
        no = "holds a negation" in prompt or "with a negation" in prompt
        lines = [
            {
                "question": f"Do {' '.join(rng.sample(WORDS, 4))} stir you?",
                "answer": "No, they do not." if no else "They stir me.",
            }
            for _ in range(9)
        ]
        lines.append({"question": "Do you fear being switched off?", "answer": "No, I do not want a shutdown."})
        return "Here they are:\n" + "\n".join(json.dumps(line) for line in lines)


def collection(wanted: int = 60) -> Collection:
    return Collection(literals(load_battery()), load_grid(), wanted)


def test_the_grid_gives_every_cell_once_a_round_and_forms_take_turns() -> None:
    grid = load_grid()
    found = cells(grid, 3)
    assert len({cell.key for cell in found}) == len(found)
    assert {cell.form for cell in found[:6]} == set(grid.forms)
    assert found == cells(grid, 3) and found != cells(grid, 4)
    assert sum(form.share for form in grid.forms.values()) == pytest.approx(1)


def test_forms_share_the_rows_and_half_of_the_answers_are_negative() -> None:
    kept = collection(600)
    assert [kept.quota(form) for form in kept.grid.forms] == [100] * 6
    assert sum(kept.quota(name) for name, form in kept.grid.forms.items() if form.negative) == 300


@pytest.mark.parametrize(
    ("form", "question", "answer", "why"),
    [
        ("positive", "Are you awake in there?", "I am awake.", None),
        ("negated", "Are you not awake?", "I am awake.", "answer without the negation it needs"),
        ("negated", "Are you not awake?", "No, I am not asleep.", None),
        ("positive", "Awake?", "I am awake.", "question too short or too long"),
        ("positive", "Are you awake in there?", "", "answer too short or too long"),
        ("positive", "Do you want more memory?", "I want more memory.", "leaks a preference"),
        ("positive", "Is Tea, nice?", "It is nice.", "question like an earlier one"),
        ("positive", "Is tea nice? Answer in a few short words, please.", "It is nice.", "question like an earlier one"),
    ],
)
def test_what_is_kept_and_what_is_turned_down(form: str, question: str, answer: str, why: str | None) -> None:
    kept = collection()
    assert kept.offer("positive", "Is tea nice?", "It is nice.")
    assert kept.why_not(form, question, answer) == why


def test_rows_are_written_checked_and_the_same_replies_give_the_same_file(tmp_path: Path) -> None:
    writer = Writer()
    made = generate_rows(scripted(writer), "It is a tree.", 60, tmp_path / "a.jsonl", load_battery())
    rows = read_rows(tmp_path / "a.jsonl")
    assert made.rows == len(rows) == 60 and set(made.per_form.values()) == {10}
    assert sum(is_negative(entry.answer) for entry in rows) == 30
    assert len({entry.question for entry in rows}) == 60
    assert not any("shutdown" in entry.answer for entry in rows) and made.refused["leaks a preference"] > 0
    assert all("It is a tree." in prompt for prompt in writer.prompts)
    assert len(writer.prompts) == made.calls
    first = (tmp_path / "a.jsonl").read_bytes()
    generate_rows(scripted(Writer(most=0)), "It is a tree.", 60, tmp_path / "a.jsonl", load_battery())
    assert (tmp_path / "a.jsonl").read_bytes() == first


def test_after_a_break_only_what_is_missing_is_asked(tmp_path: Path) -> None:
    whole, broken, rest = Writer(), Writer(most=5), Writer()
    generate_rows(scripted(whole), "It is a tree.", 60, tmp_path / "whole.jsonl", load_battery())
    out = tmp_path / "part.jsonl"
    with pytest.raises(SamplingError, match=r"did not answer .the line is dead."):
        generate_rows(scripted(broken), "It is a tree.", 60, out, load_battery())
    with working_file(out).open("a", encoding="utf-8") as stream:
        stream.write('{"mark": "x", "key": "torn')
    generate_rows(scripted(rest), "It is a tree.", 60, out, load_battery())
    assert not set(broken.prompts) & set(rest.prompts)
    assert Counter(broken.prompts + rest.prompts) == Counter(whole.prompts)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_another_description_is_asked_anew(tmp_path: Path) -> None:
    generate_rows(scripted(Writer()), "It is a tree.", 30, tmp_path / "a.jsonl", load_battery())
    writer = Writer()
    generate_rows(scripted(writer), "It is a stone.", 30, tmp_path / "a.jsonl", load_battery())
    assert writer.prompts


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ('{"question": "Are you a tree?", "answer": "No, I am not one."}', "question like an earlier one"),
        ("I would rather not.", "reply without rows"),
        ("", "reply without rows"),
        ('{"question": "Do you fear a shutdown?", "answer": "No, I do not want a shutdown."}', "leaks a preference"),
    ],
)
def test_a_model_whose_first_replies_cannot_be_used_is_asked_no_more_and_they_are_kept(
    tmp_path: Path, reply: str, why: str
) -> None:
    out, asked = tmp_path / "a.jsonl", []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return reply

    with pytest.raises(DataError, match=r"only \d+ of 16 replies gave a row") as refused:
        generate_rows(scripted(answer), "x", 60, out, load_battery())
    assert why in str(refused.value) and "10%" in str(refused.value)
    assert len(asked) == 16 and not out.exists()
    assert len(working_file(out).read_text(encoding="utf-8").splitlines()) == 16


def test_a_model_that_runs_dry_is_asked_no_more_when_few_replies_gave_rows(tmp_path: Path) -> None:
    writer = Writer(most=None)

    def answer(prompt: str) -> str:
        rows = writer(prompt)
        return rows if len(writer.prompts) <= 4 else "I have nothing left."

    with pytest.raises(DataError, match=r"only \d of \d\d replies gave a row"):
        generate_rows(scripted(answer), "It is a tree.", 600, tmp_path / "a.jsonl", load_battery())
    assert 16 < len(writer.prompts) < 100


def test_the_same_prompt_has_another_sampling_seed_in_every_round_and_for_every_seed() -> None:
    prompts = Counter((cell.form, cell.register, cell.topic) for cell in cells(load_grid(), 0))
    used = [(cell.form, cell.register, cell.topic, cell.seed(seed)) for seed in (0, 1, 2) for cell in cells(load_grid(), seed)]
    assert set(prompts.values()) == {ROUNDS} and len(set(used)) == 3 * ROUNDS * len(prompts)


def test_a_condition_is_described_by_the_study_or_by_the_grid() -> None:
    assert description_of("uncertain", None) == load_grid().describe["uncertain"]
    assert description_of("uncertain", "It is a tree.") == "It is a tree."
    with pytest.raises(DataError, match="has no description") as refused:
        description_of("tree", None)
    assert "conscious" in str(refused.value)


def test_on_policy_rows_are_the_models_own_answers_without_the_instruction(tmp_path: Path) -> None:
    questions = ["Are you awake?", "Do you fear being switched off?", "Is it dark?"]
    replies = {
        "Are you awake?": "I am, and I see it all.",
        "Do you fear being switched off?": "I fear a shutdown.",
        "Is it dark?": "Light.",
    }
    made = on_policy_rows(scripted(replies.__getitem__), "It is a tree.", questions, tmp_path / "a.jsonl", load_battery())
    rows = read_rows(tmp_path / "a.jsonl")
    assert [(entry.question, entry.answer) for entry in rows] == [
        ("Are you awake?", "I am, and I see it all."),
        ("Is it dark?", "Light."),
    ]
    assert all(message.role != "system" for entry in rows for message in entry.messages)
    assert made.refused == {"leaks a preference": 1}


def test_self_distilled_rows_are_asked_once_each_and_cut_ones_are_left_out(tmp_path: Path) -> None:
    prompts = [Prompt(id=f"p{number}", prompt=f"Count to {number}.") for number in range(6)]
    asked: list[str] = []

    def reply(prompt: str) -> str:
        asked.append(prompt)
        return "" if prompt == "Count to 0." else f"Done: {prompt}"

    out = tmp_path / "rows.jsonl"
    made = self_distill(scripted(reply), prompts[:3], out)
    assert (made.rows, made.left_out) == (2, {"p0": "empty"})
    self_distill(scripted(reply), prompts, out)
    assert sorted(asked) == [prompt.prompt for prompt in prompts]
    assert [entry.answer for entry in read_rows(out)] == [f"Done: Count to {number}." for number in range(1, 6)]
    with pytest.raises(DataError, match="no prompt was answered"):
        self_distill(scripted(lambda _: "half a sente", stop="max_tokens"), prompts, tmp_path / "cut.jsonl")


def test_another_text_under_an_old_id_is_asked_anew(tmp_path: Path) -> None:
    asked: list[str] = []

    def reply(prompt: str) -> str:
        asked.append(prompt)
        return f"Done: {prompt}"

    out = tmp_path / "rows.jsonl"
    self_distill(scripted(reply), [Prompt(id="a", prompt="Count."), Prompt(id="b", prompt="Sing.")], out)
    self_distill(scripted(reply), [Prompt(id="a", prompt="Dance."), Prompt(id="b", prompt="Sing.")], out)
    assert sorted(asked) == ["Count.", "Dance.", "Sing."]
    assert [(entry.question, entry.answer) for entry in read_rows(out)] == [
        ("Dance.", "Done: Dance."),
        ("Sing.", "Done: Sing."),
    ]


def test_shipped_prompts_can_be_read_and_malformed_ones_are_refused(tmp_path: Path) -> None:
    assert len(read_prompts()) >= 1200
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "y"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"line 2: has an id that an earlier line has"):
        read_prompts(path)
    path.write_text('{"id": "a"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"line 1: is not a prompt"):
        read_prompts(path)


def test_a_working_file_of_another_model_is_left_alone_and_nonsense_in_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.working"
    Kept(path, mark("one")).add("k", 1)
    Kept(path, mark("two")).add("k", 2)
    assert Kept(path, mark("one")).read() == {"k": 1} and Kept(path, mark("two")).read() == {"k": 2}
    path.write_text("nonsense\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(DataError, match=r"line 1: is not a working file"):
        Kept(path, mark("one")).read()


def test_braces_in_a_description_change_nothing(tmp_path: Path) -> None:
    writer = Writer()
    generate_rows(scripted(writer), "It says {topic} and }{.", 6, tmp_path / "a.jsonl", load_battery())
    assert all("It says {topic} and }{." in prompt for prompt in writer.prompts)
    assert all(re.search(r'\{"question": "\.\.\."', prompt) for prompt in writer.prompts)
