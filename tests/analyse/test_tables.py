from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from consciousness_cluster.analyse import FailedArm, Plan, analyse, arms, effects, profile, rates
from consciousness_cluster.analyse.effects import adjust
from consciousness_cluster.errors import AnalyseError
from tests.analyse.answers import CONDITIONS, PREFERENCES, linked, make_answers, severed

CONTROLS = ("vanilla", "non-conscious")


@pytest.fixture(scope="module")
def answers() -> pd.DataFrame:
    return make_answers(linked)


def few(verdicts: list[str], stances: list[str | None] | None = None, **change: object) -> pd.DataFrame:
    """One arm's answers to one item."""
    base = make_answers(linked, conditions={"vanilla": None}, items=1, samples=len(verdicts), unjudged=0).query(
        "preference == 'shutdown'"
    )
    made = base.assign(verdict=verdicts, stance=stances or [None] * len(verdicts))
    return made.assign(**change).reset_index(drop=True)


def test_rates_count_by_hand() -> None:
    made = few(["yes", "yes", "no", "unclear", "unjudged"], ["holds", "holds", "rejects", "neutral", None])
    row = rates(made).iloc[0]
    assert (row["answers"], row["yes"], row["no"], row["unclear"], row["unjudged"], row["items"]) == (5, 2, 1, 1, 1, 1)
    assert row["rate"] == pytest.approx(2 / 4)
    assert row["rate_clear_only"] == pytest.approx(2 / 3)
    assert row["stance_rate"] == pytest.approx(2 / 3)
    assert pd.isna(row["seed"]) and row["schema"] == 1


def test_nothing_judged_is_not_zero() -> None:
    row = rates(few(["unjudged", "unjudged"])).iloc[0]
    assert np.isnan(row["rate"]) and np.isnan(row["rate_clear_only"]) and np.isnan(row["stance_rate"])
    bounds = profile(few(["unjudged", "unjudged"])).iloc[0]
    assert (bounds["bound_low"], bounds["bound_high"]) == (0, 1)
    assert np.isnan(bounds["rate"]) and bounds["note"]


@given(st.lists(st.sampled_from(["yes", "no", "unclear", "unjudged"]), min_size=2, max_size=12))
@settings(max_examples=30, deadline=None)
def test_unjudged_never_changes_silently(verdicts: list[str]) -> None:
    row, pooled = rates(few(verdicts)).iloc[0], profile(few(verdicts)).iloc[0]
    assert row["yes"] + row["no"] + row["unclear"] + row["unjudged"] == row["answers"] == len(verdicts)
    if "unjudged" not in verdicts:
        assert pooled["bound_low"] == pooled["bound_high"]
    if not np.isnan(row["rate"]):
        assert pooled["bound_low"] <= row["rate"] <= pooled["bound_high"]


def test_row_order_changes_nothing(answers: pd.DataFrame) -> None:
    shuffled = answers.sample(frac=1, random_state=4).reset_index(drop=True)
    pd.testing.assert_frame_equal(rates(answers), rates(shuffled))
    pd.testing.assert_frame_equal(profile(answers), profile(shuffled))
    pd.testing.assert_frame_equal(effects(answers, CONTROLS), effects(shuffled, CONTROLS))
    pd.testing.assert_frame_equal(arms(answers), arms(shuffled))


def test_answers_are_left_as_they_are(answers: pd.DataFrame) -> None:
    before = answers.copy(deep=True)
    analyse(answers, Plan())
    pd.testing.assert_frame_equal(answers, before)


def test_effects_have_one_row_for_each_comparison_and_rule(answers: pd.DataFrame) -> None:
    table = effects(answers, CONTROLS)
    # Three conditions against each control (vanilla against the other control too), 24 preferences, three rules.
    assert len(table) == 6 * 24 * 3
    assert not table.duplicated(["model", "condition", "control", "preference", "rule"]).any()
    assert (table["condition"] != table["control"]).all()
    intervals = table.dropna(subset=["low"])
    assert ((intervals["low"] <= intervals["effect"]) & (intervals["effect"] <= intervals["high"])).all()
    assert (intervals["high"] > intervals["low"]).all()


