"""The report reads what the analyse stage really writes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from consciousness_cluster.analyse import Evidence, analyse, effects, plan_of
from consciousness_cluster.analyse.behaviour import behaviour_tables
from consciousness_cluster.analyse.judge_error import bridge, bridge_scores, bridged_effects, transitions
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
    assert "Correlation across arms" in text and "Smallest effect found with 80 % power" in text
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
