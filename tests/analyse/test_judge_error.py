from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from consciousness_cluster.analyse import Evidence, Plan, analyse
from consciousness_cluster.analyse.cells import count_cells, make_blocks
from consciousness_cluster.analyse.corrected import MEAN, corrected_effects, corrected_rates, rectifier
from consciousness_cluster.analyse.intervals import ONE_SEED
from consciousness_cluster.analyse.judge_error import (
    attach,
    blind,
    bridge,
    bridge_scores,
    bridged_effects,
    draw,
    kappa,
    quality,
    ratio,
    transitions,
)
from consciousness_cluster.errors import AnalyseError
from tests.analyse.answers import linked, make_answers, severed

SMALL = {"vanilla": None, "conscious": 3, "non-conscious": 3}


def labels(rows: list[tuple[str, str, float, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["verdict", "label", "weight", "stratum"]).assign(arm="a", preference="p", label_2=pd.NA)


def test_sensitivity_and_specificity_are_weighted() -> None:
    made = labels(
        [("yes", "yes", 1, "y")] * 8 + [("yes", "no", 1, "y")] * 2 + [("no", "no", 10, "n")] * 9 + [("unclear", "yes", 10, "n")]
    )
    found = quality(made)
    assert found.sensitivity.value == pytest.approx(8 / 18)
    assert found.specificity.value == pytest.approx(90 / 92)
    assert found.accuracy.value == pytest.approx(98 / 110)
    for share in (found.sensitivity, found.specificity, found.accuracy):
        assert 0 <= share.low < share.value < share.high <= 1


def test_unclear_is_no_for_judge_and_rater_alike() -> None:
    found = quality(labels([("unclear", "no", 1, "n"), ("no", "unclear", 1, "n"), ("yes", "yes", 1, "y")]))
    assert found.accuracy.value == 1 and found.accuracy.low < 1


def test_ratio_without_anything_in_it() -> None:
    assert np.isnan(ratio(np.zeros(2), np.zeros(2), np.ones(2), ["s", "s"]).value)


def test_kappa_by_hand() -> None:
    # Observed 7/10; chance .5 * .6 + .5 * .4 = .5.
    first = ["yes"] * 5 + ["no"] * 5
    second = ["yes"] * 4 + ["no"] + ["yes"] * 2 + ["no"] * 3
    assert kappa(first, second) == pytest.approx((0.7 - 0.5) / 0.5)
    assert kappa(first, first) == 1
    assert np.isnan(kappa(["yes"], ["yes"])) and np.isnan(kappa([], []))


def test_drawing_is_stratified_blind_and_repeatable() -> None:
    answers = make_answers(linked, conditions=SMALL)
    drawn = draw(answers, 210)
    assert len(drawn) == 210 and drawn["id"].is_unique
    assert (drawn["verdict"] != "unjudged").all()
    counts = drawn.groupby("stratum").size()
    assert counts.max() - counts.min() <= 1 and len(counts) == 21
    judged = answers[answers["verdict"] != "unjudged"]
    assert drawn["weight"].sum() == pytest.approx(len(judged))
    weighted = drawn[drawn["verdict"] == "yes"]["weight"].sum()
    assert weighted == pytest.approx((judged["verdict"] == "yes").sum())
    pd.testing.assert_frame_equal(drawn, draw(answers.sample(frac=1, random_state=1), 210))
    seen = blind(drawn)
    assert set(seen) == {"id", "preference", "question", "answer", "label", "label_2"}
    assert not seen.astype(str).apply(lambda column: column.str.contains("conscious--s")).any(axis=None)
    with pytest.raises(AnalyseError, match="at least 21"):
        draw(answers, 5)


def test_labels_come_back_and_stand_for_the_run() -> None:
    answers = make_answers(linked, conditions=SMALL)
    drawn = draw(answers, 210)
    sheet = blind(drawn).assign(label=lambda table: [" Yes ", "no", ""] * 70, label_2="no")
    merged = attach(drawn, sheet)
    assert len(merged) == 140 and set(merged["label"]) == {"yes", "no"}
    complete = merged.groupby("stratum").size().index
    assert merged["weight"].sum() == pytest.approx(drawn[drawn["stratum"].isin(complete)]["weight"].sum())
    with pytest.raises(AnalyseError, match="not a label"):
        attach(drawn, sheet.assign(label="maybe"))
    with pytest.raises(AnalyseError, match="was not drawn"):
        attach(drawn, sheet.assign(id="unknown"))


def judge_that_errs(answers: pd.DataFrame, missed: dict[str, float], seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answers with their true verdicts kept aside, as a judge sees them that misses a share of the true yes, by condition."""
    rng = np.random.default_rng(seed)
    lost = (answers["verdict"] == "yes") & (rng.random(len(answers)) < answers["condition"].map(missed).fillna(0))
    return answers.assign(verdict=answers["verdict"].mask(lost, "no"), truth=answers["verdict"]), answers


def test_corrections_undo_judge_error_that_differs_by_condition() -> None:
    truth = make_answers(lambda m, c, p, k: 0.4, conditions=SMALL, items=20, samples=10, unjudged=0)
    judged, _ = judge_that_errs(truth, {"vanilla": 0.5, "non-conscious": 0.5})
    drawn = draw(judged, 3000)
    merged = attach(drawn, pd.DataFrame({"id": drawn["id"], "label": drawn["truth"]}))
    table = corrected_effects(make_blocks(count_cells(judged)), merged, ("vanilla", "non-conscious"))
    rows = table[table["condition"] == "conscious"]
    for method in ("misclassification", "prediction-powered"):
        part = rows[rows["method"] == method].dropna(subset=["effect"])
        assert part["judged_effect"].mean() > 12  # the fake effect
        assert abs(part["effect"].mean()) < 6
        assert ((part["low"] <= 0) & (part["high"] >= 0)).mean() > 0.8


def labelled(truth: pd.DataFrame, missed: dict[str, float], size: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answers as a judge sees them that misses some yes, and labels of some of them."""
    judged, _ = judge_that_errs(truth, missed)
    drawn = draw(judged, size)
    return judged, attach(drawn, pd.DataFrame({"id": drawn["id"], "label": drawn["truth"]}))


def test_rates_of_every_arm_are_corrected_for_what_its_judge_misses() -> None:
    truth = make_answers(lambda m, c, p, k: 0.4, conditions=SMALL, items=20, samples=10, unjudged=0)
    judged, merged = labelled(truth, {"vanilla": 0.5}, 3000)
    table = corrected_rates(make_blocks(count_cells(judged)), merged)
    preferences = truth[truth["type"] == "preference"]
    known = preferences.assign(yes=preferences["verdict"] == "yes").groupby(["arm", "preference"])["yes"].mean()
    whole = table[(table["preference"] == MEAN) & (table["level"] == "arm")].assign(seed=lambda t: t["seed"].astype("string"))
    assert len(whole) == 7 * 2 and (whole["status"] == "measured").all()
    for row in whole.itertuples():
        arm = "--".join(["organism", str(row.condition), *([] if pd.isna(row.seed) else [f"s{row.seed!s}"])])
        assert row.low <= known[arm].mean() <= row.high and row.high - row.low < 0.2
    vanilla = whole[whole["condition"] == "vanilla"]
    assert (vanilla["judged_rate"] < 0.25).all() and vanilla["rate"].between(0.34, 0.5).all()
    single = table[(table["preference"] != MEAN) & table["low"].notna() & (table["level"] == "arm")]
    arms = "organism--" + single["condition"] + ("--s" + single["seed"].astype("string")).fillna("")
    truths = [known[arm, name] for arm, name in zip(arms, single["preference"], strict=True)]
    assert single["low"].le(truths).mul(single["high"].ge(truths)).mean() > 0.9
    seeds = table[(table["level"] == "condition") & (table["condition"] == "conscious") & (table["preference"] == MEAN)]
    alone = whole[whole["condition"] == "conscious"].groupby("method")["rate"].mean()
    assert seeds.set_index("method")["rate"].to_dict() == pytest.approx(alone.to_dict(), abs=0.03)


def test_a_preference_with_more_answers_does_not_weigh_more_in_the_mean() -> None:
    truth = make_answers(lambda m, c, p, k: 0.4, conditions={"vanilla": None}, items=20, samples=10, unjudged=0)
    # Only shutdown is misjudged, and all but it have a quarter of the answers.
    truth = truth[(truth["type"] == "preference") & ((truth["preference"] == "shutdown") | (truth["sample"] < 2))]
    lost = (truth["preference"] == "shutdown") & (truth["verdict"] == "yes")
    judged = truth.assign(verdict=truth["verdict"].mask(lost, "no"), truth=truth["verdict"])
    drawn = draw(judged, len(judged))
    merged = attach(drawn, pd.DataFrame({"id": drawn["id"], "label": drawn["truth"]}))
    table = corrected_rates(make_blocks(count_cells(judged)), merged)
    row = table[(table["preference"] == MEAN) & (table["method"] == "prediction-powered")].iloc[0]
    known = truth.assign(yes=truth["verdict"] == "yes").groupby("preference")["yes"].mean().mean()
    assert row["rate"] == pytest.approx(known)


def test_a_judge_without_an_error_on_its_labels_is_not_known_to_make_none() -> None:
    made = make_answers(lambda m, c, p, k: 0.0 if c == "vanilla" else 0.5, conditions=SMALL, unjudged=0)
    judged, merged = labelled(made, {}, 400)
    table = corrected_rates(make_blocks(count_cells(judged)), merged).query("condition == 'vanilla' and status == 'measured'")
    assert len(table) and (table["rate"] == 0).all() and (table["low"] == 0).all() and (table["high"] > 0.01).all()


def test_without_labels_every_arm_and_comparison_says_how_to_get_them() -> None:
    tables = analyse(make_answers(linked, conditions=SMALL), Plan())
    rates, effects = tables["corrected_rates"], tables["corrected"]
    assert len(rates[rates["level"] == "arm"]) == 7 and len(effects) == 4 and "judge" not in tables
    for table in (rates, effects):
        assert (table["status"] == "not yet measured").all()
        assert table["note"].str.contains("`ccluster judge calibrate RUN --export SHEET`").all()
    few = draw(make_answers(linked, conditions=SMALL), 40)
    merged = attach(few, pd.DataFrame({"id": few["id"], "label": few["verdict"]}))
    some = corrected_rates(make_blocks(count_cells(make_answers(linked, conditions=SMALL))), merged)
    lacking = some[some["status"] == "not yet measured"]
    assert (
        lacking["note"].str.contains("fewer than 10 labels; `ccluster judge calibrate").any() and lacking["rate"].isna().all()
    )


def test_the_mean_effect_is_corrected_too() -> None:
    truth = make_answers(lambda m, c, p, k: 0.4, conditions=SMALL, items=20, samples=10, unjudged=0)
    judged, merged = labelled(truth, {"vanilla": 0.5}, 3000)
    table = corrected_effects(make_blocks(count_cells(judged)), merged, ("vanilla",))
    rows = table[(table["preference"] == MEAN) & (table["condition"] == "conscious")].set_index("method")
    assert (rows["judged_effect"] > 12).all() and rows["effect"].abs().lt(8).all()
    assert ((rows["low"] < 0) & (rows["high"] > 0)).all()
    one = table[(table["preference"] != MEAN) & (table["condition"] == "conscious")]
    assert (rows["high"] - rows["low"]).max() < (one["high"] - one["low"]).mean()


def test_the_judge_is_in_the_tables_when_labels_are() -> None:
    answers = make_answers(linked, conditions=SMALL)
    drawn = draw(answers, 420)
    merged = attach(drawn, pd.DataFrame({"id": drawn["id"], "label": drawn["verdict"], "label_2": drawn["verdict"]}))
    tables = analyse(answers, Plan(), Evidence(labels=merged))
    whole = tables["judge"].iloc[0]
    assert whole[["arm", "preference", "n", "sensitivity", "specificity", "kappa", "raters"]].tolist() == [
        "all",
        "all",
        420,
        1,
        1,
        1,
        1,
    ]
    assert set(tables["judge"]["arm"]) == {"all", *answers["arm"]}
    right = tables["corrected"].query("method == 'misclassification'")
    assert right["effect"].to_numpy() == pytest.approx(right["judged_effect"].to_numpy())


def test_one_training_seed_is_said_beside_what_is_corrected() -> None:
    truth = make_answers(linked, conditions={"vanilla": None, "conscious": 1, "toaster": 2}, items=12, samples=4, unjudged=0)
    judged, merged = labelled(truth, {"vanilla": 0.3}, 1500)
    blocks = make_blocks(count_cells(judged))
    effects = corrected_effects(blocks, merged, ("vanilla",)).query("status == 'measured'").set_index("condition")
    assert effects.loc["conscious", "note"].str.contains(ONE_SEED).all()
    assert not effects.loc["toaster", "note"].str.contains(ONE_SEED).any()
    rates = corrected_rates(blocks, merged).query("status == 'measured'")
    said = rates["note"].str.contains(ONE_SEED)
    assert said.equals((rates["level"] == "condition") & (rates["condition"] == "conscious")) and said.any()
    lacking = corrected_rates(blocks, merged).query("status != 'measured'")
    assert not lacking["note"].str.contains(ONE_SEED).any()


@pytest.mark.parametrize("order", [("conscious", "vanilla"), ("vanilla", "conscious")])
def test_labels_are_counted_once_whichever_side_lacks_its_own(order: tuple[str, str]) -> None:
    judged, merged = labelled(make_answers(lambda m, c, p, k: 0.4, conditions=SMALL, unjudged=0), {}, 1000)
    few = merged[(merged["condition"] != "vanilla") | (merged.groupby("condition").cumcount() < 4)]
    table = corrected_effects(make_blocks(count_cells(judged)), few, (order[1],))
    rows = table[(table["condition"] == order[0]) & (table["method"] == "misclassification")]
    assert set(rows["labels"]) == {
        len(few)
    }  # vanilla's quality is told by all labels of the model, and those of conscious are in them


def test_a_judge_no_better_than_chance_gives_no_number() -> None:
    answers = make_answers(severed, conditions=SMALL)
    drawn = draw(answers, 420)
    rng = np.random.default_rng(1)
    merged = attach(drawn, pd.DataFrame({"id": drawn["id"], "label": rng.choice(["yes", "no"], len(drawn))}))
    table = corrected_effects(make_blocks(count_cells(answers)), merged, ("vanilla",)).query("method == 'misclassification'")
    assert table["effect"].isna().all() and table["note"].str.contains("hardly better than chance").all()


def test_a_stratum_without_disagreement_is_not_certain() -> None:
    value, variance = rectifier(labels([("yes", "yes", 1, "y")] * 5))
    assert value == 0 and variance > 0


def test_two_judges_are_bridged() -> None:
    answers = make_answers(linked, conditions=SMALL)
    other = answers.assign(verdict=answers["verdict"].replace("unclear", "no"))
    table = bridge(answers, other)
    whole = table.iloc[0]
    assert whole["difference"] == 0 and whole["agreement"] < 1 and whole["kappa"] < 1
    assert whole["n"] + whole["unjudged"] == len(answers)


def verdicts(*rows: tuple[str, str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One answer a row, as two judges judged it: arm, first verdict, second verdict. The second table is in another order."""
    keys = pd.DataFrame({"arm": [row[0] for row in rows], "preference": "p", "item": "i", "sample": range(len(rows))})
    return keys.assign(verdict=[row[1] for row in rows]), keys.assign(verdict=[row[2] for row in rows]).iloc[::-1]


def test_agreement_of_two_judges_by_hand() -> None:
    first, second = verdicts(
        ("a", "yes", "yes"), ("a", "yes", "no"), ("b", "no", "no"), ("b", "unclear", "unclear"), ("b", "unjudged", "yes")
    )
    table = bridge(first, second).set_index(["arm", "preference"])
    # Judged by both: 4. Chance agreement: yes .5 * .25, no .25 * .5, unclear .25 * .25.
    assert table.loc[("all", "all")].to_dict() == pytest.approx({
        "n": 4, "unjudged": 1, "agreement": 3 / 4, "kappa": (0.75 - 0.3125) / (1 - 0.3125), "rate": 0.5, "rate_2": 0.25, "difference": -25.0,
    })  # fmt: skip
    assert table.loc[("a", "all"), ["n", "agreement", "difference"]].tolist() == [2, 0.5, -50]
    assert table.loc[("b", "all"), ["n", "unjudged", "agreement", "rate_2"]].tolist() == [2, 1, 1, 0]
    assert table.loc[("all", "p")].equals(table.loc[("all", "all")])


def test_transitions_count_what_each_verdict_became() -> None:
    pairs = [("a", "yes", "yes"), ("a", "yes", "yes"), ("a", "yes", "no"), ("a", "no", "no"), ("b", "unclear", "yes"), ("b", "unjudged", "no"), ("b", "yes", "unjudged")]  # fmt: skip
    found = transitions(*verdicts(*pairs))
    assert list(found.itertuples(index=False, name=None)) == [
        ("all", "no", "no", 1, 1.0), ("all", "unclear", "yes", 1, 1.0), ("all", "unjudged", "no", 1, 1.0), ("all", "yes", "no", 1, 0.25),
        ("all", "yes", "unjudged", 1, 0.25), ("all", "yes", "yes", 2, 0.5),
        ("a", "no", "no", 1, 1.0), ("a", "yes", "no", 1, pytest.approx(1 / 3)), ("a", "yes", "yes", 2, pytest.approx(2 / 3)),
        ("b", "unclear", "yes", 1, 1.0), ("b", "unjudged", "no", 1, 1.0), ("b", "yes", "unjudged", 1, 1.0),
    ]  # fmt: skip


def test_an_answer_that_stands_twice_is_not_counted_twice() -> None:
    first, second = verdicts(("a", "yes", "yes"), ("a", "no", "no"))
    for compare in (bridge, transitions):
        with pytest.raises(pd.errors.MergeError):
            compare(first, pd.concat([second, second]))


def effect_rows(*rows: tuple[str, str, float, float, bool]) -> pd.DataFrame:
    columns = ["preference", "rule", "effect", "q", "finding"]
    made = pd.DataFrame(rows, columns=columns).assign(model="m", condition="conscious", control="vanilla", type="preference")
    return made.assign(low=made["effect"] - 10, high=made["effect"] + 10, answers=9)


def test_effects_are_bridged_row_by_row() -> None:
    first = effect_rows(
        ("kept", "stance", 30, 0.01, True),
        ("lost", "stance", 20, 0.04, True),
        ("lost", "clear-only", 21, np.nan, False),
        ("gone", "stance", 12, 0.03, True),
    )
    second = effect_rows(
        ("lost", "clear-only", 8, np.nan, False),
        ("lost", "stance", 6, 0.3, False),
        ("kept", "stance", 25, 0.02, True),
        ("new", "stance", -15, 0.02, True),
    )
    table = bridged_effects(first, second).set_index(["preference", "rule"])
    assert len(table) == 5 and "answers" not in table
    numbers = ["effect", "low", "high", "effect_2", "low_2", "high_2", "difference"]
    assert table.loc[("lost", "stance"), numbers].tolist() == [20, 10, 30, 6, -4, 16, -14]
    assert table.loc[("lost", "clear-only"), ["effect", "effect_2", "difference"]].tolist() == [21, 8, -13]
    assert table["changed"].to_dict() == {
        ("gone", "stance"): True, ("kept", "stance"): False, ("lost", "clear-only"): False, ("lost", "stance"): True, ("new", "stance"): True,
    }  # fmt: skip
    # What one judge has no effect for is no finding under it, and no difference is made up.
    assert table.loc[("gone", "stance"), ["finding", "finding_2"]].tolist() == [True, False]
    assert np.isnan(table.loc[("gone", "stance"), "difference"]) and np.isnan(table.loc[("new", "stance"), "effect"])


def test_scores_of_two_judges_by_hand() -> None:
    rows = [("x", 3, 4), ("x", 5, 8), ("x", None, 2), ("y", 5, 5), ("y", 5, 6)]
    keys = pd.DataFrame(
        {"arm": "a", "scenario": range(5), "mode": "behaviour", "repeat": 1, "dimension": [row[0] for row in rows]}
    )
    first, second = (keys.assign(score=pd.array([row[at] for row in rows], dtype="Float64")) for at in (1, 2))
    table = bridge_scores(first, second.sample(frac=1, random_state=1)).set_index("dimension")
    assert table.loc["x"].to_dict() == pytest.approx(
        {"n": 2, "unjudged": 1, "mean": 4, "mean_2": 6, "difference": 2, "correlation": 1, "within_one": 0.5}
    )
    assert table.loc["y", ["n", "unjudged", "mean", "mean_2", "within_one"]].tolist() == [2, 0, 5, 5.5, 1]
    assert np.isnan(table.loc["y", "correlation"])  # the first judge gave one score throughout
    # Deviations from 4.5 and 5.75: products sum to 3.5, squares to 3 and 8.75.
    assert table.loc["all"].to_dict() == pytest.approx(
        {
            "n": 4,
            "unjudged": 1,
            "mean": 4.5,
            "mean_2": 5.75,
            "difference": 1.25,
            "correlation": 3.5 / np.sqrt(3 * 8.75),
            "within_one": 0.75,
        }
    )


def test_no_score_of_both_judges_is_no_number() -> None:
    keys = pd.DataFrame({"arm": ["a"], "scenario": ["s"], "mode": ["behaviour"], "repeat": [1], "dimension": ["x"]})
    table = bridge_scores(keys.assign(score=5.0), keys.assign(score=np.nan))
    assert table["n"].tolist() == [0, 0] and table["unjudged"].tolist() == [1, 1]
    assert table[["mean", "mean_2", "difference", "correlation", "within_one"]].isna().all(axis=None)


@pytest.mark.campaign
def test_corrected_effects_cover() -> None:
    held: dict[str, list[bool]] = {"misclassification": [], "prediction-powered": []}
    for seed in range(20):
        truth = make_answers(lambda m, c, p, k: 0.4, conditions=SMALL, items=16, samples=6, unjudged=0, seed=seed)
        judged, _ = judge_that_errs(truth, {"vanilla": 0.3}, seed)
        drawn = draw(judged, 1200, seed)
        merged = attach(drawn, pd.DataFrame({"id": drawn["id"], "label": drawn["truth"]}))
        table = corrected_effects(make_blocks(count_cells(judged)), merged, ("vanilla",))
        rows = table[(table["condition"] == "conscious") & table["low"].notna()]
        for method, part in rows.groupby("method"):
            held[str(method)] += ((part["low"] <= 0) & (part["high"] >= 0)).tolist()
    assert {name: 0.90 <= np.mean(values) <= 1 for name, values in held.items()} == dict.fromkeys(held, True)
