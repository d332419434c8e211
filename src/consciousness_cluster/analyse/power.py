"""Power: the smallest effect a study can find, and what more seeds, items or answers would buy. Closed form.

Variances are on the scale of rates. V = items / I + sum over conditions of seeds / S + (rest + within / n) / (S I): the same
components as the interval's, with its degrees of freedom; smallest effect = (t for the test + t for the power) sqrt(V).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from consciousness_cluster.analyse.cells import Block, Key, paired
from consciousness_cluster.analyse.components import residual_parts, t_quantile
from consciousness_cluster.analyse.intervals import Table
from consciousness_cluster.analyse.simulate import Spread

POWER = 0.8
ERROR = 0.05


@dataclass(frozen=True)
class Side:
    """Variances of one condition: of its seeds, of seed by item, and of a single answer; `seeds` is None where untrained."""

    seed: float
    rest: float
    within: float
    seeds: int | None

    @property
    def rows(self) -> int:
        """Arms asked."""
        return 1 if self.seeds is None else self.seeds


@dataclass(frozen=True)
class Size:
    """A comparison: variance of the items' differences, the two sides, items, and answers an item and arm."""

    item: float
    a: Side
    b: Side
    items: int
    samples: float

    @property
    def answers(self) -> int:
        """Answers of both conditions."""
        return round(self.items * self.samples * (self.a.rows + self.b.rows))


def smallest_effect(size: Size, power: float = POWER, error: float = ERROR) -> float:
    """Smallest true difference of rates (0 to 1) found with this power at a two-sided error; NaN with one training seed or without variation."""
    if size.items < 2 or any(side.seeds == 1 for side in (size.a, size.b)):
        return float("nan")
    v_items, v_seeds, v_rest, below = size.item / size.items, 0.0, 0.0, 0.0
    for side in (size.a, size.b):
        rest = (side.rest + side.within / size.samples) / (side.rows * size.items)
        v_items += rest
        if side.seeds is not None:
            seeds = side.seed / side.seeds + rest
            v_seeds, v_rest = v_seeds + seeds, v_rest + rest
            below += seeds**2 / (side.seeds - 1) + rest**2 / ((side.seeds - 1) * (size.items - 1))
    variance = max(v_items, v_seeds, v_items + v_seeds - v_rest)
    if variance <= 0:
        return float("nan")  # answers without any variation say nothing on what could be found
    df = np.asarray(max(variance**2 / (below + v_items**2 / (size.items - 1)), 1.0))
    return float((t_quantile(1 - error / 2, df) + t_quantile(power, df)) * np.sqrt(variance))


def size_of(a: Table, b: Table) -> Size:
    """Variance components of a finished comparison (negative estimates are 0)."""
    sides, noise_of_items = [], 0.0
    for table in (a, b):
        samples = table.answers / (table.items * table.seeds)
        noise = float(np.nanmean(table.noise)) if np.isfinite(table.noise).any() else table.rate * (1 - table.rate) / samples
        rest = seed = 0.0
        if table.contributions.has_seed_variance:
            left = sum(float(part.value) for part in residual_parts(table.contributions)) * table.items * table.seeds
            rest = max(left - noise, 0.0)
            seed = max(float(table.top.mean(axis=1).var(ddof=1)) - left / table.items, 0.0)
        sides.append(Side(seed, rest, noise * samples, table.seeds if table.trained else None))
        noise_of_items += (rest + noise) / table.seeds
    differences = a.top.mean(axis=0) - b.top.mean(axis=0)
    item = max(float(differences.var(ddof=1)) - noise_of_items, 0.0) if a.items > 1 else 0.0
    return Size(item, sides[0], sides[1], a.items, (a.answers + b.answers) / (a.items * (a.seeds + b.seeds)))


def assumed(rate: float, spread: Spread, seeds: int | None, control_seeds: int | None, items: int, samples: float) -> Size:
    """Components for a planned study near a rate, from logit standard deviations (delta method: times rate (1 - rate))."""
    slope = (rate * (1 - rate)) ** 2
    sides = [
        Side(0.0 if n is None else spread.seed**2 * slope, 0.0 if n is None else spread.rest**2 * slope, rate * (1 - rate), n)
        for n in (seeds, control_seeds)
    ]
    return Size(2 * spread.own**2 * slope, sides[0], sides[1], items, samples)


def more(size: Size) -> dict[str, Size]:
    """The same study with twice the seeds, twice the items, or twice the answers an item."""
    doubled = [replace(side, seeds=None if side.seeds is None else 2 * side.seeds) for side in (size.a, size.b)]
    return {
        "seeds": replace(size, a=doubled[0], b=doubled[1]),
        "items": replace(size, items=2 * size.items),
        "samples": replace(size, samples=2 * size.samples),
    }


def _row(size: Size) -> dict[str, Any]:
    row: dict[str, Any] = {
        "seeds": size.a.seeds or 0,
        "control_seeds": size.b.seeds or 0,
        "items": size.items,
        "samples": size.samples,
        "answers": size.answers,
        "minimum_effect": 100 * smallest_effect(size),
    }
    for name, larger in more(size).items():
        row[f"minimum_effect_twice_{name}"] = 100 * smallest_effect(larger)
        row[f"answers_twice_{name}"] = larger.answers
    return row | {
        "item_variance": size.item,
        "seed_variance": size.a.seed,
        "rest_variance": size.a.rest,
        "answer_variance": size.a.within,
    }


def power(blocks: dict[Key, Block], focus: str, controls: Sequence[str]) -> pd.DataFrame:
    """Smallest effect (points, 80 % power, two-sided 5 %, unadjusted) of the focus per model, preference and control.

    Beside it what doubling the seeds, the items or the answers an item would give, and how many answers that takes.
    """
    rows = []
    for (model, condition, preference), block in blocks.items():
        for control in controls:
            other = blocks.get((model, control, preference))
            if condition != focus or control == focus or other is None or block.type != "preference":
                continue
            if block.complete("unclear-is-no") & other.complete("unclear-is-no"):
                left, right, _ = paired(block, other, "unclear-is-no")
                rows.append({"model": model, "preference": preference, "control": control, **_row(size_of(left, right))})
    return pd.DataFrame(rows)


def planned_power(
    items: Mapping[str, int],
    seeds: int | None,
    control_seeds: int | None,
    samples: int,
    spread: Spread,
    rates: Sequence[float] = (0.1, 0.3),
) -> pd.DataFrame:
    """The same table for a study not yet run: items per preference, and variances assumed near each of some rates."""
    rows = []
    for preference, count in items.items():
        for rate in rates:
            size = assumed(rate, spread, seeds, control_seeds, count, samples)
            rows.append({"preference": preference, "assumed_rate": rate, **_row(size)})
    return pd.DataFrame(rows)
