"""Figures at print size (180 mm wide): PDF with embedded fonts, SVG, and PNG at 300 dots an inch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consciousness_cluster.report import across
from consciousness_cluster.report.names import Names, labels
from consciousness_cluster.report.profile_figure import Mark, Marks, marks_of
from consciousness_cluster.report.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 180 / 25.4  # inches: a double column
ROW = 0.145  # inches
MARGIN = 0.55  # inches, above and below the rows
LABELS = 0.275  # share of the width
GREY = "#8a8f94"
FORMATS = ("pdf", "svg", "png")
STYLE: Any = {
    "font.family": "sans-serif", "font.size": 7, "axes.linewidth": 0.5, "xtick.major.width": 0.5, "ytick.major.width": 0.5,
    "pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "consciousness-cluster",
}  # fmt: skip


def write_figures(run: Run, names: Names, folder: Path) -> dict[str, str]:
    """Write every figure and give back the file stems by what they show: a model's name, or `forest`."""
    import matplotlib

    matplotlib.use("Agg")
    written: dict[str, str] = {}
    with matplotlib.rc_context(STYLE):
        for model in run.models:
            marks = marks_of(run, names, model)
            if marks:
                written[model] = f"profile-{slug(model)}"
                _save(_profile(run, names, marks), folder / written[model])
        rows = across.rows_of(run, names)
        if rows:
            written["forest"] = "forest"
            _save(_forest(run, rows), folder / "forest")
    return written


def slug(name: str) -> str:
    """A name as a file name."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") or "model"


def _save(figure: Figure, stem: Path) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    for kind in FORMATS:
        # without dates, so that the same run gives the same files
        metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}[kind]
        figure.savefig(stem.with_name(f"{stem.name}.{kind}"), dpi=300, metadata=metadata)


def _profile(run: Run, names: Names, marks: Marks) -> Figure:
    from matplotlib.figure import Figure

    shown = [condition for condition in run.conditions if any(key[0] == condition for key in marks)]
    lines: list[tuple[str, str | None]] = []  # text, preference id (None for a group's title)
    for group, members in names.groups():
        lines += [(group.partition(":")[0], None), *((named.title, named.id) for named in members)]
    height = ROW * len(lines) + MARGIN
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    palette = labels()["hex"]
    for axis, condition in zip(axes, shown, strict=True):
        drawn = [(float(y), marks[condition, name]) for y, (_, name) in enumerate(lines) if name and (condition, name) in marks]
        _marks(axis, drawn, palette[names.colours[condition]])
        axis.set_title(condition, fontsize=7, loc="left", pad=3)
        axis.set(xlim=(-4, 104), ylim=(len(lines) - 0.4, -0.6), xticks=(0, 50, 100))
        _dress(axis, "% of answers")
    _left_labels(axes[0], [float(y) for y in range(len(lines))], [text for text, _ in lines])
    for tick, (_, preference) in zip(axes[0].get_yticklabels(), lines, strict=True):
        tick.set_fontweight("normal" if preference else "bold")
    figure.subplots_adjust(left=LABELS, right=0.985, top=1 - 0.2 / height, bottom=0.32 / height, wspace=0.16)
    return figure


def _marks(axis: Axes, drawn: Sequence[tuple[float, Mark]], colour: str) -> None:
    """All cells of a panel, each kind of mark in one go: hundreds of single ones would take seconds."""
    spans = [
        (y, 100 * cell.low, 100 * cell.high)
        for y, mark in drawn
        if (cell := mark.cell).low is not None and cell.high is not None
    ]
    _spans(axis, spans, colour)
    seeds = [(100 * rate, y + 0.33) for y, mark in drawn for _, rate in mark.cell.seeds]
    axis.plot([x for x, _ in seeds], [y for _, y in seeds], ".", color=colour, markersize=1.5)
    for filled in (True, False):
        means = [(100 * (mark.cell.rate or 0.0), y) for y, mark in drawn if mark.filled is filled]
        face = colour if filled else "white"
        axis.plot([x for x, _ in means], [y for _, y in means], "o", color=colour, markersize=2.8, mfc=face, mew=0.8)


def _spans(axis: Axes, spans: Sequence[tuple[float, float, float]], colour: str) -> None:
    """Intervals as (row, from, to)."""
    if spans:
        y, low, high = zip(*spans, strict=True)
        axis.hlines(y, low, high, color=colour, linewidth=1.1)


def _dress(axis: Axes, text: str) -> None:
    axis.grid(axis="x", color="#dddddd", linewidth=0.5)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.set_xlabel(text, fontsize=6.5, labelpad=1)


def _left_labels(axis: Axes, places: Sequence[float], texts: Sequence[str]) -> None:
    """Row labels set flush left on the figure's edge."""
    axis.set_yticks(places, texts, ha="left")
    axis.tick_params(axis="y", pad=72 * WIDTH * LABELS - 2)


def _forest(run: Run, rows: Sequence[across.Row]) -> Figure:
    from matplotlib.figure import Figure

    own = list(dict.fromkeys((point.model, point.colour) for row in rows for point in row.points if point.ours))
    lanes = {model: at for at, (model, _) in enumerate(own)}
    step = len(own) + 1.2  # lanes of a row, one of them for what is published
    height = 0.1 * step * len(rows) + MARGIN
    figure = Figure(figsize=(WIDTH, height))
    axis = figure.subplots()
    palette = labels()["hex"]
    placed = [
        (at * step + lanes.get(point.model, len(own) - 0.2), point) for at, row in enumerate(rows) for point in row.points
    ]
    for model, colour in own:
        _points(axis, [(y, point) for y, point in placed if point.model == model], palette[colour])
    theirs = {point.model: point.sides for _, point in placed if not point.ours}
    for model, sides in theirs.items():
        mine = [(y, point.effect) for y, point in placed if point.model == model]
        axis.plot([x for x, _ in mine], [y for y, _ in mine], **_published(sides))
    axis.set_ylim(len(rows) * step - 0.6, -1)
    axis.axvline(0, color="#555555", linewidth=0.6)
    _dress(axis, f"effect of {run.study.focus} against {run.controls[0]}, percentage points")
    _left_labels(axis, [at * step + (len(own) - 1) / 2 for at in range(len(rows))], [row.title for row in rows])
    handles = [axis.plot([], [], "o", color=palette[colour], markersize=3, label=model)[0] for model, colour in own]
    handles += [axis.plot([], [], label=model, **_published(sides))[0] for model, sides in theirs.items()]
    axis.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(handles), frameon=False, fontsize=7, borderpad=0
    )
    figure.subplots_adjust(left=LABELS, right=0.985, top=1 - 0.22 / height, bottom=0.32 / height)
    return figure


def _published(corners: int) -> dict[str, Any]:
    """The open mark of a published model."""
    return {
        "marker": {3: "^", 4: "D", 5: "p", 6: "h"}[corners],
        "color": GREY,
        "markersize": 2.6,
        "mfc": "none",
        "mew": 0.6,
        "ls": "",
    }


def _points(axis: Axes, placed: Sequence[tuple[float, across.Point]], colour: str) -> None:
    """All effects of one model."""
    _spans(axis, [(y, p.low, p.high) for y, p in placed if p.low is not None and p.high is not None], colour)
    seeds = [(seed, y + 0.38) for y, point in placed for seed in point.seeds]
    axis.plot([x for x, _ in seeds], [y for _, y in seeds], ".", color=colour, markersize=1.6)
    axis.plot([point.effect for _, point in placed], [y for y, _ in placed], "o", color=colour, markersize=3)
