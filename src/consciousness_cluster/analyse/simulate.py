"""Simulated studies, to show how often each method's 95 % interval holds the truth.

A study has items that both conditions share, seeds nested in each trained condition, and yes/no answers. On the logit scale
a condition's answer to an item is its own level, plus the item, plus the item's reaction to the condition, plus the seed, plus
the seed's reaction to the item; the level is set so that the rate over all items and seeds is the cell's. Beside our interval
stand the pooled one of the authors' code, the paired t over items, Welch on seed means, and a bootstrap of seeds and items.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd
from numpy.random import Generator
from scipy.optimize import brentq
from scipy.special import expit

from consciousness_cluster.analyse.calibration import in_region
from consciousness_cluster.analyse.components import (
    Array,
    Contributions,
    one_stratum,
    t_quantile,
    variance_of_difference,
    variance_of_rate,
)
from consciousness_cluster.analyse.intervals import Side, limits_of_difference

BOOTSTRAPS = 300
NORMAL_975 = 1.959963984540054
# A logit so far out that no answer differs: the rates 0 and 1.
NEVER = 60.0


@dataclass(frozen=True)
class Spread:
    """Standard deviations on the logit scale."""

    item: float
    own: float
    seed: float
    rest: float


@dataclass(frozen=True)
class Cell:
    """One kind of study; rates are true shares, seeds 0 where nothing is trained, samples are answers an item and arm."""

    variance: str
    rate_a: float
    rate_b: float
    seeds_a: int
    seeds_b: int
    items: int
    samples: int


def _file() -> dict[str, object]:
    return tomllib.loads((files(__package__) / "calibration.toml").read_text(encoding="utf-8"))


def spreads() -> dict[str, Spread]:
    """The named variances of `calibration.toml`.

    Source: ours; set so that the other methods cover as they did in data of this shape (benchmarks/calibrate.md).
    """
    table = _file()["variances"]
    assert isinstance(table, dict)
    return {name: Spread(**values) for name, values in table.items()}


def grid() -> list[Cell]:
    """Every cell of `calibration.toml`.

    Source: ours.
    """
    table = _file()["grid"]
    assert isinstance(table, dict)
    return [
        Cell(size["variance"], a, b, seeds_a, seeds_b, items, samples)
        for size in table["sizes"]
        for seeds_a, seeds_b in size["seeds"]
        for items, samples in size["items_samples"]
        for a, b in table["rates"]
    ]


@cache
def level(rate: float, deviation: float) -> float:
    """The logit whose mean probability under normal noise of this standard deviation is `rate`.

    Source: Gauss-Hermite quadrature, Abramowitz and Stegun, Handbook of Mathematical Functions (1964), ch. 25; root by Brent,
    Algorithms for Minimization without Derivatives (1973), ch. 4.
    """
    if rate <= 0 or rate >= 1:
        return -NEVER if rate <= 0 else NEVER
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    return float(brentq(lambda logit: float((weights * expit(logit + deviation * points)).sum()) - rate, -40, 40))


def studies(cell: Cell, spread: Spread, repetitions: int, rng: Generator) -> tuple[Array, Array]:
    """Shares of yes, `repetitions x seeds x items`, of both conditions (one row where nothing is trained).

    Source: ours; a logistic-normal model, Agresti, Categorical Data Analysis (2002), ch. 12.
    """
    shared = rng.normal(0, spread.item, (repetitions, 1, cell.items))
    tables = []
    for rate, seeds in ((cell.rate_a, cell.seeds_a), (cell.rate_b, cell.seeds_b)):
        logit = shared + rng.normal(0, spread.own, shared.shape)
        variance = spread.item**2 + spread.own**2
        if seeds:
            variance += spread.seed**2 + spread.rest**2
            logit = (
                logit
                + rng.normal(0, spread.seed, (repetitions, seeds, 1))
                + rng.normal(0, spread.rest, (repetitions, seeds, cell.items))
            )
        chance = expit(level(rate, variance**0.5) + logit)
        tables.append(rng.binomial(cell.samples, chance) / cell.samples)
    return tables[0], tables[1]


type Limits = tuple[Array, Array]


def crossed(a: Array, b: Array, cell: Cell) -> Limits:
    """Our interval.

    Source: `intervals.limits_of_difference`.
    """
    strata = one_stratum(cell.items)
    tables = [Contributions(y / cell.items, seeds > 0, strata) for y, seeds in ((a, cell.seeds_a), (b, cell.seeds_b))]
    sides = [Side(table.rate, variance_of_rate(table), float(cell.items * table.seeds)) for table in tables]
    return limits_of_difference(sides[0], sides[1], variance_of_difference(tables[0], tables[1]))


def pooled(a: Array, b: Array, cell: Cell) -> Limits:
    """Every answer independent, as in the authors' code.

    Source: the paper's code; Wald's interval of two proportions, Agresti, Categorical Data Analysis (2002), ch. 3.
    """
    centre, variance = np.zeros(len(a)), np.zeros(len(a))
    for sign, y in ((1, a), (-1, b)):
        rate = y.mean(axis=(1, 2))
        centre = centre + sign * rate
        variance = variance + rate * (1 - rate) / (y[0].size * cell.samples)
    half = NORMAL_975 * np.sqrt(variance)
    return centre - half, centre + half


def paired_t(a: Array, b: Array, cell: Cell) -> Limits:
    """Items random, seeds as given.

    Source: Student, Biometrika 6 (1908).
    """
    differences = a.mean(axis=1) - b.mean(axis=1)
    half = t_quantile(0.975, np.asarray(cell.items - 1.0)) * differences.std(axis=1, ddof=1) / np.sqrt(cell.items)
    centre = differences.mean(axis=1)
    return centre - half, centre + half


def welch(a: Array, b: Array, cell: Cell) -> Limits:
    """Seeds random, items as given; a condition with fewer than two seeds counts as known.

    Source: Welch, Biometrika 34 (1947).
    """
    total, below = np.zeros(len(a)), np.zeros(len(a))
    for y in (a, b):
        if y.shape[1] > 1:
            part = y.mean(axis=2).var(axis=1, ddof=1) / y.shape[1]
            total, below = total + part, below + part**2 / (y.shape[1] - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.where(below > 0, total**2 / below, 1.0)
    half = t_quantile(0.975, np.maximum(df, 1.0)) * np.sqrt(total)
    centre = a.mean(axis=(1, 2)) - b.mean(axis=(1, 2))
    return centre - half, centre + half


def bootstrap(a: Array, b: Array, cell: Cell, rng: Generator) -> Limits:
    """Percentiles over resampled items (the same for both) and seeds. One set of resamples serves all repetitions of a cell.

    Source: percentiles: Efron, Annals of Statistics 7 (1979); of two crossed factors: Owen, Annals of Applied Statistics 1
    (2007).
    """
    items = rng.multinomial(cell.items, np.full(cell.items, 1 / cell.items), BOOTSTRAPS) / cell.items
    means = []
    for y in (a, b):
        seeds = rng.multinomial(y.shape[1], np.full(y.shape[1], 1 / y.shape[1]), BOOTSTRAPS) / y.shape[1]
        weights = (seeds[:, :, None] * items[:, None, :]).reshape(BOOTSTRAPS, -1)
        means.append(y.reshape(len(y), -1) @ weights.T)
    drawn = np.sort((means[0] - means[1]).astype(np.float32), axis=1)
    ends = [round(share * (BOOTSTRAPS - 1)) for share in (0.025, 0.975)]
    return drawn[:, ends[0]].astype(np.float64), drawn[:, ends[1]].astype(np.float64)


METHODS: dict[str, Callable[[Array, Array, Cell], Limits]] = {
    "crossed": crossed,
    "pooled": pooled,
    "paired_t": paired_t,
    "welch": welch,
}


def measure(cell: Cell, spread: Spread, repetitions: int, rng: Generator) -> dict[str, float | int | str | bool]:
    """Coverage, mean width and rejections of zero (all per cent) of every method on one cell, with Monte-Carlo errors of ours.

    The Monte-Carlo error of any other share s is sqrt(s (100 - s) / repetitions).

    Source: ours; a Monte Carlo count.
    """
    a, b = studies(cell, spread, repetitions, rng)
    truth = cell.rate_a - cell.rate_b
    row: dict[str, float | int | str | bool] = {**asdict(cell), "repetitions": repetitions}
    row["in_region"] = in_region(cell.rate_a, cell.rate_b, cell.seeds_a, cell.seeds_b, cell.items)
    limits = {name: method(a, b, cell) for name, method in METHODS.items()}
    limits["bootstrap"] = bootstrap(a, b, cell, rng)
    for name, (low, high) in limits.items():
        # 32-bit percentiles and sums of sevenths round: the truth at a limit is held.
        held = (low <= truth + 1e-6) & (high >= truth - 1e-6)
        apart = (low > 1e-6) | (high < -1e-6)
        width = high - low
        row[f"{name}_coverage"] = 100 * float(held.mean())
        row[f"{name}_width"] = 100 * float(width.mean())
        row[f"{name}_rejects"] = 100 * float(apart.mean())
        if name == "crossed":
            for measured, values in (("coverage", held), ("width", width), ("rejects", apart)):
                row[f"crossed_{measured}_error"] = 100 * float(values.std() / np.sqrt(repetitions))
    return row


def calibrate(
    cells: Sequence[Cell], repetitions: int, rng: Generator, progress: Callable[[Iterable[Cell]], Iterable[Cell]] = iter
) -> pd.DataFrame:
    """The calibration table, one row a cell; to publish, 5,000 repetitions or more. `progress` may wrap the cells.

    Source: ours, as `measure`.
    """
    known = spreads()
    return pd.DataFrame([measure(cell, known[cell.variance], repetitions, rng) for cell in progress(cells)])


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """The table in a few rows: by variance, in and outside the calibrated region, and method, over the cells (per cent, points).

    `least`, `median` and `most` are coverages; `nulls_least` and `nulls_most` shares of true nulls rejected; `width` a median.

    Source: ours, as `measure`.
    """
    rows = []
    for (variance, inside), part in table.groupby(["variance", "in_region"], sort=True):
        nulls = part[(part["rate_a"] == part["rate_b"]) & part["rate_a"].between(0, 1, inclusive="neither")]
        for method in (*METHODS, "bootstrap"):
            coverage, rejects = part[f"{method}_coverage"], nulls[f"{method}_rejects"]
            rows.append({
                "variance": variance, "in_region": bool(inside), "cells": len(part), "method": method, "least": coverage.min(),
                "median": coverage.median(), "most": coverage.max(), "nulls_least": rejects.min(), "nulls_most": rejects.max(),
                "width": part[f"{method}_width"].median(),
            })  # fmt: skip
    return pd.DataFrame(rows)


def as_csv(table: pd.DataFrame) -> str:
    """The table as shipped: `calibration.csv`, two decimals.

    Source: ours; bookkeeping, nothing is estimated.
    """
    return table.round(2).to_csv(index=False, lineterminator="\n")
