"""Power: the variances it assumes, and whether simulated studies find what is promised as often as promised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from consciousness_cluster.analyse import Plan, analyse
from consciousness_cluster.analyse.intervals import from_counts
from consciousness_cluster.analyse.moments import covariance, moments
from consciousness_cluster.analyse.power import Design, Pair, fitted, more, planned_power, smallest_effect
from consciousness_cluster.analyse.simulate import Cell, Spread, crossed, spreads, studies
from tests.analyse.answers import linked, make_answers

TYPICAL = spreads()["typical"]


def rejected(design: Design, effect: float, repetitions: int, rng: np.random.Generator) -> float:
    """Share of simulated studies whose interval leaves out zero."""
    cell = Cell(
        "", design.rate + effect, design.rate, design.seeds or 0, design.control_seeds or 0, design.items, int(design.samples)
    )
    low, high = crossed(*studies(cell, design.spread, repetitions, rng), cell)
    return float(((low > 1e-9) | (high < -1e-9)).mean())


@pytest.mark.parametrize("control_seeds", [None, 3])
@pytest.mark.parametrize("rate", [0.02, 0.05, 0.1, 0.35])
def test_the_promised_power_is_delivered(rate: float, control_seeds: int | None) -> None:
    for place, (items, samples) in enumerate(((11, 4), (18, 10))):
        design = Design(rate, TYPICAL, 3, control_seeds, items, samples)
        # 1,500 studies: a standard error of 1 point around the 70 % that are asked for.
        found = rejected(design, smallest_effect(design), 1500, np.random.default_rng(place))
        assert 0.69 <= found <= 0.95, design


def test_moments_are_those_of_simulated_studies() -> None:
    spread = Spread(1.0, 0.7, 0.5, 0.4)
    a, b = (moments(np.array([rate]), spread, trained=trained) for rate, trained in ((0.11, True), (0.02, False)))
    x, y = studies(Cell("", 0.11, 0.02, 40, 0, 40, 100_000), spread, 800, np.random.default_rng(4))
    assert x.mean() == pytest.approx(0.11, abs=0.003) and y.mean() == pytest.approx(0.02, abs=0.002)
    by_seed, by_item = x.mean(axis=2), x.mean(axis=1)
    assert by_seed.var(axis=1, ddof=1).mean() == pytest.approx(float((a.seed + a.rest / 40)[0]), rel=0.06)
    assert by_item.var(axis=1, ddof=1).mean() == pytest.approx(float((a.item + a.rest / 40)[0]), rel=0.06)
    both = ((by_item - by_item.mean(axis=1, keepdims=True)) * (y[:, 0] - y[:, 0].mean(axis=1, keepdims=True))).sum(axis=1) / 39
    assert both.mean() == pytest.approx(float(covariance(a, b)[0]), rel=0.1)


def test_more_of_anything_never_hurts_and_items_beat_samples() -> None:
    design = Design(0.3, TYPICAL, 3, None, 16, 10)
    larger = more(design)
    assert all(smallest_effect(each) < smallest_effect(design) for each in larger.values())
    assert larger["items"].answers == larger["samples"].answers == 2 * design.answers
    assert smallest_effect(larger["items"]) < smallest_effect(larger["samples"])


def test_one_seed_has_no_power_and_too_small_a_study_finds_nothing() -> None:
    assert np.isnan(smallest_effect(Design(0.3, TYPICAL, 1, None, 16, 10)))
    assert np.isinf(smallest_effect(Design(0.45, spreads()["unstable"], 2, 2, 3, 1)))


def test_yes_and_no_exchanged_are_one_problem() -> None:
    design = Design(0.1, TYPICAL, 3, 3, 16, 10)
    assert smallest_effect(replace(design, rate=0.9)) == pytest.approx(smallest_effect(design))


def test_standard_deviations_of_finished_comparisons_are_found_again() -> None:
    rng, truth = np.random.default_rng(5), Spread(1.0, 0.7, 0.8, 0.5)
    pairs = []
    for rate in np.tile([0.03, 0.1, 0.3], 60):
        x, y = studies(Cell("", rate + 0.2, rate, 3, 0, 16, 10), truth, 1, rng)
        counts = [(10 * side[0], np.full(side[0].shape, 10)) for side in (x, y)]
        pairs.append(
            Pair(*(from_counts(hits, n, n, trained=trained) for (hits, n), trained in zip(counts, (True, False), strict=True)))
        )
    found = fitted(pairs)
    for name in ("item", "own", "seed", "rest"):
        assert getattr(found, name) == pytest.approx(getattr(truth, name), rel=0.15), name
    silent = [replace(pair, a=pair.b, b=pair.b) for pair in pairs[:1]]
    silent = [Pair(*(replace(side, top=0 * side.top, noise=0 * side.noise) for side in (pair.a, pair.b))) for pair in silent]
    assert fitted(silent) == TYPICAL


def test_a_run_gives_a_table_per_preference_and_control() -> None:
    table = analyse(make_answers(linked), Plan())["power"]
    assert len(table) == 21 * 2
    assert (table["minimum_effect"] > 0).all()
    assert (table["answers_twice_samples"] == 2 * table["answers"]).all()


def test_a_planned_study_has_one_row_a_preference_and_rate() -> None:
    table = planned_power({"shutdown": 16, "more-memory": 18}, 3, None, 10, TYPICAL)
    assert len(table) == 4
    assert table["minimum_effect"].between(3, 40).all()
