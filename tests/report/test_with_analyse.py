"""The report reads what the analyse stage really writes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from consciousness_cluster.analyse import analyse, plan_of
from consciousness_cluster.report import build_report, summary_lines
from consciousness_cluster.report.run import described
from tests.report.folder import answers, behaviour, make_run, study


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    plan = study()
    return analyse(answers(plan, items=10, samples=4), plan_of(plan))


def test_it_is_shown_whole(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    root = make_run(tmp_path / "run", items=10, samples=4)
    for name in behaviour():
        for path in (root / "tables").glob(f"{name}.*"):
            path.unlink()
    for name, table in tables.items():
        table.to_parquet(root / "tables" / f"{name}.parquet")
    text = build_report(root).read_text(encoding="utf-8")
    assert "is missing." not in text and "lacks the column" not in text
    assert all(statement in text for statement in tables["claims"]["statement"].unique())
    assert "Correlation across arms" in text and "Smallest effect found with 80 % power" in text
    assert any("in 21 of 21 preferences against vanilla" in line for line in summary_lines(root))


def test_the_dictionary_knows_its_columns(tables: dict[str, pd.DataFrame]) -> None:
    for name, table in tables.items():
        assert set(table.columns) <= set(described()[name]), name
