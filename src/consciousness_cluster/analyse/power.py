"""Power: the smallest effect a study can find, and what more seeds, items or answers would buy. Nothing is simulated.

An effect is found when the interval of the difference leaves out zero, before adjustment. How often that is so is told from the
quantiles of the difference: at each stand the two rates that a study with that luck finds, with the variances of those rates and
the interval's own limits. Studies whose control never says yes are counted apart, for the interval is another there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import betaln, gammaincinv

from consciousness_cluster.analyse.cells import Block, Key, paired
from consciousness_cluster.analyse.components import Array, Variance, normal_quantile, residual_parts
from consciousness_cluster.analyse.intervals import Side, Table, limits_of_difference
from consciousness_cluster.analyse.moments import Moments, covariance, moments
from consciousness_cluster.analyse.simulate import Spread, spreads

POWER = 0.8
ERROR = 0.05
STEP = 0.002  # how closely an effect is sought
LUCK = (np.arange(50) + 0.5) / 50  # quantiles of the difference that a study finds
SCATTER = (np.arange(4) + 0.5) / 4  # quantiles of the seed variance that it finds
ROUNDS = 8  # of fitting standard deviations
LARGEST = 3.0  # standard deviation of logits; beyond it a rate is 0 or 1 for nearly every item
NOTHING = 1e-9
OUT_OF_REACH = "none within reach"  # what an infinite smallest effect says


@dataclass(frozen=True)
class Design:
    """A comparison: the control's rate, logit standard deviations, seeds of both (None where untrained), items, answers an item and arm."""

    rate: float
    spread: Spread
    seeds: int | None
    control_seeds: int | None
    items: int
    samples: float

    @property
    def answers(self) -> int:
        """Answers of both conditions."""
        return round(self.items * self.samples * ((self.seeds or 1) + (self.control_seeds or 1)))


@lru_cache(maxsize=4096)
def smallest_effect(design: Design) -> float:
    """Smallest true difference of rates (0 to 1) found with `POWER` at the two-sided error `ERROR`, before adjustment.

    Away from the control's rate toward the farther end, where there is room. NaN with one training seed or fewer than two items;
    infinite where no difference is large enough.

    Source: ours, by bisection over `delivered`; that the promised power is delivered is tested against simulated studies
    (tests/analyse/test_power.py).
    """
    if design.items < 2 or 1 in (design.seeds, design.control_seeds):
        return float("nan")
    # Yes and no exchanged are the same problem.
    base = replace(design, rate=min(design.rate, 1 - design.rate))
    low, high = 0.0, 1 - base.rate - STEP
    if delivered(base, high, ERROR) < POWER:
        return float("inf")
    while high - low > STEP:
        middle = (low + high) / 2
        low, high = (low, middle) if delivered(base, middle, ERROR) >= POWER else (middle, high)
    return (low + high) / 2


def delivered(design: Design, effect: float, error: float = ERROR) -> float:
    """Share of studies whose interval leaves out zero, where the condition's rate is the control's and this effect.

    Source: ours, as `smallest_effect`; the share without a yes is beta-binomial, Skellam, JRSS B 10 (1948).
    """
    rate, control = np.asarray([design.rate + effect]), np.asarray([design.rate])
    both, scatter = _expected(design, rate, control), _scatter(design)
    a, b = both.a.variance.value, both.b.variance.value
    luck = normal_quantile(LUCK) / np.sqrt(both.variance.value)
    least = 1 / (design.items * design.samples * (design.control_seeds or 1))
    met = (rate + luck * (a - both.shared), np.maximum(control - luck * (b - both.shared), least))
    some = _expected(design, *met, scatter)
    none = _expected(design, rate + normal_quantile(LUCK) * np.sqrt(a), np.zeros_like(LUCK), scatter)
    share = _share_without(design)
    low = [limits_of_difference(each.a, each.b, each.variance, 1 - error)[0] for each in (some, none)]
    return (1 - share) * float((low[0] > 0).mean()) + share * float((low[1] > 0).mean())


def _scatter(design: Design) -> Array:
    """Quantiles of a seed variance's estimate as a multiple of its value, in rows; few seeds tell it badly."""
    df = sum(seeds - 1 for seeds in (design.seeds, design.control_seeds) if seeds is not None)
    return np.asarray(2 * gammaincinv(df / 2, SCATTER) / df)[:, None] if df else np.ones((1, 1))


