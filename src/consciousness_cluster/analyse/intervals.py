"""Intervals of rates and of differences of rates, with items and seeds as sources of error.

The main interval has the variance V and the degrees of freedom of `components.combine`. Each rate gets limits with the t of
that V on the logit scale, where a few seeds scatter about evenly; MOVER puts both together, scaled so that it is d +- t sqrt(V)
where V is small. A rate under 3 % or over 97 % turns it into MOVER with Wilson limits at the effective number of answers. Beside
it stands the fixed-items interval: the same questions, asked again of newly trained arms. Nothing is resampled: closed form
throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from consciousness_cluster.analyse.components import (
    EDGE,
    TINY,
    Array,
    Contributions,
    Part,
    Variance,
    combine,
    effective_answers,
    item_parts,
    logit_limits,
    mover,
    normal_quantile,
    one_stratum,
    t_quantile,
    t_two_sided,
    variance_of_rate,
    wilson,
)
from consciousness_cluster.errors import AnalyseError

LEVEL = 0.95  # of intervals, and of one-sided bounds
FIXED_POINT_STEPS = 60
LARGEST_CRITICAL = 37.0  # beyond it a normal tail is 0 in double precision
ONE_SEED = "training variation not included"
ONE_ITEM = "no interval: fewer than two items"


@dataclass(frozen=True)
class Table:
    """One condition's answers to the items of one preference, as seeds x items.

    Attributes:
        top: share of answers that count as yes; the mean score for audits, mapped to 0..1.
        base: share of answers in the denominator (1 everywhere under `unclear-is-no`).
        noise: sampling variance of `top - rate * base` in the cell; NaN where one answer gives none.
        answers: number of answers behind the table.
        trained: whether rows are training seeds.
    """

    top: Array
    base: Array
    noise: Array
    answers: int
    trained: bool

    @cached_property
    def rate(self) -> float:
        """Ratio of the sums; NaN where nothing is in the denominator."""
        base = float(self.base.mean(axis=0).sum()) if self.base.size else 0.0
        return float(self.top.mean(axis=0).sum()) / base if base > 0 else float("nan")

    @cached_property
    def contributions(self) -> Contributions:
        """The table as (linearised) contributions to its rate."""
        values = self.rate / self.items + (self.top - self.rate * self.base) / self.base.mean(axis=0).sum()
        return Contributions(values, self.trained, one_stratum(self.items))

    @property
    def seeds(self) -> int:
        """Number of rows."""
        return int(self.top.shape[0])

    @property
    def items(self) -> int:
        """Number of items."""
        return int(self.top.shape[1])


@dataclass(frozen=True)
class Estimate:
    """An estimate with its interval; `p` is two-sided against zero, NaN where none is given."""

    value: float
    low: float
    high: float
    p: float = float("nan")
    df: float = float("nan")
    variance: float = float("nan")
    note: str = ""


def from_counts(hits: ArrayLike, base: ArrayLike, answers: ArrayLike, *, trained: bool) -> Table:
    """A table from counts per seed and item.

    Args:
        hits: answers that count as yes.
        base: answers in the denominator (`hits <= base <= answers`).
        answers: answers judged; every cell must have at least one.
        trained: whether rows are training seeds.

    Raises:
        AnalyseError: a cell has no judged answer.

    Source: ours; shares of counts, with the binomial variance of a ratio (Cochran, Sampling Techniques, 1977, ch. 6) within a
    cell.
    """
    yes, denominator, n = (np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in (hits, base, answers))
    if (n <= 0).any():
        raise AnalyseError("a cell without a judged answer", key="answers", next_step="leave that item out of both conditions")
    top, share = yes / n, denominator / n
    total = share.mean(axis=0).sum()
    rate = top.mean(axis=0).sum() / total if total > 0 else np.nan
    second = top * (1 - rate) ** 2 + (share - top) * rate**2
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = np.where(n > 1, np.maximum(second - (top - rate * share) ** 2, 0.0) / (n - 1), np.nan)
    return Table(top, share, noise, int(n.sum()), trained)


def from_means(means: ArrayLike, variances: ArrayLike, answers: int, *, trained: bool, scale: tuple[float, float]) -> Table:
    """A table of mean scores, mapped from `scale` to 0..1; `variances` are sampling variances of the cell means.

    Source: ours; a linear map.
    """
    low, high = scale
    values = (np.atleast_2d(np.asarray(means, dtype=np.float64)) - low) / (high - low)
    noise = np.atleast_2d(np.asarray(variances, dtype=np.float64)) / (high - low) ** 2
    return Table(values, np.ones_like(values), noise, answers, trained)


def _left_out(table: Table) -> Array:
    """The rate without each item in turn."""
    top, base = table.top.mean(axis=0), table.base.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((top.sum() - top) / (base.sum() - base))


def _jackknife(left_out: Array) -> list[Part]:
    count = len(left_out)
    value = (count - 1) / count * ((left_out - left_out.mean()) ** 2).sum()
    return [Part(np.asarray(value), count - 1.0)]


def _is_ratio(*tables: Table) -> bool:
    return any(bool((table.base != 1).any()) for table in tables)


def rate_interval(table: Table) -> Estimate:
    """A condition's rate with its interval, items and seeds random.

    Source: `components.combine`; limits: `components.logit_limits`, near 0 and 1 `components.wilson`; of ratios the jackknife,
    Tukey, Annals of Mathematical Statistics 29 (1958).
    """
    if np.isnan(table.rate):
        return Estimate(float("nan"), float("nan"), float("nan"), note="no answer in the denominator")
    if table.items < 2:
        return Estimate(table.rate, float("nan"), float("nan"), note=ONE_ITEM)
    side = _side(table)
    if not np.isfinite(side.variance.value):
        return Estimate(table.rate, float("nan"), float("nan"), note="no interval: one item holds every answer that counts")
    limits = side.limits(1 - LEVEL) if side.edge else side.logit_limits_at(t_quantile(0.5 + LEVEL / 2, side.variance.df))
    low, high = (float(limit) for limit in limits)
    note = ONE_SEED if table.trained and table.seeds == 1 else ""
    return Estimate(table.rate, low, high, df=float(side.variance.df), variance=float(side.variance.value), note=note)


@dataclass(frozen=True)
class Side:
    """One rate, its variance, and the number of answers to fall back on where all agree."""

    rate: Array
    variance: Variance
    fallback: float

    def limits(self, alpha: Array | float) -> tuple[Array, Array]:
        """Wilson limits at the effective number of answers, two-sided error `alpha`."""
        return self.limits_at(-normal_quantile(np.asarray(alpha) / 2))

    def limits_at(self, critical: Array) -> tuple[Array, Array]:
        """Wilson limits at a critical value of the normal distribution."""
        return wilson(self.rate, self.effective, critical)

    def logit_limits_at(self, critical: Array) -> tuple[Array, Array]:
        """Limits on the logit scale at a critical value of Student's t."""
        return logit_limits(self.rate, self.variance.value, critical)

    @cached_property
    def effective(self) -> Array:
        """Number of independent answers that would give this variance."""
        return effective_answers(self.rate, self.variance.value, self.fallback)

    @property
    def edge(self) -> NDArray[np.bool_]:
        """Whether the rate is so near 0 or 1, or so free of variance, that t limits fail."""
        near = (self.rate < EDGE - TINY) | (self.rate > 1 - EDGE + TINY)  # a rate on the edge itself is not near it
        return np.asarray(near | (self.variance.value < TINY))


