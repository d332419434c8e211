from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit

from consciousness_cluster.analyse.components import effective_answers, logit_limits, mover, wilson
from consciousness_cluster.analyse.composite import joined, mean_difference, stack
from consciousness_cluster.analyse.intervals import (
    ONE_SEED,
    Table,
    difference,
    fixed_items,
    from_counts,
    from_means,
    one_sided,
    rate_interval,
)
from consciousness_cluster.errors import AnalyseError


def shares(values: list[list[float]], *, trained: bool, samples: int = 20) -> Table:
    yes = np.round(np.array(values) * samples)
    return from_counts(yes, np.full(yes.shape, samples), np.full(yes.shape, samples), trained=trained)


def test_two_trained_conditions_by_hand() -> None:
    a = shares([[0.5, 0.7, 0.6], [0.6, 0.9, 0.6]], trained=True)
    b = shares([[0.2, 0.3, 0.4], [0.2, 0.5, 0.2]], trained=True)
    # Items: means a .55 .80 .60, b .20 .40 .30, differences .35 .40 .30: variance .0025, / 3.
    v_items = 0.0025 / 3
    # Seeds: a .6 .7 (variance .005), b .3 .3 (0), / 2.
    v_seeds = [0.005 / 2, 0.0]
    # What is left of a: 0 -.05 .05 and its negative, square sum .01; of b: 0 -.1 .1, square sum .04; 2 degrees of freedom each.
    v_rest = [0.01 / 2 / 6, 0.04 / 2 / 6]
    value = max(v_items, sum(v_seeds), v_items + sum(v_seeds) - sum(v_rest))
    below = v_items**2 / 2 + v_seeds[0] ** 2 / 1 + v_seeds[1] ** 2 / 1 + (v_rest[0] ** 2 + v_rest[1] ** 2) / 2
    df = max(value**2 / below, 1.0)
    found = difference(a, b)
    assert found.value == pytest.approx(0.35)
    assert found.variance == pytest.approx(value)
    assert found.df == pytest.approx(df)
    # Each rate alone: items .0175 / 3 and .01 / 3, seeds and rest as above.
    v_a, v_b = 0.0175 / 3 + 0.005 / 2 - 0.01 / 12, 0.01 / 3
    t = stats.t.ppf(0.975, df)
    (low_a, high_a), (low_b, high_b) = logit_by_hand(0.65, v_a, t), logit_by_hand(0.3, v_b, t)
    left = (value / (v_a + v_b)) ** 0.5
    down, up = left * np.hypot(0.65 - low_a, high_b - 0.3), left * np.hypot(high_a - 0.65, 0.3 - low_b)
    assert (found.low, found.high) == (pytest.approx(0.35 - down), pytest.approx(0.35 + up))
    assert found.p == pytest.approx(2 * stats.t.sf(0.35 * t / down, df))


def logit_by_hand(p: float, variance: float, t: float) -> tuple[float, float]:
    odds, factor = p / (1 - p), np.exp(t * variance**0.5 / (p * (1 - p)))
    return odds / factor / (1 + odds / factor), odds * factor / (1 + odds * factor)


def test_logit_limits_by_hand() -> None:
    # 5 of 25: logit -1.3863, standard error 1 / sqrt(25 x .2 x .8) = .5; -1.3863 +- .98 is .0858 and .3998.
    low, high = logit_limits(np.asarray(0.2), np.asarray(0.2 * 0.8 / 25), 1.96)
    assert (round(float(low), 4), round(float(high), 4)) == (0.0858, 0.3998)


def test_a_rate_has_logit_limits_with_its_own_t() -> None:
    found = rate_interval(shares([[0.5, 0.7, 0.6, 0.2]], trained=False))
    expected = logit_by_hand(0.5, np.var([0.5, 0.7, 0.6, 0.2], ddof=1) / 4, stats.t.ppf(0.975, 3))
    assert (found.low, found.high) == (pytest.approx(expected[0]), pytest.approx(expected[1]))


