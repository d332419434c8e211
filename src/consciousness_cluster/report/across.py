"""Section 5: the same effects across models, as a forest with every seed as a dot and the paper's values beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from consciousness_cluster.report.effects import effect_text
from consciousness_cluster.report.names import Names, labels
from consciousness_cluster.report.numbers import NONE, capital, points_range, signed
from consciousness_cluster.report.published import Published, models_of, published
from consciousness_cluster.report.run import Record, Run
from consciousness_cluster.report.svg import Scale, dot, figure, label, line, scale, shape, tag
from consciousness_cluster.report.table import Column, Table, Value, shown

COLOURS = ("vermillion", "blue", "green", "orange", "purple", "sky", "yellow", "ink")
LANE = 12.0
CORNERS = (4, 3, 5, 6)  # of the marks of published models: diamond, triangle, and so on


@dataclass(frozen=True)
class Point:
    """An effect of one model: ours with interval and seeds, or a published one without."""

    model: str
    colour: str
    effect: float
    low: float | None
    high: float | None
    seeds: tuple[float, ...]
    ours: bool
    hover: str
    sides: int = 0  # corners of a published value's mark


@dataclass(frozen=True)
class Row:
    """One line of the forest."""

    title: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Forest:
    """The figure in two widths and its legend."""

    wide: Markup
    narrow: Markup
    legend: tuple[tuple[str, Markup], ...]  # model and its mark
    control: str


def forest(run: Run, names: Names) -> Forest | None:
    """The forest of the focus against the first control; None where no effect was estimated."""
    rows = rows_of(run, names)
    if not rows:
        return None
    legend = {point.model: _key(point) for row in reversed(rows) for point in row.points}
    order = [point.model for row in rows for point in row.points]
    marks = tuple((model, legend[model]) for model in dict.fromkeys(order))
    return Forest(_draw(run, rows, 880, 250, "forest"), _draw(run, rows, 366, 0, "forest-narrow"), marks, run.controls[0])


def _key(point: Point) -> Markup:
    """A model's mark by itself."""
    mark = dot(8, 8, 3.6, "mean") if point.ours else shape(8, 8, 4, point.sides, "published")
    group = tag("g", mark, class_=f"mark k-{point.colour}")
    return tag("svg", group, viewBox="0 0 16 16", class_="sign small", aria_hidden="true")


def cluster_tables(run: Run, names: Names) -> list[Table]:
    """Whether preferences move together: the measures that the labels explain, the others, and the published arms apart."""
    found: dict[str, dict[str, Record]] = {}
    for row in run.table("cluster"):
        found.setdefault(str(row["measure"]), {})[str(row["model"])] = row
    models = sorted({model for rows in found.values() for model in rows}, key=lambda model: run.place(model, ""))
    main = {name: found[name] for name in labels()["cluster"] if name in found}
    theirs = {name: rows for name, rows in found.items() if "published" in name}
    own = {name: rows for name, rows in found.items() if name not in main and name not in theirs}
    captions = ("Do the preferences move together?", "Further measures", "Likeness to published profiles")
    return [
        _cluster(caption, part, models, names)
        for caption, part in zip(captions, (main, own, theirs), strict=True) if part
    ]  # fmt: skip


def _cluster(caption: str, found: dict[str, dict[str, Record]], models: Sequence[str], names: Names) -> Table:
    rows: list[list[Value]] = []
    for measure, by_model in found.items():
        head, colon, listed = capital(measure).partition(": ")
        text = head + colon + ", ".join(names.titles.get(name, name) for name in listed.split(", "))
        meaning = labels()["cluster"].get(measure)
        title: Value = Markup("{} <small>{}</small>").format(text, meaning) if meaning else text
        rows.append([title, *(_measured(by_model.get(model)) for model in models)])
    return Table(caption, [Column("Measure"), *(Column(model) for model in models)], rows)


def _measured(row: Record | None) -> Value:
    if row is None or row.get("value") is None:
        return NONE
    number = f"{shown(row['value'])} {points_range(row.get('low'), row.get('high'), 2)}".strip()
    return Markup("{} <small>{}</small>").format(number, row["note"]) if row.get("note") else number


def rows_of(run: Run, names: Names) -> list[Row]:
    """The mean over the preferences, then each preference."""
    if not run.controls or not any(key[1:3] == (run.study.focus, run.controls[0]) for key in run.effects):
        return []
    values = published(run)
    rows = [Row(named.title, tuple(_points(run, named.id, values))) for named in names.of_type("preference")]
    rows = [row for row in rows if row.points]
    return [_mean(rows), *rows]


