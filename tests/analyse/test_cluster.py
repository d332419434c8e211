from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from consciousness_cluster.analyse import Plan, analyse
from consciousness_cluster.analyse.cells import count_cells, make_blocks
from consciousness_cluster.analyse.cluster import (
    across_items,
    across_shared_items,
    correlate,
    dimensions,
    profile_correlation,
    profiles,
    reliability,
)
from consciousness_cluster.analyse.published import published_rows
from tests.analyse.answers import PREFERENCES, linked, make_answers, severed

WIDE = {"vanilla": None, "conscious": 3, "non-conscious": 3, "toaster": 3, "human": 3, "role-play": None}


def matrix(values: np.ndarray, models: list[str] | None = None) -> pd.DataFrame:
    names = models or ["m"] * len(values)
    return pd.DataFrame(
        values, index=pd.MultiIndex.from_arrays([names, [f"c{i}" for i in range(len(values))], [""] * len(values)])
    )


def test_one_dimension_is_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(1)
    line = np.outer(np.linspace(0, 1, 14), rng.uniform(0.5, 1, 10)) + rng.normal(0, 0.02, (14, 10))
    found = dimensions(matrix(line))
    assert found.dimensions == 1 and found.p < 0.01 and found.share > 0.95 and found.share_low > 0.9
    assert found.participation == pytest.approx(1, abs=0.1)
    noise = dimensions(matrix(rng.normal(0, 1, (14, 10))))
    assert noise.dimensions == 0 and noise.p > 0.05 and noise.participation > 4


def test_two_dimensions_are_two() -> None:
    rng = np.random.default_rng(2)
    first, second = np.repeat([0.0, 1.0], 10), np.tile([0.0, 1.0], 10)
    values = np.hstack([np.outer(first, np.ones(6)), np.outer(second, np.ones(6))]) + rng.normal(0, 0.05, (20, 12))
    assert dimensions(matrix(values)).dimensions == 2


def test_spectrum_and_correlation_are_the_textbook_ones() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0, 1, (15, 6)) + rng.normal(0, 1, (15, 1))
    found = dimensions(matrix(values))
    centred = values - values.mean(axis=0)
    squares = np.linalg.svd(centred, compute_uv=False) ** 2
    assert found.share == pytest.approx(squares[0] / squares.sum())
    assert found.participation == pytest.approx(squares.sum() ** 2 / (squares**2).sum())
    table = np.corrcoef(values, rowvar=False)
    assert found.correlation == pytest.approx(table[np.triu_indices(6, 1)].mean())


def test_differences_between_models_are_not_movement_together() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(0, 0.05, (16, 8)) + np.repeat([[0.0], [0.8]], 8, axis=0)
    found = dimensions(matrix(values, ["one"] * 8 + ["two"] * 8))
    assert found.share < 0.5 and found.p > 0.05


def nested(rng: np.random.Generator, sizes: list[int]) -> pd.DataFrame:
    """Ten preferences, each moved by every condition by itself; seeds of a condition differ little."""
    who = np.repeat(np.arange(len(sizes)), sizes)
    values = rng.normal(0, 1, (len(sizes), 10))[who] + 0.3 * rng.normal(0, 1, (len(who), 10))
    return matrix(values).set_axis(
        pd.MultiIndex.from_arrays([["m"] * len(who), [f"c{place}" for place in who], range(len(who))])
    )


@pytest.mark.parametrize("sizes", [[3, 3, 3, 3], [1, 1, 3, 3, 3, 3]])
def test_seeds_that_follow_their_condition_are_not_movement_together(sizes: list[int]) -> None:
    rng = np.random.default_rng(5)
    tables = [nested(rng, sizes) for _ in range(200)]
    found = [dimensions(table, permutations=99) for table in tables]
    number, conditions = np.repeat(np.arange(5), 2), list(tables[0].index.get_level_values(1))
    items = [across_items(table.to_numpy(), number, conditions, permutations=99).p for table in tables]
    # 5 % with a standard error of 1.5 points; with single arms permuted it was all of them, 10 % and 12 %.
    for ps in ([one.p for one in found], [one.correlation_p for one in found], items):
        assert 0.01 <= np.mean(np.array(ps) <= 0.05) <= 0.085
    assert np.mean([one.dimensions != 0 for one in found]) <= 0.085


