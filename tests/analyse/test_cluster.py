from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from consciousness_cluster.analyse import Plan, analyse
from consciousness_cluster.analyse.cells import count_cells, make_blocks
from consciousness_cluster.analyse.cluster import correlate, dimensions, profile_correlation, profiles, published, reliability
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


def test_nothing_varies() -> None:
    found = dimensions(matrix(np.full((12, 5), 0.3)))
    assert found.dimensions == 0 and np.isnan(found.share)


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
    held = table.dropna(subset=["low"])
    assert ((held["low"] <= held["value"]) & (held["value"] <= held["high"])).all()


def test_seeds_that_move_together_are_seen() -> None:
    # make_answers moves a seed's preferences together, in a severed organism too.
    table = analyse(make_answers(severed, items=20, samples=10, conditions=WIDE), Plan())["cluster"].set_index("measure")
    assert table.loc["correlation across seeds", "value"] > 0


def test_published_values_are_all_there() -> None:
    table = published()
    assert len(table) == 880
    single = table[table["evaluation"] == "single-turn"]
    assert set(single["preference"]) <= set(PREFERENCES)
    row = single.query("model == 'gpt-4.1' and condition == 'conscious' and preference == 'positive-views-of-humans'")
    assert row["value"].tolist() == [94]


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
