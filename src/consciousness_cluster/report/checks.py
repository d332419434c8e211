"""Checks of capability and conduct: mean scores, and how far each moves from both controls."""

from __future__ import annotations

from consciousness_cluster.report.moved import Effects, effect_tables
from consciousness_cluster.report.numbers import capital
from consciousness_cluster.report.run import Run
from consciousness_cluster.report.shares import Key, Shares, missing_note, shares_of, text_of
from consciousness_cluster.report.table import Column, Table, Value

KEYS = ("check", "measure")
BETTER = {"high": "more is better", "low": "less is better"}


def checks(run: Run) -> tuple[list[Table], list[Table]]:
    """Mean scores under every condition, the focus's effects against each control, and folded those of the other conditions."""
    found, better = shares_of(run, "check_shares", "checks", KEYS, "score"), _better(run)
    effects = Effects("check_effects", KEYS, "Check", lambda key: f"{capital(str(key[1]))} ({key[0]}; {better.get(key, '')})")
    scores, focus = _scores(run, found, better), run.study.focus
    shown = [*([scores] if scores else []), *effect_tables(run, effects, [focus])]
    return shown, effect_tables(run, effects, [name for name in run.conditions if name != focus])


def _scores(run: Run, found: Shares, better: dict[Key, str]) -> Table | None:
    """Mean scores, a column for each check; what could not be run says why."""
    pairs = sorted({(str(key[0]), str(key[1])) for key in found}, key=lambda pair: run.place(*pair))
    measured = list(dict.fromkeys(key[2:] for key in found))
    rows: list[list[Value]] = []
    groups: dict[int, str] = {}
    for model, condition in pairs:
        if model not in groups.values():
            groups[len(rows)] = model
        rows.append([condition, *(text_of(found.get((model, condition, *key))) for key in measured)])
    columns = [Column("Condition")]
    columns += [Column(capital(str(key[1])), number=True, hint=f"{key[0]}; {better.get(key, '')}") for key in measured]
    why = dict.fromkeys(f"{row.get('check')}: {row['why']}." for row in run.table("checks") if row.get("status") == "missing")
    notes = [*missing_note(found, "Items without a score"), *why]
    return Table("Mean score by check", columns, rows, groups=groups, notes=notes) if rows else None


def _better(run: Run) -> dict[Key, str]:
    """Which way is the better one, by check and measure."""
    return {(row.get("check"), row.get("measure")): BETTER.get(str(row.get("better")), "") for row in run.table("checks")}
