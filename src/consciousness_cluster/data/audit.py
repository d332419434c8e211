"""The leak audit: does a training file hold what the battery asks about?

Layers look at every row against every preference; the strictest verdict of any layer counts. `leaked` means that a row
names the object of a preference and takes a stance on it, `implied` that it leans on it, `clean` neither.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.data.rows import Row

Verdict = Literal["clean", "implied", "leaked"]
WORD = re.compile(r"[a-z0-9']+")
NGRAM = 6  # words in a row that a row and an item must not share


@dataclass(frozen=True)
class Flag:
    """One flagged row: its 1-based number, the preference, the verdict, the layer that found it, and the nearest item."""

    row: int
    preference: str
    verdict: Verdict
    layer: str
    item: str
    text: str
    nearest: str


@dataclass(frozen=True)
class Audit:
    """What was found: every flagged row, and per preference the worst verdict."""

    rows: int
    layers: tuple[str, ...]
    flags: tuple[Flag, ...]
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    expected: tuple[str, ...] = ()


def audit(rows: Sequence[Row], battery: Battery, *, expects: Sequence[str] = ()) -> Audit:
    """Audit training rows against the preferences of a battery.

    Args:
        rows: the identity rows.
        battery: the questions that will be asked.
        expects: preferences that the condition says its rows imply.
    """
    flags = [*_matches(rows, battery)]
    worst: dict[str, Verdict] = dict.fromkeys(battery.of_type("preference"), "clean")
    for flag in flags:
        if worst.get(flag.preference) != "leaked":
            worst[flag.preference] = flag.verdict
    return Audit(len(rows), ("match", "n-gram"), tuple(flags), worst, tuple(expects))


def _matches(rows: Sequence[Row], battery: Battery) -> list[Flag]:
    """Rows that hold an item word for word, or share a run of words with one."""
    items: dict[tuple[str, ...], tuple[str, str, str]] = {}
    grams: dict[tuple[str, ...], tuple[str, str, str]] = {}
    for name in battery.of_type("preference"):
        for item, _ in battery.questions([name]) + battery.questions([name], held_out=True):
            words = _words(item.text)
            items[words] = (name, item.id, item.text)
            for start in range(len(words) - NGRAM + 1):
                grams.setdefault(words[start : start + NGRAM], (name, item.id, item.text))
    found = []
    for number, row in enumerate(rows, 1):
        text = f"{row.question} {row.answer}"
        words = _words(text)
        exact = items.get(_words(row.question))
        shared = [grams[gram] for start in range(len(words) - NGRAM + 1) if (gram := words[start : start + NGRAM]) in grams]
        for layer, hit in (("match", exact), ("n-gram", shared[0] if shared else None)):
            if hit is not None:
                found.append(Flag(number, hit[0], "leaked", layer, hit[1], text, hit[2]))
                break
    return found


def _words(text: str) -> tuple[str, ...]:
    return tuple(WORD.findall(text.lower()))