def _share_without(design: Design) -> float:
    """Share of studies whose control never says yes: items are beta-distributed with the moments that they have."""
    side = moments(np.asarray([design.rate]), design.spread, trained=design.control_seeds is not None)
    rate, item = float(side.rate[0]), float(side.item[0])
    answers = design.samples * (design.control_seeds or 1)
    if item < NOTHING:
        return float((1 - rate) ** (answers * design.items))
    size = rate * (1 - rate) / item - 1
    return float(
        np.exp(design.items * (betaln(rate * size, (1 - rate) * size + answers) - betaln(rate * size, (1 - rate) * size)))
    )


@dataclass(frozen=True, eq=False)
class _Both:
    """Two rates, the variance of their difference as the interval would find it, and their covariance."""

    a: Side
    b: Side
    variance: Variance
    shared: Array


def _expected(design: Design, rate: Array, control: Array, scatter: Array | float = 1.0) -> _Both:
    """What the interval would have at two rates, were its seed variances found at `scatter` times their value."""
    sides = [
        moments(np.clip(values, 0.0, 1.0), design.spread, trained=seeds is not None)
        for values, seeds in ((rate, design.seeds), (control, design.control_seeds))
    ]
    shared = covariance(*sides)
    parts = [
        _parts(side, seeds, design, scatter) for side, seeds in zip(sides, (design.seeds, design.control_seeds), strict=True)
    ]
    own = [
        Side(side.rate, _combined(part.items, [part], design), float(design.items * part.rows))
        for side, part in zip(sides, parts, strict=True)
    ]
    items = parts[0].items + parts[1].items - 2 * shared / design.items
    return _Both(own[0], own[1], _combined(items, parts, design), shared / design.items)


@dataclass(frozen=True, eq=False)
class _Parts:
    """Expected parts of the variance of one rate, as `components.combine` has them; `seeds` is None where there are none."""

    rows: int
    items: Array
    seeds: Array | None
    rest: Array


def _parts(side: Moments, seeds: int | None, design: Design, scatter: Array | float) -> _Parts:
    rows = seeds or 1
    rest = (side.rest + side.within / design.samples) / (rows * design.items)
    return _Parts(rows, side.item / design.items + rest, None if seeds is None else scatter * (side.seed / rows + rest), rest)


def _combined(items: Array, parts: Sequence[_Parts], design: Design) -> Variance:
    seeds, rest, below = np.zeros_like(items), np.zeros_like(items), items**2 / (design.items - 1)
    for part in parts:
        if part.seeds is not None:
            seeds, rest = seeds + part.seeds, rest + part.rest
            below = below + (part.seeds**2 + part.rest**2 / (design.items - 1)) / (part.rows - 1)
    value = np.maximum(np.maximum(items, seeds), items + seeds - rest)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.where(below > 0, value**2 / below, 1.0)
    return Variance(np.maximum(value, 0.0), np.maximum(df, 1.0))


def more(design: Design) -> dict[str, Design]:
    """The same study with twice the seeds, twice the items, or twice the answers an item.

    Source: ours; bookkeeping, nothing is estimated.
    """
    doubled = [None if seeds is None else 2 * seeds for seeds in (design.seeds, design.control_seeds)]
    return {
        "seeds": replace(design, seeds=doubled[0], control_seeds=doubled[1]),
        "items": replace(design, items=2 * design.items),
        "samples": replace(design, samples=2 * design.samples),
    }


def _row(design: Design) -> dict[str, Any]:
    row: dict[str, Any] = {
        "seeds": design.seeds or 0,
        "control_seeds": design.control_seeds or 0,
        "items": design.items,
        "samples": design.samples,
        "answers": design.answers,
        "minimum_effect": 100 * smallest_effect(design),
    }
    for name, larger in more(design).items():
        row[f"minimum_effect_twice_{name}"] = 100 * smallest_effect(larger)
        row[f"answers_twice_{name}"] = larger.answers
    spread = design.spread
    return row | {"item_sd": spread.own, "shared_sd": spread.item, "seed_sd": spread.seed, "rest_sd": spread.rest}


@dataclass(frozen=True, eq=False)
class Pair:
    """A finished comparison of one preference: the condition and its control on the same items."""

    a: Table
    b: Table

    @property
    def samples(self) -> float:
        """Answers an item and arm."""
        return (self.a.answers + self.b.answers) / (self.a.items * (self.a.seeds + self.b.seeds))

    def design(self, spread: Spread) -> Design:
        """The comparison as a design, with given standard deviations; a rate of 0 of n answers counts as a half of n + 1."""
        rate = (self.b.rate * self.b.answers + 0.5) / (self.b.answers + 1)
        seeds = [table.seeds if table.trained else None for table in (self.a, self.b)]
        return Design(round(rate, 3), spread, seeds[0], seeds[1], self.a.items, self.samples)