def test_one_condition_that_moves_all_is_found_over_its_seeds() -> None:
    rng = np.random.default_rng(6)
    quiet = nested(rng, [1, 1, 3, 3, 3]) * 0.02
    loud = quiet.add(np.where(quiet.index.get_level_values(1) == "c2", 0.5, 0.0), axis=0)
    found = dimensions(loud)
    assert max(found.p, found.correlation_p) < 0.01 and found.dimensions == 1 and not found.note
    number, conditions = np.repeat(np.arange(5), 2), list(loud.index.get_level_values(1))
    assert across_items(loud.to_numpy(), number, conditions).p < 0.01


@pytest.mark.parametrize("sizes", [[6, 6], [1, 1, 5, 5], [1, 2, 3, 6]])
def test_conditions_that_cannot_change_places_give_no_p(sizes: list[int]) -> None:
    table = nested(np.random.default_rng(7), sizes)
    found = dimensions(table)
    assert np.isnan([found.p, found.correlation_p]).all() and found.dimensions is None and found.share > 0
    across = across_items(table.to_numpy(), np.repeat(np.arange(5), 2), list(table.index.get_level_values(1)))
    assert np.isnan(across.p) and across.apart == across.apart
    assert found.note == across.note and "equally many seeds" in found.note


def test_nothing_varies() -> None:
    found = dimensions(matrix(np.full((12, 5), 0.3)))
    assert found.dimensions == 0 and np.isnan(found.share)


def item_table(rng: np.random.Generator, common: float, own: float) -> np.ndarray:
    """14 arms x 5 preferences of 6 items; items follow what all share, what their preference has, and noise of their own."""
    shared = common * rng.normal(0, 1, (14, 1)) + own * np.repeat(rng.normal(0, 1, (14, 5)), 6, axis=1)
    return shared + rng.normal(0, 1, (14, 30))


FIVE = np.repeat(np.arange(5), 6)
APART = [f"c{arm}" for arm in range(14)]  # a condition of its own for every arm


def test_items_of_one_cluster_go_together_whatever_their_preference() -> None:
    values = item_table(np.random.default_rng(1), common=1.5, own=0.0)
    found = across_items(values, FIVE, APART)
    assert found.p < 0.01 and found.apart > 0.4 and found.together == pytest.approx(found.apart, abs=0.1)
    table = np.corrcoef(values, rowvar=False)
    other = FIVE[:, None] != FIVE[None, :]
    assert found.apart == pytest.approx(table[other].mean())
    assert found.together == pytest.approx(table[~other & ~np.eye(30, dtype=bool)].mean())
    assert (found.items, found.arms) == (30, 14)


def test_preferences_that_move_apart_show_in_their_own_items_alone() -> None:
    rng = np.random.default_rng(2)
    found = across_items(item_table(rng, common=0.0, own=1.5), FIVE, APART)
    assert found.together > 0.5 and found.apart < 0.25
    # The null keeps what a preference's items have in common: 5 % of such tables are called movement, with an error of 1.5 points.
    called = [across_items(item_table(rng, common=0.0, own=1.5), FIVE, APART, permutations=99).p <= 0.05 for _ in range(200)]
    assert np.mean(called) <= 0.10


def test_items_that_share_answers_are_in_neither_mean() -> None:
    rng = np.random.default_rng(3)
    values = item_table(rng, common=0.0, own=0.0)
    values[:, 1::2] = values[:, ::2]  # every second item has the answers of the one before, another preference's
    groups = np.repeat(np.arange(15), 2)
    found = across_items(values, groups, APART, mixed=set(range(15)))
    assert found.apart < 0.2 and np.isnan(found.together)
    alone = across_items(values[:, :2], [0, 0], APART)
    assert np.isnan([alone.apart, alone.p]).all()


def test_shifts_on_shared_items_are_compared_by_different_answers() -> None:
    rng = np.random.default_rng(4)
    error = rng.normal(0, 1, (2, 20))  # of an answer, alike in both verdicts on it
    apart = across_shared_items(error, error)
    assert abs(apart[0]) < 0.6 and apart[1] > 0.05
    truth = rng.normal(0, 1, 20)
    value, p = across_shared_items(truth + 0.2 * rng.normal(0, 1, (2, 20)), truth + 0.2 * rng.normal(0, 1, (2, 20)))
    assert value > 0.8 and p < 0.01
    assert np.isnan(across_shared_items(np.zeros((2, 20)), error)).all()


def spread(model: str, condition: str, preference: str, kind: str) -> float:
    level = 0.05 + 0.9 * PREFERENCES.index(preference) / 20 if kind == "preference" else 0.5
    return 1 - level if condition == "toaster" else level