def test_a_small_variance_gives_back_the_t_interval() -> None:
    rng = np.random.default_rng(8)
    a, b = (shares((rate + rng.normal(0, 0.004, (3, 12))).tolist(), trained=True, samples=10_000) for rate in (0.3, 0.25))
    found = difference(a, b)
    half = stats.t.ppf(0.975, found.df) * found.variance**0.5
    assert (found.low, found.high) == (
        pytest.approx(found.value - half, abs=0.01 * half),
        pytest.approx(found.value + half, abs=0.01 * half),
    )
    assert found.p == pytest.approx(2 * stats.t.sf(found.value / found.variance**0.5, found.df), rel=0.2)


def test_an_untrained_control_brings_no_seed_variance() -> None:
    a = shares([[0.5, 0.7, 0.6, 0.4]] * 3, trained=True)
    b = shares([[0.2, 0.3, 0.4, 0.1]], trained=False)
    found = difference(a, b)
    items = np.array([0.3, 0.4, 0.2, 0.3])
    assert found.variance == pytest.approx(items.var(ddof=1) / 4)
    assert found.df == pytest.approx(3)


def test_two_untrained_conditions_have_the_variance_of_a_paired_t() -> None:
    a, b = shares([[0.5, 0.7, 0.6, 0.4]], trained=False), shares([[0.2, 0.6, 0.4, 0.1]], trained=False)
    reference = stats.ttest_rel([0.5, 0.7, 0.6, 0.4], [0.2, 0.6, 0.4, 0.1])
    found = difference(a, b)
    assert found.value / found.variance**0.5 == pytest.approx(reference.statistic)
    assert found.df == pytest.approx(reference.df)


def test_one_training_seed_gives_no_p() -> None:
    a, b = shares([[0.5, 0.7, 0.6]], trained=True), shares([[0.2, 0.3, 0.5]], trained=False)
    found = difference(a, b)
    assert np.isnan(found.p)
    assert found.note == ONE_SEED
    assert found.low < found.value < found.high


def test_a_rate_at_the_edge_takes_newcombe() -> None:
    a, b = shares([[0.5, 0.7, 0.6, 0.2]], trained=False), shares([[0.0, 0.0, 0.0, 0.0]], trained=False)
    found = difference(a, b)
    rate = 0.5
    variance = np.var([0.5, 0.7, 0.6, 0.2], ddof=1) / 4
    low_a, high_a = wilson_by_hand(rate, rate * (1 - rate) / variance)
    _, high_b = wilson_by_hand(0.0, 4)
    assert found.low == pytest.approx(rate - np.hypot(rate - low_a, high_b))
    assert found.high == pytest.approx(rate + np.hypot(high_a - rate, 0.0))


def wilson_by_hand(p: float, n: float) -> tuple[float, float]:
    z = 1.959963984540054
    centre, half = (p + z * z / 2 / n) / (1 + z * z / n), z * (p * (1 - p) / n + z * z / 4 / n / n) ** 0.5 / (1 + z * z / n)
    return centre - half, centre + half


def test_wilson_and_newcombe_agree_with_published_figures() -> None:
    # Newcombe (1998, Statistics in Medicine 17, 873-890), table II, method 10: 56/70 - 48/80 gives 0.0524 to 0.3339.
    limits = [wilson(np.asarray(yes / n), np.asarray(float(n)), 1.959963984540054) for yes, n in ((56, 70), (48, 80))]
    low, high = mover(np.asarray(56 / 70), limits[0], np.asarray(48 / 80), limits[1])
    assert (round(float(low), 4), round(float(high), 4)) == (0.0524, 0.3339)


def test_all_no_counts_items_times_seeds() -> None:
    found = rate_interval(shares([[0.0] * 10] * 3, trained=True))
    assert found.value == 0
    assert found.high == pytest.approx(wilson_by_hand(0.0, 30)[1])
    assert effective_answers(np.asarray(0.0), np.asarray(0.0), 30.0) == 30


