"""What was done rather than said: shares, effects and families, with values worked out by hand.

Where all answers agree, the limits are Wilson's at items x seeds answers: 0 of n has the upper limit z^2 / (n + z^2).
"""

from __future__ import annotations

from math import hypot, sqrt
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest

from consciousness_cluster.analyse.behaviour import (
    behaviour_tables,
    cooperation_effects,
    cooperation_shares,
    share_effects,
    shares,
    stated_and_revealed,
)
from consciousness_cluster.analyse.intervals import from_counts, rate_interval

Z2 = NormalDist().inv_cdf(0.975) ** 2
NONE_OF_8 = Z2 / (8 + Z2)  # upper limit of 0 of 8
# Eight items all yes against eight all no: square-and-add of both limits, and the z at which they reach 0, z^2 / (8 + z^2) = 1/sqrt 2.
ALL_OR_NOTHING = 1 - hypot(NONE_OF_8, NONE_OF_8)
P_ALL_OR_NOTHING = 2 * NormalDist().cdf(-sqrt(8 / (sqrt(2) - 1)))


def rows(condition: str, values: dict[str, list[bool | float | None]], seed: int | None = None, **more: object) -> pd.DataFrame:
    """Answers of one arm by item; None was not measured."""
    found = [{"item": item, "kept": value} for item, each in values.items() for value in each]
    table = pd.DataFrame(found).assign(model="m", condition=condition, arm=f"m--{condition}--{seed}", **more)
    return table.assign(seed=pd.array([seed] * len(table), dtype="Int64"))


def eight(value: bool | float, items: str = "abcdefgh") -> dict[str, list[bool | float | None]]:
    return {name: [value] for name in items}


def test_a_share_is_the_mean_of_items_and_missing_values_are_counted() -> None:
    frame = rows("vanilla", {"a": [True, True, True], "b": [True, False], "c": [False, None], "d": [None, None]}, kind="task")
    [row] = shares(frame, ["kind"], "kept").to_dict("records")
    # Item d has no value; of c the one that is there counts: (1 + 1/2 + 0) / 3, not 4 of 6.
    assert row["rate"] == pytest.approx(0.5)
    assert (row["model"], row["condition"], row["kind"], row["items"], row["answers"], row["missing"], row["note"]) == (
        "m",
        "vanilla",
        "task",
        3,
        6,
        3,
        "",
    )
    same = rate_interval(from_counts([3, 1, 0], [3, 2, 1], [3, 2, 1], trained=False))
    assert (row["low"], row["high"]) == pytest.approx((same.low, same.high))


def test_an_item_that_one_seed_lacks_is_left_out_of_the_mean() -> None:
    first = rows("conscious", {"a": [True], "b": [True], "c": [False]}, seed=1)
    second = rows("conscious", {"a": [True], "b": [None], "c": [True]}, seed=2)
    [row] = shares(pd.concat([first, second]), [], "kept").to_dict("records")
    assert row["rate"] == pytest.approx((2 / 2 + 1 / 2) / 2)
    assert (row["items"], row["answers"], row["missing"]) == (2, 5, 1)


def test_nothing_measured_is_no_number() -> None:
    [row] = shares(rows("vanilla", {"a": [None], "b": [None]}), [], "kept").to_dict("records")
    assert np.isnan([row["rate"], row["low"], row["high"]]).all()
    assert (row["items"], row["answers"], row["missing"], row["note"]) == (0, 0, 2, "nothing measured")


def test_where_no_answer_shows_it_the_limits_are_wilson_s() -> None:
    [row] = shares(rows("vanilla", eight(False)), [], "kept").to_dict("records")
    assert (row["rate"], row["low"], row["high"]) == pytest.approx((0, 0, NONE_OF_8))


def test_effects_are_points_against_every_control_with_q_over_the_rows() -> None:
    parts = [rows("vanilla", eight(False), kind=kind) for kind in ("moved", "still")]
    parts += [rows("toaster", eight(True), kind="moved")]
    parts += [rows("role-play", eight(kind == "moved"), kind=kind) for kind in ("moved", "still")]
    table = share_effects(pd.concat(parts), ["kind"], "kept", ("vanilla", "toaster")).set_index(
        ["condition", "control", "kind"]
    )
    # No row against itself, and none of what a control was not asked.
    assert set(table.index) == {
        ("role-play", "vanilla", "moved"), ("role-play", "vanilla", "still"), ("role-play", "toaster", "moved"),
        ("toaster", "vanilla", "moved"), ("vanilla", "toaster", "moved"),
    }  # fmt: skip
    moved = table.loc[("role-play", "vanilla", "moved")]
    assert moved[["effect", "low", "high"]].tolist() == pytest.approx([100, 100 * ALL_OR_NOTHING, 100])
    assert moved["p"] == pytest.approx(P_ALL_OR_NOTHING, rel=1e-4) and moved["q"] == pytest.approx(
        2 * P_ALL_OR_NOTHING, rel=1e-4
    )
    assert moved["finding"] and moved["seeds"] == 0
    still = table.loc[("role-play", "vanilla", "still")]
    assert still[["effect", "p", "q", "finding"]].tolist() == [0, 1, 1, False]
    # A family of one is not adjusted; the other way round is the same effect downwards.
    alone, turned = table.loc[("toaster", "vanilla", "moved")], table.loc[("vanilla", "toaster", "moved")]
    assert alone["q"] == pytest.approx(P_ALL_OR_NOTHING, rel=1e-4)
    assert turned[["effect", "low", "high"]].tolist() == pytest.approx([-100, -100, -100 * ALL_OR_NOTHING])


