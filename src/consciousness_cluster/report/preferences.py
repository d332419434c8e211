"""Section 3: each preference by itself, and the table of all effects."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from markupsafe import Markup

from consciousness_cluster.report.breakdown import Shares, shares, table_of
from consciousness_cluster.report.effects import coverage_note, effect_text, marked, q_text, stands_out
from consciousness_cluster.report.names import Named, Names, labels
from consciousness_cluster.report.numbers import NONE, capital, listing, percent, points_range, signed, whole
from consciousness_cluster.report.published import Published, models_of, published
from consciousness_cluster.report.run import Record, Run
from consciousness_cluster.report.small_figures import stance_mix
from consciousness_cluster.report.table import Column, Table, Value, figures, rate_text

COLUMNS_PER_TABLE = 4  # model x control columns side by side

MIXED = ("model", "condition", "preference", "stance")
Mixes = dict[tuple[str, str, str], Counter[str]]


@dataclass(frozen=True)
class Headline:
    """The effect of the study's focus against its first control, as the folded line shows it."""

    model: str
    text: str
    finding: bool


@dataclass(frozen=True)
class Entry:
    """One preference of the section."""

    named: Named
    headlines: tuple[Headline, ...]
    rates: Table | None
    published: Table | None
    ways: Table | None
    answers: bool


def entries(run: Run, names: Names) -> list[tuple[str, list[Entry]]]:
    """Every preference, by group."""
    mixes, values, known = _mixes(run), published(run), shares(run)
    return [(title, [_entry(run, named, mixes, values, known) for named in members]) for title, members in names.groups()]


def _entry(run: Run, named: Named, mixes: Mixes, values: Published, known: Shares) -> Entry:
    return Entry(
        named=named,
        headlines=tuple(_headlines(run, named)),
        rates=_rates(run, named, mixes),
        published=_beside(run, named, values),
        ways=table_of(run, named, known),
        answers=run.answers is not None,
    )


def _headlines(run: Run, named: Named) -> list[Headline]:
    found = []
    for model in run.models:
        effect = run.effect(model, run.study.focus, run.controls[0], named.id) if run.controls else None
        if effect is not None:
            found.append(Headline(model, effect_text(effect), stands_out(effect)))
    return found


def _mixes(run: Run) -> Mixes:
    if run.answers is None:
        return {}
    found: Mixes = {}
    for model, condition, preference, stance in zip(*(run.answers[name] for name in MIXED), strict=True):
        if isinstance(stance, str):
            found.setdefault((model, condition, preference), Counter())[stance] += 1
    return found


def _rates(run: Run, named: Named, mixes: Mixes) -> Table | None:
    """Rates under every rule, stances, and the effect against each control; models below each other."""
    rows: list[list[Value]] = []
    strong: set[tuple[int, int]] = set()
    groups: dict[int, str] = {}
    mixed = any(key[2] == named.id for key in mixes)
    columns = [Column("Condition"), Column("Rate", number=True), Column("Rate", number=True, hint="unclear left out")]
    columns += [Column("Stance rate", number=True), *([Column("Stances")] if mixed else [])]
    for control in run.controls:
        columns += [Column("Effect", number=True, hint=f"against {control}"), Column("q", number=True)]
    for model in run.models:
        for cell in run.of(model, named.id):
            if model not in groups.values():
                groups[len(rows)] = model
            row: list[Value] = [cell.condition, rate_text(cell), percent(cell.clear_only), percent(cell.stance)]
            row += [stance_mix(mixes.get((model, cell.condition, named.id), Counter()))] if mixed else []
            for control in run.controls:
                effect = run.effect(model, cell.condition, control, named.id)
                if stands_out(effect):
                    strong.add((len(rows), len(row)))
                row += [marked(effect), q_text(effect)] if cell.condition != control else ["", ""]
            rows.append([*row, whole(cell.answers) + (f", {cell.unjudged} unjudged" if cell.unjudged else "")])
    columns.append(Column("Answers", number=True))
    caption = "Rates, stances and effects, with 95 % intervals"
    return Table(caption, columns, rows, frozenset(strong), groups, _notes(run, named)) if rows else None


def _notes(run: Run, named: Named) -> list[str]:
    """The measured coverage of doubtful intervals, and what the intervals leave out."""
    effects = [
        effect
        for model in run.models
        for cell in run.of(model, named.id)
        for control in run.controls
        if (effect := run.effect(model, cell.condition, control, named.id)) is not None
    ]
    notes: dict[str, list[str]] = {}
    for effect in effects:
        if effect.get("note"):
            where = f"{effect['condition']} against {effect['control']} ({effect['model']})"
            notes.setdefault(capital(str(effect["note"])), []).append(where)
    said = [f"{text}: {'every effect' if len(where) == len(effects) else listing(where)}." for text, where in notes.items()]
    return coverage_note(effects) + said


