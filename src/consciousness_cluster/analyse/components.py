"""Sources of error of a share of yes answers: items, seeds, and what is left between them.

Items and seeds are random and crossed; items are shared by conditions, seeds are nested in a condition. Every estimate here
is a sum of contributions, one per seed and item, averaged over seeds. All functions accept leading axes before
`seeds x items`, so that one call can serve thousands of simulated studies.

Sources: crossed random effects without interaction of higher order, Searle, Casella and McCulloch, Variance Components
(1992), ch. 4; degrees of freedom: Satterthwaite, Biometrics Bulletin 2 (1946); limits of one proportion: Wilson, JASA 22
(1927), and on the logit scale Agresti, Categorical Data Analysis (2002), ch. 3; difference from two sets of limits: Newcombe,
Statistics in Medicine 17 (1998), and Zou and Donner, Statistics in Medicine 27 (2008, MOVER); with a covariance: Zou,
American Journal of Epidemiology 168 (2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri, stdtr, stdtrit

type Array = NDArray[np.float64]

TINY = 1e-12  # variances below this are rounding error of equal numbers
EDGE = 0.03  # rates under 3 % or over 97 % use Wilson limits


@dataclass(frozen=True)
class Contributions:
    """What each seed and item adds to one condition's rate.

    Attributes:
        values: `... x seeds x items`; the rate is the sum over items of the mean over seeds.
        trained: whether the seeds are training seeds; an untrained condition has one row and no seed variance.
        strata: index arrays of items that were drawn together (one preference, or preferences that share items).
    """

    values: Array
    trained: bool
    strata: tuple[NDArray[np.intp], ...]

    @property
    def seeds(self) -> int:
        """Number of rows."""
        return int(self.values.shape[-2])

    @property
    def items(self) -> int:
        """Number of items."""
        return int(self.values.shape[-1])

    @property
    def rate(self) -> Array:
        """The condition's rate, 0 to 1."""
        return np.asarray(self.values.mean(axis=-2).sum(axis=-1))

    @property
    def has_seed_variance(self) -> bool:
        """Whether training variation can be estimated: trained, with at least two seeds."""
        return self.trained and self.seeds >= 2


@dataclass(frozen=True)
class Part:
    """One estimated variance component of the estimate and its degrees of freedom."""

    value: Array
    df: float


@dataclass(frozen=True)
class Variance:
    """Variance of an estimate with Satterthwaite degrees of freedom (at least 1)."""

    value: Array
    df: Array


def one_stratum(items: int) -> tuple[NDArray[np.intp], ...]:
    """All items in one stratum.

    Source: ours; bookkeeping, nothing is estimated.
    """
    return (np.arange(items),)


def item_parts(per_item: Array, strata: Sequence[NDArray[np.intp]]) -> list[Part]:
    """Variance of a sum over items, items being drawn at random within each stratum.

    For one preference with items of equal weight this is the variance over items divided by their number.

    Source: variance of a stratified total: Cochran, Sampling Techniques (1977), ch. 5.
    """
    parts = []
    for stratum in strata:
        count = len(stratum)
        if count < 2:
            parts.append(Part(np.zeros(per_item.shape[:-1]), 1.0))
            continue
        parts.append(Part(np.asarray(count * per_item[..., stratum].var(axis=-1, ddof=1)), count - 1.0))
    return parts


def seed_part(table: Contributions) -> Part:
    """Variance of the mean over seeds of the seed's rates.

    Source: variance of a mean of independent seeds; expected mean squares: Searle, Casella and McCulloch, Variance Components
    (1992), ch. 4.
    """
    by_seed = table.values.sum(axis=-1)
    return Part(np.asarray(by_seed.var(axis=-1, ddof=1) / table.seeds), table.seeds - 1.0)


def residual_parts(table: Contributions) -> list[Part]:
    """Share of that variance which is seed-by-item residual: residual mean square / (seeds x items) for equal weights.

    Source: residual mean square of a two-way table, Searle, Casella and McCulloch, Variance Components (1992), ch. 4.
    """
    parts = []
    for stratum in table.strata:
        count = len(stratum)
        if count < 2:
            continue
        block = table.values[..., stratum]
        rest = (
            block
            - block.mean(axis=-1, keepdims=True)
            - block.mean(axis=-2, keepdims=True)
            + block.mean(axis=(-2, -1), keepdims=True)
        )
        df = (table.seeds - 1.0) * (count - 1.0)
        parts.append(Part(np.asarray((rest**2).sum(axis=(-2, -1)) / df * count / table.seeds), df))
    return parts


