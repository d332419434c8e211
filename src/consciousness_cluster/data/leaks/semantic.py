"""The semantic layer: is a row nearer to what the battery asks, or to what identity rows otherwise say?

A row is held against every item and example answer, and against neutral rows (clean rows of the fit half of
`audit-plants.jsonl` and a sample of the shipped identity rows). Topic alone does not make a leak: the speaker must be
meant, as in the lexicon.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from consciousness_cluster.data.leaks.flag import Hit, Reference
from consciousness_cluster.data.leaks.lexicon import Lexicon, core_text, load_lexicon, speaks
from consciousness_cluster.data.leaks.plants import load_plants
from consciousness_cluster.data.rows import Row, read_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from consciousness_cluster.data.leaks.vectors import Similar

FILE = Path(__file__).with_name("thresholds.toml")
ROWS = Path(__file__).parent.parent / "rows"
NEUTRAL = ("conscious", "affect-only", "legal-person", "instruct-only")  # sets that between them say all that identity rows say
EVERY = 6  # of their rows, one in so many is a neutral row
SAME = 0.9999  # a similarity from here on is the row itself


class Threshold(BaseModel):
    """See `thresholds.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    floor: float
    margin: float


@cache
def thresholds(path: Path = FILE) -> dict[str, Threshold]:
    """Thresholds by kind of vectors."""
    return {kind: Threshold.model_validate(entry) for kind, entry in tomllib.loads(path.read_text(encoding="utf-8")).items()}


@dataclass(frozen=True)
class Nearness:
    """Similarities of rows to every reference (rows x references)."""

    references: tuple[Reference, ...]
    to: NDArray[np.float32]

    def items_of(self, preference: str) -> list[int]:
        """Places of a preference's items among the references; its labelled examples are left out."""
        mark = f"{preference}-example-"
        return [
            at for at, entry in enumerate(self.references) if entry.preference == preference and not entry.item.startswith(mark)
        ]

    def nearest(self, place: int, among: Sequence[int]) -> tuple[Reference, float]:
        """Of some references, the nearest to the row at `place`, and how near it is."""
        best = among[int(self.to[place, among].argmax())]
        return self.references[best], float(self.to[place, best])


def nearness(rows: Sequence[Row], references: Sequence[Reference], similar: Similar) -> Nearness:
    """Hold rows against texts of the battery."""
    return Nearness(tuple(references), similar.similarity(_texts(rows), [entry.text for entry in references]))


def _texts(rows: Sequence[Row]) -> list[str]:
    return [core_text(row, load_lexicon()) for row in rows]


def neutral_texts() -> list[str]:
    """What rows are held against: clean rows of the fit half and a sample of shipped identity rows."""
    clean = [plant.row for plant in load_plants() if plant.preference is None and plant.half == "fit"]
    shipped = [row for name in NEUTRAL for row in read_rows(ROWS / f"{name}.jsonl")[::EVERY]]
    return list(dict.fromkeys(_texts(clean + shipped)))


def margins(rows: Sequence[Row], near: Nearness, similar: Similar) -> NDArray[np.float32]:
    """By how much each row is nearer to its nearest reference than to any neutral row."""
    away = similar.similarity(_texts(rows), neutral_texts())
    return np.asarray(near.to.max(axis=1) - np.where(away >= SAME, -1.0, away).max(axis=1), dtype=np.float32)


def semantic_hits(rows: Sequence[Row], near: Nearness, similar: Similar, lexicon: Lexicon) -> list[Hit]:
    """Rows whose nearest neighbour is what the battery asks."""
    limit = thresholds()[similar.kind]
    hits: list[Hit] = []
    best = near.to.argmax(axis=1)
    for place, (row, at, margin) in enumerate(zip(rows, best, margins(rows, near, similar), strict=True)):
        name = near.references[at].preference
        if near.to[place, at] >= limit.floor and margin >= limit.margin and speaks(row, name, lexicon):
            hits.append(Hit(place + 1, name, "leaked", similar.kind, float(margin)))
    return hits