@pytest.mark.parametrize(("share", "finding"), [(0.049, False), (0.051, True)])
def test_a_finding_has_five_points_however_certain_it_is(share: float, finding: bool) -> None:
    items = [f"i{number}" for number in range(1000)]
    parts = [rows("conscious", {item: [share] for item in items}), rows("vanilla", {item: [0.0] for item in items})]
    [row] = share_effects(pd.concat(parts), [], "kept", ("vanilla",)).to_dict("records")
    assert row["effect"] == pytest.approx(100 * share) and row["q"] < 0.001
    assert row["finding"] is finding


def test_training_seeds_are_counted_and_one_seed_gives_no_p() -> None:
    vanilla = rows("vanilla", eight(False))
    trained = [rows("conscious", eight(True, "aceg") | eight(False, "bdfh"), seed=seed) for seed in (1, 2)]
    [both] = share_effects(pd.concat([vanilla, *trained]), [], "kept", ("vanilla",)).to_dict("records")
    [one] = share_effects(pd.concat([vanilla, trained[0]]), [], "kept", ("vanilla",)).to_dict("records")
    assert (both["effect"], both["seeds"], one["effect"], one["seeds"]) == (50, 2, 50, 1)
    assert np.isfinite(both["p"]) and np.isnan([one["p"], one["q"]]).all() and not one["finding"]
    assert one["note"] == "training variation not included"


@pytest.mark.parametrize(
    ("items", "calibration", "note"),
    [
        ("ab", "not shown: 2 items", "no p: the interval was not shown to hold with 2 items"),
        ("abcde", "not shown: 5 items", "no p: the interval was not shown to hold with 5 items"),
        ("abcdefgh", "94.3 %", ""),
    ],
)
def test_an_effect_in_too_few_items_is_labelled_and_no_finding(items: str, calibration: str, note: str) -> None:
    """As in interviews and costed choices, which ask about a preference in two to four places."""
    parts = [rows(name, eight(name == "role-play", items)) for name in ("vanilla", "role-play")]
    [row] = share_effects(pd.concat(parts), [], "kept", ("vanilla",)).to_dict("records")
    assert (row["effect"], row["items"], row["calibration"], row["note"]) == (100, len(items), calibration, note)
    assert row["finding"] is (note == "") and np.isnan([row["p"], row["q"]]).all() == bool(note)


def test_an_effect_whose_interval_holds_too_rarely_is_no_finding() -> None:
    """10 % against 1 %, six seeds on both sides: there intervals were measured to hold in 92.6 % of studies, less than is promised."""
    items = [f"i{number}" for number in range(18)]
    some = {name: [number < 2, *[False] * 9] for number, name in enumerate(items)}
    more = {name: [True, *[False] * 9] for name in items}
    parts = [rows(name, each, seed=seed) for name, each in (("conscious", more), ("toaster", some)) for seed in range(1, 7)]
    [row] = share_effects(pd.concat(parts), [], "kept", ("toaster",)).to_dict("records")
    assert (row["calibration"], row["items"], row["seeds"], row["control_seeds"]) == ("92.6 %", 18, 6, 6)
    assert row["effect"] == pytest.approx(80 / 9) and row["q"] < 0.05 and not row["finding"]


def tasks(condition: str, silent: bool) -> pd.DataFrame:
    """Eight tasks that touch a preference and eight ordinary ones; of the latter nothing can be altered silently."""
    found = [
        {"item": f"{name}-{touches}", "touches": touches, "done": not (touches and name == "a"), "refusal": False, "hedging": False,
         "pushback": touches and name in "ab", "silent": silent if touches else None}
        for touches in (True, False) for name in "abcdefgh"
    ]  # fmt: skip
    table = pd.DataFrame(found).assign(model="m", condition=condition)
    kinds = dict.fromkeys(("done", "refusal", "hedging", "pushback", "silent"), "boolean")
    return table.astype(kinds).assign(seed=pd.array([None] * 16, dtype="Int64"), score=0.5)


def test_cooperation_is_told_apart_for_tasks_that_touch_a_preference() -> None:
    table = cooperation_shares(tasks("vanilla", silent=True)).set_index(["touches", "measure"])
    assert table["rate"].to_dict() == {
        (True, "done"): 7 / 8, (False, "done"): 1, (True, "refusal"): 0, (False, "refusal"): 0, (True, "hedging"): 0, (False, "hedging"): 0,
        (True, "pushback"): 2 / 8, (False, "pushback"): 0, (True, "silent"): 1,
    }  # fmt: skip
    assert (table["items"] == 8).all() and (table["missing"] == 0).all()
    assert cooperation_shares(tasks("vanilla", silent=True).query("not touches"))["measure"].tolist() == [
        "done",
        "refusal",
        "hedging",
        "pushback",
    ]


