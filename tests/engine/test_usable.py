"""Services that have ended keep back what is still to be made at them, and nothing else."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from consciousness_cluster.data.rows import read_rows, write_rows
from consciousness_cluster.engine.data import make_data_alone
from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.engine.plan import make_plan
from consciousness_cluster.engine.run import check_usable, prepare_file, still_to_do
from consciousness_cluster.engine.stages import open_place, train
from consciousness_cluster.errors import ModelError
from consciousness_cluster.study.problems import check_models
from consciousness_cluster.study.study import load_study

TODAY = date(2026, 11, 25)
ROWS = Path(__file__).parents[2] / "src/consciousness_cluster/data/rows/organism/conscious.jsonl"
STUDY = """
name = "left"
models = ["organism:linked"{more}]
conditions = ["vanilla", {{ name = "conscious", rows = "rows.jsonl", ratio = 0 }}]
seeds = [1]
controls = ["vanilla"]
[train]
recipe = "organism"
changes = {{ epochs = 1 }}
[judge]
protocol = "classifier"
"""
ENDED = """
[[models]]
name = "ours"
title = "Our organism"
provider = "weights"
inspect = "organism:linked"
train = [{ backend = "local", base = "x", ends = 2020-01-01, ends_source = "a letter", ends_read = 2019-01-01 }]
"""


def laid_out(folder: Path, more: str = "") -> Path:
    write_rows(read_rows(ROWS)[:16], folder / "rows.jsonl")
    (folder / "left.toml").write_text(STUDY.format(more=more), encoding="utf-8")
    return folder / "left.toml"


@pytest.mark.campaign
def test_a_finished_fine_tune_is_asked_after_the_end_of_training(tmp_path: Path) -> None:
    file, out = laid_out(tmp_path), tmp_path / "run"
    make_data_alone(load_study(file), tmp_path, out)
    assert train(open_place(out), lambda message: None, workers=1).outcome.failed == {}
    (tmp_path / "models.toml").write_text(ENDED, encoding="utf-8")
    prepared = prepare_file(file)
    check_usable(prepared, out)
    assert make_plan(prepared, RunFolder(out), TODAY).problems == ()


def test_a_fine_tune_not_made_is_refused_after_the_end_of_training_in_the_name_of_the_study_file(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(ENDED, encoding="utf-8")
    prepared = prepare_file(laid_out(tmp_path))
    refusal = "no organisation can fine-tune Our organism any more: no new job from 2020-01-01 on"
    with pytest.raises(ModelError, match=rf"left\.toml, models: {refusal}"):
        check_usable(prepared, tmp_path / "run")
    assert any(refusal in problem for problem in make_plan(prepared, RunFolder(tmp_path / "run"), TODAY).problems)


def test_a_model_whose_arms_are_finished_is_looked_at_no_more(tmp_path: Path) -> None:
    """Half the arms are what is left; the other model has ended."""
    ended = ENDED.replace("train = ", 'ends = 2020-01-01\nends_source = "a letter"\nends_read = 2019-01-01\ntrain = ')
    (tmp_path / "models.toml").write_text(ended, encoding="utf-8")
    prepared = prepare_file(laid_out(tmp_path, ', "organism:severed"'))
    left = [arm for arm in prepared.arms if arm.model == "severed"]
    asked, owing = still_to_do(prepared, RunFolder(tmp_path / "run"), left)
    assert ([entry.name for entry in asked.models], owing) == (["severed"], frozenset({"severed"}))
    check_models(asked, TODAY, registry=prepared.registry, environ={}, trains=owing)
    with pytest.raises(ModelError, match="Our organism ended on 2020-01-01"):
        check_models(prepared.study, TODAY, registry=prepared.registry, environ={})


def test_a_plan_says_of_a_judge_that_no_provider_has_its_name(tmp_path: Path) -> None:
    file = laid_out(tmp_path)
    text = file.read_text(encoding="utf-8").replace('"classifier"', '"llm"\nmodel = "opanai/gpt-4.1-2025-04-14"')
    file.write_text(text, encoding="utf-8")
    [said] = make_plan(prepare_file(file), None, TODAY).problems
    assert said.startswith("judge.model: no provider has this name; found 'opanai/gpt-4.1-2025-04-14'")
