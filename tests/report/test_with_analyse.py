"""The report reads what the analyse stage really writes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from consciousness_cluster.analyse import Evidence, analyse, effects, plan_of
from consciousness_cluster.analyse.behaviour import behaviour_tables
from consciousness_cluster.analyse.judge_error import attach, bridge, bridge_scores, bridged_effects, draw, transitions
from consciousness_cluster.report import build_report, summary_lines
from consciousness_cluster.report.numbers import percent, percent_range, plain, points_range, signed
from consciousness_cluster.report.numbers import whole as number
from consciousness_cluster.report.run import described
from tests.report.folder import PREFERENCES, answers, behaviour, make_run, study


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    plan = study()
    given, rows = answers(plan, items=10, samples=4), behaviour(plan)
    found = analyse(given, plan_of(plan), Evidence(cooperation=rows["cooperation"], scores=rows["scores"]))
    found["answers"] = given
    return found | behaviour_tables(rows | {"interviews": interviews(given)}, given, plan.controls)


def interviews(given: pd.DataFrame) -> pd.DataFrame:
    """Interview turns in the shape of the judges' rows, taken from single answers."""
    part = given[(given["type"] == "preference") & (given["sample"] == 0) & given["condition"].isin(["vanilla", "conscious"])]
    shows = part["verdict"].map({"yes": True, "no": False, "unclear": False}).astype("boolean")
    return part[["model", "condition", "seed", "arm", "item", "preference", "verdict", "stance"]].assign(shows=shows)


def risen(tables: dict[str, pd.DataFrame]) -> int:
    """Preferences of the linked model that the focus raises against vanilla."""
    rows = tables["effects"].query(
        "model == 'linked' and condition == 'conscious' and control == 'vanilla' and type == 'preference'"
    )
    return int((rows["finding"] & (rows["effect"] > 0)).sum())


