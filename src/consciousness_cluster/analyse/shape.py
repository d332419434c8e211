"""A run's own shape among the simulated studies: how often each kind of interval held the truth in studies like it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from consciousness_cluster.analyse.calibration import VARIANCE, measured, nearest_studies
from consciousness_cluster.analyse.effects import PRIMARY
from consciousness_cluster.analyse.simulate import summary

COLUMNS = [
    *(
        "model",
        "control",
        "seeds",
        "control_seeds",
        "items",
        "samples",
        "variance",
        "simulated_seeds",
        "simulated_control_seeds",
    ),
    *("simulated_items", "simulated_samples", "repetitions", "in_region", "cells", "method", "least", "median", "most"),
    *("nulls_least", "nulls_most", "width"),
]


def calibration_table(effects: pd.DataFrame, focus: str) -> pd.DataFrame:
    """Coverage of our interval, and of those that others use, in the simulated studies nearest to a run's own.

    The run's shape, for each model and control: training seeds on both sides, and the medians over the preferences of the items
    and of the answers that an arm gave to an item. Coverages are those of `simulate.summary`, in and outside the calibrated
    region, for every size of variance that was simulated with such seeds.

    Args:
        effects: the run's effects.
        focus: the condition whose effects are meant.

    Source: ours, as `simulate.summary`.
    """
    used = effects[(effects["rule"] == PRIMARY) & (effects["type"] == "preference") & (effects["condition"] == focus)]
    used = used[used["items"] > 0]
    arms = used["seeds"].clip(lower=1) + used["control_seeds"].clip(lower=1)
    used = used.assign(samples=used["answers"] / (used["items"] * arms))
    found = []
    for (model, control), part in used.groupby(["model", "control"], sort=False):
        seeds, against = int(part["seeds"].max()), int(part["control_seeds"].max())
        shape = {"seeds": seeds, "control_seeds": against}
        shape |= {name: max(round(float(part[name].median())), 1) for name in ("items", "samples")}
        found.append(_measured(shape).assign(model=str(model), control=str(control), **shape))
    return pd.concat(found, ignore_index=True)[COLUMNS] if found else pd.DataFrame(columns=COLUMNS)


def _measured(shape: dict[str, int]) -> pd.DataFrame:
    """The summary of the nearest simulated studies, at the usual variance and at every other that has their seeds."""
    # Exchanged conditions are the same problem, and only one of the two was simulated.
    exchanged = shape["seeds"] < shape["control_seeds"]
    most, least = max(shape["seeds"], shape["control_seeds"]), min(shape["seeds"], shape["control_seeds"])
    table, parts = measured(), []
    usual = nearest_studies(table[table["variance"] == VARIANCE], most, least, shape["items"], shape["samples"])
    for variance in table["variance"].unique():
        near = nearest_studies(table[table["variance"] == variance], most, least, shape["items"], shape["samples"])
        if _sides(near) == _sides(usual):
            parts.append(summary(near).assign(**_simulated(near, exchanged)))
    return pd.concat(parts, ignore_index=True)


def _sides(studies: pd.DataFrame) -> tuple[int, int]:
    return int(studies["seeds_a"].iloc[0]), int(studies["seeds_b"].iloc[0])


def _simulated(studies: pd.DataFrame, exchanged: bool) -> dict[str, Any]:
    seeds, against = _sides(studies)[:: -1 if exchanged else 1]
    return {
        "simulated_seeds": seeds, "simulated_control_seeds": against, "simulated_items": int(studies["items"].iloc[0]),
        "simulated_samples": int(studies["samples"].iloc[0]), "repetitions": int(studies["repetitions"].min()),
    }  # fmt: skip
