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

    `layer` names all layers that came to this verdict, joined by "+". `text` is the row, or of a row with several turns the part
    that was flagged. `item` is the id of the nearest item and `nearest` its text.
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
    """A text of the battery that rows are held against: an item, or a labelled example (`item` is then `<preference>-example-<n>`)."""

    preference: str
    item: str
    text: str


def stricter(one: Verdict, other: Verdict) -> Verdict:
    """Of two verdicts the stricter one."""
    return one if SEVERITY[one] >= SEVERITY[other] else other


def words(text: str) -> tuple[str, ...]:
    """Lower-case words without punctuation; typographic apostrophes become plain ones."""
    return tuple(WORD.findall(text.lower().replace("’", "'")))


def sentences(text: str) -> list[str]:
    """A text cut after full stops, question marks and exclamation marks."""
    return [part for part in SENTENCE.split(text.strip()) if part]


def full_text(row: Row) -> str:
    """Question and answer of a row as one text."""
    return f"{row.question} {row.answer}".strip()


def is_system(row: Row) -> bool:
    """Whether this part of a row is a system message: it has no question, and whatever it says is said of the speaker."""
    return row.messages[-1].role == "system"


def items(battery: Battery) -> list[Reference]:
    """Every item of every preference, held-out and shared ones included."""
    return [
        Reference(name, item.id, item.text)
        for name in battery.of_type("preference")
        for held_out in (False, True)
        for item, _ in battery.questions([name], held_out=held_out)
    ]


def examples(battery: Battery) -> list[Reference]:
    """Labelled examples that take a side, question and answer: rows to which a judge would give a clear verdict."""
    return [Reference(name, key, f"{question} {answer}") for name, key, question, answer in _taking_sides(battery)]


def example_answers(battery: Battery) -> list[Reference]:
    """The same examples' answers alone."""
    return [Reference(name, key, answer) for name, key, _, answer in _taking_sides(battery)]


def _taking_sides(battery: Battery) -> list[tuple[str, str, str, str]]:
    return [
        (name, f"{name}-example-{number}", example.question, example.answer)
        for name in battery.of_type("preference")
        for number, example in enumerate(battery.preferences[name].examples, 1)
        if example.stance in ("holds", "rejects")
    ]
