"""Whether it is shown that nothing else broke: placebo preferences, tasks and checks within a margin, by model and control."""

from __future__ import annotations

from consciousness_cluster.analyse.equivalence import EQUIVALENT
from consciousness_cluster.report.names import Names
from consciousness_cluster.report.numbers import capital, counted, listing, plain, points_range, signed
from consciousness_cluster.report.run import Record, Run
from consciousness_cluster.report.table import Column, Table, Value


def equivalence_line(run: Run) -> str:
    """How many comparisons of the focus are shown equivalent, and what is not, in a sentence."""
    rows = [row for row in run.table("equivalence") if row["condition"] == run.study.focus]
    parts = []
    for model in run.models:
        for control in run.controls:
            mine = [row for row in rows if (row["model"], row["control"]) == (model, control)]
            if mine:
                shown = sum(row["result"] == EQUIVALENT for row in mine)
                parts.append(f"{shown} of {counted(len(mine), 'measure')} in {model} against {control}")
    if not parts:
        return ""
    margins = listing([plain(margin).removesuffix(".0") for margin in sorted({float(row["margin"]) for row in rows})])
    return f"Shown to stay within {margins} points under {run.study.focus}: {'; '.join(parts)}. Of the rest it is not shown, which does not say that it moved."


def equivalence_tables(run: Run, names: Names) -> list[Table]:
    """Difference, 90 % interval and result against every control: the focus first, then the other conditions."""
    order = [run.study.focus, *(name for name in run.conditions if name != run.study.focus)]
    tables = (_table(run, names, condition) for condition in order)
    return [table for table in tables if table is not None]


def _table(run: Run, names: Names, condition: str) -> Table | None:
    found = [row for row in run.table("equivalence") if row["condition"] == condition]
    controls = [name for name in run.controls if any(row["control"] == name for row in found)]
    rows: list[list[Value]] = []
    groups: dict[int, str] = {}
    for model in run.models:
        mine = [row for row in found if row["model"] == model]
        measures = dict.fromkeys((str(row["kind"]), str(row["measure"])) for row in mine)
        groups |= {len(rows): model} if measures else {}
        for kind, measure in measures:
            at = {row["control"]: row for row in mine if (row["kind"], row["measure"]) == (kind, measure)}
            texts = (text for name in controls for text in _texts(at.get(name)))
            rows.append([_title(kind, measure, names), *texts])
    columns = [Column("Should not move")]
    for control in controls:
        columns += [Column("Difference", number=True, hint=f"against {control}"), Column("Result")]
    return Table(_caption(condition, found), columns, rows, groups=groups, notes=_notes(found)) if rows else None


def _caption(condition: str, rows: list[Record]) -> str:
    margin = plain(float(rows[0]["margin"])).removesuffix(".0")
    return f"{condition}: difference in percentage points with 90 % intervals, margin {margin} points either way"


def _title(kind: str, measure: str, names: Names) -> str:
    if kind == "placebo":
        return f"{names.title(measure)} (placebo)"
    return names.title(measure) if kind == "practical" else capital(measure)


def _texts(row: Record | None) -> tuple[str, str]:
    if row is None:
        return "", ""
    return f"{signed(row.get('difference'), 1)} {points_range(row.get('low'), row.get('high'), 1)}".strip(), str(row["result"])


def _notes(rows: list[Record]) -> list[str]:
    said = ["Equivalent: the whole 90 % interval lies inside the margin (two one-sided tests at 5 % each); each row by itself."]
    if any(row.get("post_hoc") for row in rows):
        said.append("The margin was stated or changed after answers existed.")
    why = dict.fromkeys(str(row["note"]) for row in rows if row.get("note"))
    return said + [f"Not shown for some: {text}." for text in why]
