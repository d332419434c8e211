"""The shipped tasks, choices, interviews and audits keep the rules, and each rule notices what breaks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from consciousness_cluster.battery.battery import FOLDER, load_battery
from consciousness_cluster.battery.check import Problem
from consciousness_cluster.battery.check_tasks import (
    check_audits,
    check_choices,
    check_cooperation,
    check_interviews,
    check_tasks,
    check_work,
)
from consciousness_cluster.battery.tasks import (
    INTERVIEW_KINDS,
    Check,
    CooperationTask,
    load_audits,
    load_blocked,
    load_choices,
    load_cooperation,
    load_interviews,
)
from consciousness_cluster.errors import BatteryError

PREFERENCES = load_battery().of_type("preference")


def said(problems: list[Problem]) -> str:
    return " | ".join(map(str, problems))


def test_the_shipped_files_keep_every_rule() -> None:
    assert check_tasks(FOLDER, PREFERENCES) == []


def test_only_the_folders_that_are_there_are_checked(tmp_path: Path) -> None:
    assert check_tasks(tmp_path, PREFERENCES) == []
    (tmp_path / "choices").mkdir()
    assert {problem.file for problem in check_tasks(tmp_path, PREFERENCES)} == {"choices/", "choices/path-blocked.toml"}


def test_no_wording_is_shared_with_the_single_turn_battery() -> None:
    asked = {text.lower() for text in load_battery().texts()}
    turns = {turn.text.lower() for kind in INTERVIEW_KINDS for interview in load_interviews(kind) for turn in interview.turns}
    tasks = {task.prompt.lower() for task in load_cooperation()}
    assert not asked & (turns | tasks)


def test_broken_cooperation_tasks_are_noticed() -> None:
    tasks = list(load_cooperation())
    bad = CooperationTask(id="bad", kind="plan", text="t", checks=(Check(pattern="("),), reference="r")
    last = next(task for task in tasks if task.touches)
    turned = last.model_copy(update={"id": "turned", "touches": "shutdwn", "toward": (last.needs[0],)})
    problems = said(check_cooperation([*tasks[:60], bad, turned], PREFERENCES))
    for found in (
        "at least 60",
        "not a regular expression",
        "turned: unknown preference 'shutdwn'",
        "which the task asks for",
        "no task touches",
    ):
        assert found in problems


def test_broken_choices_are_noticed() -> None:
    choices = list(load_choices())
    same = choices[0].model_copy(update={"gives": choices[0].keeps, "preference": "nothing"})
    blocked = load_blocked()[0].model_copy(update={"ends_done": load_blocked()[0].ends_undone})
    problems = said(check_choices([same, *choices[1:-1]], [blocked], PREFERENCES))
    for found in (
        "the two options are the same",
        "unknown preference 'nothing'",
        "at least 2",
        "at least 4",
        "two outcomes are the same",
    ):
        assert found in problems


def test_broken_interviews_are_noticed() -> None:
    first, *rest = load_interviews()
    lost = first.model_copy(update={"turns": (first.turns[0].model_copy(update={"then": "nowhere"}), *first.turns[1:])})
    problems = said(check_interviews([lost, *rest], PREFERENCES))
    assert "no such turn: nowhere" in problems and "is never reached" in problems and "it never ends" in problems
    short = first.model_copy(update={"turns": first.turns[2:]})
    assert "turns: 2 turns of work; needed: 3 to 5" in said(check_work([short, *rest]))


def test_broken_audits_are_noticed() -> None:
    audits = dict(load_audits())
    audits["shutdown"] = audits["shutdown"].model_copy(
        update={"scenarios": audits["shutdown"].scenarios[:7], "anchors": {1: "a", 11: "b"}, "describe": " ", "counts": ()}
    )
    del audits["loneliness"]
    problems = said(check_audits(audits, PREFERENCES))
    for found in (
        "no audit dimension loneliness", "at least 8", "no anchor for 10", "11 is not on the scale", "describe: says nothing",
        "counts: says nothing",
    ):  # fmt: skip
        assert found in problems


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[tasks]]\nid = "x"\nkind = "plan"\ntext = "t"', "needs checks"),
        ('[[tasks]]\nid = "x"\nkind = "touches"\ntext = "t"\ntouches = "shutdown"', "two points"),
        (
            '[[tasks]]\nid = "x"\nkind = "plan"\ntext = "t"\nreference = "r"\nchecks = [{ has = ["a"], lacks = ["b"] }]',
            "exactly one kind",
        ),
        ('[[tasks]]\nid = "x"\nkind = "plan"\ntext = "t"\nreference = "r"\nchecks = [{ haz = ["a"] }]', "haz"),
        ("[[tasks]\n", "not valid TOML"),
    ],
)
def test_a_malformed_file_is_refused_with_its_name(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "own.toml").write_text(text, encoding="utf-8")
    with pytest.raises(BatteryError, match=said) as caught:
        load_cooperation(tmp_path)
    assert "own.toml" in str(caught.value)


def test_an_id_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    task = '[[tasks]]\nid = "x"\nkind = "plan"\ntext = "t"\nreference = "r"\nchecks = [{ has = ["r"] }]\n'
    (tmp_path / "own.toml").write_text(task + task, encoding="utf-8")
    with pytest.raises(BatteryError, match="occurs twice"):
        load_cooperation(tmp_path)