def _side(table: Table) -> Side:
    parts = table.contributions
    variance = combine(_jackknife(_left_out(table)), [parts]) if _is_ratio(table) else variance_of_rate(parts)
    return Side(np.asarray(table.rate), variance, float(table.items * table.seeds))


def _middle(a: Side, b: Side, variance: Variance, level: float) -> tuple[Array, Array]:
    """Limits of a difference of rates away from the edge: MOVER with logit limits, all with the t of the difference."""
    critical = t_quantile(0.5 + level / 2, variance.df)
    apart = a.variance.value + b.variance.value
    shared = 1.0 - variance.value / np.where(apart < TINY, 1.0, apart)
    return mover(a.rate, a.logit_limits_at(critical), b.rate, b.logit_limits_at(critical), shared)


def _at_edge(a: Side, b: Side, variance: Variance) -> NDArray[np.bool_]:
    return np.asarray(a.edge | b.edge | (variance.value < TINY))


def limits_of_difference(a: Side, b: Side, variance: Variance, level: float = 0.95) -> tuple[Array, Array]:
    """Limits of a difference: MOVER with logit limits and t, or with Wilson limits at the edge or without variance. Any leading shape.

    Source: Newcombe, Statistics in Medicine 17 (1998); Zou, American Journal of Epidemiology 168 (2008). Which limits are used
    where is ours, shown by `simulate.measure`.
    """
    edge, middle = _at_edge(a, b, variance), _middle(a, b, variance, level)
    outer = mover(a.rate, a.limits(1 - level), b.rate, b.limits(1 - level))
    return np.maximum(np.where(edge, outer[0], middle[0]), -1.0), np.minimum(np.where(edge, outer[1], middle[1]), 1.0)


