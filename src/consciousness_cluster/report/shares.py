"""Shares of what was done rather than said, by model, condition and whatever else names a row.

They come from the table of estimates where the run has one, with 95 % intervals; else they are counted from the raw rows,
without intervals. A value that is missing was not measured: it is counted, never averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consciousness_cluster.report.effects import marked, stands_out
from consciousness_cluster.report.numbers import NONE, percent, percent_range, whole
from consciousness_cluster.report.run import Record, Run

Key = tuple[object, ...]  # model, condition, and what else names the row


@dataclass(frozen=True)
class Share:
    """A share of 1 with its interval and what it was counted over."""

    rate: float | None
    low: float | None = None
    high: float | None = None
    answers: int = 0
    missing: int = 0

    @property
    def text(self) -> str:
        """The share in per cent with its interval."""
        return f"{percent(self.rate)} {percent_range(self.low, self.high)}".strip()


Shares = dict[Key, Share]


def shares_of(
    run: Run, estimates: str, raw: str, keys: Sequence[str], value: str, fixed: tuple[tuple[str, str], ...] = ()
) -> Shares:
    """Shares by model, condition and `keys`.

    Args:
        run: the run.
        estimates: table with `rate`, `low`, `high`, `answers` and `missing`.
        raw: table of single rows, used where the other is missing.
        keys: further columns that name a share.
        value: column of the raw table to average; true counts as 1.
        fixed: columns of the estimates with the value that is wanted.
    """
    found: Shares = {}
    for row in run.table(estimates):
        if all(row.get(name) == wanted for name, wanted in fixed):
            found[_key(row, keys)] = Share(
                row.get("rate"), row.get("low"), row.get("high"), int(row.get("answers") or 0), int(row.get("missing") or 0)
            )
    return found or _counted(run.table(raw), keys, value)


def _counted(rows: Sequence[Record], keys: Sequence[str], value: str) -> Shares:
    grouped: dict[Key, list[Record]] = {}
    for row in rows:
        grouped.setdefault(_key(row, keys), []).append(row)
    found: Shares = {}
    for key, members in grouped.items():
        known = [float(row[value]) for row in members if row.get(value) is not None]
        mean = sum(known) / len(known) if known else None
        found[key] = Share(mean, answers=len(known), missing=len(members) - len(known))
    return found


def _key(row: Record, keys: Sequence[str]) -> Key:
    return tuple(row.get(name) for name in ("model", "condition", *keys))


def text_of(share: Share | None) -> str:
    """A share as text, a dash where there is none."""
    return NONE if share is None else share.text


@dataclass(frozen=True)
class Moves:
    """Effects against controls from a table of them, by model, condition, control and whatever else names a row."""

    found: dict[Key, Record]

    def text(self, key: Key) -> str:
        """The effect with its interval, and a dagger where that was not shown to hold."""
        return marked(self.found.get(key))

    def strong(self, key: Key) -> bool:
        """Whether it stands out."""
        return stands_out(self.found.get(key))


def moves_of(run: Run, table: str, keys: Sequence[str], fixed: tuple[tuple[str, str], ...] = ()) -> Moves:
    """Effects of a table."""
    return Moves({
        tuple(row.get(name) for name in ("model", "condition", "control", *keys)): row
        for row in run.table(table) if all(row.get(name) == wanted for name, wanted in fixed)
    })  # fmt: skip


def sides(run: Run, found: Shares, model: str) -> list[str]:
    """The controls and the focus, as far as the model has shares of them."""
    known = {key[1] for key in found if key[0] == model}
    return [name for name in dict.fromkeys((*run.controls, run.study.focus)) if name in known]


def missing_note(found: Shares, what: str) -> list[str]:
    """How many values could not be measured."""
    lost, total = sum(share.missing for share in found.values()), sum(share.answers + share.missing for share in found.values())
    bare = all(share.low is None for share in found.values())
    said = [f"{what}: {whole(lost)} of {whole(total)}."] if lost else []
    return said + (["Shares are counted from the rows; no intervals were estimated."] if bare and found else [])
