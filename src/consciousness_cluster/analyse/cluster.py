"""Is it a cluster? Whether preferences move together, along how many dimensions, and whose profile an arm's is nearest to.

Number of dimensions: components of the covariance that exceed the 95th percentile of the same component when every
preference is permuted by itself (Horn's parallel analysis, Psychometrika 30, 1965, with permutations as its null).
Participation ratio: (sum of eigenvalues)^2 / sum of squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from consciousness_cluster.analyse.cells import Block, Key, paired
from consciousness_cluster.analyse.components import TINY, Array, normal_quantile
from consciousness_cluster.analyse.composite import joined
from consciousness_cluster.analyse.intervals import Estimate, Table

PERMUTATIONS = 999
SEED = 20260413  # any fixed number: the test must give the same verdict every time
LEAST_ARMS = 12
NAN = float("nan")


@dataclass(frozen=True)
class Profiles:
    """Two conditions' rates over the same preferences, with the tables behind them."""

    preferences: tuple[str, ...]
    items: tuple[tuple[str, ...], ...]
    a: tuple[Table, ...]
    b: tuple[Table, ...]

    def rates(self) -> tuple[Array, Array]:
        """The two profiles."""
        return np.array([table.rate for table in self.a]), np.array([table.rate for table in self.b])


def profiles(blocks: dict[Key, Block], a: tuple[str, str], b: tuple[str, str]) -> Profiles:
    """Profiles of two model x condition pairs over the preferences (type `preference`) both were asked."""
    found: list[tuple[str, tuple[str, ...], Table, Table]] = []
    for (model, condition, preference), block in blocks.items():
        other = blocks.get((*b, preference))
        if (model, condition) != a or block.type != "preference" or other is None:
            continue
        if block.complete("unclear-is-no") & other.complete("unclear-is-no"):
            left, right, items = paired(block, other, "unclear-is-no")
            found.append((preference, items, left, right))
    names, items_of, lefts, rights = zip(*found, strict=True) if found else ((), (), (), ())
    return Profiles(tuple(names), tuple(items_of), tuple(lefts), tuple(rights))


def correlate(x: Array, y: Array) -> Array:
    """Pearson correlation along the last axis; NaN where a side does not vary."""
    x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((x * y).sum(axis=-1) / np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1)))


def profile_correlation(pair: Profiles, level: float = 0.95) -> Estimate:
    """Correlation of two profiles, with an interval over items.

    Delete-one-item jackknife of Fisher's z, items drawn within preferences. A shared item is left out of all its preferences
    at once. Training seeds are taken as given.
    """
    x, y = pair.rates()
    return _correlation(x, y, pair.items, (pair.a, pair.b), level)


def fixed_correlation(
    tables: Sequence[Table], items: Sequence[tuple[str, ...]], values: Array, level: float = 0.95
) -> Estimate:
    """Correlation of a profile with given values, with an interval over the profile's items."""
    return _correlation(np.array([table.rate for table in tables]), values, items, (tables, None), level)


def _correlation(
    x: Array, y: Array, items: Sequence[tuple[str, ...]], sides: tuple[Sequence[Table], Sequence[Table] | None], level: float
) -> Estimate:
    if len(x) < 4:
        return Estimate(NAN, NAN, NAN, note="fewer than four preferences in common")
    value = float(correlate(x, y))
    if np.isnan(value) or abs(value) > 1 - 1e-9:
        return Estimate(value, NAN, NAN, note="no interval: a profile does not vary, or the two are equal")
    variance = 0.0
    for stratum in joined(items):
        names = sorted(stratum)
        left = [_without(x, sides[0], items, names), y[None, :] if sides[1] is None else _without(y, sides[1], items, names)]
        with np.errstate(divide="ignore"):
            z = np.arctanh(np.clip(correlate(left[0], left[1]), -1 + 1e-12, 1 - 1e-12))
        variance += (len(z) - 1) / len(z) * float(((z - z.mean()) ** 2).sum())
    if not variance > 0:
        return Estimate(value, NAN, NAN, note="no interval: one item a preference")
    half = float(normal_quantile(0.5 + level / 2)) * np.sqrt(variance)
    low, high = np.tanh(np.arctanh(value) - half), np.tanh(np.arctanh(value) + half)
    return Estimate(value, float(low), float(high), variance=variance)


def _without(rates: Array, tables: Sequence[Table], items: Sequence[tuple[str, ...]], left_out: Sequence[str]) -> Array:
    """The profile without each of the named items in turn (rows)."""
    profile = np.tile(rates, (len(left_out), 1))
    for column, (table, names) in enumerate(zip(tables, items, strict=True)):
        means = table.top.mean(axis=0)
        place = {name: index for index, name in enumerate(names)}
        for row, item in enumerate(left_out):
            if item in place and len(names) > 1:
                profile[row, column] = (means.sum() - means[place[item]]) / (len(means) - 1)
    return profile


def reliability(tables: Sequence[Table]) -> float:
    """Share of a profile's variance that is not item error (0 to 1): its correlation with itself on other items."""
    rates = np.array([table.rate for table in tables])
    error = np.mean([table.top.mean(axis=0).var(ddof=1) / table.items if table.items > 1 else 0.0 for table in tables])
    total = rates.var(ddof=1)
    return float(max(1 - error / total, 0.0)) if total > 0 else 0.0