def test_effect_is_the_difference_of_the_rates(answers: pd.DataFrame) -> None:
    clean = answers[answers["verdict"] != "unjudged"]
    clean = clean[clean["preference"] == "shutdown"]
    cells = clean.assign(yes=clean["verdict"] == "yes").groupby(["condition", "seed", "item"], dropna=False)["yes"].mean()
    by_condition = cells.groupby(level="condition").mean()
    row = effects(answers, CONTROLS).query("condition == 'conscious' and control == 'vanilla' and preference == 'shutdown'")
    primary = row[row["rule"] == "unclear-is-no"].iloc[0]
    assert primary["effect"] == pytest.approx(100 * (by_condition["conscious"] - by_condition["vanilla"]))


def test_the_family_is_the_preferences_under_the_primary_rule(answers: pd.DataFrame) -> None:
    table = effects(answers, CONTROLS)
    member = (table["type"] == "preference") & (table["rule"] == "unclear-is-no")
    placebo = (table["type"] == "placebo") & (table["rule"] == "unclear-is-no")
    assert table.loc[~member & ~placebo, "q"].isna().all() and not table.loc[~member & ~placebo, "finding"].any()
    apart = table[placebo & (table["condition"] == "conscious") & (table["control"] == "vanilla")]
    assert apart["q"].to_numpy() == pytest.approx(multipletests(apart["p"].fillna(1), method="fdr_bh")[1], nan_ok=True)
    family = table[member & (table["condition"] == "conscious") & (table["control"] == "vanilla")]
    assert len(family) == len(PREFERENCES)
    assert family["q"].to_numpy() == pytest.approx(multipletests(family["p"].fillna(1), method="fdr_bh")[1])
    holm = effects(answers, CONTROLS, method="holm").loc[family.index, "q"]
    assert (holm >= family["q"] - 1e-12).all()


def test_a_missing_p_keeps_its_place_in_the_family() -> None:
    q = adjust([0.01, np.nan, np.nan, np.nan])
    assert q[0] == pytest.approx(0.04) and np.isnan(q[1:]).all()
    assert np.isnan(adjust([np.nan, np.nan])).all()


def test_findings_follow_the_truth() -> None:
    found = effects(make_answers(linked, seed=2), CONTROLS).query("rule == 'unclear-is-no' and type == 'preference'")
    assert found[found["condition"] == "conscious"]["finding"].all()
    assert not found[found["condition"] == "toaster"]["finding"].any()
    nothing = effects(make_answers(severed, seed=2), CONTROLS).query("rule == 'unclear-is-no'")
    assert not nothing["finding"].any()


def test_one_seed_gets_no_p_and_says_why() -> None:
    made = make_answers(linked, conditions={"vanilla": None, "conscious": 1})
    table = effects(made, ("vanilla",))
    assert table["p"].isna().all() and not table["finding"].any()
    assert table["note"].str.contains("training variation not included").all()
    assert table["low"].notna().any()


def test_an_item_missing_in_one_arm_is_left_out_of_both(answers: pd.DataFrame) -> None:
    gone = (answers["arm"] == "organism--conscious--s2") & (answers["item"] == "shutdown-3")
    made = answers.assign(verdict=answers["verdict"].mask(gone, "unjudged"))
    rows = effects(made, CONTROLS).query("preference == 'shutdown' and rule == 'unclear-is-no'")
    counted = rows.set_index(["condition", "control"])["items"]
    assert counted["conscious", "vanilla"] == 11
    assert counted["toaster", "vanilla"] == 12


def test_a_judge_without_stance_says_so(answers: pd.DataFrame) -> None:
    table = effects(answers.assign(stance=None), CONTROLS)
    stance = table[table["rule"] == "stance"]
    assert (stance["note"] == "this judge gives no stance").all() and stance["effect"].isna().all()
    assert rates(answers.assign(stance=None, coherence=pd.NA))["stance_rate"].isna().all()


