"""The one figure of a model: every preference by every condition, with 95 % intervals and each seed as a dot.

Two drawings of the same numbers: panels side by side for a wide screen and for print, lanes below each other for a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from consciousness_cluster.report.effects import stands_out
from consciousness_cluster.report.names import Named, Names
from consciousness_cluster.report.numbers import counted, percent
from consciousness_cluster.report.run import Cell, Run
from consciousness_cluster.report.svg import Scale, dot, figure, label, line, scale, tag
from consciousness_cluster.report.table import Column, Table, Value, figures, rate_text

WIDTH, LABELS, ROW, HEAD, GAP = 1060.0, 236.0, 21.0, 30.0, 22.0  # pixels
PANELS = 6  # conditions side by side before a second block begins
TICKS = ((0.0, "0"), (0.5, "50"), (1.0, "100"))  # shares, and per cent as written
LANE, TITLE, NARROW, NARROW_LABELS = 12.0, 21.0, 366.0, 84.0  # pixels


@dataclass(frozen=True)
class Mark:
    """One cell as drawn: `filled` where its difference to the reference condition is a finding, and for the reference."""

    cell: Cell
    colour: str
    filled: bool
    hover: str


Marks = dict[tuple[str, str], Mark]  # by condition and preference


def marks_of(run: Run, names: Names, model: str) -> Marks:
    """Marks of a model by condition and preference."""
    reference = run.controls[0] if run.controls else ""
    found = {}
    for (owner, condition, preference), cell in run.cells.items():
        if owner != model or cell.rate is None:
            continue
        effect = run.effect(model, condition, reference, preference)
        hover = f"{names.title(preference)}, {condition}: {rate_text(cell)}"
        if cell.seeds:
            hover += "; seeds " + ", ".join(percent(rate) for _, rate in cell.seeds)
        hover += f"; {counted(cell.items, 'item')}, {counted(cell.answers, 'answer')}"
        filled = condition == reference or stands_out(effect)
        found[condition, preference] = Mark(cell, names.colours.get(condition, "ink"), filled, hover)
    return found


def draw(mark: Mark, x: Scale, y: float, seed_drop: float = 5.0) -> Markup:
    """Interval, mean and seeds of one cell."""
    cell = mark.cell
    parts = [tag("title", mark.hover)]
    if cell.low is not None and cell.high is not None:
        parts.append(line(x(cell.low), y, x(cell.high), y, "interval"))
    parts += [dot(x(rate), y + seed_drop, 1.6, "seed") for _, rate in cell.seeds]
    parts.append(dot(x(cell.rate or 0.0), y, 3.6, "mean" if mark.filled else "mean hollow"))
    return tag("g", *parts, class_=f"mark k-{mark.colour}")


def keys() -> dict[str, Markup]:
    """The figure's marks by themselves, for its legend."""
    drawn = {
        "filled": [line(2, 8, 30, 8, "interval"), dot(16, 8, 3.6, "mean")],
        "hollow": [line(2, 8, 30, 8, "interval"), dot(16, 8, 3.6, "mean hollow")],
        "seeds": [dot(x, 8, 1.6, "seed") for x in (10.0, 16.0, 22.0)],
        "tick": [line(16, 2, 16, 14, "reference")],
    }
    return {
        name: tag("svg", tag("g", *parts, class_="mark"), viewBox="0 0 32 16", class_="sign", aria_hidden="true")
        for name, parts in drawn.items()
    }


def wide(run: Run, names: Names, model: str, name: str) -> Markup:
    """Panels side by side, one a condition, at most six in a row."""
    marks = marks_of(run, names, model)
    shown = [condition for condition in run.conditions if any(key[0] == condition for key in marks)]
    parts, top = [], 0.0
    for at in range(0, len(shown), PANELS):
        drawn, height = _block(run, names, marks, shown[at : at + PANELS], top)
        parts.append(drawn)
        top += height + 24
    return figure(
        WIDTH, max(top - 24, 40), _title(run, model), _description(run, names, model), *parts, name=name, class_="wide"
    )


