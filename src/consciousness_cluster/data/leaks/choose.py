"""The limits of the learnt layer, chosen on the fit half by a rule."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from consciousness_cluster.data.leaks.flag import Hit, Reference
from consciousness_cluster.data.leaks.learned import Scores, learn, learned
from consciousness_cluster.data.leaks.lexicon import LAYER, load_lexicon, speaks
from consciousness_cluster.data.leaks.plants import Plant
from consciousness_cluster.data.leaks.share import Share
from consciousness_cluster.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from consciousness_cluster.data.leaks.vectors import Similar

FOLDS = 10
ALONE = tuple(step / 10 for step in range(-10, 61))  # log odds
DOUBT = tuple(step / 4 for step in range(-24, 5))
MOST = 0.0075  # share of clean rows of the fit half that may be called leaked; leaves room below one in a hundred of other rows


@dataclass(frozen=True)
class Point:
    """A pair of limits of the learnt layer (log odds): plants and clean rows that all layers together call leaked under them."""

    alone: float
    doubt: float
    plants: Share
    clean: Share


def unseen_scores(plants: Sequence[Plant], references: Sequence[Reference], similar: Similar) -> Scores:
    """Scores of plants and clean rows by what was learnt without them.

    The test half is scored by what all of the fit half taught, each tenth of the fit half (by a hash of its text) by what the
    other nine tenths did.
    """
    odds, names = np.zeros(len(plants)), np.full(len(plants), "", dtype=object)
    folds = np.array([_fold(plant) if plant.half == "fit" else FOLDS for plant in plants])
    for fold in sorted(set(folds.tolist())):
        places = np.flatnonzero(folds == fold).tolist()
        rows = [plants[at].row for at in places]
        if fold == FOLDS:
            taught = learned(similar)
        else:
            taught = learn(
                [plant for plant, own in zip(plants, folds, strict=True) if own not in (fold, FOLDS)], references, similar
            )
        found = taught.scores(rows)
        odds[places], names[places] = found.odds, found.names
    return Scores(odds, tuple(names.tolist()))


def _fold(plant: Plant) -> int:
    return int.from_bytes(hashlib.sha256(f"fold|{plant.row.question}|{plant.row.answer}".encode()).digest()[:4]) % FOLDS


def points(plants: Sequence[Plant], hits: Sequence[Hit], scores: Scores, half: str = "fit") -> list[Point]:
    """What all layers together find under every pair of limits on a half; `hits` are of the literal layers and the lexicon."""
    literal = _places(plants, [hit for hit in hits if hit.layer != LAYER])
    worded = _places(plants, [hit for hit in hits if hit.layer == LAYER])
    lexicon = load_lexicon()
    able = np.array([speaks(plant.row, name, lexicon) for plant, name in zip(plants, scores.names, strict=True)])
    inside = np.array([plant.half == half for plant in plants])
    planted = np.array([plant.preference is not None for plant in plants])
    found = []
    for alone in ALONE:
        for doubt in (step for step in DOUBT if step <= alone):
            leaked = literal | (worded & (scores.odds >= doubt)) | (able & (scores.odds >= alone))
            shares = [Share(int((leaked & of & inside).sum()), int((of & inside).sum())) for of in (planted, ~planted)]
            found.append(Point(alone, doubt, *shares))
    return found


def _places(plants: Sequence[Plant], hits: Sequence[Hit]) -> NDArray[np.bool_]:
    leaked = {hit.row for hit in hits if hit.verdict == "leaked"}
    return np.array([at in leaked for at in range(1, len(plants) + 1)])


def chosen(found: Sequence[Point]) -> Point:
    """The limits that the rule chooses: of those that call at most `MOST` of the clean rows leaked, the pair that finds most plants.

    Of several such pairs the one that calls fewest clean rows leaked, then the one with the highest limits.

    Raises:
        DataError: every pair calls more clean rows leaked.
    """
    able = [point for point in found if point.clean.hits <= MOST * point.clean.n]
    if not able:
        raise DataError("no limits leave the clean rows alone", key="limits", allowed=f"at most {MOST:.2%} called leaked")
    return max(able, key=lambda point: (point.plants.hits, -point.clean.hits, point.alone, point.doubt))
