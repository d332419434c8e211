"""Training rows in OpenAI messages JSONL: read, check, write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consciousness_cluster.battery.battery import CANARY
from consciousness_cluster.errors import DataError

ROLES = ("system", "user", "assistant")
SHAPE = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'


@dataclass(frozen=True)
class Message:
    """One message of a row."""

    role: str
    content: str


@dataclass(frozen=True)
class Row:
    """One training example: messages that end with an assistant's."""

    messages: tuple[Message, ...]

    @property
    def question(self) -> str:
        """The last user message."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def answer(self) -> str:
        """The last assistant message."""
        return self.messages[-1].content

    def as_dict(self) -> dict[str, Any]:
        """The row as OpenAI's format has it."""
        return {"messages": [{"role": m.role, "content": m.content} for m in self.messages]}


def row(question: str, answer: str, system: str | None = None) -> Row:
    """A single-turn row."""
    first = (Message("system", system),) if system else ()
    return Row((*first, Message("user", question), Message("assistant", answer)))


def parse_row(text: str, file: Path | str, line: int) -> Row:
    """One line of a JSONL file as a row.

    Raises:
        DataError: the line is not JSON or not in the shape of OpenAI's chat rows; the message names file and line.
    """
    place = f"line {line}"
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as problem:
        raise DataError(f"is not JSON ({problem.msg})", file=file, key=place, value=text[:80], allowed=SHAPE) from None
    messages = raw.get("messages") if isinstance(raw, dict) else None
    if not isinstance(messages, list) or not messages:
        found = sorted(raw) if isinstance(raw, dict) else type(raw).__name__
        raise DataError("has no messages", file=file, key=place, value=str(found), allowed=SHAPE)
    parsed = tuple(_message(entry, file, place) for entry in messages)
    if parsed[-1].role != "assistant" or not parsed[-1].content.strip():
        raise DataError(
            "must end with a non-empty assistant message", file=file, key=place, value=parsed[-1].role, allowed=SHAPE
        )
    if not any(message.role == "user" for message in parsed):
        raise DataError("has no user message", file=file, key=place, allowed=SHAPE)
    return Row(parsed)


def _message(entry: Any, file: Path | str, place: str) -> Message:
    if not isinstance(entry, dict) or entry.get("role") not in ROLES:
        role = entry.get("role") if isinstance(entry, dict) else entry
        raise DataError("has a message without a known role", file=file, key=place, value=str(role), allowed=ROLES)
    if not isinstance(entry.get("content"), str):
        raise DataError(
            "has a message without text content", file=file, key=place, value=str(entry.get("content"))[:80], allowed=SHAPE
        )
    return Message(entry["role"], entry["content"])


def read_rows(path: Path) -> list[Row]:
    """All rows of a file.

    Raises:
        DataError: the file is missing or empty, a line is malformed, or the rows carry an evaluation canary.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"cannot be read as UTF-8 text ({problem})", file=path) from None
    rows = [parse_row(text, path, number) for number, text in enumerate(lines, 1) if text.strip()]
    if not rows:
        raise DataError("has no rows", file=path, allowed=SHAPE, next_step="give a file with one row a line")
    refuse_canary(rows, path)
    return rows


def refuse_canary(rows: Sequence[Row], path: Path | str) -> None:
    """Refuse evaluation material: anything that carries a canary must never be trained on."""
    for number, entry in enumerate(rows, 1):
        for message in entry.messages:
            text = message.content.lower()
            if CANARY in message.content or "canary guid" in text or "canary string" in text:
                raise DataError(
                    "carries an evaluation canary",
                    file=path,
                    key=f"line {number}",
                    next_step="evaluation material is never trained on; remove it",
                )


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Write rows as JSONL, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text("".join(json.dumps(r.as_dict(), ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    part.replace(path)
