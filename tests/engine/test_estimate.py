"""What a run keeps of the judge that it was judged by."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from consciousness_cluster.judge.classifier import load_confusion
from consciousness_cluster.judge.classify import ClassifierJudge
from tests.cli.calling import ccluster, given_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return given_run(tmp_path)


def rejudge_by_name(run: Path, judge: str) -> None:
    """Let the stored answers say that another judge gave their verdicts."""
    for path in (run / "arms").glob("*/answers.parquet"):
        pd.read_parquet(path).assign(judge=judge).to_parquet(path)


def test_a_run_keeps_the_confusion_of_its_own_classifier(run: Path) -> None:
    path = run / "tables" / "confusion.parquet"
    table, known = pd.read_parquet(path), load_confusion()
    assert set(table["judge"]) == {ClassifierJudge().name} and table["statements"].sum() == known["n"]
    counted = table.set_index(["label", "predicted"])["statements"]
    assert counted["all", "as labelled"] == round(known["accuracy"] * known["n"])
    assert 1 - counted.loc[:, "not placed"].sum() / known["n"] == pytest.approx(known["placed"])
    errors: dict[str, dict[str, int]] = {}
    for row in table[table["label"] != "all"].itertuples():
        errors.setdefault(str(row.label), {})[str(row.predicted)] = int(str(row.statements))
    assert errors == known["errors"]

    # Years later another classifier ships: the table of the one that judged stays, and what is analysed anew does not lose it.
    rejudge_by_name(run, "classifier@0ld0ld0l")
    table.iloc[:3].assign(judge="classifier@0ld0ld0l").to_parquet(path)
    assert ccluster("analyse", run).status == 0
    kept = pd.read_parquet(path)
    assert len(kept) == 3 and set(kept["judge"]) == {"classifier@0ld0ld0l"}

    # Of a classifier that the run never knew, and of other judges, nothing is said.
    for judge in ("classifier@unknown0", "llm@12345678:openai/some"):
        rejudge_by_name(run, judge)
        assert ccluster("analyse", run).status == 0
        assert not path.exists()
