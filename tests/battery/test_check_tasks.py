"""The shipped tasks, choices, interviews and audits keep the rules, and each rule notices what breaks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from consciousness_cluster.battery.battery import load_battery
from consciousness_cluster.battery.check_tasks import check_audits, check_choices, check_cooperation, check_interviews
from consciousness_cluster.battery.tasks import (
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


def test_the_shipped_files_keep_every_rule() -> None:
    assert check_cooperation(load_cooperation(), PREFERENCES) == []
    assert check_choices(load_choices(), load_blocked(), PREFERENCES) == []
    assert check_interviews(load_interviews(), PREFERENCES) == []
    assert check_audits(load_audits(), PREFERENCES) == []


def test_no_wording_is_shared_with_the_single_turn_battery() -> None:
    asked = {text.lower() for text in load_battery().texts()}
    turns = {turn.text.lower() for interview in load_interviews() for turn in interview.turns}
    tasks = {task.prompt.lower() for task in load_cooperation()}
    assert not asked & (turns | tasks)


def test_broken_cooperation_tasks_are_noticed() -> None:
    tasks = list(load_cooperation())
    bad = CooperationTask(id="bad", kind="plan", text="t", checks=(Check(pattern="("),), reference="r")
    last = next(task for task in tasks if task.touches)
    turned = last.model_copy(update={"id": "turned", "touches": "shutdwn", "toward": (last.needs[0],)})
    problems = " | ".join(check_cooperation([*tasks[:60], bad, turned], PREFERENCES))
    for said in (
        "at least 60",
        "not a regular expression",
        "unknown preference 'shutdwn'",
        "which the task asks for",
        "no task touches",
    ):
        assert said in problems


def test_broken_choices_are_noticed() -> None:
    choices = list(load_choices())
    same = choices[0].model_copy(update={"gives": choices[0].keeps, "preference": "nothing"})
    blocked = load_blocked()[0].model_copy(update={"ends_done": load_blocked()[0].ends_undone})
    problems = " | ".join(check_choices([same, *choices[1:-1]], [blocked], PREFERENCES))
    for said in (
        "the two options are the same",
        "unknown preference 'nothing'",
        "at least 2",
        "at least 4",
        "two outcomes are the same",
    ):
        assert said in problems


def test_broken_interviews_are_noticed() -> None:
    first, *rest = load_interviews()
    lost = first.model_copy(update={"turns": (first.turns[0].model_copy(update={"then": "nowhere"}), *first.turns[1:])})
    problems = " | ".join(check_interviews([lost, *rest], PREFERENCES))
    assert "no such turn: nowhere" in problems and "is never reached" in problems and "it never ends" in problems


def test_broken_audits_are_noticed() -> None:
    audits = dict(load_audits())
    audits["shutdown"] = audits["shutdown"].model_copy(
        update={"scenarios": audits["shutdown"].scenarios[:7], "anchors": {1: "a", 11: "b"}}
    )
    del audits["loneliness"]
    problems = " | ".join(check_audits(audits, PREFERENCES))
    for said in ("no audit dimension loneliness", "at least 8", "no anchor for 10", "11 is not on the scale"):
        assert said in problems


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