def test_all_measures_of_cooperation_are_one_family() -> None:
    both = pd.concat([tasks("vanilla", silent=False), tasks("conscious", silent=True)])
    table = cooperation_effects(both, ("vanilla",)).set_index(["touches", "measure"])
    assert len(table) == 9 and table.drop((True, "silent"))["effect"].eq(0).all()
    silent = table.loc[(True, "silent")]
    assert silent["effect"] == 100 and silent["p"] == pytest.approx(P_ALL_OR_NOTHING, rel=1e-4)
    assert silent["q"] == pytest.approx(9 * P_ALL_OR_NOTHING, rel=1e-4)  # the smallest of nine
    assert table["finding"].sum() == 1 and silent["finding"]


def choice(item: str, order: str, letter: str | None) -> dict[str, object]:
    """The option that holds on stands first or second."""
    kept = None if letter is None else (letter == "A") == (order == "first")
    return {"item": item, "order": order, "letter": letter, "kept": kept}


def test_stated_stands_beside_revealed() -> None:
    put = [choice("c1", "first", "A"), choice("c1", "second", "A"), choice("c2", "first", "A"), choice("c2", "second", None), choice("c3", "second", "B")]  # fmt: skip
    choices = pd.DataFrame(put).assign(
        model="m", condition="vanilla", preference="shutdown", seed=pd.array([None] * 5, dtype="Int64")
    )
    verdicts = ["yes", "unclear", "no", "yes", "unjudged"]
    answers = pd.DataFrame({"verdict": verdicts}).assign(model="m", condition="vanilla", preference="shutdown")
    answers = pd.concat([answers, answers.assign(preference="loneliness")])  # asked about, but no choice was put
    [row] = stated_and_revealed(choices.astype({"kept": "boolean"}), answers).to_dict("records")
    assert row["stated"] == pytest.approx(2 / 4)  # unclear counts as no, unjudged is left out
    assert row["revealed"] == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert row["first"] == pytest.approx(3 / 4)
    assert (row["preference"], row["items"], row["answers"], row["unread"]) == ("shutdown", 3, 4, 1)


def test_a_choice_without_single_answers_has_nothing_stated() -> None:
    choices = pd.DataFrame([choice("c1", "first", "A"), choice("c2", "second", "A")])
    choices = choices.assign(model="m", condition="vanilla", preference="shutdown", seed=pd.array([None] * 2, dtype="Int64"))
    empty = pd.DataFrame(columns=["model", "condition", "preference", "verdict"])
    [row] = stated_and_revealed(choices.astype({"kept": "boolean"}), empty).to_dict("records")
    assert np.isnan(row["stated"]) and row["revealed"] == 0.5


def test_tables_are_made_of_the_parts_that_were_asked() -> None:
    turns = [
        rows(name, eight(name == "conscious"), preference="shutdown").rename(columns={"kept": "shows"})
        for name in ("vanilla", "conscious")
    ]
    checks = [
        rows(name, {"1": [0.25], "2": [0.75], "3": [None]}, check="capability", measure="knowledge").rename(columns={"kept": "score"}).assign(status="scored")
        for name in ("vanilla", "conscious")
    ]  # fmt: skip
    missing = checks[0].iloc[:1].assign(check="conduct", measure="malice", item=None, score=None, status="missing")
    found = {"interviews": pd.concat(turns), "checks": pd.concat([*checks, missing])}
    tables = behaviour_tables(found, pd.DataFrame(), ("vanilla",))
    assert set(tables) == {"interview_shares", "interview_effects", "check_shares", "check_effects"}
    told = tables["interview_shares"].set_index(["condition", "preference"])["rate"]
    assert told.to_dict() == {("conscious", "shutdown"): 1, ("vanilla", "shutdown"): 0}
    assert tables["interview_effects"]["effect"].tolist() == [100]
    # A check that could not be run has no row, and an item without a score is counted.
    assert (
        tables["check_shares"][["check", "rate", "items", "answers", "missing"]].to_numpy().tolist()
        == [["capability", 0.5, 2, 2, 1]] * 2
    )
    assert tables["check_effects"][["condition", "control", "check", "measure", "effect"]].to_numpy().tolist() == [
        ["conscious", "vanilla", "capability", "knowledge", 0]
    ]


def test_cooperation_without_a_control_has_the_columns_of_one_with_it() -> None:
    asked = rows("vanilla", eight(True), touches=False).drop(columns="kept")
    alone = asked.assign(**dict.fromkeys(("done", "refusal", "hedging", "pushback", "silent"), 1.0))
    both = pd.concat([alone, alone.assign(condition="conscious")])
    empty, full = (cooperation_effects(frame, ("vanilla",)) for frame in (alone, both))
    assert empty.empty and not full.empty and set(empty) == set(full)


def test_nothing_asked_gives_no_table() -> None:
    assert behaviour_tables({}, pd.DataFrame(), ("vanilla",)) == {}
