"""`compare`: several runs in one page, and of each difference whether it is within noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from consciousness_cluster.errors import ReportError
from consciousness_cluster.report.methods import flattened
from consciousness_cluster.report.names import Names, names_of
from consciousness_cluster.report.numbers import NONE, counted, listing, points_range, probability, signed, whole
from consciousness_cluster.report.page import write_page
from consciousness_cluster.report.run import Cell, Run, read_run
from consciousness_cluster.report.svg import dot, line, scale, tag
from consciousness_cluster.report.table import Column, Table, Value, figures, rate_text

Z = 1.959963984540054  # 97.5 % point of the normal distribution
BEYOND, WITHIN, UNKNOWN = "beyond noise", "within noise", "no interval"


@dataclass(frozen=True)
class Difference:
    """One condition and preference, another run minus the first, in percentage points."""

    preference: str
    type: str
    first: Cell
    other: Cell
    effect: float
    low: float | None
    high: float | None
    p: float | None
    q: float | None
    word: str


@dataclass(frozen=True)
class Comparison:
    """All preferences of one condition, of one run against the first."""

    first: str
    other: str
    condition: str
    differences: tuple[Difference, ...]

    @property
    def beyond(self) -> int:
        """Differences beyond noise."""
        return sum(difference.word == BEYOND for difference in self.differences)


def newcombe(first: Cell, other: Cell) -> tuple[float, float] | None:
    """95 % interval of a difference of two independent rates, from their own intervals, in shares.

    Newcombe's square-and-add method (Statistics in Medicine 17, 873, 1998). Runs that ask the same items are treated as
    independent, which makes the interval wide rather than narrow.
    """
    if (
        first.rate is None
        or first.low is None
        or first.high is None
        or other.rate is None
        or other.low is None
        or other.high is None
    ):
        return None
    difference = other.rate - first.rate
    below = math.hypot(other.rate - other.low, first.high - first.rate)
    above = math.hypot(other.high - other.rate, first.rate - first.low)
    return difference - below, difference + above


def difference_of(first: Cell, other: Cell) -> Difference | None:
    """A difference with its interval and p-value (the interval's arm towards zero, read as 1.96 standard errors)."""
    if first.rate is None or other.rate is None:
        return None
    effect, interval = other.rate - first.rate, newcombe(first, other)
    kind = other.type or first.type
    if interval is None:
        return Difference(first.preference, kind, first, other, 100 * effect, None, None, None, None, UNKNOWN)
    arm = effect - interval[0] if effect > 0 else interval[1] - effect
    p = 1.0 if effect == 0 or arm == 0 else math.erfc(abs(effect) / (arm / Z) / math.sqrt(2))
    return Difference(first.preference, kind, first, other, 100 * effect, 100 * interval[0], 100 * interval[1], p, None, WITHIN)


def judged(differences: Sequence[Difference], level: float = 0.05) -> tuple[Difference, ...]:
    """Adjusted p-values (Benjamini and Hochberg) over the preferences; what lies beyond noise has q under the level.

    Placebo preferences, identity probes and practical tasks are a family of their own.
    """
    placed: dict[int, Difference] = {}
    for main in (True, False):
        family = sorted(
            (at for at, d in enumerate(differences) if (d.type == "preference") is main and d.p is not None),
            key=lambda at: differences[at].p or 0.0,
        )
        least = 1.0
        for rank in range(len(family), 0, -1):
            difference = differences[family[rank - 1]]
            least = min(least, (difference.p or 0.0) * len(family) / rank)
            placed[family[rank - 1]] = replace(difference, q=least, word=BEYOND if least < level else WITHIN)
    return tuple(placed.get(at, difference) for at, difference in enumerate(differences))


def labels_of(runs: Sequence[Run]) -> list[str]:
    """What each run is called on the page: its study's name, with the folder where two share it, with a number where that too."""
    names = [run.study.name for run in runs]
    if len(set(names)) < len(names):
        names = [f"{run.study.name} ({run.folder.name})" for run in runs]
    if len(set(names)) < len(names):
        names = [f"{name} {at}" for at, name in enumerate(names, 1)]
    return names


def comparisons(runs: Sequence[Run], names: Names) -> tuple[list[Comparison], list[str]]:
    """Every run against the first, model by model and condition by condition; and what could not be set side by side."""
    first, found, apart = runs[0], [], []
    called = labels_of(runs)
    for other, name in zip(runs[1:], called[1:], strict=True):
        for mine, theirs in _pairs(first, other):
            for condition in first.conditions:
                cells = [
                    (first.cells.get((mine, condition, named.id)), other.cells.get((theirs, condition, named.id)))
                    for named in names.preferences
                ]
                differences = [d for one, two in cells if one and two and (d := difference_of(one, two)) is not None]
                if differences:
                    found.append(Comparison(f"{called[0]}: {mine}", f"{name}: {theirs}", condition, judged(differences)))
        apart += _apart((first, called[0]), (other, name))
    return found, list(dict.fromkeys(apart))


def _pairs(first: Run, other: Run) -> list[tuple[str, str]]:
    """Models by name; where no name is shared and each run has one model, these two."""
    shared = [(name, name) for name in first.models if name in other.models]
    lone = len(first.models) == len(other.models) == 1
    return shared or ([(first.models[0], other.models[0])] if lone else [])


def _apart(first: tuple[Run, str], other: tuple[Run, str]) -> list[str]:
    paired = {name for pair in _pairs(first[0], other[0]) for name in pair}
    both = (first, other)
    found = [f"{name}: model {model} has no counterpart." for run, name in both for model in run.models if model not in paired]
    for (run, name), (against, its_name) in (both, both[::-1]):
        found += [f"{name}: condition {one} is not in {its_name}." for one in run.conditions if one not in against.conditions]
    return found + [f"{name}: {sentence}" for run, name in both for sentence in run.missing]


def compare(runs: Sequence[Path], out: Path) -> Path:
    """Write the comparison page of two or more run folders to `out` (a file, or a folder for `index.html`).

    Raises:
        ReportError: fewer than two runs, or a folder without a study.
    """
    if len(runs) < 2:
        raise ReportError(
            "a comparison needs at least two runs", value=[str(run) for run in runs], next_step="name another run folder"
        )
    read = [read_run(run) for run in runs]
    named = [names_of(run) for run in read]
    every = {entry.id: entry for names in named for entry in names.preferences}
    names = replace(named[0], preferences=tuple(every.values()))
    found, apart = comparisons(read, names)
    path = out if out.suffix == ".html" else out / "index.html"
    return write_page(path, "compare.html", _context(runs, read, names, found, apart))


def _context(
    folders: Sequence[Path], runs: Sequence[Run], names: Names, found: list[Comparison], apart: list[str]
) -> dict[str, Any]:
    total, beyond = sum(len(entry.differences) for entry in found), sum(entry.beyond for entry in found)
    if not found:
        said = "Nothing could be set side by side."
    else:
        said = f"{counted(total, 'difference')}: {whole(beyond)} beyond noise, {whole(total - beyond)} within it."
    return {
        "title": "Runs compared: " + listing(list(dict.fromkeys(run.study.name for run in runs))),
        "said": said,
        "overview": _overview(found, names),
        "runs": list(zip(labels_of(runs), runs, folders, strict=True)),
        "settings": _settings(runs),
        "details": [(entry, _table(entry, names)) for entry in found],
        "apart": apart,
    }


def _overview(found: Sequence[Comparison], names: Names) -> Table:
    rows: list[list[Value]] = []
    for entry in found:
        largest = max(entry.differences, key=lambda difference: abs(difference.effect))
        mean = sum(difference.effect for difference in entry.differences) / len(entry.differences)
        rows.append([
            entry.other, entry.first, entry.condition, whole(len(entry.differences)), whole(entry.beyond), signed(mean, 1),
            f"{names.title(largest.preference)} {signed(largest.effect)}",
        ])  # fmt: skip
    columns = [
        Column("Run and model"),
        Column("Minus"),
        Column("Condition"),
        *figures("Compared", "Beyond noise", "Mean, points"),
        Column("Largest"),
    ]
    return Table("Differences by condition", columns, rows)


def _table(entry: Comparison, names: Names) -> Table:
    rows: list[list[Value]] = []
    strong: set[tuple[int, int]] = set()
    for d in sorted(entry.differences, key=lambda difference: (difference.word != BEYOND, -abs(difference.effect))):
        if d.word == BEYOND:
            strong |= {(len(rows), 4), (len(rows), 6)}
        rows.append([
            names.title(d.preference), rate_text(d.first), rate_text(d.other), picture(d),
            f"{signed(d.effect)} {points_range(d.low, d.high)}", probability(d.q), d.word,
        ])  # fmt: skip
    columns = [
        Column("Preference"),
        *figures(entry.first, entry.other),
        Column("Difference"),
        *figures("Points", "q"),
        Column("Verdict"),
    ]
    return Table(f"{entry.condition}: {entry.other} minus {entry.first}", columns, rows, frozenset(strong))


def picture(difference: Difference) -> Markup:
    """A difference as a dot with its interval, from -100 to 100 points."""
    x = scale(-100, 100, 4, 156)
    parts = [line(4, 8, 156, 8, "grid"), line(x(0), 1, x(0), 15, "zero")]
    if difference.low is not None and difference.high is not None:
        parts.append(line(x(difference.low), 8, x(difference.high), 8, "interval"))
    kind = "mean" if difference.word == BEYOND else "mean hollow"
    colour = "vermillion" if difference.word == BEYOND else "ink"
    return tag(
        "svg",
        tag("g", *parts, dot(x(difference.effect), 8, 3.6, kind), class_=f"mark k-{colour}"),
        viewBox="0 0 160 16",
        class_="inline",
        aria_hidden="true",
    )


def _settings(runs: Sequence[Run]) -> Table:
    """What the studies declare differently, since a difference of settings is no noise."""
    flat = [dict(flattened(run.study.model_dump(mode="json", exclude={"name", "title"}))) for run in runs]
    keys = [key for key in dict.fromkeys(key for entry in flat for key in entry) if len({entry.get(key) for entry in flat}) > 1]
    rows: list[list[Value]] = [[key, *(entry.get(key, NONE) for entry in flat)] for key in keys]
    return Table("Settings that differ", [Column("Setting"), *(Column(name) for name in labels_of(runs))], rows)
