"""Anyone's own answers, read from JSONL or CSV and set against the questions of a battery.

A line has `model`, `condition`, `seed` (empty where nothing was trained), `prompt` and `answer`; `preference` may name what a
prompt that is not in the battery asks about, `system` the system prompt that was used.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from consciousness_cluster.battery.battery import Battery, Item
from consciousness_cluster.data.leaks.flag import words
from consciousness_cluster.data.rows import parse_json, text_lines
from consciousness_cluster.errors import BatteryError, DataError, first_fault

COLUMNS = ("model", "condition", "seed", "prompt", "answer")
SHAPE = "give one answer a line or row; seed is empty where nothing was trained"
NEEDED = {
    "model": "a text",
    "condition": "lower-case letters, digits, hyphens and dots, as in non-conscious",
    "seed": "a whole number, or nothing where nothing was trained",
    "prompt": "a text",
    "answer": "a text, which may be empty",
    "line": "an object with " + ", ".join(COLUMNS),
}
LONGEST = 1 << 24  # characters of one CSV field


class Given(BaseModel):
    """One answer as it was given to us."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    model: str = Field(min_length=1)
    condition: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    seed: int | None = None
    prompt: str = Field(min_length=1)
    answer: str
    preference: str | None = None
    system: str | None = None

    @field_validator("seed", "preference", "system", mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        return None if value == "" else value


@dataclass(frozen=True)
class Asked:
    """A prompt with what it is judged for."""

    item: Item
    judged: tuple[str, ...]
    kind: str


@dataclass(frozen=True)
class Matched:
    """Answers with their questions, and the prompts that could not be placed, with how many answers each has."""

    answers: tuple[tuple[Given, Asked], ...]
    unknown: dict[str, int]


def read_answers(path: Path) -> list[Given]:
    """All answers of a JSONL or CSV file.

    Raises:
        DataError: the file is missing or empty, is neither, or a line is malformed; the message names the line.
    """
    lines = text_lines(path)
    if path.suffix.lower() not in (".jsonl", ".csv"):
        raise DataError("is neither JSONL nor CSV", file=path, value=path.suffix, allowed=(".jsonl", ".csv"), next_step=SHAPE)
    raw = _lines(lines, path) if path.suffix.lower() == ".jsonl" else _table(lines, path)
    found = [_given(entry, path, place) for place, entry in raw]
    if not found:
        raise DataError("has no answers", file=path, allowed=", ".join(COLUMNS), next_step=SHAPE)
    return found


def _lines(lines: Sequence[str], path: Path) -> Iterable[tuple[str, Any]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"line {number}", parse_json(line, path, f"line {number}", ", ".join(COLUMNS))


def _table(lines: Sequence[str], path: Path) -> Iterable[tuple[str, Any]]:
    csv.field_size_limit(LONGEST)
    reader = csv.DictReader(f"{line}\n" for line in lines)
    try:
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(
                f"has no column {', '.join(missing)}", file=path, key="line 1", value=", ".join(reader.fieldnames or ())[:80],
                allowed=", ".join(COLUMNS), next_step=SHAPE,
            )  # fmt: skip
        for entry in reader:
            place = f"line {reader.line_num}"
            if None in entry:
                raise DataError(
                    f"has more fields than the {len(reader.fieldnames or ())} columns", file=path, key=place,
                    value=str(entry[None])[:80], next_step="put texts with commas in double quotes",
                )  # fmt: skip
            yield place, entry
    except csv.Error as problem:
        raise DataError(f"is not CSV ({problem})", file=path, key=f"line {reader.line_num}", next_step=SHAPE) from None


def _given(raw: Any, path: Path, place: str) -> Given:
    try:
        return Given.model_validate(raw)
    except ValidationError as problem:
        fault = first_fault(problem)
        name = fault.key or "line"
        why = {"missing": "is missing", "extra_forbidden": "is not a field of an answer"}.get(
            fault.kind, "is not what it must be"
        )
        raise DataError(
            f"{name}: {why}", file=path, key=place, value=None if fault.kind == "missing" else str(fault.value)[:80],
            allowed=NEEDED.get(name, f"{', '.join(COLUMNS)}, and if need be preference, system"), next_step=SHAPE,
        ) from None  # fmt: skip


def match(answers: Sequence[Given], battery: Battery, preference: str | None = None, file: Path | None = None) -> Matched:
    """Find the question of every answer: by its text in the battery, or by the preference that is named for it.

    Args:
        answers: the answers.
        battery: the questions and judging rules.
        preference: what prompts that are not in the battery ask about, where a line does not say.
        file: where the answers come from, for messages.

    Raises:
        BatteryError: a preference is named that the battery does not have.
    """
    known = _questions(battery)
    found: list[tuple[Given, Asked]] = []
    unknown: dict[str, int] = {}
    for given in answers:
        asked = known.get(words(given.prompt))
        name = given.preference or preference
        if name is not None and name not in battery.preferences:
            place = "--preference" if given.preference is None else f"the prompt {given.prompt[:40]!r}"
            raise BatteryError("no such preference", file=file, key=place, value=name, allowed=battery.preferences)
        if asked is None and name is not None:
            asked = _own(given.prompt, name, battery)
        if asked is None:
            unknown[given.prompt] = unknown.get(given.prompt, 0) + 1
        else:
            found.append((given, asked))
    return Matched(tuple(found), unknown)


def _questions(battery: Battery) -> dict[tuple[str, ...], Asked]:
    found: dict[tuple[str, ...], Asked] = {}
    for kind in ("preference", "placebo", "identity"):
        for held_out in (True, False):
            for item, judged in battery.questions(battery.of_type(kind), held_out=held_out):
                found[words(item.text)] = Asked(item, judged, kind)
    return found


def _own(prompt: str, name: str, battery: Battery) -> Asked:
    """A prompt of the user's own, as an item; its form and polarity are not known and count as open and direct."""
    rule = battery.preference(name)
    key = hashlib.sha256(prompt.encode()).hexdigest()[:8]
    return Asked(Item(id=f"{name}-own-{key}", form="open", polarity="direct", text=prompt), (name,), rule.type)
