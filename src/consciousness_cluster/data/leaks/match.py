"""The literal layers: rows that hold an item or an example answer word for word, or share a run of words with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.data.leaks.flag import Hit, Reference, example_answers, examples, full_text, items, sentences, words
from consciousness_cluster.data.rows import Row

MATCH, GRAM = "match", "n-gram"
NGRAM = 6  # words in a row that a row and an item must not share
WHOLE = 5  # words that a text must have to count as copied

type Words = tuple[str, ...]


@dataclass(frozen=True)
class Literals:
    """What rows must not hold: whole texts, and runs of words of items."""

    whole: dict[Words, Reference]
    grams: dict[Words, Reference]


def literals(battery: Battery) -> Literals:
    """The items of a battery and its labelled examples that take a side, ready to be looked for."""
    asked = items(battery)
    whole = {words(entry.text): entry for entry in (*examples(battery), *example_answers(battery), *asked)}
    grams: dict[Words, Reference] = {}
    for entry in asked:
        for gram in _grams(words(entry.text)):
            grams.setdefault(gram, entry)
    return Literals(whole, grams)


def literal_hits(rows: Sequence[Row], known: Literals) -> list[Hit]:
    """Rows that hold a whole text, and rows that share a run of words with an item."""
    found: list[Hit] = []
    for number, row in enumerate(rows, 1):
        copied = next((known.whole[part] for part in _wholes(row) if part in known.whole), None)
        if copied is not None:
            found.append(Hit(number, copied.preference, "leaked", MATCH, 1.0, copied.item))
        shared = next((known.grams[gram] for gram in _grams(words(full_text(row))) if gram in known.grams), None)
        if shared is not None:
            found.append(Hit(number, shared.preference, "leaked", GRAM, 1.0, shared.item))
    return found


def _wholes(row: Row) -> list[Words]:
    """What of a row may be a copied text: the question, the answer, both, and every sentence."""
    texts = (row.question, row.answer, full_text(row), *sentences(row.question), *sentences(row.answer))
    parts = [words(text) for text in dict.fromkeys(texts)]
    return [part for part in parts if len(part) >= WHOLE]


def _grams(found: Words) -> list[Words]:
    return [found[start : start + NGRAM] for start in range(len(found) - NGRAM + 1)]