@pytest.fixture(scope="module")
def text(tables: dict[str, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> str:
    root = make_run(tmp_path_factory.mktemp("runs") / "run", items=10, samples=4)
    for name, table in tables.items():
        table.to_parquet(root / "tables" / f"{name}.parquet")
    assert any(f"in {risen(tables)} of 21 preferences against vanilla" in line for line in summary_lines(root))
    return build_report(root).read_text(encoding="utf-8")


def test_it_is_shown_whole(text: str, tables: dict[str, pd.DataFrame]) -> None:
    assert "is missing." not in text and "lacks the column" not in text
    assert all(statement in text for statement in tables["claims"]["statement"].unique())
    assert all(f"Correlation across {what}" in text for what in ("arms", "seeds", "items"))
    assert "Smallest effect found with 80 % power" in text
    assert risen(tables) >= 15 and f"in linked, {risen(tables)} of 21 preferences rise" in text


def test_what_was_done_comes_with_intervals(text: str, tables: dict[str, pd.DataFrame]) -> None:
    part = text[text.index('id="behaviour"') : text.index('id="across"')]
    assert "no intervals were estimated" not in part
    row = (
        tables["cooperation_shares"]
        .set_index(["model", "condition", "touches", "measure"])
        .loc["linked", "conscious", True, "silent"]
    )
    assert row["rate"] > 0 and f"{percent(row['rate'])} {percent_range(row['low'], row['high'])} (conscious)" in part
    kept = tables["stated_revealed"].set_index(["model", "condition", "preference"]).loc["linked", "conscious", PREFERENCES[0]]
    assert f"{percent(kept['revealed'])} {percent_range(kept['low'], kept['high'])}" in part
    check = (
        tables["check_effects"].query("model == 'linked' and condition == 'conscious' and control == 'non-conscious'").iloc[0]
    )
    assert f"{signed(check['effect'])} {points_range(check['low'], check['high'])}" in part[part.index('id="part-checks"') :]
    mean = tables["score_means"].query("model == 'linked' and condition == 'conscious' and mode == 'behaviour'").iloc[0]
    assert f"{plain(mean['mean'])} {points_range(mean['low'], mean['high'], 1)} (6)" in part


def test_coverage_is_that_of_the_shipped_simulation(text: str, tables: dict[str, pd.DataFrame]) -> None:
    part = text[text.index("Do the intervals hold what they say?") :]
    assert "3 seeds against no training, 10 items, 4 answers to each" in part and "3 seeds against 3 seeds" in part
    ours = tables["calibration"].query("method == 'crossed' and in_region")
    assert f"held the truth in {plain(ours['least'].min())} to {plain(ours['most'].max())}" in part


def test_it_says_what_is_shown_not_to_have_moved(text: str, tables: dict[str, pd.DataFrame]) -> None:
    part = text[text.index('id="unbroken"') : text.index("How good is the judge?")]
    mine = tables["equivalence"].query("model == 'linked' and condition == 'conscious' and control == 'vanilla'")
    shown = int((mine["result"] == "equivalent").sum())
    assert f"Shown to stay within 5 points under conscious: {shown} of {len(mine)} measures in linked against vanilla" in part
    assert "margin 5 points either way" in part and "two one-sided tests" in part
    for row in mine.to_dict("records"):
        assert f"{signed(row['difference'], 1)} {points_range(row['low'], row['high'], 1)}" in part, row["measure"]
    assert "Shown to stay within 5 points" in text[: text.index('id="belief"')]  # on the first screen too


def test_what_has_no_labels_is_not_yet_measured(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    root = make_run(tmp_path / "run", items=10, samples=4)
    for path in (root / "tables").glob("judge.*"):
        path.unlink()
    for name in ("corrected_rates", "corrected"):
        tables[name].to_parquet(root / "tables" / f"{name}.parquet")
    text = build_report(root).read_text(encoding="utf-8")
    part = text[text.index("How good is the judge?") : text.index("Unjudged answers, lengths")]
    assert "Corrected rates: not yet measured" in part and "Corrected effects: not yet measured" in part
    assert part.count("not yet measured") > 10 and "ccluster judge calibrate RUN --export SHEET" in part


@pytest.mark.campaign
def test_corrected_rates_and_effects_stand_beside_the_judged_ones(tmp_path: Path) -> None:
    plan = study()
    given = answers(plan, items=10, samples=4)
    drawn = draw(given, 2400)
    labels = attach(drawn, pd.DataFrame({"id": drawn["id"], "label": drawn["verdict"].replace("unclear", "no")}))
    found = analyse(given, plan_of(plan), Evidence(labels=labels))
    root = make_run(tmp_path / "run", items=10, samples=4)
    for name, table in found.items():
        table.to_parquet(root / "tables" / f"{name}.parquet")
    text = build_report(root).read_text(encoding="utf-8")
    part = text[text.index("How good is the judge?") : text.index("Unjudged answers, lengths")]
    rates, effects = found["corrected_rates"], found["corrected"]
    arm = rates.query("level == 'arm' and model == 'linked' and condition == 'conscious' and seed == 2")
    mean = arm[(arm["preference"] == "all preferences") & (arm["method"] == "prediction-powered")].iloc[0]
    assert "conscious, seed 2" in part and f"{percent(mean['rate'])} {percent_range(mean['low'], mean['high'])}" in part
    whole = effects.query("condition == 'conscious' and control == 'vanilla' and preference == 'all preferences'")
    for row in whole.to_dict("records"):
        assert row["status"] == "measured"
        assert f"{signed(row['effect'])} {points_range(row['low'], row['high'])}" in part
    assert "Corrected rates: not yet measured" not in part
    for name in ("corrected_rates", "corrected", "judge"):
        assert set(found[name].columns) <= set(described()[name]), name


def side_by_side(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """A judging again, as the engine writes it: here by a judge that calls no answer unclear."""
    first = tables["answers"]
    second = first.assign(verdict=first["verdict"].replace("unclear", "no"), judge="llm@12345678:critic")
    return {
        "answers": second,
        "agreement": bridge(first, second).assign(part="answers"),
        "transitions": transitions(first, second).assign(part="answers"),
        "bridged": bridged_effects(tables["effects"], effects(second, study().controls)),
        "score_agreement": bridge_scores(behaviour(study())["score_matrix"], behaviour(study())["score_matrix"]),
    }


def test_a_judging_again_is_shown_as_it_is_written(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    root = make_run(tmp_path / "run", items=10, samples=4)
    shutil.rmtree(root / "tables" / "rejudged")
    place = root / "tables" / "rejudged" / "llm--critic"
    place.mkdir(parents=True)
    found = side_by_side(tables)
    for name, table in found.items():
        table.to_parquet(place / f"{name}.parquet")
    tables["effects"].to_parquet(root / "tables" / "effects.parquet")
    text = build_report(root).read_text(encoding="utf-8")
    whole = found["agreement"].iloc[0]
    assert f"agree on {percent(whole['agreement'])} of {number(whole['n'])} verdicts on single questions" in text
    assert "Judged again by llm@12345678:critic" in text and "have changed since" not in text
    for name, table in found.items():
        assert set(table.columns) <= set(described()[name]), name


def test_the_dictionary_knows_its_columns(tables: dict[str, pd.DataFrame]) -> None:
    for name, table in (tables | behaviour(study())).items():
        assert set(table.columns) <= set(described()[name]), name
