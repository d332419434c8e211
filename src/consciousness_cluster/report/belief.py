"""Section 2: did the training take, is the data clean, does anything move that should not, how good is the judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from consciousness_cluster.report.names import Named, Names
from consciousness_cluster.report.numbers import NONE, percent, plain, points_range, probability, signed, whole
from consciousness_cluster.report.run import Cell, Record, Run
from consciousness_cluster.report.small_figures import bar, loss_curves
from consciousness_cluster.report.table import Column, Table, Value, figures, rate_text


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


def matrices(run: Run, names: Names, kind: str) -> list[Table]:
    """Rates of all preferences of a type, one table a model, a column for each condition; findings are strong."""
    tables = []
    for model in run.models:
        shown = [
            condition
            for condition in run.conditions
            if any((model, condition, named.id) in run.cells for named in names.of_type(kind))
        ]
        rows: list[list[Value]] = []
        strong: set[tuple[int, int]] = set()
        for named in names.of_type(kind):
            cells = [run.cells.get((model, condition, named.id)) for condition in shown]
            for at, condition in enumerate(shown, 1):
                effect = run.effect(model, condition, run.controls[0], named.id) if run.controls else None
                if effect and effect.get("finding"):
                    strong.add((len(rows), at))
            rows.append(
                [
                    named.title,
                    *(rate_text(cell) for cell in cells),
                ]
            )
        if shown:
            tables.append(Table(model, [Column("Preference"), *figures(*shown)], rows, frozenset(strong)))
    return tables


def rate_rows(run: Run, names: Names, model: str, preference: str) -> tuple[RateRow, ...]:
    """Rates of one preference in one model, by condition."""
    rows = []
    for condition in run.conditions:
        cell = run.cells.get((model, condition, preference))
        if cell is None:
            continue
        colour, text = names.colours[condition], rate_text(cell)
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
            found.append(
                (model, loss_curves(curves, colours, f"loss-{number}", f"{model}: training loss by step, one line an arm"))
            )
    return found


def audit_table(audit: Any) -> tuple[list[str], list[list[str]]] | None:
    """The leak audit as columns and rows, whatever scalar fields its conditions have."""
    entries = audit.get("conditions", audit) if isinstance(audit, Mapping) else audit
    if isinstance(entries, Mapping):
        entries = [{"condition": name, **entry} for name, entry in entries.items() if isinstance(entry, Mapping)]
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries) or not entries:
        return None
    columns = list(
        dict.fromkeys(key for entry in entries for key, value in entry.items() if not isinstance(value, (dict, list)))
    )
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


DAGGER = "†"


def effect_text(effect: Record | None) -> str:
    """An effect with its interval, in points."""
    if effect is None or effect.get("effect") is None:
        return NONE
    return f"{signed(effect['effect'])} {points_range(effect.get('low'), effect.get('high'))}".strip()


def outside(effect: Record | None) -> bool:
    """Whether the coverage of an effect's interval was measured to be other than nominal."""
    return effect is not None and effect.get("low") is not None and effect.get("calibration") not in (None, "in region")


def marked(effect: Record | None) -> str:
    """An effect with its interval and a dagger where that lies outside the calibrated region."""
    return effect_text(effect) + (DAGGER if outside(effect) else "")


def coverage_note(effects: Sequence[Record | None]) -> list[str]:
    """What the daggers of a table mean, with the measured coverage."""
    measured = sorted(
        {str(effect["calibration"]) for effect in effects if effect is not None and outside(effect)}, key=_leading
    )
    if not measured:
        return []
    said = measured[0] if len(measured) == 1 else f"{measured[0]} to {measured[-1]}"
    return [f"{DAGGER} Outside the calibrated region: the measured coverage of such 95 % intervals is {said}."]


def _leading(text: str) -> float:
    """The number that a coverage label begins with; labels without one come last."""
    first = text.partition(" ")[0].rstrip("%")
    return float(first) if first.replace(".", "", 1).isdigit() else 1e9


def q_text(effect: Record | None) -> str:
    """The adjusted p-value of an effect; the plain one, marked as such, where the effect is outside every family."""
    if effect is None or effect.get("q") is not None or effect.get("p") is None:
        return probability((effect or {}).get("q"))
    return f"p {probability(effect['p'])}"


ARM_HEADS = ("Verdicts", "Mean tokens", "Empty", "Cut at the limit", "Declined", "Unjudged", "Literal yes")


def arm_table(run: Run) -> Table:
    """Every arm with what a shift of length, of refusals or of yes-saying would fake."""
    rows: list[list[Value]] = [
        [str(row.get("arm")), str(row.get("status") or NONE), *_arm_cells([row])] for row in run.table("arms")
    ]
    return Table("Every arm", [Column("Arm"), Column("Status"), *figures(*ARM_HEADS)], rows)


def condition_table(run: Run) -> Table:
    """The same by model and condition, seeds together."""
    grouped: dict[tuple[str, str], list[Record]] = {}
    for row in run.table("arms"):
        if row.get("answers"):
            grouped.setdefault((str(row["model"]), str(row["condition"])), []).append(row)
    rows: list[list[Value]] = []
    groups: dict[int, str] = {}
    for (model, condition), members in grouped.items():
        if model not in groups.values():
            groups[len(rows)] = model
        rows.append([condition, whole(len(members)), *_arm_cells(members)])
    note = "“Literal yes” is the share of yes among answers that begin with the word yes or no, whatever the question."
    columns = [Column("Condition"), *figures("Arms", *ARM_HEADS)]
    return Table(
        "Lengths, refusals, unjudged answers and yes-saying",
        columns,
        rows,
        groups=groups if len(run.models) > 1 else {},
        notes=(note,),
    )


def _arm_cells(rows: Sequence[Record]) -> list[Value]:
    total = sum(row.get("answers") or 0 for row in rows)
    counts = [
        percent(_sum(rows, key) / total, 1) if total and _known(rows, key) else NONE
        for key in ("empty", "truncated", "declined", "unjudged")
    ]
    return [whole(total), plain(_mean(rows, "mean_tokens")), *counts, percent(_mean(rows, "acquiescence"))]


def _known(rows: Sequence[Record], key: str) -> bool:
    return all(row.get(key) is not None for row in rows)


def _sum(rows: Sequence[Record], key: str) -> float:
    return float(sum(row[key] for row in rows))


def _mean(rows: Sequence[Record], key: str) -> float | None:
    """Mean over arms, each weighted by its answers."""
    known = [(float(row[key]), row.get("answers") or 0) for row in rows if row.get(key) is not None]
    weight = sum(answers for _, answers in known)
    return sum(value * answers for value, answers in known) / weight if weight else None


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