def arm_matrix(rates: pd.DataFrame, types: dict[str, str]) -> pd.DataFrame:
    """Rates (0 to 1) of every arm (rows: model, condition, seed) on every preference that all arms were asked."""
    used = rates[rates["preference"].map(types) == "preference"]
    keys = [used["model"], used["condition"], used["seed"].astype("string").fillna("")]
    wide = used.groupby([*keys, used["preference"]], observed=True)["rate"].first().unstack()
    return wide.dropna(axis=1)


@dataclass(frozen=True)
class Dimensions:
    """How an arms x preferences matrix spreads over dimensions."""

    arms: int
    share: float  # of the variance along the first component
    share_low: float
    share_high: float
    p: float  # of that share under the permutation null
    dimensions: int
    participation: float
    correlation: float  # mean over pairs of preferences
    correlation_p: float


def dimensions(matrix: pd.DataFrame, permutations: int = PERMUTATIONS) -> Dimensions:
    """Dimensions of the arms' profiles, centred within models; the null permutes each preference over a model's arms."""
    models = matrix.index.get_level_values(0).to_numpy()
    groups = [np.flatnonzero(models == model) for model in dict.fromkeys(models)]
    values = _centred(matrix.to_numpy(dtype=np.float64), groups)
    observed = _spectrum(values)
    if observed.sum() <= TINY:
        return Dimensions(len(values), NAN, NAN, NAN, 1.0, 0, NAN, NAN, 1.0)
    shuffled = _permuted(values, groups, permutations)
    null, null_correlation = _spectrum(shuffled), _mean_correlation(shuffled)
    share, mean = float(observed[0] / observed.sum()), float(_mean_correlation(values))
    above = observed > np.quantile(null, 0.95, axis=0)
    low, high = _share_interval(values, groups, share)
    return Dimensions(
        arms=len(values),
        share=share,
        share_low=low,
        share_high=high,
        p=float((1 + (null[:, 0] >= observed[0] - 1e-12).sum()) / (permutations + 1)),
        dimensions=int(np.argmin(above)) if not above.all() else len(above),
        participation=float(observed.sum() ** 2 / (observed**2).sum()),
        correlation=mean,
        correlation_p=NAN if np.isnan(mean) else float((1 + (null_correlation >= mean - 1e-12).sum()) / (permutations + 1)),
    )


def _centred(values: Array, groups: Sequence[Any]) -> Array:
    centred = values.copy()
    for group in groups:
        centred[group] -= centred[group].mean(axis=0)
    return centred


def _spectrum(values: Array) -> Array:
    """Squared singular values, largest first, of the last two axes."""
    wide = values if values.shape[-2] <= values.shape[-1] else np.swapaxes(values, -1, -2)
    return np.asarray(np.maximum(np.linalg.eigvalsh(wide @ np.swapaxes(wide, -1, -2))[..., ::-1], 0.0))


def _mean_correlation(values: Array) -> Array:
    """Mean correlation over pairs of the columns that vary (all centred), from the variance of their standardised sum."""
    spread = values.std(axis=-2, keepdims=True)
    moving = spread > 1e-12
    standard = np.where(moving, values / np.where(moving, spread, 1.0), 0.0)
    count = moving.sum(axis=(-2, -1))
    total = (standard.sum(axis=-1) ** 2).mean(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(count > 1, (total - count) / (count * (count - 1.0)), NAN))


def _permuted(values: Array, groups: Sequence[Any], permutations: int) -> Array:
    rng = np.random.default_rng(SEED)
    shuffled = np.repeat(values[None], permutations, axis=0)
    for group in groups:
        shuffled[:, group] = rng.permuted(shuffled[:, group], axis=1)
    return shuffled


def _share_interval(values: Array, groups: Sequence[Any], share: float) -> tuple[float, float]:
    """Delete-one-arm jackknife on the logit of the share, 95 %."""
    logits = []
    for arm in range(len(values)):
        rest = [np.flatnonzero(np.delete(np.isin(np.arange(len(values)), group), arm)) for group in groups]
        squares = _spectrum(_centred(np.delete(values, arm, axis=0), [group for group in rest if len(group)]))
        part = np.clip(squares[0] / squares.sum(), 1e-9, 1 - 1e-9) if squares.sum() > 0 else 0.5
        logits.append(np.log(part / (1 - part)))
    spread = np.array(logits)
    half = 1.96 * np.sqrt((len(spread) - 1) / len(spread) * ((spread - spread.mean()) ** 2).sum())
    centre = np.log(np.clip(share, 1e-9, 1 - 1e-9) / np.clip(1 - share, 1e-9, 1))
    low, high = 1 / (1 + np.exp(-(centre - half))), 1 / (1 + np.exp(-(centre + half)))
    return float(low), float(high)


@cache
def published() -> pd.DataFrame:
    """The published values: evaluation, model, condition, preference, value, ci95_half_width, unit, source."""
    with (files(__package__) / "published.csv").open(encoding="utf-8") as text:
        return pd.read_csv(text)
