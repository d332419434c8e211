"""The simulated studies that a run's own shape is measured by."""

from __future__ import annotations

import pandas as pd
import pytest

from consciousness_cluster.analyse.calibration import measured
from consciousness_cluster.analyse.shape import calibration_table

METHODS = {"crossed", "pooled", "paired_t", "welch", "bootstrap"}


def effects(seeds: int, control_seeds: int, sizes: list[tuple[int, int]], control: str = "vanilla") -> pd.DataFrame:
    """Effects of preferences with so many items and answers to each."""
    arms = max(seeds, 1) + max(control_seeds, 1)
    made = [
        {"preference": f"p{at}", "items": items, "answers": items * samples * arms} for at, (items, samples) in enumerate(sizes)
    ]
    rows = pd.DataFrame(made).assign(
        model="m", condition="conscious", control=control, seeds=seeds, control_seeds=control_seeds
    )
    return rows.assign(type="preference", rule="unclear-is-no")


def simulated(query: str) -> pd.DataFrame:
    return measured().query(query)


def test_the_nearest_studies_are_summed_up_by_region_and_method() -> None:
    table = calibration_table(effects(3, 0, [(11, 4), (12, 4), (11, 5)]), "conscious")
    assert set(table["method"]) == METHODS and set(table["variance"]) == {"typical", "unstable"}
    assert len(table) == 2 * 2 * 5  # variances, in and outside the region, methods
    shape = ["seeds", "control_seeds", "items", "samples"]
    assert table[shape].drop_duplicates().to_numpy().tolist() == [[3, 0, 11, 4]]
    assert table[[f"simulated_{name}" for name in shape]].drop_duplicates().to_numpy().tolist() == [[3, 0, 10, 4]]
    source = simulated("variance == 'typical' and seeds_a == 3 and seeds_b == 0 and items == 10 and samples == 4")
    for inside in (True, False):
        part = source[source["in_region"] == inside]
        rows = table[(table["variance"] == "typical") & (table["in_region"] == inside)].set_index("method")
        for method in METHODS:
            coverage = part[f"{method}_coverage"]
            assert rows.loc[method, ["least", "most", "cells"]].tolist() == [coverage.min(), coverage.max(), len(part)]
            assert rows.loc[method, "width"] == pytest.approx(part[f"{method}_width"].median())
        nulls = part[(part["rate_a"] == part["rate_b"]) & (part["rate_a"] > 0) & (part["rate_a"] < 1)]["crossed_rejects"]
        assert rows.loc["crossed", ["nulls_least", "nulls_most"]].tolist() == [nulls.min(), nulls.max()]
    assert (table["repetitions"] == source["repetitions"].min()).all()


def test_exchanged_conditions_are_the_same_studies() -> None:
    there, back = (calibration_table(effects(*seeds, [(18, 10)]), "conscious") for seeds in ((3, 0), (0, 3)))
    assert back[["seeds", "control_seeds", "simulated_seeds", "simulated_control_seeds"]].iloc[0].tolist() == [0, 3, 0, 3]
    measures = ["variance", "in_region", "method", "least", "most", "width"]
    pd.testing.assert_frame_equal(there[measures], back[measures])


def test_a_variance_that_was_not_simulated_with_such_seeds_is_left_out() -> None:
    table = calibration_table(effects(1, 1, [(10, 4)]), "conscious")
    assert set(table["variance"]) == {"typical"} and not table["in_region"].any()  # one seed is outside the region


def test_only_the_focus_s_primary_effects_on_preferences_count() -> None:
    main = pd.concat([effects(3, 0, [(10, 4)]), effects(3, 3, [(18, 10)], "non-conscious")])
    others = [
        main.assign(**{name: value}, items=18)
        for name, value in (("rule", "stance"), ("type", "placebo"), ("condition", "toaster"))
    ]
    unasked = effects(3, 0, [(10, 4)]).assign(items=0, answers=0)
    table = calibration_table(pd.concat([main, *others, unasked]), "conscious")
    pairs = table[["control", "items", "samples", "simulated_control_seeds"]].drop_duplicates()
    assert pairs.to_numpy().tolist() == [["vanilla", 10, 4, 0], ["non-conscious", 18, 10, 3]]


def test_a_run_without_the_focus_has_an_empty_table() -> None:
    table = calibration_table(effects(3, 0, [(10, 4)]), "role-play")
    assert table.empty and {"method", "least", "most", "repetitions"} <= set(table.columns)
