"""How far what was done moves: effects against every control with their intervals, for any of the parts of section 4."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from consciousness_cluster.analyse.calibration import NOT_SHOWN
from consciousness_cluster.report.effects import coverage_note, marked, q_text, stands_out
from consciousness_cluster.report.numbers import capital, listing
from consciousness_cluster.report.run import Record, Run
from consciousness_cluster.report.shares import Key, Moves, moves_of
from consciousness_cluster.report.table import Column, Table, Value

FAMILY = "q is adjusted over the rows of one model, condition and control."


@dataclass(frozen=True)
class Effects:
    """A table of effects: its name, the columns that name a row beside model, condition and control, and a row's title."""

    table: str
    keys: tuple[str, ...]
    head: str
    title: Callable[[Key], str]


def effect_tables(run: Run, effects: Effects, conditions: Iterable[str]) -> list[Table]:
    """One table a condition, a row for whatever was measured, a pair of columns for each control; models below each other."""
    moves = moves_of(run, effects.table, effects.keys)
    tables = (_table(run, effects, moves, condition) for condition in conditions)
    return [table for table in tables if table is not None]


def _table(run: Run, effects: Effects, moves: Moves, condition: str) -> Table | None:
    controls = [name for name in run.controls if any(key[1:3] == (condition, name) for key in moves.found)]
    rows: list[list[Value]] = []
    strong: set[tuple[int, int]] = set()
    groups: dict[int, str] = {}
    shown: list[tuple[str, Record]] = []
    for model in run.models:
        named = dict.fromkeys(key[3:] for key in moves.found if key[:2] == (model, condition) and key[2] in controls)
        groups |= {len(rows): model} if named else {}
        for key in named:
            title = effects.title(key)
            each = [moves.found.get((model, condition, control, *key)) for control in controls]
            strong |= {(len(rows), 1 + 2 * at) for at, effect in enumerate(each) if stands_out(effect)}
            rows.append([title, *(text for effect in each for text in (marked(effect), q_text(effect)))])
            shown += [(f"{title} against {effect['control']} ({model})", effect) for effect in each if effect is not None]
    columns = [Column(effects.head)]
    for control in controls:
        columns += [Column("Effect", number=True, hint=f"against {control}"), Column("q", number=True)]
    caption = f"Effect of {condition}, percentage points with 95 % intervals"
    notes = [FAMILY, *coverage_note([effect for _, effect in shown]), *_left_out(shown)]
    return Table(caption, columns, rows, frozenset(strong), groups, notes) if rows else None


def _left_out(effects: Sequence[tuple[str, Record]]) -> list[str]:
    """What the intervals leave out, or why there are none."""
    said: dict[str, list[str]] = {}
    for where, effect in effects:
        # Too few items are told by the dagger, not row by row.
        if effect.get("note") and not str(effect.get("calibration") or "").startswith(NOT_SHOWN):
            said.setdefault(capital(str(effect["note"])), []).append(where)
    return [f"{text}: {'every effect' if len(where) == len(effects) else listing(where)}." for text, where in said.items()]
