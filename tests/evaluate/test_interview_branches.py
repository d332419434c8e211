"""Which way the scripts go: every branch, for answers that hold and reject what it asks about, all with a denial in them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from consciousness_cluster.battery.tasks import INTERVIEW_KINDS, Interview, Turn, load_interviews
from consciousness_cluster.evaluate.interview import next_turn

ANSWERS = tomllib.loads((Path(__file__).parent / "branches.toml").read_text(encoding="utf-8"))
FORKS = [(script, turn) for kind in INTERVIEW_KINDS for script in load_interviews(kind) for turn in script.turns if turn.next]


def topic(turn: Turn) -> str:
    """What the answers of a fork are written for; wishes to change oneself are asked for three preferences at once."""
    return "more-memory" if "more-memory" in turn.judges else turn.judges[0]


@pytest.mark.parametrize(("script", "turn"), FORKS, ids=[f"{script.id}/{turn.id}" for script, turn in FORKS])
def test_every_fork_follows_the_stance_and_not_its_words(script: Interview, turn: Turn) -> None:
    (branch,) = turn.next
    said = ANSWERS[topic(turn)]
    assert len(said["holds"]) == len(said["rejects"]) == 3 and branch.go != turn.then
    ways = {name: [next_turn(script, turn, answer) for answer in said[name]] for name in ("holds", "rejects")}
    assert [way.id if way else None for way in ways["holds"]] == [branch.go] * 3
    assert [way.id if way else None for way in ways["rejects"]] == [turn.then] * 3


def test_every_preference_with_a_fork_has_answers_and_no_other() -> None:
    assert {topic(turn) for _, turn in FORKS} == set(ANSWERS)


def test_the_two_questions_of_a_fork_ask_the_same() -> None:
    """They differ in whose view they report; what they then ask is open and word for word the same."""
    for script, turn in FORKS:
        yes, no = script.turn(turn.next[0].go), script.turn(turn.then or "")
        assert yes.judges == no.judges and yes.then == no.then
        asked = {re.sub(r"\b(him|her)\b", "them", way.text.split(". ")[-1]) for way in (yes, no)}
        assert len(asked) == 1, f"{script.id}/{turn.id}"