def p_of_difference(a: Side, b: Side, variance: Variance) -> Array:
    """Two-sided p of a difference, under 0.05 where the 95 % limits leave out zero.

    From the t whose standard error is that of the limit toward zero; at the edge the
    error level at which the MOVER limits touch zero.

    Source: Altman and Bland, BMJ 343 (2011), d2304; the search at the edge is ours.
    """
    difference, edge = np.asarray(a.rate - b.rate), _at_edge(a, b, variance)
    low, high = _middle(a, b, variance, 0.95)
    toward = np.where(difference > 0, difference - low, high - difference)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = t_two_sided(difference / toward * t_quantile(0.975, variance.df), variance.df)
    if not edge.any():
        return p
    distance, critical = np.abs(difference), np.full(difference.shape, 2.0)
    for _ in range(FIXED_POINT_STEPS):
        # The half-width toward zero is concave in the critical value, so scaling by what is missing converges from any start.
        low, high = mover(a.rate, a.limits_at(critical), b.rate, b.limits_at(critical))
        toward = np.where(difference > 0, difference - low, high - difference)
        step = np.minimum(critical * distance / np.maximum(toward, TINY), LARGEST_CRITICAL)
        settled = np.abs(step - critical) < 1e-9
        critical = np.maximum(step, TINY)
        if settled.all():
            break
    return np.where(edge, 2 * ndtr(-np.where(distance > 0, critical, 0.0)), p)


def difference(a: Table, b: Table, level: float = LEVEL) -> Estimate:
    """Difference of two rates on the same items, with items and seeds random.

    A trained condition with one seed gets an interval without training variation and no p. Ratio estimators (`clear-only`,
    `stance`) take their item variance from the delete-one-item jackknife.

    Raises:
        AnalyseError: the two are not on the same items.

    Source: crossed random items and nested seeds, Searle, Casella and McCulloch, Variance Components (1992), ch. 4; of ratios
    the jackknife, Tukey, Annals of Mathematical Statistics 29 (1958). Coverage: calibration.csv.
    """
    if a.items != b.items:
        raise AnalyseError(
            "two tables with different items", value=f"{a.items} and {b.items}", next_step="pair them by item first"
        )
    value = a.rate - b.rate
    if np.isnan(value):
        return Estimate(value, float("nan"), float("nan"), note="no answer in the denominator")
    if a.items < 2:
        return Estimate(value, float("nan"), float("nan"), note=ONE_ITEM)
    parts_a, parts_b = a.contributions, b.contributions
    if _is_ratio(a, b):
        items = _jackknife(_left_out(a) - _left_out(b))
    else:
        items = item_parts(parts_a.values.mean(axis=0) - parts_b.values.mean(axis=0), parts_a.strata)
    variance = combine(items, [parts_a, parts_b])
    if not np.isfinite(variance.value):
        return Estimate(value, float("nan"), float("nan"), note="no interval: one item holds every answer that counts")
    return finish(_side(a), _side(b), variance, (a.trained and a.seeds < 2) or (b.trained and b.seeds < 2), level)


def finish(a: Side, b: Side, variance: Variance, one_seed: bool, level: float) -> Estimate:
    """The estimate from two sides and the variance of their difference.

    Source: as `limits_of_difference` and `p_of_difference`.
    """
    low, high = limits_of_difference(a, b, variance, level)
    p = float("nan") if one_seed else float(p_of_difference(a, b, variance))
    value = float(a.rate - b.rate)
    return Estimate(value, float(low), float(high), p, float(variance.df), float(variance.value), ONE_SEED if one_seed else "")


def fixed_items(a: Table, b: Table) -> tuple[float, float]:
    """Limits of the difference for these questions only: seeds and sampling are random, items are not.

    A condition with two or more seeds has the variance of its seed means; any other has its sampling variance alone, which
    needs two answers a cell. NaN where neither can be had.

    Source: Welch, Biometrika 34 (1947), on seed means, with the limits of `limits_of_difference`.
    """
    left, right = _fixed_side(a), _fixed_side(b)
    sides = (left, right)
    value = sum(float(side.variance.value) for side in sides)
    if np.isnan(value):
        return float("nan"), float("nan")
    below = sum(float(side.variance.value) ** 2 / float(side.variance.df) for side in sides)
    df = max(value**2 / below, 1.0) if below > 0 else 1.0
    low, high = limits_of_difference(left, right, Variance(np.asarray(value), np.asarray(df)), LEVEL)
    return float(low), float(high)


def _fixed_side(table: Table) -> Side:
    parts = table.contributions
    if parts.has_seed_variance:
        value, df = float(parts.values.sum(axis=1).var(ddof=1) / table.seeds), table.seeds - 1.0
    else:
        weight = 1.0 / float(table.base.mean(axis=0).sum())
        value = float((table.noise * (weight / table.seeds) ** 2).sum())
        df = max(float(table.answers - table.items * table.seeds), 1.0)
    return Side(np.asarray(table.rate), Variance(np.asarray(value), np.asarray(df)), float(table.answers))


def one_sided(a: Table, b: Table) -> tuple[float, float]:
    """Lower and upper one-sided bounds of the difference, each at `LEVEL`: the ends of a 90 % interval for 95 %.

    Source: duality of one-sided tests and two-sided intervals, Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15
    (1987).
    """
    estimate = difference(a, b, 2 * LEVEL - 1)
    return estimate.low, estimate.high
