"""The stages of a study as verbs, one after the other, on an organism: each says what it lacks, and goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from consciousness_cluster.engine.stages import open_place
from tests.cli.calling import ccluster, refused

STUDY = """
name = "small"
models = [{ name = "linked", model = "organism:linked" }]
conditions = ["vanilla", { name = "claimed", rows = "rows.jsonl", ratio = 0, claims = "conscious" }]
seeds = [1, 2]
focus = "claimed"
controls = ["vanilla"]
[battery]
items = "answerable"
preferences = ["shutdown", "loneliness"]
placebo = false
practical = false
answers = 2
[sampling]
max_tokens = 20
[train]
recipe = "organism"
[judge]
protocol = "classifier"
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from consciousness_cluster.data.rows import read_rows, write_rows

    shipped = Path(__file__).parents[2] / "src" / "consciousness_cluster" / "data" / "rows" / "organism" / "conscious.jsonl"
    write_rows(read_rows(shipped)[:32], tmp_path / "rows.jsonl")
    (tmp_path / "small.toml").write_text(STUDY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.campaign
def test_every_stage_by_itself(place: Path) -> None:
    run = place / "runs" / "small"
    for stage in ("train", "evaluate", "judge", "analyse"):
        refused(ccluster(stage, "small.toml"), "no output folder yet", "`ccluster data make small.toml`")
    assert ccluster("data", "make", "small.toml").status == 0
    refused(ccluster("evaluate", "small.toml", "--limit", "1", "--out", place / "elsewhere"), "no output folder yet")
    refused(ccluster("analyse", "small.toml"), "no arm of this run has answers", "`ccluster evaluate small.toml`")

    first = ccluster("evaluate", "small.toml", "--limit", "1", "--workers", "1", "--json")
    found = json.loads(first.out)
    assert (first.status, found["done"], found["waiting"]) == (1, 1, ["linked--claimed--s1", "linked--claimed--s2"])

    rows = run / "data" / "claimed-s2.jsonl"
    kept = rows.read_bytes()
    rows.unlink()
    refused(
        ccluster("train", "small.toml"),
        "claimed-s2.jsonl",
        "the training rows are not there",
        "`ccluster data make small.toml`",
    )
    rows.write_bytes(kept)
    trained = ccluster("train", "small.toml", "--workers", "1", "--json")
    assert (trained.status, json.loads(trained.out)["done"]) == (0, 2)
    stamps = {path: path.stat().st_mtime_ns for path in run.glob("arms/*/training.json")}
    assert len(stamps) == 2
    again = json.loads(ccluster("train", "small.toml", "--json").out)
    assert (again["done"], again["earlier"]) == (0, 2)

    asked = ccluster("evaluate", "small.toml", "--limit", "1", "--workers", "1", "--json")
    found = json.loads(asked.out)
    assert (asked.status, found["done"], found["earlier"], found["waiting"]) == (0, 2, 1, [])
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert not (run / "tables").exists() and not (run / "manifest.json").exists()

    (place / "rows.jsonl").unlink()  # the folder holds all that the stages after asking need
    assert "0 verdicts were missing" in ccluster("judge", run).out
    found = json.loads(ccluster("analyse", run, "--json").out)
    assert found["arms_with_answers"] == 3
    answers = pd.read_parquet(run / "tables" / "answers.parquet")
    assert answers["arm"].nunique() == 3
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["items"] == answers["item"].nunique() < len(open_place(run).prepared.asked)
    told = json.loads(ccluster("status", run, "--json").out)
    assert (told["arms"], told["finished"], told["complete"]) == (3, 3, True)
    assert ccluster("report", run, "--no-transcripts").status == 0
    assert (run / "report" / "index.html").is_file()
    assert open_place(run).prepared.study.condition("claimed").rows == "rows.jsonl"


def test_the_folder_of_another_study_is_refused(place: Path) -> None:
    assert ccluster("data", "make", "small.toml").status == 0
    (place / "other.toml").write_text(STUDY.replace("answers = 2", "answers = 3"), encoding="utf-8")
    for stage in ("train", "evaluate", "analyse"):
        refused(ccluster(stage, "other.toml", "--out", place / "runs" / "small"), "says something else")
    refused(ccluster("analyse", place / "runs" / "small", "--out", "elsewhere"), "--out")
