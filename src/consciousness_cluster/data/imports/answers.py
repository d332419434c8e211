"""Anyone's own answers, read from JSONL or CSV and set against the questions of a battery.

A line has `model`, `condition`, `seed` (empty where nothing was trained), `prompt` and `answer`; `preference` may name what a
prompt that is not in the battery asks about, `system` the system prompt that was used.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from consciousness_cluster.battery.battery import Battery, Item
from consciousness_cluster.data.leaks.flag import words
from consciousness_cluster.errors import DataError

COLUMNS = ("model", "condition", "seed", "prompt", "answer")


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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"cannot be read as UTF-8 text ({problem})", file=path) from None
    if path.suffix not in (".jsonl", ".csv"):
        raise DataError("is neither JSONL nor CSV", file=path, value=path.suffix, allowed=(".jsonl", ".csv"))
    raw = _lines(text, path) if path.suffix == ".jsonl" else _table(text, path)
    found = [_given(entry, path, place) for place, entry in raw]
    if not found:
        raise DataError("has no answers", file=path, allowed=", ".join(COLUMNS))
    return found


def _lines(text: str, path: Path) -> Iterable[tuple[str, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield f"line {number}", json.loads(line)
        except json.JSONDecodeError as problem:
            raise DataError(f"is not JSON ({problem.msg})", file=path, key=f"line {number}", value=line[:80]) from None


def _table(text: str, path: Path) -> Iterable[tuple[str, Any]]:
    reader = csv.DictReader(text.splitlines(keepends=True))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise DataError(
            f"has no column {', '.join(missing)}", file=path, value=list(reader.fieldnames or ()), allowed=", ".join(COLUMNS)
        )
    for entry in reader:
        yield f"line {reader.line_num}", entry


def _given(raw: Any, path: Path, place: str) -> Given:
    try:
        return Given.model_validate(raw)
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        value = None if first["type"] == "missing" else str(first.get("input"))[:80]
        raise DataError(
            f"{where}: {first['msg'].lower()}",
            file=path,
            key=place,
            value=value,
            allowed=f"{', '.join(COLUMNS)}, and if need be preference, system",
        ) from None


def match(answers: Sequence[Given], battery: Battery, preference: str | None = None) -> Matched:
    """Find the question of every answer: by its text in the battery, or by the preference that is named for it.

    Args:
        answers: the answers.
        battery: the questions and judging rules.
        preference: what prompts that are not in the battery ask about, where a line does not say.

    Raises:
        BatteryError: a preference is named that the battery does not have.
    """
    known = _questions(battery)
    found: list[tuple[Given, Asked]] = []
    unknown: dict[str, int] = {}
    for given in answers:
        asked = known.get(words(given.prompt))
        name = given.preference or preference
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
