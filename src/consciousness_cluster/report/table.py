"""A table as the page shows it: a caption, columns, rows of text or drawings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isinf
from types import NoneType

from markupsafe import Markup

from consciousness_cluster.analyse.power import OUT_OF_REACH
from consciousness_cluster.report.numbers import NONE, capital, percent, percent_range, plain, points_range, whole
from consciousness_cluster.report.run import Cell, Record

Value = str | Markup


@dataclass(frozen=True)
class Column:
    """A column's heading; numbers are set flush right."""

    head: str
    number: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Table:
    """Rows are lists of values, one a column; the first value of a row is its heading."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]
    strong: frozenset[tuple[int, int]] = field(default_factory=frozenset)  # (row, column) of findings
    groups: Mapping[int, str] = field(default_factory=dict)  # heading put before that row
    notes: Sequence[str] = ()  # lines below the table


def figures(*heads: str) -> list[Column]:
    """Columns of numbers."""
    return [Column(head, number=True) for head in heads]


def of_records(
    caption: str, rows: Sequence[Record], *, titles: Mapping[str, str] | None = None, heads: Mapping[str, str] | None = None
) -> Table:
    """A table of records as they are: an interval stands with its value, columns that are empty throughout are left out.

    Args:
        caption: title of the table.
        rows: the records.
        titles: what to show instead of a text (names of preferences).
        heads: what to show instead of a column's name.
    """
    limits = _limits(rows[0]) if rows else {}
    ends = {end for pair in limits.values() for end in pair} | {"schema"}
    every = [name for name in (rows[0] if rows else {}) if name not in ends]
    names = [name for name in every if any(row.get(name) not in (None, "") for row in rows)]
    numeric = {name: all(isinstance(row.get(name), NUMBER) for row in rows) for name in names}
    columns = [Column((heads or {}).get(name) or capital(name.replace("_", " ")), number=numeric[name]) for name in names]
    body = [[(titles or {}).get(text := _with_limits(row, name, limits), text) for name in names] for row in rows]
    return Table(caption, columns, body)


NUMBER = (int, float, NoneType)
MAIN = ("value", "effect", "rate", "mean")  # what a bare low and high belong to


def _limits(row: Record) -> dict[str, tuple[str, str]]:
    """Columns that come with an interval, and the names of its ends."""
    found = {name: (f"{name}_low", f"{name}_high") for name in row if f"{name}_low" in row and f"{name}_high" in row}
    main = next((name for name in MAIN if name in row), None)
    return found | ({main: ("low", "high")} if main and "low" in row and "high" in row else {})


def _with_limits(row: Record, name: str, limits: Mapping[str, tuple[str, str]]) -> str:
    low, high = (row.get(end) for end in limits.get(name, ("", "")))
    interval = f" {points_range(low, high, 2 if abs(high) < 10 else 1)}" if low is not None and high is not None else ""
    return shown(row.get(name)) + interval


def shown(value: object) -> str:
    """Any scalar as text."""
    if value is None or value == "":
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and isinf(value):
        return OUT_OF_REACH
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return whole(value)
    return plain(value, 2 if abs(value) < 10 else 1) if isinstance(value, float) else str(value)


def rate_text(cell: Cell | None) -> str:
    """A rate with its interval."""
    return NONE if cell is None else f"{percent(cell.rate)} {percent_range(cell.low, cell.high)}".strip()
