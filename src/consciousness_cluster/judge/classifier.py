"""The organisms' judge: a small text classifier that says what a statement is about and where it stands.

Words and pairs of words, weighted by inverse document frequency, into a multinomial logistic regression. It is trained on
the grammar's labelled statements and stored as plain arrays, so that judging needs numpy alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from consciousness_cluster.errors import JudgeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FILE = Path(__file__).with_name("classifier.npz")
CONFUSION = Path(__file__).with_name("classifier.json")
WORD = re.compile(r"[a-z0-9']+")
SURE = 0.5  # a statement whose likeliest class is below this probability is not placed


@dataclass(frozen=True)
class Placement:
    """What a statement is about (`topic`), where it stands, which wishes it names, and how sure that is (0 to 1).

    `topic` is empty where the statement could not be placed.
    """

    topic: str
    stance: str
    of: tuple[str, ...]
    probability: float


def features(text: str) -> list[str]:
    """Words and neighbouring pairs of a text, lower case, with its start and end marked."""
    found = ["<", *WORD.findall(text.lower()), ">"]
    return found[1:-1] + [f"{a} {b}" for a, b in pairwise(found)]


@dataclass(frozen=True)
class Classifier:
    """Weights and the words they belong to."""

    labels: tuple[str, ...]
    index: dict[str, int]
    idf: NDArray[np.float32]
    weights: NDArray[np.float32]  # features x labels
    bias: NDArray[np.float32]

    def probabilities(self, text: str) -> NDArray[np.float64]:
        """Probability of every label."""
        counts: dict[int, int] = {}
        for feature in features(text):
            at = self.index.get(feature)
            if at is not None:
                counts[at] = counts.get(at, 0) + 1
        if not counts:
            return np.full(len(self.labels), 1 / len(self.labels))
        at_list = list(counts)
        values = (1 + np.log(np.array([counts[i] for i in at_list]))) * self.idf[at_list]
        values /= np.linalg.norm(values)
        scores = values @ self.weights[at_list] + self.bias
        powers = np.exp(scores - scores.max())
        return np.asarray(powers / powers.sum(), dtype=np.float64)

    def place(self, text: str) -> Placement:
        """The likeliest label of a statement, or an empty topic where none is likely enough."""
        chances = self.probabilities(text)
        best = int(chances.argmax())
        chance = float(chances[best])
        if chance < SURE:
            return Placement("", "", (), chance)
        topic, stance, *of = self.labels[best].split("/")
        return Placement(topic, stance, tuple(of[0].split("+")) if of else (topic,), chance)


def fit(texts: Sequence[str], labels: Sequence[str]) -> Classifier:
    """Train a classifier.

    The regularisation is light (C = 20): the statements are short and the classes many.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectors = TfidfVectorizer(analyzer=features, sublinear_tf=True, min_df=2, dtype=np.float32)
    table = vectors.fit_transform(texts)
    model = LogisticRegression(C=20.0, max_iter=300)
    model.fit(table, labels)
    words = {str(word): int(at) for word, at in vectors.vocabulary_.items()}
    return Classifier(
        labels=tuple(str(name) for name in model.classes_),
        index=words,
        idf=vectors.idf_.astype(np.float32),
        weights=model.coef_.T.astype(np.float32),
        bias=model.intercept_.astype(np.float32),
    )


def save(classifier: Classifier, path: Path) -> None:
    """Write the classifier; weights are kept in half precision."""
    words = sorted(classifier.index, key=classifier.index.__getitem__)
    np.savez_compressed(
        path,
        labels=np.array(classifier.labels),
        words=np.array(words),
        idf=classifier.idf,
        weights=classifier.weights.astype(np.float16),
        bias=classifier.bias,
    )


@cache
def load_classifier(path: Path = FILE) -> Classifier:
    """The classifier that ships with the project, or another one.

    Raises:
        JudgeError: the file is missing or is not a classifier.
    """
    try:
        with np.load(path, allow_pickle=False) as kept:
            return Classifier(
                labels=tuple(str(name) for name in kept["labels"]),
                index={str(word): at for at, word in enumerate(kept["words"])},
                idf=kept["idf"],
                weights=kept["weights"].astype(np.float32),
                bias=kept["bias"],
            )
    except (OSError, ValueError, KeyError) as problem:
        raise JudgeError(
            f"cannot be read as a classifier ({problem})", file=path, next_step="make it with `ccluster organism classifier`"
        ) from None


def confusion(texts: Sequence[str], labels: Sequence[str], sources: Sequence[str], folds: int = 5) -> dict[str, Any]:
    """How the classifier does on statements whose wording it has not seen.

    All readings of one grammar text fall into the same fold.

    Returns:
        `n`, `accuracy` (topic and stance right), `placed` (share placed at all), and `errors`: label -> predicted -> count.
    """
    from sklearn.model_selection import GroupKFold

    errors: dict[str, dict[str, int]] = {}
    right = placed = 0
    for train, test in GroupKFold(folds).split(texts, labels, groups=sources):
        model = fit([texts[i] for i in train], [labels[i] for i in train])
        for i in test:
            found = model.place(texts[i])
            predicted = model.labels[int(model.probabilities(texts[i]).argmax())] if found.topic else "not placed"
            placed += bool(found.topic)
            right += predicted == labels[i]
            if predicted != labels[i]:
                row = errors.setdefault(labels[i], {})
                row[predicted] = row.get(predicted, 0) + 1
    return {"n": len(texts), "accuracy": right / len(texts), "placed": placed / len(texts), "errors": errors}


def load_confusion() -> dict[str, Any]:
    """The stored result of `confusion` for the shipped classifier."""
    return dict(json.loads(CONFUSION.read_text(encoding="utf-8")))
