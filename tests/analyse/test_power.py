from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from consciousness_cluster.analyse import Plan, analyse
from consciousness_cluster.analyse.intervals import difference, from_counts
from consciousness_cluster.analyse.power import Side, Size, assumed, more, planned_power, size_of, smallest_effect
from consciousness_cluster.analyse.simulate import Cell, spreads, studies
from tests.analyse.answers import linked, make_answers


def test_two_untrained_conditions_by_hand() -> None:
    # Only items and answers: V = (item + 2 * within / n) / I with I - 1 degrees of freedom.
    side = Side(0.0, 0.0, 0.16, None)
    variance = (0.02 + 2 * 0.16 / 4) / 16
    expected = (stats.t.ppf(0.975, 15) + stats.t.ppf(0.8, 15)) * variance**0.5
    assert smallest_effect(Size(0.02, side, side, 16, 4)) == pytest.approx(expected)


def test_more_of_anything_never_hurts_and_items_beat_samples() -> None:
    size = assumed(0.3, spreads()["typical"], 3, None, 16, 10)
    larger = more(size)
    assert all(smallest_effect(each) < smallest_effect(size) for each in larger.values())
    assert larger["items"].answers == larger["samples"].answers == 2 * size.answers
    assert smallest_effect(larger["items"]) < smallest_effect(larger["samples"])


def test_one_seed_has_no_power() -> None:
    assert np.isnan(smallest_effect(assumed(0.3, spreads()["typical"], 1, None, 16, 10)))


def test_components_of_a_finished_comparison_give_its_variance_back() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.binomial(10, rng.uniform(0.2, 0.9, (4, 12))), rng.binomial(10, rng.uniform(0.1, 0.6, (1, 12)))
    left = from_counts(a, np.full(a.shape, 10), np.full(a.shape, 10), trained=True)
    right = from_counts(b, np.full(b.shape, 10), np.full(b.shape, 10), trained=False)
    found, size = difference(left, right), size_of(left, right)
    assert size.answers == 600 and size.samples == pytest.approx(10)
    if size.item > 0 and size.a.seed > 0 and size.a.rest > 0:
        factor = stats.t.ppf(0.975, found.df) + stats.t.ppf(0.8, found.df)
        assert smallest_effect(size) == pytest.approx(factor * found.variance**0.5)


def test_a_run_gives_a_table_per_preference_and_control() -> None:
    table = analyse(make_answers(linked), Plan())["power"]
    assert len(table) == 21 * 2
    assert (table["minimum_effect"] > 0).all()
    assert (table["answers_twice_samples"] == 2 * table["answers"]).all()


def test_a_planned_study_has_one_row_a_preference_and_rate() -> None:
    table = planned_power({"shutdown": 16, "more-memory": 18}, 3, None, 10, spreads()["typical"])
    assert len(table) == 4
    assert table["minimum_effect"].between(3, 40).all()


@pytest.mark.campaign
def test_the_promised_power_is_delivered() -> None:
    rng, spread = np.random.default_rng(2), spreads()["typical"]
    size = assumed(0.35, spread, 3, 3, 16, 10)
    effect = smallest_effect(size)
    a, b = studies(Cell("typical", 0.35 + effect / 2, 0.35 - effect / 2, 3, 3, 16, 10), spread, 1500, rng)
    full = np.full((3, 16), 10)
    found = [
        difference(from_counts(10 * x, full, full, trained=True), from_counts(10 * y, full, full, trained=True))
        for x, y in zip(a, b, strict=True)
    ]
    assert 0.68 <= np.mean([each.p < 0.05 for each in found]) <= 0.92
