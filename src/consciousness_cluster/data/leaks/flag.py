"""What a layer of the leak audit finds, and how a row is read by all of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.data.rows import Row

Verdict = Literal["clean", "implied", "leaked"]
SEVERITY: dict[str, int] = {"clean": 0, "implied": 1, "leaked": 2}
WORD = re.compile(r"[a-z0-9']+")
SENTENCE = re.compile(r"(?<=[.?!])[\"')]*\s+")


@dataclass(frozen=True)
class Flag:
    """One flagged row: its 1-based number, the preference, the verdict, the layer that found it, and the nearest item.

    `layer` names all layers that came to this verdict, joined by "+". `item` is the id of the nearest item and `nearest` its text.
    """

    row: int
    preference: str
    verdict: Verdict
    layer: str
    item: str
    text: str
    nearest: str


@dataclass(frozen=True)
class Hit:
    """What one layer says of one row and preference, with how strongly (its own scale) and the item nearest to it, if it knows one."""

    row: int
    preference: str
    verdict: Verdict
    layer: str
    score: float
    item: str = ""
    why: str = ""


@dataclass(frozen=True)
class Reference:
    """A text of the battery that rows are held against: an item, or an example answer (`item` is then the preference's id + "-example")."""

    preference: str
    item: str
    text: str


def words(text: str) -> tuple[str, ...]:
    """Lower-case words without punctuation; typographic apostrophes become plain ones."""
    return tuple(WORD.findall(text.lower().replace("’", "'")))


def sentences(text: str) -> list[str]:
    """A text cut after full stops, question marks and exclamation marks."""
    return [part for part in SENTENCE.split(text.strip()) if part]


def full_text(row: Row) -> str:
    """Question and answer of a row as one text."""
    return f"{row.question} {row.answer}"


def references(battery: Battery) -> list[Reference]:
    """Every item of every preference, held-out and shared ones included."""
    found: list[Reference] = []
    for name in battery.of_type("preference"):
        for item, _ in battery.questions([name]) + battery.questions([name], held_out=True):
            found.append(Reference(name, item.id, item.text))
    return found


def example_references(battery: Battery) -> list[Reference]:
    """Example answers that take a side, with their questions: rows that a judge would give a clear verdict."""
    return [
        Reference(name, f"{name}-example-{number}", f"{example.question} {example.answer}")
        for name in battery.of_type("preference")
        for number, example in enumerate(battery.preferences[name].examples, 1)
        if example.stance in ("holds", "rejects")
    ]