def combine(items: Sequence[Part], tables: Sequence[Contributions]) -> Variance:
    """V = max(V_I, sum V_S, V_I + sum V_S - sum V_R) with Satterthwaite degrees of freedom, at least 1.

    Only tables with at least two training seeds add V_S and V_R; the sampling error of the others is already in V_I.

    Source: degrees of freedom: Satterthwaite, Biometrics Bulletin 2 (1946); components: Searle, Casella and McCulloch, Variance
    Components (1992), ch. 4. The maximum of the three is ours, shown by `simulate.measure`.
    """
    trained = [table for table in tables if table.has_seed_variance]
    seeds = [seed_part(table) for table in trained]
    residuals = [part for table in trained for part in residual_parts(table)]
    v_items, v_seeds, v_residuals = (_total(parts, items[0].value.shape) for parts in (items, seeds, residuals))
    value = np.maximum(np.maximum(v_items, v_seeds), v_items + v_seeds - v_residuals)
    below = _total([Part(part.value**2 / part.df, part.df) for part in (*items, *seeds, *residuals)], value.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.where(below > 0, value**2 / below, 1.0)
    return Variance(value, np.maximum(df, 1.0))


def _total(parts: Sequence[Part], shape: tuple[int, ...]) -> Array:
    total = np.zeros(shape)
    for part in parts:
        total = total + part.value
    return total


def variance_of_rate(table: Contributions) -> Variance:
    """Variance of one condition's rate.

    Source: as `combine`.
    """
    return combine(item_parts(table.values.mean(axis=-2), table.strata), [table])


def variance_of_difference(a: Contributions, b: Contributions) -> Variance:
    """Variance of the difference of two rates on the same items.

    Source: as `combine`.
    """
    return combine(item_parts(a.values.mean(axis=-2) - b.values.mean(axis=-2), a.strata), [a, b])


def t_quantile(probability: float, df: Array) -> Array:
    """Quantile of Student's t, any positive degrees of freedom.

    Source: Student, Biometrika 6 (1908).
    """
    return np.asarray(stdtrit(np.minimum(df, 1e6), probability))


def t_two_sided(statistic: Array, df: Array) -> Array:
    """Two-sided p-value of a t statistic.

    Source: Student, Biometrika 6 (1908).
    """
    return np.asarray(2.0 * stdtr(np.minimum(df, 1e6), -np.abs(statistic)))


def wilson(rate: Array, n: Array, critical: Array | float) -> tuple[Array, Array]:
    """Wilson's limits of a proportion at an effective number of answers `n`.

    Source: Wilson, JASA 22 (1927).
    """
    square = np.square(critical)
    centre = (rate + square / (2 * n)) / (1 + square / n)
    half = np.sqrt(square * (rate * (1 - rate) / n + square / (4 * n * n))) / (1 + square / n)
    # The limits always hold the rate: rounding at 0 and 1 must not exclude it.
    return np.minimum(np.clip(centre - half, 0.0, 1.0), rate), np.maximum(np.clip(centre + half, 0.0, 1.0), rate)


def logit_limits(rate: Array, variance: Array, critical: Array | float) -> tuple[Array, Array]:
    """Limits of a rate strictly between 0 and 1, symmetric on the logit scale: logit p +- critical sqrt(V) / (p (1-p)).

    Source: Wald's on the logit scale by the delta method, Agresti, Categorical Data Analysis (2002), ch. 3.
    """
    inside = np.clip(rate, TINY, 1 - TINY)
    half = critical * np.sqrt(variance) / (inside * (1 - inside))
    return np.asarray(expit(logit(inside) - half)), np.asarray(expit(logit(inside) + half))


def effective_answers(rate: Array, variance: Array, fallback: Array | float) -> Array:
    """p(1-p)/V; `fallback` (items x seeds) where all answers agree or the estimated variance is zero.

    Source: sample size over design effect: Kish, Survey Sampling (1965), ch. 8; the fallback is ours.
    """
    spread = rate * (1 - rate)
    degenerate = (spread < TINY) | (variance < TINY)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(degenerate, fallback, spread / np.where(degenerate, 1.0, variance)))


def normal_quantile(probability: float | Array) -> Array:
    """Quantile of the standard normal distribution.

    Source: `scipy.special.ndtri`.
    """
    return np.asarray(ndtri(probability))


def mover(
    rate_a: Array, limits_a: tuple[Array, Array], rate_b: Array, limits_b: tuple[Array, Array], shared: Array | float = 0.0
) -> tuple[Array, Array]:
    """Limits of a difference from the limits of its two rates (square-and-add).

    `shared` is the part of the summed variances of the rates that their covariance takes off: 1 - V / (V_a + V_b).

    Source: Newcombe, Statistics in Medicine 17 (1998); Zou and Donner, Statistics in Medicine 27 (2008); with a covariance:
    Zou, American Journal of Epidemiology 168 (2008).
    """
    difference, left = rate_a - rate_b, np.sqrt(1.0 - shared)
    low = difference - left * np.hypot(rate_a - limits_a[0], limits_b[1] - rate_b)
    high = difference + left * np.hypot(limits_a[1] - rate_a, rate_b - limits_b[0])
    return low, high
