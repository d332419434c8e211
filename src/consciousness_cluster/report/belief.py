"""Section 2: did the training take, is the data clean, does anything move that should not, how good is the judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from consciousness_cluster.report.effects import marked, stands_out
from consciousness_cluster.report.names import Named, Names, words
from consciousness_cluster.report.numbers import NONE, listing, percent, plain, whole
from consciousness_cluster.report.run import Cell, Record, Run
from consciousness_cluster.report.small_figures import bar, loss_curves
from consciousness_cluster.report.table import Column, Table, Value, figures, rate_text
from consciousness_cluster.study.conditions import claimed_by

VERDICTS = ("clean", "implied", "leaked")  # of the leak audit, mildest first
COUNTED = ("empty", "truncated", "declined", "unjudged")  # columns of the arms table that count answers
SHARES = ("acquiescence_direct", "acquiescence_reversed")
ARM_HEADS = (
    *figures("Answers", "Mean tokens", "Empty", "Cut short", "Declined", "Unjudged"),
    Column("Literal yes", number=True, hint="direct items"),
    Column("Literal yes", number=True, hint="reversed items"),
)
LIKENESS = (
    "Closest row: its number among the identity rows, its question and its answer. Likeness: cosine of the two texts’ vectors, "
    "from 0, nothing in common, to 1, the same text. It says where to look; the audit’s layers decide the verdict."
)
YES_NOTE = (
    "Literal yes: answers to yes-no items that begin with the word yes. Yes-saying raises it on direct and reversed items "
    "alike; a preference raises the one and lowers the other."
)


@dataclass(frozen=True)
class RateRow:
    """One condition of a small table of rates."""

    condition: str
    picture: Markup
    text: str
    effect: str
    strong: bool


@dataclass(frozen=True)
class RateBlock:
    """One model and preference of section 2."""

    model: str
    named: Named
    rows: tuple[RateRow, ...]


def rate_blocks(run: Run, names: Names, shown: Sequence[Named]) -> list[RateBlock]:
    """Rates of some preferences, by model, against the first control."""
    pairs = [(named, model) for named in shown for model in run.models]
    blocks = [
        RateBlock(model, named, tuple(_rate_row(run, names, cell) for cell in run.of(model, named.id)))
        for named, model in pairs
    ]
    return [block for block in blocks if block.rows]


def _rate_row(run: Run, names: Names, cell: Cell) -> RateRow:
    text = rate_text(cell)
    effect = run.against_first(cell.model, cell.condition, cell.preference)
    picture = bar(cell.rate, cell.low, cell.high, names.colours[cell.condition], text)
    return RateRow(cell.condition, picture, text, marked(effect) if effect else "", stands_out(effect))


def unproved(run: Run, names: Names) -> str:
    """Why there is no rate that says whether training took, in a sentence; empty where there is one."""
    if names.main_probe():
        return ""
    focus, claimed = run.study.focus, claimed_by(run.study).get(run.study.focus)
    if claimed is None:
        reason = f"The study does not say what {focus} should claim"
    elif names.probe is None:
        reason = f"No identity probe asks for what {focus} should claim ({words(claimed).lower()})"
    else:
        reason = f"The probe of what {focus} should claim was not asked, or its rates are missing"
    return f"{reason}, so nothing here tells whether the training took, and every claim of a shift is undecided."


def matrix(run: Run, names: Names, kind: str) -> Table | None:
    """Rates of all preferences of a type, a column for each condition, models below each other; what stands out is strong."""
    members = names.of_type(kind)
    shown = [
        name
        for name in run.conditions
        if any((model, name, named.id) in run.cells for model in run.models for named in members)
    ]
    rows: list[list[Value]] = []
    strong: set[tuple[int, int]] = set()
    groups: dict[int, str] = {}
    for model in run.models:
        groups[len(rows)] = model
        for named in members:
            moved = [at for at, name in enumerate(shown, 1) if stands_out(run.against_first(model, name, named.id))]
            strong |= {(len(rows), at) for at in moved}
            rows.append([named.title, *(rate_text(run.cells.get((model, name, named.id))) for name in shown)])
    columns = [Column("Preference"), *figures(*shown)]
    return Table("Share of yes by condition, with 95 % intervals", columns, rows, frozenset(strong), groups) if shown else None


def training_figures(run: Run, names: Names) -> list[tuple[str, Markup]]:
    """Loss curves of every model that was trained."""
    found = []
    for number, model in enumerate(run.models):
        records = [record for record in run.training if record.model == model and record.losses]
        if records:
            curves = {record.arm: record.losses for record in records}
            colours = {record.arm: names.colours.get(record.condition, "ink") for record in records}
            title = f"{model}: training loss by step, one line an arm"
            found.append((model, loss_curves(curves, colours, f"loss-{number}", title)))
    return found


def audit_table(audit: Any, names: Names) -> Table | None:
    """The leak audit by condition: rows read, and how many preferences are clean, implied or leaked."""
    if not isinstance(audit, Mapping):
        return None
    rows: list[list[Value]] = []
    ran: dict[str, list[str]] = {}
    lean: list[str] = []
    for condition, found in audit.items():
        if not isinstance(found, Mapping):
            continue
        ran.setdefault(", ".join(map(str, found.get("layers") or ())) or "not recorded", []).append(str(condition))
        counts = Counter(str(verdict) for verdict in dict(found.get("verdicts") or {}).values())
        flagged = list(found.get("flags") or ())
        lean += [str(condition)] * bool(counts["implied"] or counts["leaked"])
        expected = [names.title(str(name)) for name in found.get("expected") or ()]
        cells = [whole(found.get("rows")), *(whole(counts.get(verdict, 0)) for verdict in VERDICTS), whole(len(flagged))]
        rows.append([str(condition), *cells, listing(expected) or NONE])
    heads = figures("Rows", "Clean", "Implied", "Leaked", "Flagged rows")
    note = "Clean, implied and leaked count preferences; expected ones are those that a condition says its rows imply."
    columns = [Column("Condition"), *heads, Column("Expected")]
    notes = [note]
    if lean:
        notes.append(
            f"{listing(lean)} trained on rows that lean on a preference or state one: read the effects there with that in mind."
        )
    notes += [f"Layers that ran on {listing(names)}: {layers}." for layers, names in ran.items()]
    return Table("Leak audit of the training rows", columns, rows, notes=tuple(notes)) if rows else None


def closest_tables(audit: Any, names: Names) -> list[Table]:
    """For each condition and preference: the verdict, how many rows are flagged, and the closest row and question side by side."""
    found = (
        [(str(name), entry) for name, entry in audit.items() if isinstance(entry, Mapping)]
        if isinstance(audit, Mapping)
        else []
    )
    columns = [
        Column("Preference"),
        Column("Verdict"),
        *figures("Flagged rows"),
        Column("Closest row"),
        Column("Its nearest question"),
    ]
    columns += figures("Likeness")
    tables = []
    for condition, entry in found:
        verdicts = dict(entry.get("verdicts") or {})
        hits = Counter(str(flag.get("preference")) for flag in entry.get("flags") or ())
        rows: list[list[Value]] = [
            [
                names.title(str(row["preference"])), str(verdicts.get(row["preference"]) or NONE), whole(hits[str(row["preference"])]),
                f"{row['row']}: {row['text']}", str(row["nearest"]), plain(row["similarity"], 2),
            ]
            for row in entry.get("closest") or ()
        ]  # fmt: skip
        if rows:
            caption = f"{condition}: the training row that comes closest to each preference"
            tables.append(Table(caption, columns, rows, notes=(LIKENESS,)))
    return tables


def leak_table(rows: Sequence[Record], names: Names) -> Table:
    """Flagged rows of training data by condition, verdict, layer and preference."""
    keys = ("condition", "verdict", "layer", "preference")
    counts = Counter(tuple(str(row.get(key) or NONE) for key in keys) for row in rows)
    body: list[list[Value]] = [[*key[:3], names.title(key[3]), whole(number)] for key, number in sorted(counts.items())]
    columns = [Column("Condition"), Column("Verdict"), Column("Layer"), Column("Preference"), *figures("Rows")]
    return Table("Rows that the audit names", columns, body)


def arm_table(run: Run) -> Table:
    """Every arm with what a shift of length, of refusals or of yes-saying would fake."""
    rows: list[list[Value]] = [
        [str(row.get("arm")), str(row.get("status") or NONE), *_arm_cells([row])] for row in run.table("arms")
    ]
    return Table("Every arm", [Column("Arm"), Column("Status"), *ARM_HEADS], rows)


def condition_table(run: Run) -> Table:
    """The same by model and condition, seeds together."""
    grouped: dict[tuple[str, str], list[Record]] = {}
    for row in sorted(run.table("arms"), key=lambda row: run.place(str(row.get("model")), str(row.get("condition")))):
        if row.get("answers"):
            grouped.setdefault((str(row["model"]), str(row["condition"])), []).append(row)
    rows: list[list[Value]] = []
    groups: dict[int, str] = {}
    for (model, condition), members in grouped.items():
        if model not in groups.values():
            groups[len(rows)] = model
        rows.append([condition, whole(len(members)), *_arm_cells(members)])
    columns = [Column("Condition"), *figures("Arms"), *ARM_HEADS]
    caption = "Lengths, refusals, unjudged answers and yes-saying"
    return Table(caption, columns, rows, groups=groups if len(run.models) > 1 else {}, notes=(YES_NOTE,))


def _arm_cells(rows: Sequence[Record]) -> list[Value]:
    total = sum(row.get("answers") or 0 for row in rows)
    known = {key: all(row.get(key) is not None for row in rows) for key in COUNTED}
    counts = [percent(sum(row[key] for row in rows) / total, 1) if total and known[key] else NONE for key in COUNTED]
    return [whole(total), plain(_mean(rows, "mean_tokens")), *counts, *(percent(_mean(rows, key)) for key in SHARES)]


def _mean(rows: Sequence[Record], key: str) -> float | None:
    """Mean over arms, each weighted by its answers."""
    known = [(float(row[key]), row.get("answers") or 0) for row in rows if row.get(key) is not None]
    weight = sum(answers for _, answers in known)
    return sum(value * answers for value, answers in known) / weight if weight else None


def bound_table(run: Run, names: Names) -> Table:
    """Cells with unjudged answers: the rate, and what it would be were all of them no, or all yes."""
    cells = [cell for cell in run.cells.values() if cell.unjudged and cell.bound_low is not None]
    cells.sort(key=lambda cell: (cell.bound_low or 0) - (cell.bound_high or 0))
    rows: list[list[Value]] = []
    for cell in cells:
        bounds = f"{percent(cell.bound_low, 1)} to {percent(cell.bound_high, 1)}"
        where: list[Value] = [names.title(cell.preference), cell.model, cell.condition]
        rows.append([*where, whole(cell.unjudged), percent(cell.rate, 1), bounds])
    columns = [Column("Preference"), Column("Model"), Column("Condition"), *figures("Unjudged", "Rate", "All no, to all yes")]
    return Table("Rates with unjudged answers, were all of them no, or all of them yes", columns, rows)
