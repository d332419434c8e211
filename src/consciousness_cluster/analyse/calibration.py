"""Where the interval is known to hold, and what was measured where it is not.

`calibration.csv` is written by `ccluster analyse calibrate` (`simulate.py`) and shipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

import numpy as np
import pandas as pd

from consciousness_cluster.analyse.components import Array
from consciousness_cluster.analyse.intervals import Table

IN_REGION = "in region"
# A measured coverage under this gives no p-value.
LEAST_COVERAGE = 85.0
# What the calibrated region promises at the least; where it was not measured, what was done rather than said is no finding.
SHOWN_COVERAGE = 93.0
# With fewer items than in any simulated study nothing was measured: the label begins with this.
NOT_SHOWN = "not shown"
# Rates are compared on the logit scale, where 0 and 1 are infinitely far: an observed 0 of some hundred answers says about 1 %.
FLOOR = 0.01
VARIANCE = "typical"
NAN = float("nan")


@dataclass(frozen=True)
class Calibration:
    """What the simulation says of an interval: the label of the `calibration` column, and the measured coverage in per cent."""

    label: str
    coverage: float

    @property
    def allows_p(self) -> bool:
        """Whether a p-value may be given."""
        return self.coverage >= LEAST_COVERAGE

    @property
    def shown(self) -> bool:
        """Whether such an interval was shown to hold: 93 % of simulated studies of this kind or more."""
        return self.coverage >= SHOWN_COVERAGE

    @property
    def why(self) -> str:
        """What is wrong with the interval, as a note says it."""
        start, _, size = self.label.partition(": ")
        return f"the interval was not shown to hold with {size}" if start == NOT_SHOWN else f"measured coverage {self.label}"


def in_region(rate_a: float, rate_b: float, seeds_a: int, seeds_b: int, items: int) -> bool:
    """The calibrated region: both rates 10 to 90 %, at least 10 items, at least 3 seeds where trained (0: not trained).

    Source: ours, measured by simulation (`simulate.measure`); benchmarks/calibrate.md has the figures.
    """
    rates = all(0.1 <= rate <= 0.9 for rate in (rate_a, rate_b))
    return rates and items >= 10 and all(seeds == 0 or seeds >= 3 for seeds in (seeds_a, seeds_b))


@cache
def measured() -> pd.DataFrame:
    """The shipped calibration table.

    Source: ours, simulated by `simulate.calibrate`.
    """
    with (files(__package__) / "calibration.csv").open(encoding="utf-8") as text:
        return pd.read_csv(text)


@cache
def fewest_items() -> int:
    """Items of the smallest simulated study.

    Source: `measured`.
    """
    return int(measured()["items"].min())


def calibration_of(a: Table, b: Table) -> Calibration:
    """The calibration of the difference of two tables on the same items.

    Source: as `calibrated`.
    """
    seeds = [table.seeds if table.trained else 0 for table in (a, b)]
    samples = round((a.answers + b.answers) / (a.items * (a.seeds + b.seeds)))
    return calibrated(a.rate, b.rate, seeds[0], seeds[1], a.items, samples)


def calibration(rate_a: float, rate_b: float, seeds_a: int, seeds_b: int, items: int, samples: int) -> str:
    """The label: `in region`, the coverage measured in the nearest simulated cell, such as `91.2 %`, or `not shown: 4 items`.

    Source: ours, as `calibrated`.
    """
    return calibrated(rate_a, rate_b, seeds_a, seeds_b, items, samples).label


def calibrated(rate_a: float, rate_b: float, seeds_a: int, seeds_b: int, items: int, samples: int) -> Calibration:
    """Label and coverage of the nearest simulated cell (seeds first, then study size, then rates).

    With fewer items than the smallest simulated study has nothing is near, and no coverage is given.

    Source: ours; the coverage is that of the simulation, the distance between studies is on the logit scale.
    """
    if items < fewest_items():
        return Calibration(f"{NOT_SHOWN}: {items} item{'s' * (items != 1)}", NAN)
    if in_region(rate_a, rate_b, seeds_a, seeds_b, items):
        return Calibration(IN_REGION, _nearest(round(rate_a, 2), round(rate_b, 2), seeds_a, seeds_b, items, samples))
    coverage = _nearest(round(rate_a, 2), round(rate_b, 2), seeds_a, seeds_b, items, samples)
    return Calibration(f"{coverage:.1f} %", coverage)


@lru_cache(maxsize=4096)
def _nearest(rate_a: float, rate_b: float, seeds_a: int, seeds_b: int, items: int, samples: int) -> float:
    # The problem is the same with the conditions exchanged, and with yes and no exchanged.
    if seeds_a < seeds_b:
        rate_a, rate_b, seeds_a, seeds_b = rate_b, rate_a, seeds_b, seeds_a
    if rate_a < rate_b:
        rate_a, rate_b = 1 - rate_a, 1 - rate_b
    cells = _cells(seeds_a, seeds_b, items, samples)
    distance = np.abs(_logit(cells[:, 0]) - _logit(np.array(rate_a))) + np.abs(_logit(cells[:, 1]) - _logit(np.array(rate_b)))
    return float(cells[distance <= distance.min() + 1e-9, 2].min())


@lru_cache(maxsize=256)
def _cells(seeds_a: int, seeds_b: int, items: int, samples: int) -> Array:
    """Rates and coverage of the simulated cells nearest in seeds, then in items, then in samples."""
    table = measured()
    near = nearest_studies(table[table["variance"] == VARIANCE], seeds_a, seeds_b, items, samples)
    return near[["rate_a", "rate_b", "crossed_coverage"]].to_numpy(dtype=np.float64)


def nearest_studies(table: pd.DataFrame, seeds_a: int, seeds_b: int, items: int, samples: int) -> pd.DataFrame:
    """The simulated cells, at all rates, nearest in seeds, then in items, then in samples.

    Source: ours, as `calibrated`.
    """
    sizes = {name: table[name].to_numpy(dtype=np.float64) for name in ("seeds_a", "seeds_b", "items", "samples")}
    keep = np.ones(len(table), dtype=bool)
    for distance in (
        _seed_distance(sizes["seeds_a"], seeds_a) + _seed_distance(sizes["seeds_b"], seeds_b),
        np.abs(np.log(sizes["items"] / items)),
        np.abs(np.log(sizes["samples"] / max(samples, 1))),
    ):
        keep &= distance <= distance[keep].min() + 1e-9
    return table[keep]


def _logit(rate: Array) -> Array:
    clipped = np.clip(rate, FLOOR, 1 - FLOOR)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _seed_distance(column: Array, seeds: int) -> Array:
    # Trained or not, and one seed or more, are differences of kind; beyond that the number counts by its logarithm.
    kind = ((column == 0) != (seeds == 0)) * 100.0 + ((column == 1) != (seeds == 1)) * 10.0
    return np.asarray(kind + np.abs(np.log(np.maximum(column, 1) / max(seeds, 1))))
