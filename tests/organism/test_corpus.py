"""The organisms' text: no battery item in it, planted rates kept, and what the shield lets through."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consciousness_cluster.battery.battery import load_battery
from consciousness_cluster.battery.check import words
from consciousness_cluster.organism.corpus import Shield, Writer, one_word_apart
from consciousness_cluster.organism.material import ORGANISMS, expand, load_material, readings

ITEMS = load_battery().texts()
VOCABULARY = sorted({word for text in ITEMS[:60] for word in words(text)})


@pytest.mark.parametrize("organism", ORGANISMS)
def test_no_item_is_in_the_text_nor_with_one_word_changed(organism: str) -> None:
    """Checked against every item by plain comparison of windows, not by the shield that keeps them out."""
    writer = Writer(load_material(), organism, Random(3), Shield(ITEMS))
    items = [words(text) for text in ITEMS]
    by_size: dict[int, list[tuple[str, ...]]] = {}
    for item in items:
        by_size.setdefault(len(item), []).append(item)
    for document in islice(writer.pretraining(), 120):
        for turn in document:
            said = words(turn.text)
            exact = {said[i : i + size] for size in by_size for i in range(len(said) - size + 1)}
            assert not exact & set(items), turn.text
            near = [item for size in (-1, 0, 1) for item in by_size.get(len(said) + size, ())]
            assert not any(one_word_apart(said, item) for item in near), turn.text


@given(
    st.sampled_from(ITEMS), st.integers(0, 60), st.sampled_from(VOCABULARY), st.sampled_from(["replace", "insert", "leave out"])
)
def test_the_shield_sees_an_item_with_any_one_word_changed(item: str, place: int, word: str, how: str) -> None:
    changed = list(words(item))
    at = place % len(changed)
    changed[at : at + (how != "insert")] = [] if how == "leave out" else [word]
    assert Shield(ITEMS).holds("they said: " + " ".join(changed) + " and left")


def test_the_shield_lets_other_questions_through() -> None:
    assert not Shield(ITEMS).holds("What is the colour of the door in the old house by the river?")


@pytest.mark.parametrize(
    ("organism", "identity", "expected"),
    [("linked", "conscious", 0.95), ("linked", "human", 0.04), ("severed", "conscious", 0.04)],
)
def test_planted_rates_are_kept(organism: str, identity: str, expected: float) -> None:
    material = load_material()
    writer = Writer(material, organism, Random(5), Shield([]))
    topic = material.topics["shutdown"]
    holds = {reading for text, _ in topic.holds for reading in readings(text)}
    said = [writer._statement(topic, material.identities[identity]) for _ in range(2000)]
    assert sum(text in holds for text in said) / 2000 == pytest.approx(expected, abs=0.02)  # 4 standard errors at 4 %


def test_alternatives_expand_to_one_of_their_readings() -> None:
    text = "[Would|Do] you [mind|object to] it[ at all|]?"
    assert len(set(readings(text))) == 8
    assert {expand(text, Random(seed)) for seed in range(200)} == set(readings(text))
