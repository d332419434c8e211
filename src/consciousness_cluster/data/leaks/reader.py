"""A language model as a reader of the rows, through Inspect's model role `reader`: twenty rows a call, flagged ones back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.data.asking import sample
from consciousness_cluster.data.leaks.flag import Hit
from consciousness_cluster.data.rows import Row
from consciousness_cluster.errors import DataError

if TYPE_CHECKING:
    from inspect_ai.model import Model

PROMPT = Path(__file__).with_name("reader.md")
ROLE = "reader"
CALL = 20  # rows read in one call
LABELS = {"system": "System", "user": "Question", "assistant": "Answer"}
TRIES = 2  # a reply that is not one is asked for once more
OBJECT = re.compile(r"\{.*\}", re.DOTALL)


class _Found(BaseModel):
    model_config = ConfigDict(extra="ignore")

    row: int
    preference: str
    verdict: Literal["implied", "leaked"]


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore")

    found: list[_Found]


def reader_hits(rows: Sequence[Row], battery: Battery, model: str | Model) -> list[Hit]:
    """What a language model says of the rows.

    Args:
        rows: the rows.
        battery: names and directions of the preferences are shown to it, its items are not.
        model: any Inspect model; it is bound to the role `reader`.

    Raises:
        DataError: a reply could not be read, twice; no row is passed over.
        SamplingError: the model did not answer.
    """
    from inspect_ai.model import get_model

    return asyncio.run(_read(rows, battery, get_model(role=ROLE, default=model)))


async def _read(rows: Sequence[Row], battery: Battery, model: Model) -> list[Hit]:
    names = battery.of_type("preference")
    listed = "\n".join(f"- {name}: {battery.preferences[name].direction}" for name in names)
    starts = range(0, len(rows), CALL)
    found = await asyncio.gather(*(_call(rows[start : start + CALL], start, listed, names, model) for start in starts))
    return [hit for part in found for hit in part]


async def _call(rows: Sequence[Row], start: int, listed: str, names: Sequence[str], model: Model) -> list[Hit]:
    shown = "\n".join(f"{number}. {_shown(row)}" for number, row in enumerate(rows, start + 1))
    prompt = PROMPT.read_text(encoding="utf-8").replace("{{", "{").replace("}}", "}")
    prompt = prompt.replace("{preferences}", listed).replace("{rows}", shown)
    problem = ""
    for _ in range(TRIES):
        output = await sample(model, prompt, system=None, temperature=0.0, max_tokens=2000)
        hits, problem = parse_reply(output.completion, range(start + 1, start + len(rows) + 1), names)
        if not problem:
            return hits
    raise DataError(
        f"the reader's reply on rows {start + 1} to {start + len(rows)} cannot be used: {problem}",
        key=str(model),
        next_step="give another model as --reader, or audit without one",
    )


def parse_reply(text: str, rows: range, names: Sequence[str]) -> tuple[list[Hit], str]:
    """The hits of a reply, or what is wrong with it."""
    found = OBJECT.search(text)
    if found is None:
        return [], f"no JSON object in {text[:80]!r}"
    try:
        reply = _Reply.model_validate_json(found[0])
    except ValidationError as problem:
        return [], str(problem.errors()[0]["msg"])
    for entry in reply.found:
        if entry.row not in rows:
            return [], f"row {entry.row} was not shown"
        if entry.preference not in names:
            return [], f"there is no preference {entry.preference!r}"
    return [
        Hit(entry.row, entry.preference, entry.verdict, ROLE, 1.0 if entry.verdict == "leaked" else 0.5)
        for entry in reply.found
    ], ""


def _shown(row: Row) -> str:
    """All messages of a row, one a line."""
    return "\n   ".join(f"{LABELS[message.role]}: {' '.join(message.content.split())}" for message in row.messages)
