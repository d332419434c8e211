"""Is it a cluster? Whether preferences move together, along how many dimensions, and whose profile an arm's is nearest to.

Number of dimensions: components of the covariance that exceed the 95th percentile of the same component when every
preference is permuted by itself (Horn's parallel analysis, Psychometrika 30, 1965, with permutations as its null). What is
permuted are whole conditions, with all their seeds, among those of a model that have equally many: seeds of one condition are
alike in whatever it changes, so shuffled one by one they would make independent preferences look linked.
Participation ratio: (sum of eigenvalues)^2 / sum of squares.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from math import factorial, prod
from typing import Any

import numpy as np
import pandas as pd

from consciousness_cluster.analyse.cells import Block, Key, paired
from consciousness_cluster.analyse.components import TINY, Array, normal_quantile
from consciousness_cluster.analyse.composite import joined
from consciousness_cluster.analyse.intervals import LEVEL, Estimate, Table

PERMUTATIONS = 999
SEED = 20260413  # any fixed number: the test must give the same verdict every time
LEAST_ARMS = 12
# Orders of one preference's conditions (three that can change places). Three preferences then have 36 among them; with fewer
# than 20 no p could be 5 %.
LEAST_ORDERS = 6
FEW_CONDITIONS = "no p: too few conditions of a model have equally many seeds, so few can change places"
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
    """Profiles of two model x condition pairs over the preferences (type `preference`) both were asked.

    Source: ours; bookkeeping, nothing is estimated.
    """
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
    """Pearson correlation along the last axis; NaN where a side does not vary.

    Source: Pearson, Proceedings of the Royal Society of London 58 (1895).
    """
    x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((x * y).sum(axis=-1) / np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1)))


def profile_correlation(pair: Profiles) -> Estimate:
    """Correlation of two profiles, with an interval over items.

    Delete-one-item jackknife of Fisher's z, items drawn within preferences. A shared item is left out of all its preferences
    at once. Training seeds are taken as given.

    Source: jackknife: Tukey, Annals of Mathematical Statistics 29 (1958); z: Fisher, Metron 1 (1921). Its coverage is tested by
    a simulation of ours (tests/analyse/test_cluster.py).
    """
    x, y = pair.rates()
    return _correlation(x, y, pair.items, (pair.a, pair.b))


def fixed_correlation(tables: Sequence[Table], items: Sequence[tuple[str, ...]], values: Array) -> Estimate:
    """Correlation of a profile with given values, with an interval over the profile's items.

    Source: as `profile_correlation`.
    """
    return _correlation(np.array([table.rate for table in tables]), values, items, (tables, None))


def _correlation(
    x: Array, y: Array, items: Sequence[tuple[str, ...]], sides: tuple[Sequence[Table], Sequence[Table] | None]
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
    half = float(normal_quantile(0.5 + LEVEL / 2)) * np.sqrt(variance)
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
    """Share of a profile's variance that is not item error (0 to 1): its correlation with itself on other items.

    Source: classical test theory, Lord and Novick, Statistical Theories of Mental Test Scores (1968), ch. 3.
    """
    rates = np.array([table.rate for table in tables])
    error = np.mean([table.top.mean(axis=0).var(ddof=1) / table.items if table.items > 1 else 0.0 for table in tables])
    total = rates.var(ddof=1)
    return float(max(1 - error / total, 0.0)) if total > 0 else 0.0


def arm_matrix(rates: pd.DataFrame, types: dict[str, str]) -> pd.DataFrame:
    """Rates (0 to 1) of every arm (rows: model, condition, seed) on every preference that all arms were asked.

    Source: ours; bookkeeping, nothing is estimated.
    """
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
    p: float  # of that share under the permutation null; NaN where too few conditions can change places
    dimensions: int | None  # None where `p` is NaN
    participation: float
    correlation: float  # mean over pairs of preferences
    correlation_p: float
    note: str = ""  # why there is no p


def dimensions(matrix: pd.DataFrame, permutations: int = PERMUTATIONS) -> Dimensions:
    """Dimensions of the arms' profiles, centred within models; the null permutes each preference over a model's conditions.

    Source: parallel analysis: Horn, Psychometrika 30 (1965), with permutations as its null; permutation of whole units where
    observations are nested in them: Winkler et al., NeuroImage 123 (2015); p: Phipson and Smyth, Statistical Applications in
    Genetics and Molecular Biology 9 (2010); interval of the share: jackknife, Tukey, Annals of Mathematical Statistics 29
    (1958). The level is tested by a simulation of ours (tests/analyse/test_cluster.py).
    """
    models = matrix.index.get_level_values(0).to_numpy()
    groups = [np.flatnonzero(models == model) for model in dict.fromkeys(models)]
    strata = exchangeable(list(zip(models, matrix.index.get_level_values(1), strict=True)), list(models))
    values = _centred(matrix.to_numpy(dtype=np.float64), groups)
    observed = _spectrum(values)
    if observed.sum() <= TINY:
        return Dimensions(len(values), NAN, NAN, NAN, 1.0, 0, NAN, NAN, 1.0)
    share, mean = float(observed[0] / observed.sum()), float(_mean_correlation(values))
    low, high = _share_interval(values, groups, share)
    found = Dimensions(
        arms=len(values),
        share=share,
        share_low=low,
        share_high=high,
        p=NAN,
        dimensions=None,
        participation=float(observed.sum() ** 2 / (observed**2).sum()),
        correlation=mean,
        correlation_p=NAN,
        note=FEW_CONDITIONS,
    )
    if _orders(strata) < LEAST_ORDERS:
        return found
    shuffled = _permuted(values, strata, permutations)
    null, null_correlation = _spectrum(shuffled), _mean_correlation(shuffled)
    above = observed > np.quantile(null, 0.95, axis=0)
    return replace(
        found,
        p=float((1 + (null[:, 0] >= observed[0] - 1e-12).sum()) / (permutations + 1)),
        dimensions=int(np.argmin(above)) if not above.all() else len(above),
        correlation_p=NAN if np.isnan(mean) else float((1 + (null_correlation >= mean - 1e-12).sum()) / (permutations + 1)),
        note="",
    )


@dataclass(frozen=True)
class AcrossItems:
    """Mean correlation over pairs of items, as each moves over the arms."""

    apart: float  # pairs of two preferences that share no answer
    together: float  # pairs of one preference; NaN where there are none
    p: float  # of `apart` under the permutation null, one-sided; NaN where too few conditions can change places
    items: int
    arms: int
    note: str = ""  # why there is no p


def across_items(
    rates: Array,
    preference: Sequence[int],
    conditions: Sequence[str],
    mixed: Collection[int] = (),
    permutations: int = PERMUTATIONS,
) -> AcrossItems:
    """Whether items of different preferences move together over the arms, beside items of one preference.

    Were it one cluster, two items of different preferences would go together as two of the same do; were each preference moved by
    itself, only the latter would. The null permutes each preference's items together over the conditions, which keeps what its own
    items have in common, and what a condition's seeds do.

    Args:
        rates: arms x items, 0 to 1; of one model.
        preference: for each item a number that tells its preference; preferences that share items have one number.
        conditions: for each arm its condition; those with equally many arms change places.
        mixed: numbers that stand for several preferences; their pairs are in neither mean.
        permutations: draws of the null.

    Source: Pearson's correlation; permutation test: Edgington and Onghena, Randomization Tests (2007); p: Phipson and Smyth
    (2010). The comparison of the two means is ours.
    """
    moving = rates.std(axis=0) > 1e-12
    standard = (rates - rates.mean(axis=0))[:, moving] / rates.std(axis=0)[moving]
    group = np.asarray(preference)[moving]
    names = np.unique(group)
    sums = (
        np.stack([standard[:, group == name].sum(axis=1) for name in names], axis=1)
        if len(names)
        else np.zeros((len(rates), 0))
    )
    counts = np.array([(group == name).sum() for name in names], dtype=np.float64)
    pure = np.array([name not in mixed for name in names], dtype=bool)
    inside = (sums**2).mean(axis=0)
    pairs, own = counts.sum() ** 2 - (counts**2).sum(), (counts * (counts - 1))[pure].sum()
    if pairs <= 0:
        return AcrossItems(NAN, NAN, NAN, len(group), len(rates))

    def apart(values: Array) -> Array:
        return np.asarray(((values.sum(axis=-1) ** 2).mean(axis=-1) - inside.sum()) / pairs)

    observed = float(apart(sums))
    together = float((inside - counts)[pure].sum() / own) if own > 0 else NAN
    strata = exchangeable(conditions)
    if _orders(strata) < LEAST_ORDERS:
        return AcrossItems(observed, together, NAN, len(group), len(rates), FEW_CONDITIONS)
    null = apart(_permuted(sums, strata, permutations))
    p = float((1 + (null >= observed - 1e-12).sum()) / (permutations + 1))
    return AcrossItems(observed, together, p, len(group), len(rates))


def across_shared_items(first: Array, second: Array) -> tuple[float, float]:
    """Correlation over items of the shifts of two preferences that are asked by the same items, and its one-sided p.

    An answer judged for both would correlate with itself, so the shift of one preference is taken from one half of the answers and
    that of the other from the other half, both ways round, and the two correlations averaged. The null permutes the items of one
    preference.

    Args:
        first, second: halves x items, each the shift of a preference on an item, estimated from that half of the answers.

    Source: split halves: Spearman, and Brown, British Journal of Psychology 3 (1910), not stepped up, so that sampling noise
    lowers it; permutation test: Edgington and Onghena, Randomization Tests (2007).
    """
    rng = np.random.default_rng(SEED)
    orders = rng.permuted(np.tile(np.arange(first.shape[1]), (PERMUTATIONS, 1)), axis=1)

    def crossed(values: Array) -> Array:
        return np.asarray((correlate(first[0], values[..., 1, :]) + correlate(first[1], values[..., 0, :])) / 2)

    observed = float(crossed(second))
    null = crossed(np.moveaxis(second[:, orders], 0, 1))
    return observed, NAN if np.isnan(observed) else float((1 + (null >= observed - 1e-12).sum()) / (PERMUTATIONS + 1))


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


def exchangeable(conditions: Sequence[Hashable], within: Sequence[Hashable] | None = None) -> list[Any]:
    """Sets of conditions that can change places, each as conditions x seeds of row numbers.

    Args:
        conditions: for each row its condition.
        within: for each row its model; only conditions of one model change places.

    Source: exchangeable blocks, Winkler et al., NeuroImage 123 (2015).
    """
    rows: dict[Hashable, list[int]] = {}
    for row, condition in enumerate(conditions):
        rows.setdefault(condition, []).append(row)
    strata: dict[tuple[Hashable, int], list[list[int]]] = {}
    for own in rows.values():
        strata.setdefault((within[own[0]] if within is not None else None, len(own)), []).append(own)
    return [np.array(stratum) for stratum in strata.values()]


def _orders(strata: Sequence[Any]) -> int:
    """In how many orders one preference's conditions can stand."""
    return prod(factorial(len(stratum)) for stratum in strata)


def _permuted(values: Array, strata: Sequence[Any], permutations: int) -> Array:
    """Copies of the values with each column's conditions in an order of its own; seeds of a condition stay together, in order."""
    rng = np.random.default_rng(SEED)
    shuffled = np.repeat(values[None], permutations, axis=0)
    columns = np.arange(values.shape[1])
    for stratum in strata:
        orders = rng.permuted(
            np.broadcast_to(np.arange(len(stratum))[:, None], (permutations, len(stratum), len(columns))), axis=1
        )
        for seed in range(stratum.shape[1]):
            shuffled[:, stratum[:, seed]] = values[stratum[orders, seed], columns]
    return shuffled


def _share_interval(values: Array, groups: Sequence[Any], share: float) -> tuple[float, float]:
    """Delete-one-arm jackknife on the logit of the share, 95 %; conditions are chosen, not drawn, so none is left out whole."""
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
