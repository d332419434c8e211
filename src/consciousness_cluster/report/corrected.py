"""Rates and effects corrected for the judge's errors, beside the judged ones; what has no labels yet names the command."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from consciousness_cluster.analyse.corrected import MEAN, METHODS, NOT_YET
from consciousness_cluster.analyse.intervals import ONE_SEED
from consciousness_cluster.report.names import Names
from consciousness_cluster.report.numbers import percent, percent_range, points_range, signed, whole
from consciousness_cluster.report.run import Record, Run
from consciousness_cluster.report.table import Column, Table, Value, figures

BY = dict(zip(METHODS, ("by sensitivity and specificity", "prediction-powered"), strict=True))
HOW = "Draw answers and have people label them: ccluster judge calibrate RUN --export SHEET, then --labels SHEET."
READ = (
    "By sensitivity and specificity: the judge’s errors on the labels undone (Rogan and Gladen). Prediction-powered: the judged "
    "rate moved by what labels and verdicts differ by (Angelopoulos and others). Intervals, 95 %, hold the judge’s error too."
)
ALONE = f"Where a condition was trained with one seed: {ONE_SEED}."


def rate_tables(run: Run, names: Names) -> list[Table]:
    """The share of yes, mean over the preferences, of every arm; then each preference under every condition."""
    rows = [row for row in run.table("corrected_rates") if row.get("level") == "arm" and row["preference"] == MEAN]
    caption = "Share of yes by arm, corrected for the judge’s errors; mean over the preferences"
    arms = _paired(caption, "Arm", [(str(row["model"]), _arm(row), row) for row in rows], _share)
    found = [
        (str(row["model"]), f"{names.title(str(row['preference']))}, {row['condition']}", row)
        for row in run.table("corrected_rates")
        if row.get("level") == "condition"
        and row["preference"] != MEAN
        and row["condition"] in (run.study.focus, *run.controls)
    ]
    caption = "Share of yes by preference, corrected; seeds together"
    return [table for table in (arms, _paired(caption, "Preference", found, _share)) if table is not None]


def effect_tables(run: Run, names: Names) -> list[Table]:
    """The mean effect of every condition against every control; then the focus's effect on each preference."""
    rows = run.table("corrected")
    means = [
        (str(row["model"]), f"{row['condition']} against {row['control']}", row) for row in rows if row["preference"] == MEAN
    ]
    found = [
        (str(row["model"]), f"{names.title(str(row['preference']))} against {row['control']}", row)
        for row in rows
        if row["preference"] != MEAN and row["condition"] == run.study.focus
    ]
    captions = ("Mean effect, corrected for the judge’s errors, points", f"Effect of {run.study.focus}, corrected, points")
    parts = ((captions[0], "Condition", means), (captions[1], "Preference", found))
    tables = (_paired(caption, head, part, _points) for caption, head, part in parts)
    return [table for table in tables if table is not None]


def _measured(row: Record) -> bool:
    return row.get("effect", row.get("rate")) is not None


def _arm(row: Record) -> str:
    return str(row["condition"]) if row.get("seed") is None else f"{row['condition']}, seed {row['seed']}"


def _share(row: Record, judged: bool) -> str:
    if judged:
        return percent(row.get("judged_rate"))
    return f"{percent(row.get('rate'))} {percent_range(row.get('low'), row.get('high'))}".strip()


def _points(row: Record, judged: bool) -> str:
    if judged:
        return signed(row.get("judged_effect"))
    return f"{signed(row.get('effect'))} {points_range(row.get('low'), row.get('high'))}".strip()


Said = Callable[[Record, bool], str]  # of a row: as judged, or corrected
type Told = tuple[str, str, Record]  # model, heading of the row, row of the table


def _paired(caption: str, head: str, found: Sequence[Told], text: Said) -> Table | None:
    """One row a heading: as judged, and by each correction; `not yet measured` where the labels do not allow one."""
    grouped: dict[tuple[str, str], dict[str, Record]] = {}
    for model, title, row in found:
        grouped.setdefault((model, title), {})[str(row["method"])] = row
    rows: list[list[Value]] = []
    groups: dict[int, str] = {}
    for (model, title), by in grouped.items():
        if model not in groups.values():
            groups[len(rows)] = model
        first = next(iter(by.values()))
        cells = [text(by[name], False) if name in by and _measured(by[name]) else NOT_YET for name in BY]
        used = max(int(row.get("labels") or 0) for row in by.values())
        rows.append([title, text(first, True), *cells, whole(used)])
    columns = [Column(head), *figures("As judged"), *(Column("Corrected", number=True, hint=how) for how in BY.values())]
    missing = not all(_measured(row) for _, _, row in found)
    alone = any(ONE_SEED in str(row.get("note") or "") for _, _, row in found)
    notes = (READ, *(HOW,) * missing, *(ALONE,) * alone)
    return Table(caption, [*columns, *figures("Labels")], rows, groups=groups, notes=notes) if rows else None
