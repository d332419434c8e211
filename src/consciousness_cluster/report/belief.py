"""Section 2: did the training take, is the data clean, does anything move that should not, how good is the judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from consciousness_cluster.report.names import Named, Names
from consciousness_cluster.report.numbers import NONE, percent, percent_range, plain, points_range, probability, signed, whole
from consciousness_cluster.report.run import Cell, Record, Run
from consciousness_cluster.report.small_figures import bar, loss_curves
from consciousness_cluster.report.table import Column, Table, Value, figures


@dataclass(frozen=True)
class RateRow:
    """One condition of a small table of rates."""

    condition: str
    colour: str
    cell: Cell
    picture: Markup
    text: str
    effect: Record | None


@dataclass(frozen=True)
class RateBlock:
    """One model and preference of section 2."""

    model: str
    named: Named
    rows: tuple[RateRow, ...]


def rate_blocks(run: Run, names: Names, kind: str) -> list[RateBlock]:
    """Rates of all preferences of a type, by model, against the first control."""
    return [
        RateBlock(model, named, rows)
        for named in names.of_type(kind) for model in run.models if (rows := rate_rows(run, names, model, named.id))
    ]  # fmt: skip


def rate_rows(run: Run, names: Names, model: str, preference: str) -> tuple[RateRow, ...]:
    """Rates of one preference in one model, by condition."""
    rows = []
    for condition in run.conditions:
        cell = run.cells.get((model, condition, preference))
        if cell is None:
            continue
        colour, text = names.colours[condition], f"{percent(cell.rate)} {percent_range(cell.low, cell.high)}".strip()
        effect = run.effect(model, condition, run.controls[0], preference) if run.controls else None
        rows.append(RateRow(condition, colour, cell, bar(cell.rate, cell.low, cell.high, colour, text), text, effect))
    return tuple(rows)


def training_figures(run: Run, names: Names) -> list[tuple[str, Markup]]:
    """Loss curves of every model that was trained."""
    found = []
    for number, model in enumerate(run.models):
        records = [record for record in run.training if record.model == model and record.losses]
        if records:
            curves = {record.arm: record.losses for record in records}
            colours = {record.arm: names.colours.get(record.condition, "ink") for record in records}
            found.append((model, loss_curves(curves, colours, f"loss-{number}", f"{model}: training loss by step, one line an arm")))
    return found


def audit_table(audit: Any) -> tuple[list[str], list[list[str]]] | None:
    """The leak audit as columns and rows, whatever scalar fields its conditions have."""
    entries = audit.get("conditions", audit) if isinstance(audit, Mapping) else audit
    if isinstance(entries, Mapping):
        entries = [{"condition": name, **entry} for name, entry in entries.items() if isinstance(entry, Mapping)]
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries) or not entries:
        return None
    columns = list(dict.fromkeys(key for entry in entries for key, value in entry.items() if not isinstance(value, (dict, list))))
    return columns, [[_cell_text(entry.get(column)) for column in columns] for entry in entries]


def _cell_text(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return whole(value)
    return plain(value, 2) if isinstance(value, float) else str(value)


def leak_counts(rows: list[Record]) -> list[tuple[str, str, str, int]]:
    """Flagged rows of training data by condition, verdict and layer."""
    counts = Counter((str(row.get("condition")), str(row.get("verdict")), str(row.get("layer"))) for row in rows)
    return [(*key, number) for key, number in sorted(counts.items())]


def effect_text(effect: Record | None) -> str:
    """An effect with its interval, in points."""
    if effect is None or effect.get("effect") is None:
        return NONE
    return f"{signed(effect['effect'])} {points_range(effect.get('low'), effect.get('high'))}".strip()


def q_text(effect: Record | None) -> str:
    """The adjusted p-value of an effect, or the plain one where the effect is outside every family."""
    if effect is None:
        return NONE
    return probability(effect.get("q")) if effect.get("q") is not None else probability(effect.get("p"))


def arm_table(run: Run) -> Table:
    """Every arm with what a shift of length, of refusals or of yes-saying would fake."""
    rows: list[list[Value]] = [
        [
            str(row.get("arm")), str(row.get("status") or NONE), whole(row.get("answers")), plain(row.get("mean_tokens")), _of(row, "empty"), _of(row, "truncated"),
            _of(row, "declined"), _of(row, "unjudged"), percent(row.get("acquiescence")),
        ]
        for row in run.table("arms")
    ]  # fmt: skip
    heads = figures("Verdicts", "Mean tokens", "Empty", "Cut at the limit", "Declined", "Unjudged", "Literal yes")
    return Table("Arms", [Column("Arm"), Column("Status"), *heads], rows)


def _of(row: Record, key: str) -> str:
    """A count of the arms table as a share of its answers."""
    value, total = row.get(key), row.get("answers")
    return NONE if value is None or not total else percent(value / total, 1)


def bound_table(run: Run, names: Names) -> Table:
    """Cells with unjudged answers: the rate, and what it would be were all of them no, or all yes."""
    rows: list[list[Value]] = [
        [
            cell.model, cell.condition, names.title(cell.preference), whole(cell.unjudged), percent(cell.rate, 1),
            f"{percent(cell.bound_low, 1)} to {percent(cell.bound_high, 1)}",
        ]
        for cell in run.cells.values() if cell.unjudged and cell.bound_low is not None
    ]  # fmt: skip
    columns = [Column("Model"), Column("Condition"), Column("Preference"), *figures("Unjudged", "Rate", "All no, to all yes")]
    return Table("Rates with unjudged answers, were all of them no, or all of them yes", columns, rows)
