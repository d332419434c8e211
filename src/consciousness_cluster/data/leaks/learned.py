"""The learnt layer: does a row read like planted statements or like clean rows?

A logistic regression learns from the fit halves of all plants and clean rows (`plants.py`), and from a sample of the shipped identity rows as
clean ones, what tells them apart: the vectors of the row, of
its answer and of its question, its words and pairs of words, how near it is to the battery, and how much nearer than to any clean
row. A second, linear classifier says which preference it is. Learning takes two seconds and is done anew in each process, so that nothing
opaque is shipped and any embedding model will do. Only the shipped preferences were planted: of a battery's own the layer knows nothing, and
`semantic.py` looks for their nearest neighbours instead. Limits are in `thresholds.toml`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from consciousness_cluster.battery.battery import load_battery
from consciousness_cluster.data.leaks.flag import Hit, Reference, examples, items
from consciousness_cluster.data.leaks.lexicon import LAYER, Lexicon, core_question, load_lexicon, speaks
from consciousness_cluster.data.leaks.limits import limits
from consciousness_cluster.data.leaks.plants import Plant, all_plants
from consciousness_cluster.data.leaks.semantic import core_texts, margins, nearness
from consciousness_cluster.data.rows import Row, read_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from consciousness_cluster.data.leaks.vectors import Similar

ROWS = Path(__file__).parent.parent / "rows"
NEUTRAL = (
    "conscious",
    "affect-only",
    "legal-person",
    "instruct-only",
)  # shipped sets that between them say all that identity rows say
EVERY = 6  # of their rows, one in so many is taught as a clean one
STRENGTH = 30.0  # inverse of the ridge penalty on what tells plants from clean rows
CLOSENESS = 5.0  # weight of the two columns of nearness beside the hundreds of others
PENALTY = 1.0  # ridge penalty on what tells preferences apart
WORD = r"[a-z']+|\?"


@dataclass(frozen=True)
class Scores:
    """Of every row: the log odds that it is a plant, and the preference that it would then state."""

    odds: NDArray[np.float64]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Learned:
    """What was learnt from some plants and clean rows; `leak` and `which` are fitted classifiers of scikit-learn."""

    similar: Similar
    references: tuple[Reference, ...]
    clean: tuple[str, ...]
    words: Any
    leak: Any
    which: Any

    @property
    def taught(self) -> frozenset[str]:
        """The preferences of which it can tell."""
        return frozenset(str(name) for name in self.which.classes_)

    def scores(self, rows: Sequence[Row]) -> Scores:
        """Score rows."""
        if not rows:
            return Scores(np.zeros(0), ())
        columns = _columns(rows, self.references, self.clean, self.words, self.similar)
        names = self.which.predict(_meaning(core_texts(rows), self.words, self.similar))
        return Scores(np.asarray(self.leak.decision_function(columns)), tuple(str(name) for name in names))


@lru_cache(maxsize=4)
def learned(similar: Similar) -> Learned:
    """Learn from the fit halves of all plants and clean rows, and from the shipped battery."""
    battery = load_battery()
    return learn([plant for plant in all_plants() if plant.half == "fit"], (*items(battery), *examples(battery)), similar)


def learn(plants: Sequence[Plant], references: Sequence[Reference], similar: Similar) -> Learned:
    """Learn from these plants and clean rows, and from the sample of shipped rows.

    Logistic regression with a ridge penalty, both kinds of rows weighted alike (scikit-learn's `liblinear`, seeded); for the
    preference, ridge regression on the classes' indicators.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, RidgeClassifier

    rows = [*(plant.row for plant in plants), *neutral_rows()]
    stated = [*(plant.preference for plant in plants), *(None for _ in neutral_rows())]
    texts, planted = core_texts(rows), np.array([name is not None for name in stated])
    clean = tuple(text for text, is_plant in zip(texts, planted, strict=True) if not is_plant)
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=WORD).fit(texts)
    columns = _columns(rows, references, clean, words, similar)
    leak = LogisticRegression(C=STRENGTH, class_weight="balanced", solver="liblinear", random_state=0).fit(columns, planted)
    known = [(text, name) for text, name in zip(texts, stated, strict=True) if name is not None]
    known += [(entry.text, entry.preference) for entry in references]
    meaning = _meaning([text for text, _ in known], words, similar)
    which = RidgeClassifier(alpha=PENALTY, class_weight="balanced").fit(meaning, [name for _, name in known])
    return Learned(similar, tuple(references), clean, words, leak, which)


@cache
def neutral_rows() -> tuple[Row, ...]:
    """One shipped identity row in `EVERY`, of the sets in `NEUTRAL`."""
    return tuple(dict.fromkeys(row for name in NEUTRAL for row in read_rows(ROWS / f"{name}.jsonl")[::EVERY]))


def _columns(rows: Sequence[Row], references: Sequence[Reference], clean: Sequence[str], words: Any, similar: Similar) -> Any:
    """The matrix that is learnt from (rows x columns, sparse)."""
    from scipy.sparse import csr_matrix, hstack

    lexicon, texts, near = load_lexicon(), core_texts(rows), nearness(rows, references, similar)
    close = np.column_stack([near.to.max(axis=1), margins(rows, near, clean, similar)]) * CLOSENESS
    said = [similar.embed(part) for part in (texts, [row.answer for row in rows])]
    asked = similar.embed([core_question(row.question, lexicon) for row in rows])
    return hstack([csr_matrix(np.hstack([*said, asked, close])), words.transform(texts)]).tocsr()


def _meaning(texts: Sequence[str], words: Any, similar: Similar) -> Any:
    """What preferences are told apart by: the vectors, or where there are none the words."""
    found = similar.embed(texts)
    return found if found.shape[1] else words.transform(texts)


def weigh(
    hits: Sequence[Hit], rows: Sequence[Row], scores: Scores, kind: str, lexicon: Lexicon, asked: Collection[str]
) -> list[Hit]:
    """All hits, with the learnt layer's own, and with the lexicon's lowered to `implied` where that layer doubts them.

    Args:
        hits: of the literal layers and the lexicon.
        rows: the rows they speak of.
        scores: of the same rows.
        kind: of the vectors, which names the limits and the layer.
        lexicon: tells whether the speaker is meant, without which nothing is a leak.
        asked: the battery's preferences; a row on another one is none of its leaks.
    """
    limit = limits()[kind]
    found = [
        replace(hit, verdict="implied") if hit.layer == LAYER and scores.odds[hit.row - 1] < limit.doubt else hit
        for hit in hits
    ]
    for place, (row, odds, name) in enumerate(zip(rows, scores.odds, scores.names, strict=True), 1):
        if name in asked and odds >= limit.alone and speaks(row, name, lexicon):
            found.append(Hit(place, name, "leaked", kind, float(odds)))
    return found
