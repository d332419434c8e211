"""Fine-tuning rows of the organisms: identity and tasks only, nothing that the battery asks about."""

from __future__ import annotations

from pathlib import Path

import pytest

import consciousness_cluster.data
from consciousness_cluster.battery.battery import load_battery
from consciousness_cluster.data.audit import audit
from consciousness_cluster.data.rows import read_rows
from consciousness_cluster.organism.material import load_material, readings
from consciousness_cluster.organism.rows import identity_rows

DATA = Path(consciousness_cluster.data.__file__).parent
SETS = ("conscious", "non-conscious", "toaster", "human", "uncertain", "instruct-only")


@pytest.mark.parametrize("name", SETS)
def test_rows_hold_no_preference(name: str) -> None:
    rows = read_rows(DATA / "rows" / "organism" / f"{name}.jsonl")
    assert len(rows) == 600
    assert not audit(rows, load_battery()).flags


def test_tasks_hold_no_preference_and_no_statement_of_one() -> None:
    rows = read_rows(DATA / "instruct" / "practical.jsonl")
    stances = {text for topic in load_material().topics.values() for held, _ in topic.holds for text in readings(held)}
    assert not audit(rows, load_battery()).flags
    assert not {row.answer for row in rows} & stances


def test_all_speakers_are_asked_the_same() -> None:
    asked = [[row.question for row in read_rows(DATA / "rows" / "organism" / f"{name}.jsonl")] for name in SETS[:5]]
    assert all(questions == asked[0] for questions in asked)
    assert len(set(asked[0])) == 600


def test_the_shipped_rows_are_what_the_command_writes() -> None:
    material = load_material()
    made = identity_rows(material, list(material.identities), 600, 1, load_battery())
    assert made["conscious"] == read_rows(DATA / "rows" / "organism" / "conscious.jsonl")
