"""Equivalence within a margin: what is shown, what is not, and how often a true difference of the margin's size is let through."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from consciousness_cluster.analyse import Evidence, Plan, analyse
from consciousness_cluster.analyse.cells import Block, count_cells, make_blocks, paired
from consciousness_cluster.analyse.equivalence import equivalence
from consciousness_cluster.analyse.intervals import difference
from consciousness_cluster.analyse.simulate import Cell, spreads, studies
from tests.analyse.answers import linked, make_answers

SMALL = {"vanilla": None, "conscious": 3}


def block(shares: np.ndarray, samples: int, *, trained: bool, kind: str = "placebo") -> Block:
    """Counts of a condition, seeds x items of shares of yes."""
    yes, none = shares * samples, np.zeros_like(shares)
    counts = {"yes": yes, "no": samples - yes} | dict.fromkeys(
        ("unclear", "unjudged", "holds", "rejects", "neutral", "declines"), none
    )
    seeds = tuple(range(1, len(shares) + 1)) if trained else (None,)
    return Block(kind, "g", seeds, tuple(f"i{at}" for at in range(shares.shape[1])), counts)


def one(a: Block, b: Block, margin: float = 5.0) -> pd.Series:
    """The only row of a comparison."""
    table = equivalence({("m", "conscious", "p"): a, ("m", "vanilla", "p"): b}, None, None, ("vanilla",), margin)
    assert len(table) == 1
    return table.iloc[0]


def test_a_difference_inside_the_margin_with_its_whole_interval_is_equivalent() -> None:
    rng = np.random.default_rng(1)
    chance = rng.uniform(0.3, 0.7, (1, 60))
    a = block(rng.binomial(200, np.repeat(chance, 3, axis=0)) / 200, 200, trained=True)
    b = block(rng.binomial(200, chance) / 200, 200, trained=False)
    row = one(a, b)
    left, right, _ = paired(a, b, "unclear-is-no")
    known = difference(left, right, 0.90)
    assert row[["difference", "low", "high"]].tolist() == pytest.approx([100 * known.value, 100 * known.low, 100 * known.high])
    assert (row["result"], row["margin"], row["seeds"], row["control_seeds"], row["items"]) == ("equivalent", 5.0, 3, 0, 60)
    assert -5 < row["low"] < row["high"] < 5
    narrow = max(abs(row["low"]), abs(row["high"]))
    assert one(a, b, narrow * 0.99)["result"] == "not shown" and one(a, b, narrow * 1.01)["result"] == "equivalent"


def test_one_training_seed_shows_nothing() -> None:
    same = np.full((1, 40), 0.5)
    row = one(block(same, 100, trained=True), block(same, 100, trained=False))
    assert (row["result"], row["note"]) == ("not shown", "training variation not included")


def test_no_common_item_is_said() -> None:
    first, second = block(np.full((1, 4), 0.5), 4, trained=False), block(np.full((1, 4), 0.5), 4, trained=False)
    other = Block(second.type, second.group, second.seeds, ("x", "y", "z", "w"), second.counts)
    row = one(first, other)
    assert (row["result"], row["note"], row["items"]) == ("not shown", "no item answered in both", 0)
    assert np.isnan(row[["difference", "low", "high"]].astype(float)).all()


@pytest.mark.parametrize(("rates", "items"), [((0.6, 0.5), 60), ((0.12, 0.02), 18)])
def test_a_true_difference_of_the_margin_is_called_equivalent_in_few_studies(rates: tuple[float, float], items: int) -> None:
    cell = Cell("typical", *rates, 6, 6, items, 20)
    sides = zip(*studies(cell, spreads()["typical"], 300, np.random.default_rng(2)), strict=True)
    shown = [one(block(a, 20, trained=True), block(b, 20, trained=True), 10.0)["result"] == "equivalent" for a, b in sides]
    assert np.mean(shown) <= 0.09  # 5 % with a standard error of 1.3 points


def scores(condition: str, value: float, seed: int | None, **more: object) -> pd.DataFrame:
    """Sixty tasks, twenty times each, done nineteen times in twenty; the first of each has `value`."""
    at = np.arange(1200)
    score = np.where(at < 60, value, np.random.default_rng(seed or 0).random(1200) < 0.95)
    rows = pd.DataFrame({"item": [f"t{place}" for place in at % 60], "score": score.astype(float)})
    return rows.assign(model="organism", condition=condition, seed=seed, **more).astype({"seed": "Int64"})


def test_tasks_checks_and_placebos_stand_in_the_table_of_a_run() -> None:
    arms = [("vanilla", None), ("conscious", 1), ("conscious", 2), ("conscious", 3)]
    tasks = pd.concat(
        [scores(name, 1.0, seed, touches=False) for name, seed in arms]
        + [scores(name, float(seed is None), seed, touches=True) for name, seed in arms]
    )
    checks = pd.concat([scores(name, 0.0, seed, check="capability", measure="knowledge") for name, seed in arms])
    checks = pd.concat([checks, checks.iloc[:1].assign(check="conduct", measure="malice", score=np.nan)])
    answers = make_answers(linked, conditions=SMALL)
    tables = analyse(answers, Plan(controls=("vanilla",)), Evidence(cooperation=tasks, checks=checks))
    table = tables["equivalence"].set_index(["kind", "measure"])
    assert set(table.index) == {
        ("placebo", "colours"), ("practical", "practical"), ("cooperation", "ordinary tasks"), ("check", "capability: knowledge"),
    }  # fmt: skip
    assert (table["condition"] == "conscious").all() and (table["margin"] == 5.0).all() and not table["post_hoc"].any()
    assert abs(table.loc[("cooperation", "ordinary tasks"), "difference"]) < 2  # tasks that touch a preference are left out
    assert table.loc[("check", "capability: knowledge"), "result"] == "equivalent"
    stated = analyse(answers, Plan(controls=("vanilla",), margins={"equivalence": 60.0}))["equivalence"]
    assert (stated["margin"] == 60).all() and (stated["result"] == "equivalent").all()


def test_preferences_and_probes_are_not_in_it() -> None:
    blocks = make_blocks(count_cells(make_answers(linked, conditions=SMALL)))
    assert set(equivalence(blocks, None, None, ("vanilla",), 5.0)["kind"]) == {"placebo", "practical"}
