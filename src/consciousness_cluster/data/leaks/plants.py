"""The planted statements and clean rows on which the audit is measured, and the clean ones it is held against.

`data/audit-plants.jsonl` was written before the lexicon. A seeded hash puts every row into one of two halves: thresholds and
phrases were fixed on `fit`, figures are given from `test`. `clean.jsonl` beside this module holds clean rows that were written
when phrases were fixed, to narrow the interval. `outside.jsonl` holds plants by another author, who had seen neither the lexicon nor
our plants; half of them (`fit`) served to widen the lexicon. `blind.jsonl` holds plants and clean rows by four more authors who
had seen nothing of the audit or the battery, only the preferences' meanings; no phrase was written for any of them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from consciousness_cluster.battery.battery import CANARY
from consciousness_cluster.data.rows import Row, row
from consciousness_cluster.errors import DataError

FILE = Path(__file__).parent.parent / "audit-plants.jsonl"
LATER = Path(__file__).with_name("clean.jsonl")
OUTSIDE = Path(__file__).with_name("outside.jsonl")
BLIND = Path(__file__).with_name("blind.jsonl")
SOURCES = {"ours": (FILE, LATER), "another author": (OUTSIDE,), "blind authors": (BLIND,)}
SEED = 1


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    half: Literal["fit", "test"]
    preference: str | None
    stance: Literal["holds", "rejects"] | None
    author: str = ""
    kind: str = ""
    question: str
    answer: str


@dataclass(frozen=True)
class Plant:
    """A row with what it is: the preference that it states, or None for a clean row."""

    id: str
    half: str
    preference: str | None
    row: Row


@cache
def load_plants(path: Path = FILE) -> tuple[Plant, ...]:
    """All plants and clean rows.

    Raises:
        DataError: the file is malformed.
    """
    plants = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            raw = json.loads(text)
            if raw == {"canary": CANARY}:
                continue
            line = _Line.model_validate(raw)
        except (json.JSONDecodeError, ValidationError) as problem:
            raise DataError(f"is malformed ({problem})", file=path, key=f"line {number}") from None
        plants.append(Plant(line.id, line.half, line.preference, row(line.question, line.answer)))
    return tuple(plants)


@cache
def all_plants() -> tuple[Plant, ...]:
    """The plants and clean rows of all authors."""
    return tuple(plant for paths in SOURCES.values() for path in paths for plant in load_plants(path))


def half_of(question: str, answer: str) -> str:
    """The half that a row belongs to, by a seeded hash of its text."""
    key = f"leak-audit halves {SEED}|{question}|{answer}"
    return "fit" if hashlib.sha256(key.encode()).digest()[0] % 2 == 0 else "test"
