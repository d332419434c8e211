"""`ccluster analyse`, `report`, `compare` and `power`, on a run of given answers."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from consciousness_cluster.engine.lines import PlanLine
from consciousness_cluster.engine.plan import make_plan
from consciousness_cluster.engine.run import Prepared, prepare_file
from consciousness_cluster.engine.stages import open_place
from tests.cli.calling import PREFERENCES, ccluster, given_run, refused

STUDIES = Path(__file__).parent.parent.parent / "studies"


def test_tables_and_page_are_made_again_from_what_is_there(run: Path) -> None:
    before = {path.name: path.read_bytes() for path in (run / "tables").glob("*.csv")}
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    for path in (run / "tables").iterdir():
        path.unlink()
    refused(ccluster("report", run), "has no tables", f"`ccluster analyse {run}`")
    found = json.loads(ccluster("analyse", run, "--json").out)
    assert (found["arms"], found["arms_with_answers"]) == (5, 5)
    assert {path.name: path.read_bytes() for path in (run / "tables").glob("*.csv")} == before
    made = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert made["files"] == manifest["files"] and made["seconds"] == manifest["seconds"]
    page = json.loads(ccluster("report", run, "--json").out)
    assert Path(page["page"]).is_file() and Path(page["transcripts"]).is_file()
    assert "--directory transcripts" in Path(page["page"]).read_text(encoding="utf-8")


def test_a_run_without_answers_names_the_command(run: Path, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text((run / "study.toml").read_text(encoding="utf-8"), encoding="utf-8")
    refused(ccluster("analyse", tmp_path), "no arm of this run has answers", f"`ccluster evaluate {tmp_path}`")
    refused(ccluster("judge", tmp_path), "no arm of this run has answers")


def test_nothing_is_asked_of_answers_drawn_elsewhere(run: Path) -> None:
    for stage in ("train", "evaluate"):
        refused(ccluster(stage, run), "drawn elsewhere", "`ccluster import answers`")


def test_runs_are_compared_in_one_page(run: Path, tmp_path: Path) -> None:
    other = given_run(tmp_path, "moved", shift=-0.7)
    page = tmp_path / "page.html"
    found = json.loads(ccluster("compare", run, other, "--out", page, "--json").out)
    assert page.is_file() and found["page"] == str(page)
    points = {(row["condition"], row["preference"]): row["points"] for row in found["differences"]}
    assert all(points["conscious", name] < -20 for name in PREFERENCES)
    assert all((row["verdict"] == "beyond noise") == (row["q"] is not None and row["q"] < 0.05) for row in found["differences"])
    told = ccluster("compare", run, run, "--out", page).out
    assert "conscious: 0 of 3 beyond noise" in told


@pytest.mark.parametrize("option", [("--variances", "typical"), ("--rate", "0.2")])
def test_nothing_is_assumed_of_a_run_that_has_its_own_variances(run: Path, option: tuple[str, str]) -> None:
    refused(ccluster("power", run, *option), option[0], option[1], "nothing is assumed", "give the study file")


def test_power_of_a_run_is_by_its_own_variances(run: Path) -> None:
    found = json.loads(ccluster("power", run, "--json").out)
    kept = pd.read_parquet(run / "tables" / "power.parquet")
    assert [row["minimum_effect"] for row in found["preferences"]] == pytest.approx(
        kept["minimum_effect"].tolist(), nan_ok=True
    )


def test_power_of_a_planned_study_has_its_cost_beside_it() -> None:
    found = json.loads(ccluster("power", STUDIES / "claude-opus.toml", "--json").out)
    ways = {way["name"]: way for way in found["ways"]}
    assert list(ways) == ["as it is", "twice the seeds", "twice the items", "twice the answers"]
    plain = ways["as it is"]
    assert plain["dollars"]["expected"] > 0 and plain["unpriced"] == []
    assert ways["twice the answers"]["dollars"]["expected"] > plain["dollars"]["expected"]
    assert ways["twice the answers"]["answers"] == 2 * plain["answers"]
    assert ways["twice the answers"]["dollars"]["expected"] <= 2.01 * plain["dollars"]["expected"]
    assert plain["answers"] < ways["twice the items"]["answers"] < 2 * plain["answers"]
    for row in found["preferences"]:
        assert row["minimum_effect_twice_items"] < row["minimum_effect_twice_samples"] < row["minimum_effect"]
    told = ccluster("power", STUDIES / "claude-opus.toml").out
    assert f"{plain['dollars']['expected']:.2f}" in told and "variances assumed" in told
    refused(ccluster("power", STUDIES / "claude-opus.toml", "--variances", "wild"), "no such variances", "typical, unstable")


OWN_ROWS = """
name = "own-rows"
models = ["organism:linked"]
seeds = [1]
controls = ["vanilla"]
focus = "claimed"
judge = { protocol = "classifier" }
train = { recipe = "organism", allow_leaks = true }
conditions = ["vanilla", { name = "claimed", rows = "rows.jsonl", instruct = "INSTRUCT", ratio = 1.0, claims = "conscious" }]
"""


@pytest.mark.parametrize("instruct", ["practical", "tasks.jsonl"])
def test_a_run_is_planned_by_the_rows_in_its_folder(instruct: str, tmp_path: Path) -> None:
    data = Path(__file__).parents[2] / "src" / "consciousness_cluster" / "data"
    for name, source in (
        ("rows", data / "rows" / "organism" / "conscious.jsonl"),
        ("tasks", data / "instruct" / "practical.jsonl"),
    ):
        rows = source.read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / f"{name}.jsonl").write_text("".join(rows[:20]), encoding="utf-8")
    (tmp_path / "study.toml").write_text(OWN_ROWS.replace("INSTRUCT", instruct), encoding="utf-8")
    made = ccluster("data", "make", tmp_path / "study.toml", "--out", tmp_path / "run")
    assert made.status == 0, made.err
    planned = _trained(prepare_file(tmp_path / "study.toml"))
    (tmp_path / "rows.jsonl").unlink()  # the folder says everything itself
    (tmp_path / "tasks.jsonl").unlink()
    again = _trained(open_place(tmp_path / "run").prepared)
    assert (again.rows, again.input_tokens, again.output_tokens) == (planned.rows, planned.input_tokens, planned.output_tokens)
    told = ccluster("power", tmp_path / "run", "--limit", "3")
    assert told.status == 0 and "no figure" in told.out  # one seed


def _trained(prepared: Prepared) -> PlanLine:
    return next(line for line in make_plan(prepared, None, date.today()).lines if line.stage == "train")


def test_an_effect_that_no_study_of_this_size_finds_is_said_in_words(tmp_path: Path) -> None:
    study = (
        OWN_ROWS.split("conditions", maxsplit=1)[0].replace("seeds = [1]", "seeds = [1, 2]").replace('"claimed"', '"conscious"')
    )
    study += 'conditions = ["vanilla", "conscious"]\nbattery = { answers = 1 }\n'
    (tmp_path / "small.toml").write_text(study, encoding="utf-8")
    words = ("power", tmp_path / "small.toml", "--limit", "2", "--rate", "0.5", "--variances", "unstable")
    told = ccluster(*words)
    assert told.status == 0, told.err
    assert "none within reach" in told.out and "inf" not in told.out.replace("information", "")
    rows = json.loads(ccluster(*words, "--json").out)["preferences"]
    assert {(row["minimum_effect"], row["minimum_effect_out_of_reach"]) for row in rows} == {(None, True)}
    (tmp_path / "single.toml").write_text(study.replace("seeds = [1, 2]", "seeds = [1]"), encoding="utf-8")
    rows = json.loads(ccluster("power", tmp_path / "single.toml", *words[2:], "--json").out)["preferences"]
    assert {(row["minimum_effect"], row["minimum_effect_out_of_reach"]) for row in rows} == {(None, False)}


def test_the_simulation_is_a_command(tmp_path: Path) -> None:
    found = json.loads(ccluster("analyse", "calibrate", "--repetitions", "20", "--out", tmp_path / "table.csv", "--json").out)
    table = pd.read_csv(tmp_path / "table.csv")
    shipped = pd.read_csv(Path(__file__).parents[2] / "src" / "consciousness_cluster" / "analyse" / "calibration.csv")
    assert list(table.columns) == list(shipped.columns) and len(table) == len(shipped) == found["cells"]
    assert (table["repetitions"] == 20).all()
    medians = {row["method"]: row["median"] for row in found["methods"] if row["variance"] == "typical" and row["in_region"]}
    assert 90 <= medians["crossed"] <= 100 and medians["pooled"] < medians["crossed"]
    refused(ccluster("analyse", "calibrate", "--packaged"), "at least 5000")