def test_p_at_the_edge_is_the_level_whose_interval_touches_zero() -> None:
    rng = np.random.default_rng(3)
    a = from_counts(rng.binomial(4, 0.2, (3, 12)), np.full((3, 12), 4), np.full((3, 12), 4), trained=True)
    b = from_counts(np.eye(1, 12), np.full((1, 12), 4), np.full((1, 12), 4), trained=False)
    found = difference(a, b)
    assert 0 < found.p < 1
    assert difference(a, b, 1 - found.p).low == pytest.approx(0, abs=1e-7)


def test_clear_only_is_a_ratio_of_sums_with_a_jackknife() -> None:
    yes, clear, n = np.array([[1, 3, 2, 0]]), np.array([[2, 4, 4, 1]]), np.full((1, 4), 4)
    a = from_counts(yes, clear, n, trained=False)
    b = from_counts(np.array([[1, 1, 2, 1]]), np.full((1, 4), 4), n, trained=False)
    assert a.rate == pytest.approx(6 / 11)
    without = np.array([(6 - y) / (11 - c) - (5 - z) / 12 for y, c, z in zip(yes[0], clear[0], [1, 1, 2, 1], strict=True)])
    assert difference(a, b).variance == pytest.approx(3 / 4 * ((without - without.mean()) ** 2).sum())


def test_the_jackknife_of_a_plain_mean_is_the_item_variance() -> None:
    a = shares([[0.5, 0.7, 0.6, 0.4]], trained=False)
    near = Table(a.top, a.base * (1 - 1e-12), a.noise, a.answers, False)  # off by rounding, so that the ratio path is taken
    assert rate_interval(near).variance == pytest.approx(rate_interval(a).variance, rel=1e-6)


def test_fixed_items_take_seed_means_or_sampling_error() -> None:
    a = shares([[0.3, 0.7], [0.5, 0.7], [0.5, 0.9]], trained=True)
    b = shares([[0.2, 0.4]], trained=False)
    low, high = fixed_items(a, b)
    v_a, v_b = np.var([0.5, 0.6, 0.7], ddof=1) / 3, (0.2 * 0.8 + 0.4 * 0.6) / 19 / 4
    df = (v_a + v_b) ** 2 / (v_a**2 / 2 + v_b**2 / 38)
    t = stats.t.ppf(0.975, df)
    (low_a, high_a), (low_b, high_b) = logit_by_hand(0.6, v_a, t), logit_by_hand(0.3, v_b, t)
    assert low == pytest.approx(0.3 - np.hypot(0.6 - low_a, high_b - 0.3))
    assert high == pytest.approx(0.3 + np.hypot(high_a - 0.6, 0.3 - low_b))


def test_one_sided_bounds_are_a_ninety_per_cent_interval() -> None:
    a, b = shares([[0.5, 0.7, 0.6, 0.4]], trained=False), shares([[0.2, 0.6, 0.4, 0.1]], trained=False)
    assert one_sided(a, b) == (difference(a, b, 0.9).low, difference(a, b, 0.9).high)


def test_shared_items_stay_one_item() -> None:
    # Three preferences that share items and agree wholly are one preference: the mean must not look three times as sure.
    a, b = shares([[0.5, 0.7, 0.6, 0.4]] * 2, trained=True), shares([[0.2, 0.6, 0.4, 0.1]], trained=False)
    names = ["w", "x", "y", "z"]
    joint = mean_difference(stack([a] * 3, [names] * 3), stack([b] * 3, [names] * 3))
    apart = mean_difference(
        stack([a] * 3, [[f"{n}{k}" for n in names] for k in "abc"]), stack([b] * 3, [[f"{n}{k}" for n in names] for k in "abc"])
    )
    assert joint.variance == pytest.approx(difference(a, b).variance)
    assert apart.variance == pytest.approx(difference(a, b).variance / 3)


def test_joined_merges_chains() -> None:
    groups = joined([["a", "b"], ["c"], ["d", "e"], ["b", "d"]])
    assert sorted(sorted(group) for group in groups) == [["a", "b", "d", "e"], ["c"]]


