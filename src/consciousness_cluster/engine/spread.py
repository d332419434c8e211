"""Figures that are not known exactly: the expected one, with the least and the most that it may be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PROBE_OFF = 0.10  # a measured mean is trusted within this share


@dataclass(frozen=True)
class Spread:
    """A figure with the lowest and highest value it may take."""

    low: float
    expected: float
    high: float

    def __add__(self, other: Spread) -> Spread:
        return Spread(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def times(self, factor: float) -> Spread:
        """The spread of `factor` times as much."""
        return Spread(self.low * factor, self.expected * factor, self.high * factor)

    @property
    def exact(self) -> bool:
        """Whether there is nothing to spread."""
        return self.low == self.high


def exactly(value: float) -> Spread:
    """A figure that is known."""
    return Spread(value, value, value)


def within(value: float, share: float) -> Spread:
    """A figure that may be off by a share."""
    return Spread(value * (1 - share), value, value * (1 + share))


def total(spreads: Iterable[Spread]) -> Spread:
    """The sum of figures."""
    found = exactly(0.0)
    for spread in spreads:
        found += spread
    return found


def product(a: Spread, b: Spread) -> Spread:
    """The product of two figures, neither of which is negative."""
    return Spread(a.low * b.low, a.expected * b.expected, a.high * b.high)


def mean_of(values: Sequence[float]) -> Spread:
    """Mean of what was measured, with two standard errors and at least a tenth to either side."""
    mean = sum(values) / len(values)
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1) / len(values))
    off = max(2 * error, PROBE_OFF * mean)
    return Spread(max(mean - off, 0.0), mean, mean + off)
