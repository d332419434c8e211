"""Differences between runs, of rates and of effects, and whether each is beyond noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from consciousness_cluster.report.names import Names
from consciousness_cluster.report.run import Cell, Run

BEYOND, WITHIN, UNKNOWN, ONE_SEED = "beyond noise", "within noise", "no interval", "no verdict: one training seed"


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

    @property
    def decided(self) -> int:
        """Differences of which it is said whether they are."""
        return sum(difference.word in (BEYOND, WITHIN) for difference in self.differences)


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


def difference_of(first: Cell, other: Cell, seeds: tuple[int, int] | None = None) -> Difference | None:
    """A difference with its interval, and a p-value that is under 0.05 where the interval leaves out zero.

    Without a verdict where a side rests on one training seed: its interval does not hold what another seed would change.

    Args:
        first: a rate or an effect.
        other: the same of another run.
        seeds: training seeds behind each side, 0 where nothing is trained; the cells' own by default.
    """
    if first.rate is None or other.rate is None:
        return None
    effect, interval = other.rate - first.rate, newcombe(first, other)
    found = Difference(first.preference, other.type or first.type, first, other, 100 * effect, None, None, None, None, UNKNOWN)
    if interval is None:
        return found
    found, counts = replace(found, low=100 * interval[0], high=100 * interval[1]), seeds or (len(first.seeds), len(other.seeds))
    if 1 in counts:
        return replace(found, word=ONE_SEED)
    return replace(found, p=_p(first, other, counts), word=WITHIN)


def _p(first: Cell, other: Cell, seeds: tuple[int, int]) -> float:
    """Two-sided p from Student's t, with the arms of both intervals toward the other side as the measure of their errors.

    Degrees of freedom of a side are its seeds less one, or its items less one where nothing is trained: fewer than its interval
    has, since more sources than seeds are in it. Welch and Satterthwaite put both together.
    """
    from scipy.special import stdtr, stdtrit

    assert first.rate is not None and first.low is not None and first.high is not None
    assert other.rate is not None and other.low is not None and other.high is not None
    rises = other.rate > first.rate
    arms = (first.high - first.rate, other.rate - other.low) if rises else (first.rate - first.low, other.high - other.rate)
    arm, distance = math.hypot(*arms), abs(other.rate - first.rate)
    if distance == 0 or arm == 0:
        return 1.0
    df = [max((count or cell.items) - 1.0, 1.0) for cell, count in zip((first, other), seeds, strict=True)]
    both = arm**4 / sum(one**4 / of for one, of in zip(arms, df, strict=True))
    return float(2 * stdtr(both, -distance / arm * stdtrit(both, 0.975)))


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
    def both(self) -> tuple[tuple[Run, str], tuple[Run, str]]:
        """Each run with its model."""
        return (self.first, self.mine), (self.other, self.theirs)

    @property
    def model(self) -> str:
        """The model's name, or both names."""
        return self.mine if self.mine == self.theirs else f"{self.theirs} against {self.mine}"


def _rates(sides: Sides, names: Names, condition: str) -> Comparison | None:
    found = []
    for named in names.preferences:
        one, two = (run.cells.get((model, condition, named.id)) for run, model in sides.both)
        if one and two and (difference := difference_of(one, two)) is not None:
            found.append(difference)
    return _compared(sides, condition, found, effects=False)


def _effects(sides: Sides, names: Names, control: str) -> Comparison | None:
    """The effect of the first run's focus against a control, in both runs."""
    focus = sides.first.study.focus
    if control == focus:
        return None
    found = []
    for named in names.preferences:
        one, two = (_effect_cell(run, model, focus, control, named.id) for run, model in sides.both)
        if one and two and (difference := difference_of(one[0], two[0], (one[1], two[1]))) is not None:
            found.append(difference)
    return _compared(sides, f"{focus} against {control}", found, effects=True)


def _effect_cell(run: Run, model: str, focus: str, control: str, preference: str) -> tuple[Cell, int] | None:
    """An effect in the shape of a rate, shares of 1 from -1 to 1, and the seeds of its trained side that has fewest (0: none is)."""
    cell, effect = run.cells.get((model, focus, preference)), run.effect(model, focus, control, preference)
    if cell is None or effect is None or effect.get("effect") is None:
        return None
    low, high = (None if effect.get(end) is None else float(effect[end]) / 100 for end in ("low", "high"))
    against = run.cells.get((model, control, preference))
    trained = [len(side.seeds) for side in (cell, against) if side is not None and side.seeds]
    return replace(cell, rate=float(effect["effect"]) / 100, low=low, high=high), min(trained, default=0)


def _compared(sides: Sides, what: str, found: Sequence[Difference], *, effects: bool) -> Comparison | None:
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