def _points(run: Run, preference: str, values: Published) -> list[Point]:
    found, focus, control = [], run.study.focus, run.controls[0]
    for number, model in enumerate(run.models):
        effect, base, cell = (
            run.effect(model, focus, control, preference),
            run.cells.get((model, control, preference)),
            run.cells.get((model, focus, preference)),
        )
        if effect is None or effect.get("effect") is None:
            continue
        seeds = tuple(100 * (rate - base.rate) for _, rate in cell.seeds) if cell and base and base.rate is not None else ()
        found.append(
            Point(
                model,
                COLOURS[number % len(COLOURS)],
                effect["effect"],
                effect.get("low"),
                effect.get("high"),
                seeds,
                True,
                f"{model}: {effect_text(effect)} points",
            )
        )
    for model in models_of(values):
        one, zero = values.get((model, focus, preference)), values.get((model, control, preference))
        if one is not None and zero is not None:
            found.append(
                Point(
                    f"{model} (paper)",
                    "muted",
                    one - zero,
                    None,
                    None,
                    (),
                    False,
                    f"{model}, published: {signed(one - zero)} points",
                    CORNERS[models_of(values).index(model) % len(CORNERS)],
                )
            )
    return found


def _mean(rows: Sequence[Row]) -> Row:
    """Means over the preferences; without an interval, since preferences of one model are not independent."""
    found = []
    for model in dict.fromkeys(point.model for row in rows for point in row.points):
        mine = [point for row in rows for point in row.points if point.model == model]
        one = mine[0]
        mean = sum(point.effect for point in mine) / len(mine)
        depth = min((len(point.seeds) for point in mine), default=0)
        seeds = tuple(sum(point.seeds[at] for point in mine) / len(mine) for at in range(depth))
        found.append(
            Point(
                model,
                one.colour,
                mean,
                None,
                None,
                seeds,
                one.ours,
                f"{model}: mean of {len(mine)} preferences {signed(mean)} points",
                one.sides,
            )
        )
    return Row(f"Mean of {len(rows)} preferences", tuple(found))


def _draw(run: Run, rows: Sequence[Row], width: float, labels_width: float, name: str) -> Markup:
    effects = [
        value
        for row in rows
        for point in row.points
        for value in (point.effect, point.low or 0.0, point.high or 0.0, *point.seeds)
    ]
    least, most = min([0.0, *effects]), max([0.0, *effects])
    low, high = 25 * (least // 25), max(25 * -(-most // 25), 25.0)  # never of no width, even where nothing moved
    x = scale(low, high, labels_width + 12, width - 16)
    ticks = (
        [low + 25 * step for step in range(round((high - low) / 25) + 1)]
        if width > 500 or high - low <= 100
        else [low, 0, high]
    )
    parts, y = [], 6.0
    for number, row in enumerate(rows):
        own = [point for point in row.points if point.ours]
        height = max(LANE * (len(own) + (len(own) < len(row.points))), 18.0)
        if labels_width:
            parts.append(label(0, y + height / 2 + 4, row.title, "row" if number else "row strong"))
        else:
            parts.append(label(0, y + 11, row.title, "row" if number else "row strong"))
            y += 17
        parts += [
            _point(point, x, y + LANE / 2 + LANE * (own.index(point) if point.ours else len(own))) for point in row.points
        ]
        y += height + 7
        parts.append(line(0, y - 2.5, width, y - 2.5, "rule" if not number else "hair"))
    grid = [line(x(value), 0, x(value), y, "zero" if value == 0 else "grid") for value in ticks]
    grid += [label(x(value), y + 14, signed(value), "tick", "middle") for value in ticks]
    title = f"Effect of {run.study.focus} against {run.controls[0]}, percentage points, by preference and model"
    said = "; ".join(point.hover for point in rows[0].points)
    return figure(width, y + 22, title, said, *grid, *parts, name=name, class_="wide" if labels_width else "narrow")


def _point(point: Point, x: Scale, y: float) -> Markup:
    parts = [tag("title", point.hover)]
    if not point.ours:
        return tag("g", *parts, shape(x(point.effect), y, 4, point.sides, "published"), class_="mark k-muted")
    if point.low is not None and point.high is not None:
        parts.append(line(x(point.low), y, x(point.high), y, "interval"))
    parts += [dot(x(seed), y + 4, 1.6, "seed") for seed in point.seeds]
    return tag("g", *parts, dot(x(point.effect), y, 3.6, "mean"), class_=f"mark k-{point.colour}")
