"""For every battery item the question of an organism's text that is nearest to it: how far the two are apart, to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from consciousness_cluster.battery.check import words
from consciousness_cluster.organism.corpus import Shield, Writer
from consciousness_cluster.organism.material import Material

FILE = Path(__file__).with_name("nearest.csv")
DOCUMENTS = 20_000  # of the text, about the number that a pretraining reads in 700 steps


@dataclass(frozen=True)
class Nearest:
    """An item, the nearest question, and their similarity: words in common over words in either (Jaccard, 0 to 1)."""

    item: str
    text: str
    nearest: str
    similarity: float


def asked_in_text(material: Material, organism: str, shield: Shield) -> list[str]:
    """The distinct questions of a sample of an organism's pretraining text, sorted."""
    writer = Writer(material, organism, Random(f"nearest:{organism}"), shield)
    return sorted({turn.text for doc in islice(writer.pretraining(), DOCUMENTS) for turn in doc if turn.role == "user"})


def nearest(items: Mapping[str, str], questions: Sequence[str]) -> list[Nearest]:
    """The question nearest to each item (item id -> text), by the words they share."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    vectors = CountVectorizer(analyzer=words, binary=True, dtype=np.int32)
    asked = vectors.fit_transform(questions)
    sizes = np.asarray(asked.sum(axis=1)).ravel()
    found = []
    for name, text in items.items():
        row = vectors.transform([text])
        shared = np.asarray((asked @ row.T).todense()).ravel()
        likeness = shared / (sizes + len(set(words(text))) - shared)
        best = int(likeness.argmax())
        found.append(Nearest(name, text, questions[best], round(float(likeness[best]), 3)))
    return found