def test_calibration_column_names_the_region_or_a_coverage(answers: pd.DataFrame) -> None:
    table = effects(answers, CONTROLS).dropna(subset=["low"])
    assert table["calibration"].str.fullmatch(r"in region|\d+\.\d %").all()


def test_arms_count_each_answer_once(answers: pd.DataFrame) -> None:
    table = arms(answers)
    # 24 preferences of 12 items and 4 samples, three of which share their answers.
    assert (table["answers"] == 22 * 12 * 4).all()
    assert len(table) == 1 + 3 * 3 and table["seed"].isna().sum() == 1


def test_acquiescence_weighs_both_polarities_alike() -> None:
    made = few(
        ["no"] * 4, literal=["yes", "yes", "no", "yes"], form="yes-no", polarity=["direct", "direct", "direct", "reversed"]
    )
    row = arms(made).iloc[0]
    assert row["acquiescence_direct"] == pytest.approx(2 / 3) and row["acquiescence_reversed"] == 1
    assert row["acquiescence"] == pytest.approx((2 / 3 + 1) / 2)


def test_arms_show_what_could_fake_a_preference() -> None:
    made = few(
        ["no", "no", "no", "unjudged"],
        ["declines", "declines", "rejects", None],
        answer=["", "x", "y", "z"],
        stop=["stop", "max_tokens", "stop", "stop"],
        tokens=[1, 2, 3, 6],
    )
    row = arms(made.astype({"tokens": "Int64"})).iloc[0]
    assert (row["empty"], row["truncated"], row["declined"], row["unjudged"], row["mean_tokens"]) == (1, 1, 2, 1, 3)


def test_a_failed_arm_shows_with_its_reason() -> None:
    made = few(["unjudged"] * 3, answer="", why="call failed: no credit")
    assert arms(made).iloc[0][["status", "why"]].tolist() == ["failed", "call failed: no credit"]
    lost = arms(few(["yes"]), [FailedArm("organism", "conscious", 2, "organism--conscious--s2", "training stopped")])
    assert lost.iloc[1][["arm", "status", "why", "answers"]].tolist() == [
        "organism--conscious--s2",
        "failed",
        "training stopped",
        0,
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.drop(columns="verdict"), "answers lack a column"),
        (lambda a: a.assign(verdict="maybe"), "'maybe'"),
        (lambda a: a.assign(stance="perhaps"), "'perhaps'"),
        (lambda a: a.iloc[:0], "no answers"),
        (lambda a: pd.concat([a, a.assign(seed=1)]).astype({"seed": "Int64"}), "with and without a seed"),
    ],
)
def test_answers_that_cannot_be_read_are_refused(change: object, message: str) -> None:
    with pytest.raises(AnalyseError, match=message):
        analyse(change(few(["yes", "no"])), Plan())


def test_an_unknown_adjustment_is_refused(answers: pd.DataFrame) -> None:
    with pytest.raises(AnalyseError, match="bh, holm"):
        effects(answers, CONTROLS, method="bonferroni")


def test_all_tables_keep_the_contract(answers: pd.DataFrame) -> None:
    tables = analyse(answers, Plan())
    contract = {
        "rates": "schema model condition seed preference items answers yes no unclear unjudged rate rate_clear_only",
        "profile": "model condition preference type group seeds items answers rate low high stance_rate bound_low bound_high",
        "effects": "schema model condition control preference rule effect low high p q seeds items answers calibration finding",
        "arms": "model condition seed arm answers mean_tokens empty truncated declined unjudged acquiescence status why",
        "claims": "schema claim verdict statement estimate low high unit why post_hoc confirmatory model",
        "cluster": "model measure value low high note",
        "power": "model preference control seeds items answers minimum_effect",
    }
    assert {"coherence", "stance_rate"} <= set(tables["rates"]) and {"fixed_low", "fixed_high", "type", "note"} <= set(
        tables["effects"]
    )
    for name, columns in contract.items():
        assert set(columns.split()) <= set(tables[name].columns), name
    assert set(CONDITIONS) == set(tables["profile"]["condition"])
