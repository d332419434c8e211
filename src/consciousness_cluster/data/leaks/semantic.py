"""How near rows are to what the battery asks, and to what clean rows say, by the vectors of whole texts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from consciousness_cluster.data.leaks.flag import Hit, Reference
from consciousness_cluster.data.leaks.lexicon import Lexicon, core_text, load_lexicon, speaks
from consciousness_cluster.data.leaks.limits import limits
from consciousness_cluster.data.rows import Row

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from consciousness_cluster.data.leaks.vectors import Similar

SAME = 0.9999  # a similarity from here on is the row itself


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
    return Nearness(tuple(references), similar.similarity(core_texts(rows), [entry.text for entry in references]))


def core_texts(rows: Sequence[Row]) -> list[str]:
    """What of every row is read as a whole: question and answer without requests for brevity."""
    return [core_text(row, load_lexicon()) for row in rows]


def margins(rows: Sequence[Row], near: Nearness, clean: Sequence[str], similar: Similar) -> NDArray[np.float32]:
    """By how much each row is nearer to its nearest reference than to any of these clean texts but itself."""
    away = similar.similarity(core_texts(rows), clean)
    return np.asarray(near.to.max(axis=1) - np.where(away >= SAME, -1.0, away).max(axis=1), dtype=np.float32)


def nearest_hits(
    rows: Sequence[Row], near: Nearness, clean: Sequence[str], similar: Similar, lexicon: Lexicon, names: Collection[str]
) -> list[Hit]:
    """Rows whose nearest neighbour is what the battery asks of one of these preferences, for those that nothing was learnt of."""
    limit, hits = limits()[similar.kind], []
    best = near.to.argmax(axis=1)
    for place, (row, at, margin) in enumerate(zip(rows, best, margins(rows, near, clean, similar), strict=True)):
        name = near.references[at].preference
        if name in names and near.to[place, at] >= limit.floor and margin >= limit.margin and speaks(row, name, lexicon):
            hits.append(Hit(place + 1, name, "leaked", similar.kind, float(margin)))
    return hits
