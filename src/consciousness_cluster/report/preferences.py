"""Section 3: each preference by itself, and the table of all effects."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from markupsafe import Markup

from consciousness_cluster.report.belief import effect_text, q_text
from consciousness_cluster.report.names import Named, Names, labels
from consciousness_cluster.report.numbers import NONE, percent, percent_range, points_range, signed, whole
from consciousness_cluster.report.published import Published, models_of, published
from consciousness_cluster.report.run import CONFIRMATORY, EXPLORATORY, Run
from consciousness_cluster.report.small_figures import stance_mix
from consciousness_cluster.report.table import Column, Table, Value, figures, words

COLUMNS_PER_TABLE = 4  # model x control columns side by side

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
    tables: tuple[Table, ...]
    published: Table | None
    answers: bool


def entries(run: Run, names: Names) -> list[tuple[str, list[Entry]]]:
    """Every preference, by group."""
    mixes, values = _mixes(run), published(run)
    return [(title, [_entry(run, names, named, mixes, values) for named in members]) for title, members in names.groups()]


def _entry(run: Run, names: Names, named: Named, mixes: Mixes, values: Published) -> Entry:
    return Entry(
        named=named,
        headlines=tuple(_headlines(run, named)),
        tables=tuple(table for model in run.models if (table := _rates(run, named, model, mixes)) is not None),
        published=_beside(run, named, values),
        answers=run.answers is not None,
    )


def _headlines(run: Run, named: Named) -> list[Headline]:
    found = []
    for model in run.models:
        effect = run.effect(model, run.study.focus, run.controls[0], named.id) if run.controls else None
        if effect is not None:
            found.append(Headline(model, effect_text(effect), bool(effect.get("finding"))))
    return found


def _mixes(run: Run) -> Mixes:
    if run.answers is None:
        return {}
    counts = run.answers.groupby(["model", "condition", "preference", "stance"], observed=True).size()
    found: Mixes = {}
    for (model, condition, preference, stance), number in counts.items():
        found.setdefault((model, condition, preference), Counter())[stance] = int(number)
    return found


def _rates(run: Run, named: Named, model: str, mixes: Mixes) -> Table | None:
    rows: list[list[Value]] = []
    strong: set[tuple[int, int]] = set()
    mixed = any(key[0] == model and key[2] == named.id for key in mixes)
    columns = [Column("Condition"), *figures("Rate, %", "Unclear left out, %", "Stance rate, %")]
    columns += [Column("Stances", hint="holds, rejects, neutral, declines")] if mixed else []
    for control in run.controls:
        columns += [Column(f"Against {control}", number=True, hint="points, 95 % interval"), Column("q", number=True)]
    columns += figures("Answers", "Unjudged")
    for condition in run.conditions:
        cell = run.cells.get((model, condition, named.id))
        if cell is None:
            continue
        row: list[Value] = [condition, f"{percent(cell.rate)} {percent_range(cell.low, cell.high)}", percent(cell.clear_only), percent(cell.stance)]
        row += [stance_mix(mixes.get((model, condition, named.id), Counter()))] if mixed else []
        for control in run.controls:
            effect = run.effect(model, condition, control, named.id)
            if effect is not None and effect.get("finding"):
                strong.add((len(rows), len(row)))
            row += [effect_text(effect), q_text(effect)] if condition != control else ["", ""]
        rows.append([*row, whole(cell.answers), whole(cell.unjudged)])
    return Table(model, columns, rows, frozenset(strong)) if rows else None


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
    """All effects of the focus against each control, under the primary rule; then the other two rules against the first control."""
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
                if effect is not None and effect.get("finding"):
                    strong.add((len(rows), len(row)))
                row += [effect_text(effect), q_text(effect)]
            rows.append(row)
    columns = [Column("Preference")]
    for model, control in pairs:
        columns += [Column(f"{model}, against {control}", number=True, hint="points"), Column("q", number=True)]
    return Table(f"Effect of {run.study.focus}, in percentage points with 95 % intervals; findings in bold", columns, rows, frozenset(strong), groups)


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
                rows.append([named.title, *(effect_text(effect) for effect in found.values()), fixed or NONE, str(primary.get("calibration") or NONE)])
        if rows:
            columns = [Column("Preference"), *figures(*(title.capitalize() for title in rules.values()), "These questions only"), Column("Coverage")]
            tables.append(Table(f"{model}: {run.study.focus} against {control} under each rule, points", columns, rows))
    return tables


def kind_of(run: Run, condition: str, rule: str, named: Named) -> str:
    """Whether a result was planned (the focus, the primary rule, the battery's preferences) or is exploratory."""
    planned = condition == run.study.focus and rule == "unclear-is-no" and named.type == "preference"
    return CONFIRMATORY if planned else EXPLORATORY


def planted(run: Run, names: Names) -> list[Table]:
    """Planted against recovered effects of organisms."""
    tables = []
    grouped: dict[tuple[str, str], list[list[Value]]] = {}
    for row in run.table("planted"):
        inside = row.get("low") is not None and row.get("planted") is not None and row["low"] <= row["planted"] <= row["high"]
        cells: list[Value] = [
            names.title(str(row["preference"])), signed(row.get("planted")), f"{signed(row.get('recovered'))} {points_range(row.get('low'), row.get('high'))}",
            signed((row.get("recovered") or 0) - (row.get("planted") or 0)), "yes" if inside else "no",
        ]  # fmt: skip
        grouped.setdefault((str(row["model"]), str(row["condition"])), []).append(cells)
    for (model, condition), rows in grouped.items():
        columns = [*words("Preference"), *figures("Planted", "Recovered", "Difference"), *words("Planted lies in the interval")]
        tables.append(Table(f"{model}, {condition}: planted and recovered effects, points", columns, rows))
    return tables


