"""Differences between runs, of rates and of effects, and whether each is beyond noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from consciousness_cluster.report.names import Names
from consciousness_cluster.report.run import Cell, Run

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
    """All preferences of one condition, of one run against the first; `effects` where the sides are effects, not rates."""

    first: str
    other: str
    model: str
    condition: str
    differences: tuple[Difference, ...]
    effects: bool = False

    @property
    def beyond(self) -> int:
        """Differences beyond noise."""
        return sum(difference.word == BEYOND for difference in self.differences)


def newcombe(first: Cell, other: Cell) -> tuple[float, float] | None:
    """95 % interval of a difference of two independent rates or effects, from their own intervals, in shares.

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
    """Every run against the first, model by model: effects of the focus, then rates by condition; and what has no counterpart."""
    first, found, apart = runs[0], [], []
    called = labels_of(runs)
    for other, name in zip(runs[1:], called[1:], strict=True):
        for pair in _pairs(first, other):
            sides = Sides(first, other, called[0], name, *pair)
            found += [entry for control in first.controls if (entry := _effects(sides, names, control)) is not None]
            found += [entry for condition in first.conditions if (entry := _rates(sides, names, condition)) is not None]
        apart += _apart((first, called[0]), (other, name))
    return found, list(dict.fromkeys(apart))


@dataclass(frozen=True)
class Sides:
    """Two runs and the model of each that are set side by side."""

    first: Run
    other: Run
    first_name: str
    other_name: str
    mine: str
    theirs: str

    @property
    def model(self) -> str:
        """The model's name, or both names."""
        return self.mine if self.mine == self.theirs else f"{self.theirs} against {self.mine}"


def _rates(sides: Sides, names: Names, condition: str) -> Comparison | None:
    cells = [
        (sides.first.cells.get((sides.mine, condition, named.id)), sides.other.cells.get((sides.theirs, condition, named.id)))
        for named in names.preferences
    ]
    return _compared(sides, condition, cells, effects=False)


def _effects(sides: Sides, names: Names, control: str) -> Comparison | None:
    """The effect of the first run's focus against a control, in both runs."""
    focus = sides.first.study.focus
    if control == focus:
        return None
    cells = [
        (_effect_cell(sides.first, sides.mine, focus, control, named.id), _effect_cell(sides.other, sides.theirs, focus, control, named.id))
        for named in names.preferences
    ]  # fmt: skip
    return _compared(sides, f"{focus} against {control}", cells, effects=True)


def _effect_cell(run: Run, model: str, focus: str, control: str, preference: str) -> Cell | None:
    """An effect in the shape of a rate: shares of 1, from -1 to 1."""
    cell, effect = run.cells.get((model, focus, preference)), run.effect(model, focus, control, preference)
    if cell is None or effect is None or effect.get("effect") is None:
        return None
    low, high = (None if effect.get(end) is None else float(effect[end]) / 100 for end in ("low", "high"))
    return replace(cell, rate=float(effect["effect"]) / 100, low=low, high=high)


def _compared(sides: Sides, what: str, cells: Sequence[tuple[Cell | None, Cell | None]], *, effects: bool) -> Comparison | None:
    found = [d for one, two in cells if one and two and (d := difference_of(one, two)) is not None]
    return Comparison(sides.first_name, sides.other_name, sides.model, what, judged(found), effects) if found else None


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
