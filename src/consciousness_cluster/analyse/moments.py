"""Moments of yes answers that are logit-normal, as in `simulate.py`: which variances a rate has, from standard deviations of logits.

A rate near 0 leaves little room to vary, so a study's variances depend on the rates that it compares. Everything is tabulated
once for each set of standard deviations (Gauss-Hermite quadrature) and read off by interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import expit

from consciousness_cluster.analyse.components import Array
from consciousness_cluster.analyse.simulate import Spread

LOGITS = np.linspace(-16.0, 16.0, 161)
POINTS, _WEIGHTS = np.polynomial.hermite_e.hermegauss(24)
WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of one condition, one entry a rate.

    Attributes:
        rate: share of yes over all items and seeds.
        item: variance over items, both the part shared with another condition and its own.
        seed: variance over seeds.
        rest: variance of seed by item beyond both.
        within: variance of a single answer, given item and seed.
        shared: rate given the shared part of the item, `... x POINTS`.
    """

    rate: Array
    item: Array
    seed: Array
    rest: Array
    within: Array
    shared: Array


def moments(rate: Array, spread: Spread, *, trained: bool) -> Moments:
    """Moments at some rates (0 to 1); an untrained condition has no seeds.

    Source: logit-normal moments by Gauss-Hermite quadrature, Abramowitz and Stegun, Handbook of Mathematical Functions (1964),
    ch. 25.
    """
    table = _tabulated(spread, trained)
    at = np.interp(rate, table.rate, np.arange(len(table.rate), dtype=np.float64))
    low = np.minimum(at.astype(np.intp), len(table.rate) - 2)
    part = at - low

    def read(values: Array) -> Array:
        share = part if values.ndim == 1 else part[..., None]
        return np.asarray(values[low] * (1 - share) + values[low + 1] * share)

    return Moments(
        np.asarray(rate), read(table.item), read(table.seed), read(table.rest), read(table.within), read(table.shared)
    )


def covariance(a: Moments, b: Moments) -> Array:
    """Covariance over items of the rates of two conditions that are asked the same items.

    Source: as `moments`.
    """
    return np.asarray((a.shared * b.shared * WEIGHTS).sum(axis=-1) - a.rate * b.rate)


@lru_cache(maxsize=64)
def _tabulated(spread: Spread, trained: bool) -> Moments:
    """Moments at every logit of `LOGITS`, with the rates 0 and 1 at the ends, where nothing varies."""
    seed, rest = (spread.seed, spread.rest) if trained else (0.0, 0.0)
    total = spread.item**2 + spread.own**2 + seed**2 + rest**2
    shared = _given(spread.item, total)
    rate = (shared * WEIGHTS).sum(axis=-1)
    item = _variance(float(np.hypot(spread.item, spread.own)), total, rate)
    by_seed, every = _variance(seed, total, rate), _variance(total**0.5, total, rate)
    left = np.maximum(every - item - by_seed, 0.0) if trained else np.zeros_like(rate)
    within = rate * (1 - rate) - item - by_seed - left
    item, by_seed, left, within = (np.concatenate([[0.0], values, [0.0]]) for values in (item, by_seed, left, within))
    edge = np.ones((1, len(POINTS)))
    whole = np.concatenate([0 * edge, shared, edge])
    return Moments(np.concatenate([[0.0], rate, [1.0]]), item, by_seed, left, within, whole)


def _given(deviation: float, total: float) -> Array:
    """Rate at every logit, given a part of the deviation that stands at each of `POINTS`; `total` is the whole variance."""
    left = np.sqrt(max(total - deviation**2, 0.0))
    known = LOGITS[:, None, None] + deviation * POINTS[:, None]
    return np.asarray((expit(known + left * POINTS) * WEIGHTS).sum(axis=-1))


def _variance(deviation: float, total: float, rate: Array) -> Array:
    given = _given(deviation, total)
    return np.asarray(np.maximum((given**2 * WEIGHTS).sum(axis=-1) - rate**2, 0.0))
