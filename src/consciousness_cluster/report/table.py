"""A table as the page shows it: a caption, columns, rows of text or drawings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType

from markupsafe import Markup

from consciousness_cluster.report.numbers import NONE, capital, percent, percent_range, plain, whole
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
    caption: str,
    rows: Sequence[Record],
    *,
    hidden: Sequence[str] = (),
    titles: Mapping[str, str] | None = None,
    heads: Mapping[str, str] | None = None,
) -> Table:
    """A table of records as they are: numbers short, what is missing as a dash, columns that are empty throughout left out."""
    names = [
        name for name in (rows[0] if rows else {}) if name not in hidden and any(row.get(name) is not None for row in rows)
    ]
    columns = [
        Column(
            (heads or {}).get(name) or capital(name.replace("_", " ")),
            number=all(isinstance(row.get(name), (int, float, NoneType)) for row in rows),
        )
        for name in names
    ]
    body = [[(titles or {}).get(text := shown(row.get(name)), text) for name in names] for row in rows]
    return Table(caption, columns, body)


def shown(value: object) -> str:
    """Any scalar as text."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return whole(value)
    return plain(value, 2 if abs(value) < 10 else 1) if isinstance(value, float) else str(value)


def rate_text(cell: Cell | None) -> str:
    """A rate with its interval."""
    return NONE if cell is None else f"{percent(cell.rate)} {percent_range(cell.low, cell.high)}".strip()
