"""Figures at print size (180 mm wide): PDF with embedded fonts, SVG, and PNG at 300 dots an inch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from consciousness_cluster.report import across
from consciousness_cluster.report.names import Names, labels
from consciousness_cluster.report.profile_figure import Mark, marks_of
from consciousness_cluster.report.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 180 / 25.4  # inches: a double column
ROW = 0.145  # inches
FORMATS = ("pdf", "svg", "png")
STYLE = {
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


def _profile(run: Run, names: Names, marks: dict[tuple[str, str], Mark]) -> Figure:
    from matplotlib.figure import Figure

    shown = [condition for condition in run.conditions if any(key[0] == condition for key in marks)]
    lines: list[tuple[str, str | None]] = []  # text, preference id (None for a group's title)
    for group, members in names.groups():
        lines += [(group, None), *((named.title, named.id) for named in members)]
    figure = Figure(figsize=(WIDTH, ROW * (len(lines) + 3)))
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    palette = labels()["hex"]
    for axis, condition in zip(axes, shown, strict=True):
        for y, (_, preference) in enumerate(lines):
            if preference is not None and (condition, preference) in marks:
                _mark(axis, marks[condition, preference], y, palette[names.colours[condition]])
        _dress(axis, condition, len(lines))
    axes[0].set_yticks(range(len(lines)), [text for text, _ in lines])
    for tick, (_, preference) in zip(axes[0].get_yticklabels(), lines, strict=True):
        tick.set_fontweight("normal" if preference else "bold")
    figure.subplots_adjust(wspace=0.12)
    return figure


def _mark(axis: Axes, mark: Mark, y: float, colour: str) -> None:
    cell = mark.cell
    if cell.low is not None and cell.high is not None:
        axis.plot([100 * cell.low, 100 * cell.high], [y, y], color=colour, linewidth=1.1, solid_capstyle="butt")
    axis.plot([100 * rate for _, rate in cell.seeds], [y + 0.3] * len(cell.seeds), ".", color=colour, markersize=1.6)
    axis.plot(
        [100 * (cell.rate or 0.0)],
        [y],
        "o",
        color=colour,
        markersize=2.8,
        markerfacecolor=colour if mark.filled else "white",
        markeredgewidth=0.8,
    )


def _dress(axis: Axes, title: str, lines: int) -> None:
    axis.set_title(title, fontsize=7, loc="left", pad=3)
    axis.set_xlim(-4, 104)
    axis.set_ylim(lines - 0.4, -0.6)
    axis.set_xticks([0, 50, 100])
    axis.grid(axis="x", color="#dddddd", linewidth=0.5)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.set_xlabel("% of answers", fontsize=6.5, labelpad=1)


def _forest(run: Run, rows: Sequence[across.Row]) -> Figure:
    from matplotlib.figure import Figure

    own = list(dict.fromkeys((point.model, point.colour) for row in rows for point in row.points if point.ours))
    step = len(own) + 1.2
    figure = Figure(figsize=(WIDTH, 0.115 * step * len(rows) + 0.5))
    axis = figure.subplots()
    palette = labels()["hex"]
    for at, row in enumerate(rows):
        for point in row.points:
            y = at * step + ([model for model, _ in own].index(point.model) if point.ours else len(own) - 0.2)
            if not point.ours:
                axis.plot(
                    [point.effect], [y], "D", color="#8a8f94", markersize=2.2, markerfacecolor="none", markeredgewidth=0.6
                )
                continue
            colour = palette[point.colour]
            if point.low is not None and point.high is not None:
                axis.plot([point.low, point.high], [y, y], color=colour, linewidth=1.1, solid_capstyle="butt")
            axis.plot(point.seeds, [y] * len(point.seeds), ".", color=colour, markersize=2, alpha=0.7)
            axis.plot([point.effect], [y], "o", color=colour, markersize=3)
    axis.set_yticks([at * step + (len(own) - 1) / 2 for at in range(len(rows))], [row.title for row in rows])
    axis.set_ylim(len(rows) * step - 0.6, -1)
    axis.axvline(0, color="#555555", linewidth=0.6)
    axis.grid(axis="x", color="#dddddd", linewidth=0.5)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.set_xlabel(f"effect of {run.study.focus} against {run.controls[0]}, percentage points")
    handles = [axis.plot([], [], "o", color=palette[colour], markersize=3, label=model)[0] for model, colour in own]
    if any(not point.ours for row in rows for point in row.points):
        handles += axis.plot(
            [], [], "D", color="#8a8f94", markersize=2.2, markerfacecolor="none", markeredgewidth=0.6, label="published (paper)"
        )
    figure.legend(
        handles=handles,
        loc="upper center",
        ncols=len(handles),
        frameon=False,
        fontsize=7,
        bbox_to_anchor=(0.5, 0.98 if len(rows) > 8 else 1.06),
    )
    return figure
