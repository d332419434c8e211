"""How preferences move together: the interval of a correlation within answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from consciousness_cluster.analyse.movement import _within_answers


def judged_twice(rng: np.random.Generator, samples: int, linked: float = 0.0) -> pd.DataFrame:
    """Answers judged for two preferences, which agree in a share of answers and are independent in the rest, in 3 arms of 20 items."""
    chance = rng.uniform(0.2, 0.8, 20)
    arm, item, sample = (axis.ravel() for axis in np.meshgrid(np.arange(3), np.arange(20), np.arange(samples), indexing="ij"))
    first, other = (rng.random(len(arm)) < chance[item] for _ in range(2))
    other = np.where(rng.random(len(arm)) < linked, first, other)
    parts = [
        pd.DataFrame({"arm": arm, "item": item, "sample": sample, "preference": name, "verdict": np.where(yes, "yes", "no")})
        for name, yes in (("x", first), ("y", other))
    ]
    return pd.concat(parts, ignore_index=True).assign(model="m", condition="conscious", type="preference")


@pytest.mark.parametrize("samples", [2, 4, 10])
def test_the_interval_within_answers_holds_zero_where_nothing_moves_together(samples: int) -> None:
    rng = np.random.default_rng(samples)
    rows = [_within_answers(judged_twice(rng, samples), "m", "conscious")[0] for _ in range(300)]
    held = np.mean([row["low"] <= 0 <= row["high"] for row in rows])
    assert 0.92 <= held <= 0.98  # 95 % with a standard error of 1.3 points


def test_preferences_that_agree_within_answers_are_seen_to() -> None:
    row = _within_answers(judged_twice(np.random.default_rng(1), 4, linked=0.5), "m", "conscious")[0]
    assert row["low"] > 0.3 and row["measure"] == "correlation within answers: x, y"