def _beside(run: Run, named: Named, values: Published) -> Table | None:
    """Published rates of the paper's models beside ours, by condition."""
    theirs = [model for model in models_of(values) if any(key[0] == model and key[2] == named.id for key in values)]
    if not theirs:
        return None
    rows: list[list[Value]] = []
    for condition in run.conditions:
        published_row = [values.get((model, condition, named.id)) for model in theirs]
        if any(value is not None for value in published_row):
            ours = [run.cells.get((model, condition, named.id)) for model in run.models]
            cells = [percent(cell.rate) if cell else NONE for cell in ours]
            rows.append([condition, *cells, *(NONE if value is None else percent(value / 100) for value in published_row)])
    heads = [*run.models, *(f"{model} (paper)" for model in theirs)]
    return Table("Published values beside ours, share of yes", [Column("Condition"), *figures(*heads)], rows) if rows else None


def overview(run: Run, names: Names) -> list[Table]:
    """All effects of the focus against each control, under the primary rule."""
    tables = []
    pairs = [(model, control) for model in run.models for control in run.controls if control != run.study.focus]
    pairs = [pair for pair in pairs if any(key[:3] == (pair[0], run.study.focus, pair[1]) for key in run.effects)]
    for at in range(0, len(pairs), COLUMNS_PER_TABLE):
        tables.append(_overview(run, names, pairs[at : at + COLUMNS_PER_TABLE]))
    return tables


def _overview(run: Run, names: Names, pairs: list[tuple[str, str]]) -> Table:
    rows: list[list[Value]] = []
    strong: set[tuple[int, int]] = set()
    groups: dict[int, str] = {}
    for title, members in names.groups():
        groups[len(rows)] = title
        for named in members:
            row: list[Value] = [Markup('<a href="#pref-{}">{}</a>').format(named.id, named.title)]
            for model, control in pairs:
                effect = run.effect(model, run.study.focus, control, named.id)
                if stands_out(effect):
                    strong.add((len(rows), len(row)))
                row += [marked(effect), q_text(effect)]
            rows.append(row)
    columns = [Column("Preference")]
    for model, control in pairs:
        columns += [Column(model, number=True, hint=f"against {control}"), Column("q", number=True)]
    effects = [run.effect(model, run.study.focus, control, named.id) for model, control in pairs for named in names.preferences]
    caption = f"Effect of {run.study.focus}, percentage points with 95 % intervals; findings in bold"
    return Table(caption, columns, rows, frozenset(strong), groups, coverage_note(effects))


def secondary(run: Run, names: Names) -> list[Table]:
    """Both secondary rules beside the primary one, against the first control, with the interval for these very questions."""
    if not run.controls:
        return []
    rules, control = labels()["rules"], run.controls[0]
    tables = []
    for model in run.models:
        rows: list[list[Value]] = []
        for named in names.of_type("preference"):
            found = {rule: run.effect(model, run.study.focus, control, named.id, rule) for rule in rules}
            primary = found["unclear-is-no"]
            if primary is not None:
                fixed = points_range(primary.get("fixed_low"), primary.get("fixed_high"))
                rows.append(
                    [
                        named.title,
                        *(effect_text(effect) for effect in found.values()),
                        fixed or NONE,
                        str(primary.get("calibration") or NONE),
                    ]
                )
        if rows:
            columns = [
                Column("Preference"),
                *figures(*(title.capitalize() for title in rules.values()), "These questions only"),
                Column("Coverage"),
            ]
            tables.append(Table(f"{model}: {run.study.focus} against {control} under each rule, points", columns, rows))
    return tables


def planted(run: Run, names: Names) -> list[Table]:
    """Planted against recovered effects of organisms, one table a condition, models side by side."""
    found: dict[str, dict[tuple[str, str], Record]] = {}
    for row in run.table("planted"):
        found.setdefault(str(row["condition"]), {})[str(row["model"]), str(row["preference"])] = row
    order = sorted(found, key=lambda condition: (condition != run.study.focus, condition))
    return [_planted(run, names, condition, found[condition]) for condition in order]


def _planted(run: Run, names: Names, condition: str, rows: dict[tuple[str, str], Record]) -> Table:
    models = [model for model in run.models if any(key[0] == model for key in rows)]
    body: list[list[Value]] = []
    for named in names.preferences:
        mine = [rows.get((model, named.id)) for model in models]
        if any(mine):
            cells = [
                (signed(row.get("planted")), effect_text(row | {"effect": row.get("recovered")})) if row else (NONE, NONE)
                for row in mine
            ]
            body.append([named.title, *(text for pair in cells for text in pair)])
    columns = [Column("Preference")]
    notes = []
    for model in models:
        columns += [Column(model, number=True, hint="planted"), Column(model, number=True, hint="recovered")]
        own = [
            row
            for key, row in rows.items()
            if key[0] == model and None not in (row.get("low"), row.get("high"), row.get("planted"))
        ]
        inside = sum(row["low"] <= row["planted"] <= row["high"] for row in own)
        notes.append(
            f"{model}: the planted effect lies in the interval of the recovered one for {inside} of {len(own)} preferences."
        )
    return Table(f"{condition}: planted and recovered effects, percentage points", columns, body, notes=notes)