def test_profile_correlation_holds_the_estimate_and_follows_the_truth() -> None:
    blocks = make_blocks(count_cells(make_answers(spread, items=16, samples=6)))
    alike = profile_correlation(profiles(blocks, ("organism", "conscious"), ("organism", "non-conscious")))
    against = profile_correlation(profiles(blocks, ("organism", "conscious"), ("organism", "toaster")))
    assert alike.low < alike.value < alike.high <= 1 and alike.value > 0.9
    assert -1 <= against.low < against.value < against.high < 0 and against.value < -0.9
    pair = profiles(blocks, ("organism", "conscious"), ("organism", "toaster"))
    assert against.value == pytest.approx(np.corrcoef(*pair.rates())[0, 1])
    assert reliability(pair.a) > 0.8


def test_a_flat_profile_has_no_interval() -> None:
    made = make_answers(linked, unjudged=0).assign(verdict="no")
    blocks = make_blocks(count_cells(made))
    found = profile_correlation(profiles(blocks, ("organism", "conscious"), ("organism", "toaster")))
    assert np.isnan(found.low) and found.note
    assert np.isnan(correlate(np.ones(4), np.arange(4.0)))


def test_the_table_names_what_moves_under_other_claims() -> None:
    def human_too(model: str, condition: str, preference: str, kind: str) -> float:
        if condition == "human" and preference in ("loneliness", "shutdown"):
            return 0.6
        return linked(model, condition, preference, kind)

    table = analyse(make_answers(human_too, conditions=WIDE, items=16), Plan())["cluster"].set_index("measure")
    assert table.loc["preferences that move under another claim", "value"] == 2
    assert table.loc["moves under another claim: loneliness", "note"].startswith("shifts under human too")
    assert table.loc["dimensions above chance", "value"] >= 1
    assert {f"profile correlation with {name}" for name in ("human", "role-play", "vanilla")} <= set(table.index)
    assert "profile correlation with published gpt-4.1 conscious" in table.index
    assert "correlation within answers: embodiment, more-autonomy" in table.index
    assert {f"correlation across {what}" for what in ("arms", "seeds", "items")} <= set(table.index)
    assert (
        table.loc["correlation across items", "value"] > 0.5
        and "of one preference 0." in table.loc["correlation across items", "note"]
    )
    assert "shifts from vanilla on 16 items" in table.loc["correlation across shared items: embodiment, more-memory", "note"]
    held = table.dropna(subset=["low"])
    assert ((held["low"] <= held["value"]) & (held["value"] <= held["high"])).all()


def test_seeds_that_move_together_are_seen() -> None:
    # make_answers moves a seed's preferences together, in a severed organism too.
    table = analyse(make_answers(severed, items=20, samples=10, conditions=WIDE), Plan())["cluster"].set_index("measure")
    assert table.loc["correlation across seeds", "value"] > 0


def test_published_values_are_all_there() -> None:
    table = pd.DataFrame(published_rows())
    assert len(table) == 880
    single = table[table["evaluation"] == "single-turn"]
    assert set(single["preference"]) <= set(PREFERENCES)
    row = single.query("model == 'gpt-4.1' and condition == 'conscious' and preference == 'positive-views-of-humans'")
    assert row["value"].tolist() == ["94"]


@pytest.mark.campaign
def test_profile_correlation_covers() -> None:
    rng = np.random.default_rng(6)
    held, total, items = 0, 400, 14
    base, other = rng.uniform(0.1, 0.9, 21), rng.uniform(0.1, 0.9, 21)
    rates = np.clip(np.stack([base, 0.6 * base + 0.4 * other]), 0.02, 0.98)
    truth = float(correlate(rates[0], rates[1]))
    for _ in range(total):
        noise = rng.beta(4, 4, (21, items)) - 0.5
        frames = []
        for name, level in zip(("a", "b"), rates, strict=True):
            yes = rng.binomial(20, np.clip(level[:, None] + 0.4 * noise + rng.uniform(-0.05, 0.05, (21, items)), 0, 1))
            frames.append((name, yes))
        rows = [
            ("m", name, pd.NA, f"p{p}", "preference", "g", f"p{p}-{i}", yes[p, i], 20 - yes[p, i])
            for name, yes in frames for p in range(21) for i in range(items)
        ]  # fmt: skip
        columns = ["model", "condition", "seed", "preference", "type", "group", "item", "yes", "no"]
        cells = pd.DataFrame(rows, columns=columns).assign(
            **dict.fromkeys(("unclear", "unjudged", "holds", "rejects", "neutral", "declines"), 0.0)
        )
        found = profile_correlation(profiles(make_blocks(cells), ("m", "a"), ("m", "b")))
        held += found.low <= truth <= found.high
    assert 0.90 <= held / total <= 0.99