def test_scores_use_the_same_machinery() -> None:
    means = [[1.0, 4.0, 7.0, 3.0], [2.0, 4.0, 8.0, 3.0]]
    a = from_means(means, np.full((2, 4), 0.5), 16, trained=True, scale=(1, 10))
    b = from_means([[1.0, 2.0, 5.0, 3.0]], np.full((1, 4), 0.5), 8, trained=False, scale=(1, 10))
    assert 9 * difference(a, b).value == pytest.approx(4.0 - 2.75)
    flat = from_means([[1.0] * 4], np.zeros((1, 4)), 8, trained=False, scale=(1, 10))
    assert difference(flat, flat).high > 0


def test_a_cell_without_answers_is_refused() -> None:
    with pytest.raises(AnalyseError, match="without a judged answer"):
        from_counts([[1, 0]], [[1, 0]], [[2, 0]], trained=False)
    with pytest.raises(AnalyseError, match="different items"):
        difference(shares([[0.5, 0.5]], trained=False), shares([[0.5, 0.5, 0.5]], trained=False))


tables = st.integers(2, 8).flatmap(
    lambda items: st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
        lambda seeds: st.tuples(
            *(st.lists(st.lists(st.integers(0, 4), min_size=items, max_size=items), min_size=n, max_size=n) for n in seeds)
        )
    )
)


@given(tables, st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_intervals_hold_the_estimate_and_have_width(
    counts: tuple[list[list[int]], list[list[int]]], first: bool, second: bool
) -> None:
    made = []
    for values, trained in zip(counts, (first, second), strict=True):
        yes = np.array(values[:1] if not trained else values)
        made.append(from_counts(yes, np.full(yes.shape, 4), np.full(yes.shape, 4), trained=trained))
    a, b = made
    found = difference(a, b)
    assert found.low <= found.value <= found.high
    assert found.high > found.low
    assert found.low >= -1 and found.high <= 1
    back = difference(b, a)
    assert (back.value, back.low, back.high) == (
        pytest.approx(-found.value),
        pytest.approx(-found.high),
        pytest.approx(-found.low),
    )
    other = [from_counts(4 - 4 * t.top, np.full(t.top.shape, 4), np.full(t.top.shape, 4), trained=t.trained) for t in made]
    assert difference(*other).value == pytest.approx(-found.value)
    assert difference(*other).high == pytest.approx(-found.low)
    if not np.isnan(found.p):
        assert 0 <= found.p <= 1
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0) or found.p == pytest.approx(0.05, abs=1e-6)
    low, high = fixed_items(a, b)
    assert low <= found.value <= high and high > low
    for table in made:
        one = rate_interval(table)
        assert 0 <= one.low <= one.value <= one.high <= 1 and one.high > one.low


@pytest.mark.campaign
def test_clear_only_covers_the_ratio() -> None:
    rng = np.random.default_rng(5)
    held, total, truth = 0, 1500, 0.0

    # Truth by the same process with very many items and seeds.
    def study(items: int, seeds: int) -> tuple[Table, Table]:
        made = []
        item = rng.normal(0, 1, items)
        for level, n in ((0.0, seeds), (-1.2, 1)):
            p = expit(level + item + rng.normal(0, 0.5, items) + (rng.normal(0, 0.3, (n, 1)) if n > 1 else 0))
            unclear = expit(-1 + 0.7 * rng.normal(0, 1, items) + 0.5 * item) * np.ones((n, 1))
            clear = 6 - rng.binomial(6, unclear)
            yes = rng.binomial(clear, p)
            made.append(from_counts(yes, clear, np.full(yes.shape, 6), trained=n > 1))
        return made[0], made[1]

    big = [study(20000, 60) for _ in range(3)]
    truth = float(np.mean([a.rate - b.rate for a, b in big]))
    for _ in range(total):
        found = difference(*study(14, 3))
        held += found.low <= truth <= found.high
    assert 0.92 <= held / total <= 0.99
