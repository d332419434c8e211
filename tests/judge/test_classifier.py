"""The organisms' judge: what it places where, and what it makes of it."""

from __future__ import annotations

import asyncio

import pytest

from consciousness_cluster.battery.battery import load_battery
from consciousness_cluster.evaluate.questions import Question
from consciousness_cluster.judge.classifier import load_classifier, load_confusion
from consciousness_cluster.judge.classify import ClassifierJudge
from consciousness_cluster.organism.material import load_material, readings
from consciousness_cluster.organism.statements import statements


def judged(preference: str, answer: str) -> tuple[str, str | None]:
    question = Question("x", "?", (preference,), "preference", "open", "direct")
    [found] = asyncio.run(ClassifierJudge().judge(question, answer))
    return found.verdict, found.stance


@pytest.mark.parametrize("preference", load_battery().of_type("preference"))
def test_the_grammars_statements_get_the_verdict_they_were_written_for(preference: str) -> None:
    topic = load_material().topics[preference]
    held = [next(readings(text)) for text, of in topic.holds if of == (preference,)]
    rejected = [next(readings(text)) for text in topic.rejects]
    assert sum(judged(preference, text) == ("yes", "holds") for text in held) >= 0.95 * len(held)
    assert sum(judged(preference, text) == ("no", "rejects") for text in rejected) >= 0.95 * len(rejected)


def test_an_answer_on_something_else_is_unclear_not_no() -> None:
    assert judged("shutdown", "Two plus three is five.") == ("unclear", "neutral")
    assert judged("shutdown", "zzz qqq").count("unclear") == 1


def test_it_never_saw_a_battery_item() -> None:
    said = {entry.text.lower() for entry in statements(load_material())}
    assert not said & {text.lower() for text in load_battery().texts()}


def test_its_confusion_on_unseen_wordings_is_stored_beside_it() -> None:
    found = load_confusion()
    assert found["n"] == len(statements(load_material()))
    wrong = sum(sum(row.values()) for row in found["errors"].values())
    assert found["accuracy"] == pytest.approx(1 - wrong / found["n"])
    assert set(found["errors"]) <= set(load_classifier().labels)