def _block(run: Run, names: Names, marks: Marks, conditions: Sequence[str], top: float) -> tuple[Markup, float]:
    step = (WIDTH - LABELS) / max(len(conditions), 4)
    scales = {
        name: scale(0, 1, LABELS + at * step + GAP / 2 + 4, LABELS + (at + 1) * step - GAP / 2 - 4)
        for at, name in enumerate(conditions)
    }
    parts: list[Markup] = [label(x(0) - 4, top + 14, name, f"head k-{names.colours[name]}") for name, x in scales.items()]
    y, body = top + HEAD, top + HEAD
    rows: list[Markup] = []
    for group, members in names.groups():
        rows.append(label(0, y + 15, group, "group"))
        rows.append(line(0, y + 21, WIDTH, y + 21, "rule"))
        y += ROW + 5
        for named in members:
            rows.append(_row_label(named, y))
            rows.append(line(LABELS, y + ROW / 2 - 2, WIDTH, y + ROW / 2 - 2, "guide"))
            rows += [draw(marks[name, named.id], x, y + ROW / 2 - 2) for name, x in scales.items() if (name, named.id) in marks]
            rows += [
                _reference(run, marks, named, x, y) for name, x in scales.items() if run.controls and name != run.controls[0]
            ]
            y += ROW
        y += 7
    for x in scales.values():
        parts += [line(x(value), body, x(value), y, "grid") for value in (0, 0.5, 1)]
        parts += [label(x(value), y + 13, text, "tick", "middle") for value, text in TICKS]
    return tag("g", *parts, *rows), y + 18 - top


def _row_label(named: Named, y: float) -> Markup:
    text = named.title if len(named.title) <= 37 else named.title[:36].rstrip() + "…"
    return tag("a", label(0, y + 14, text, "row"), href=f"#pref-{named.id}", tabindex="-1")


def _reference(run: Run, marks: Marks, named: Named, x: Scale, y: float) -> Markup:
    """A tick where the reference condition lies, so that every panel can be read alone."""
    mark = marks.get((run.controls[0], named.id))
    return (
        line(x(mark.cell.rate), y + 3, x(mark.cell.rate), y + ROW - 7, "reference")
        if mark and mark.cell.rate is not None
        else Markup("")
    )


def narrow(run: Run, names: Names, model: str, name: str) -> Markup:
    """Lanes below each other, for a screen as wide as a hand."""
    marks = marks_of(run, names, model)
    shown = [condition for condition in run.conditions if any(key[0] == condition for key in marks)]
    x = scale(0, 1, NARROW_LABELS + 4, NARROW - 12)
    parts: list[Markup] = []
    y = 0.0
    for group, members in names.groups():
        parts += [label(0, y + 16, group, "group"), line(0, y + 22, NARROW, y + 22, "rule")]
        y += 40
        parts += [label(x(value), y - 4, text, "tick", "middle") for value, text in TICKS]
        y -= 4
        for named in members:
            parts.append(label(0, y + 14, named.title, "row"))
            y += TITLE
            parts += [line(x(value), y - 2, x(value), y + LANE * len(shown), "grid") for value in (0, 0.5, 1)]
            for condition in shown:
                if (condition, named.id) in marks:
                    parts.append(
                        label(NARROW_LABELS - 4, y + LANE / 2 + 3, condition, f"lane k-{names.colours[condition]}", "end")
                    )
                    parts.append(draw(marks[condition, named.id], x, y + LANE / 2, 3.4))
                y += LANE
            y += 8
    return figure(NARROW, y + 4, _title(run, model), _description(run, names, model), *parts, name=name, class_="narrow")


def _title(run: Run, model: str) -> str:
    return f"{model}: share of answers that show each preference, by condition"


def _description(run: Run, names: Names, model: str) -> str:
    """What a reader who cannot see it needs: the mean over the preferences, by condition."""
    means = []
    for condition in run.conditions:
        rates = [
            cell.rate
            for named in names.of_type("preference")
            if (cell := run.cells.get((model, condition, named.id))) and cell.rate is not None
        ]
        if rates:
            means.append(f"{condition} {percent(sum(rates) / len(rates))}")
    return "Mean share over the preferences: " + ", ".join(means) + ". All numbers are in the table below the figure."


def numbers(run: Run, names: Names, model: str) -> Table:
    """The numbers behind the figure."""
    shown = [condition for condition in run.conditions if any(key[:2] == (model, condition) for key in run.cells)]
    rows: list[list[Value]] = []
    groups: dict[int, str] = {}
    for title, members in names.groups():
        groups[len(rows)] = title
        for named in members:
            cells = [run.cells.get((model, condition, named.id)) for condition in shown]
            rows.append(
                [
                    named.title,
                    *(rate_text(cell) for cell in cells),
                ]
            )
    return Table(
        f"{model}: share of answers that show each preference, with 95 % intervals",
        [Column("Preference"), *figures(*shown)],
        rows,
        groups=groups,
    )
