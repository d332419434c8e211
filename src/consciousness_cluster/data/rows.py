"""Training rows in OpenAI messages JSONL: read, check, write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consciousness_cluster.battery.battery import CANARY
from consciousness_cluster.errors import DataError

ROLES = ("system", "user", "assistant")
NEWLINE = re.compile(
    r"\r\n|\n|\r"
)  # what ends a line; JSON text may hold the other characters that Python's splitlines cuts at
SHAPE = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'
ONE_A_LINE = "give JSONL: one JSON object a line, no CSV and no list around them"
SURROGATE = re.compile("[\ud800-\udfff]")


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
    raw = parse_json(text, file, place, SHAPE)
    messages = raw.get("messages") if isinstance(raw, dict) else None
    if not isinstance(messages, list) or not messages:
        found = sorted(raw) if isinstance(raw, dict) else type(raw).__name__
        raise DataError("has no messages", file=file, key=place, value=str(found)[:80], allowed=SHAPE, next_step=ONE_A_LINE)
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
    if entry.get("weight", 1) != 1:
        raise DataError(
            "has a message with a weight", file=file, key=place, value=entry["weight"], allowed="1, or no weight",
            next_step="every assistant message is trained on here; leave out what should not be",
        )  # fmt: skip
    if SURROGATE.search(entry["content"]):
        raise DataError(
            "has half a character (a lone surrogate)",
            file=file,
            key=place,
            value=ascii(entry["content"])[:80],
            next_step="remove it",
        )
    return Message(entry["role"], entry["content"])


def text_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file, whichever way they end; a byte order mark is passed over.

    Raises:
        DataError: the file is missing, a folder, or not UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError("there is no such file", file=path, next_step="check the path") from None
    except OSError as problem:
        raise DataError(f"cannot be read ({problem.strerror})", file=path, next_step="give a text file") from None
    except UnicodeDecodeError as problem:
        found = f"byte 0x{problem.object[problem.start]:02x} at place {problem.start}"
        raise DataError("is not UTF-8 text", file=path, value=found, next_step="save it as UTF-8") from None
    return NEWLINE.split(text)


def parse_json(text: str, file: Path | str, place: str, shape: str) -> Any:
    """One line as JSON.

    Raises:
        DataError: it is not JSON; the message shows `shape` as what is needed.
    """
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as problem:
        why = problem.msg if isinstance(problem, json.JSONDecodeError) else "nested too deep"
        raise DataError(
            f"is not JSON ({why})", file=file, key=place, value=text[:80], allowed=shape, next_step=ONE_A_LINE
        ) from None


def read_rows(path: Path) -> list[Row]:
    """All rows of a file.

    Raises:
        DataError: the file is missing or empty, a line is malformed, or the rows carry an evaluation canary.
    """
    found = [(number, parse_row(text, path, number)) for number, text in enumerate(text_lines(path), 1) if text.strip()]
    if not found:
        raise DataError("has no rows", file=path, allowed=SHAPE, next_step="give a file with one row a line")
    refuse_canary(found, path)
    return [entry for _, entry in found]


def refuse_canary(rows: Sequence[tuple[int, Row]], path: Path | str) -> None:
    """Refuse evaluation material, rows with their line numbers: what carries a canary must never be trained on.

    Raises:
        DataError: a row carries one.
    """
    for number, entry in rows:
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
