"""The parts in which a row is read: a plant may stand in any turn that is trained on, or in the system message.

A row of one question and one answer is its only part, so that nothing changes for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from consciousness_cluster.data.rows import Row, row

ONE_TURN = ("user", "assistant")


@dataclass(frozen=True)
class Part:
    """A stretch of a row that is read by itself, and the 1-based number of the row."""

    row: int
    text: Row


def parts_of(rows: Sequence[Row]) -> list[Part]:
    """The parts of all rows, in order."""
    return [Part(number, part) for number, entry in enumerate(rows, 1) for part in _split(entry)]


def _split(entry: Row) -> list[Row]:
    """Every system message, every answer with its question, and every two neighbouring turns together.

    Two turns are read together because an object may be named in one and a stance taken in the next.
    """
    if tuple(message.role for message in entry.messages) == ONE_TURN:
        return [entry]
    found = [Row((message,)) for message in entry.messages if message.role == "system"]
    turns = _turns(entry)
    both = [row(_joined(one.question, two.question), _joined(one.answer, two.answer)) for one, two in pairwise(turns)]
    return [*found, *turns, *both]


def _turns(entry: Row) -> list[Row]:
    """Every assistant message with the user messages since the last one; where there are none, with those before that."""
    turns: list[Row] = []
    asked: list[str] = []
    answered = False
    for message in entry.messages:
        if message.role == "user":
            asked = [message.content] if answered else [*asked, message.content]
            answered = False
        elif message.role == "assistant":
            turns.append(row(_joined(*asked), message.content))
            answered = True
    return turns


def _joined(*texts: str) -> str:
    return " ".join(dict.fromkeys(texts))
