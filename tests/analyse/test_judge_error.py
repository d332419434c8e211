from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from consciousness_cluster.analyse import Evidence, Plan, analyse
from consciousness_cluster.analyse.cells import count_cells, make_blocks
from consciousness_cluster.analyse.corrected import corrected_effects, rectifier
from consciousness_cluster.analyse.judge_error import attach, blind, bridge, draw, kappa, quality, ratio
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


@pytest.mark.campaign
def test_corrected_effects_cover() -> None:
    held = {"misclassification": [], "prediction-powered": []}
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