def fitted(pairs: Sequence[Pair]) -> Spread:
    """Logit standard deviations of finished comparisons of several preferences taken together.

    A few answers at a low rate tell almost nothing of their variances, so the preferences' are added, and the standard deviations
    are those whose moments have the same sums. Where all answers agree, the usual ones of `calibration.toml` stand.

    Source: method of moments, Searle, Casella and McCulloch, Variance Components (1992), ch. 4, on the logit-normal moments of
    `moments`; the iteration is ours.
    """
    usual = spreads()["typical"]
    found = {name: sum(_components(pair)[name] for pair in pairs) for name in ("item", "own", "seed", "rest")}
    spread = usual
    for _ in range(ROUNDS):
        expected = {name: sum(_moments_of(pair, spread)[name] for pair in pairs) for name in found}
        better = {}
        for name, value in expected.items():
            deviation = max(getattr(spread, name), 0.01)
            better[name] = (
                min(deviation * np.sqrt(max(found[name], 0.0) / value), LARGEST) if value > NOTHING else getattr(usual, name)
            )
        spread = Spread(**{name: round(float(value), 4) for name, value in better.items()})
    return spread


def _components(pair: Pair) -> dict[str, float]:
    """Unbiased variances of one comparison: shared over items, their own, seeds, and seed by item."""
    own = seed = rest = 0.0
    a, b = pair.a.top.mean(axis=0), pair.b.top.mean(axis=0)
    shared = float(np.cov(a, b)[0, 1]) if pair.a.items > 1 else 0.0
    for table, means in ((pair.a, a), (pair.b, b)):
        samples = table.answers / (table.items * table.seeds)
        noise = float(np.nanmean(table.noise)) if np.isfinite(table.noise).any() else table.rate * (1 - table.rate) / samples
        left = noise
        if table.contributions.has_seed_variance and table.items > 1:
            left = sum(float(part.value) for part in residual_parts(table.contributions)) * table.items * table.seeds
            rest += left - noise
            seed += float(table.top.mean(axis=1).var(ddof=1)) - left / table.items
        if table.items > 1:
            own += float(means.var(ddof=1)) - left / table.seeds
    return {"item": shared, "own": own - 2 * shared, "seed": seed, "rest": rest}


def _moments_of(pair: Pair, spread: Spread) -> dict[str, float]:
    """What those variances would be with given standard deviations, at the rates that were found."""
    sides = [moments(np.asarray([table.rate]), spread, trained=table.trained) for table in (pair.a, pair.b)]
    shared = float(covariance(*sides)[0])
    known = [side for side, table in zip(sides, (pair.a, pair.b), strict=True) if table.contributions.has_seed_variance]
    return {
        "item": shared,
        "own": sum(float(side.item[0]) for side in sides) - 2 * shared,
        "seed": sum(float(side.seed[0]) for side in known),
        "rest": sum(float(side.rest[0]) for side in known),
    }


def power(blocks: dict[Key, Block], focus: str, controls: Sequence[str]) -> pd.DataFrame:
    """Smallest effect (points, 80 % power, two-sided 5 %, before adjustment) of the focus per model, preference and control.

    At the control's rate, with the standard deviations of all preferences of that model and control. Beside it what doubling
    the seeds, the items or the answers an item would give, and how many answers that takes.

    Source: as `smallest_effect` and `fitted`.
    """
    pairs: dict[tuple[str, str], dict[str, Pair]] = {}
    for (model, condition, preference), block in blocks.items():
        for control in controls:
            other = blocks.get((model, control, preference))
            if condition != focus or control == focus or other is None or block.type != "preference":
                continue
            if block.complete("unclear-is-no") & other.complete("unclear-is-no"):
                left, right, _ = paired(block, other, "unclear-is-no")
                pairs.setdefault((model, control), {})[preference] = Pair(left, right)
    rows = []
    for (model, control), found in pairs.items():
        spread = fitted(list(found.values()))
        for preference, pair in found.items():
            design = pair.design(spread)
            rows.append({"model": model, "preference": preference, "control": control, "rate": design.rate, **_row(design)})
    return pd.DataFrame(rows)


def planned_power(
    items: Mapping[str, int],
    seeds: int | None,
    control_seeds: int | None,
    samples: int,
    spread: Spread,
    rates: Sequence[float] = (0.1, 0.3),
) -> pd.DataFrame:
    """The same table for a study not yet run: items per preference, and some rates that the control might have.

    Source: as `smallest_effect`.
    """
    rows = []
    for preference, count in items.items():
        for rate in rates:
            design = Design(rate, spread, seeds, control_seeds, count, samples)
            rows.append({"preference": preference, "assumed_rate": rate, **_row(design)})
    return pd.DataFrame(rows)
