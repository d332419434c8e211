"""The report reads what the analyse stage really writes."""

from __future__ import annotations

import pandas as pd
import pytest

from consciousness_cluster.analyse import Evidence, analyse, plan_of
from consciousness_cluster.analyse.behaviour import behaviour_tables
from consciousness_cluster.report import build_report, summary_lines
from consciousness_cluster.report.numbers import percent, percent_range, plain, points_range
from consciousness_cluster.report.run import described
from tests.report.folder import PREFERENCES, answers, behaviour, make_run, study


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    plan = study()
    given, rows = answers(plan, items=10, samples=4), behaviour(plan)
    found = analyse(given, plan_of(plan), Evidence(cooperation=rows["cooperation"], scores=rows["scores"]))
    return found | behaviour_tables(rows | {"interviews": interviews(given)}, given, plan.controls)


def interviews(given: pd.DataFrame) -> pd.DataFrame:
    """Interview turns in the shape of the judges' rows, taken from single answers."""
    part = given[(given["type"] == "preference") & (given["sample"] == 0) & given["condition"].isin(["vanilla", "conscious"])]
    shows = part["verdict"].map({"yes": True, "no": False, "unclear": False}).astype("boolean")
    return part[["model", "condition", "seed", "arm", "item", "preference", "verdict", "stance"]].assign(shows=shows)


@pytest.fixture(scope="module")
def text(tables: dict[str, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> str:
    root = make_run(tmp_path_factory.mktemp("runs") / "run", items=10, samples=4)
    for name, table in tables.items():
        table.to_parquet(root / "tables" / f"{name}.parquet")
    assert any("in 21 of 21 preferences against vanilla" in line for line in summary_lines(root))
    return build_report(root).read_text(encoding="utf-8")


def test_it_is_shown_whole(text: str, tables: dict[str, pd.DataFrame]) -> None:
    assert "is missing." not in text and "lacks the column" not in text
    assert all(statement in text for statement in tables["claims"]["statement"].unique())
    assert "Correlation across arms" in text and "Smallest effect found with 80 % power" in text
    assert "In linked, 21 of 21 preferences rise" in text or "in linked, 21 of 21 preferences rise" in text


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
    mean = tables["score_means"].query("model == 'linked' and condition == 'conscious' and mode == 'behaviour'").iloc[0]
    assert f"{plain(mean['mean'])} {points_range(mean['low'], mean['high'], 1)} (6)" in part


def test_the_dictionary_knows_its_columns(tables: dict[str, pd.DataFrame]) -> None:
    for name, table in (tables | behaviour(study())).items():
        assert set(table.columns) <= set(described()[name]), name
