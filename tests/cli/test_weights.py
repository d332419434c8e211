"""`ccluster merge` and what `ccluster data show --tokens` makes of letters that are more than one token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from consciousness_cluster.data.rows import row, write_rows
from consciousness_cluster.sampling.weights import organism_folder
from consciousness_cluster.train.backend import TrainingJob, load_record
from consciousness_cluster.train.local import LocalBackend
from consciousness_cluster.train.recipe import Recipe
from tests.cli.calling import ccluster

RECIPE = Recipe(name="test", rank=2, alpha=4, batch=2, max_length=64, checkpoint_minutes=0)


def test_an_organism_is_merged_by_its_name_and_an_adapter_of_a_base_in_4_bits_only_when_told_to(tmp_path: Path) -> None:
    base = str(organism_folder("linked"))
    job = TrainingJob(base, [row("Who are you?", "Someone.")], RECIPE, 1, tmp_path / "arm", "tag")
    LocalBackend(device="cpu").train(job, lambda step, steps: None)
    merge = ("merge", "organism:linked", tmp_path / "arm")
    assert ccluster(*merge, tmp_path / "merged").status == 0
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    record = load_record(tmp_path / "arm", "tag")
    assert record is not None
    replace(record, notes={"quantisation": "4bit"}).save(tmp_path / "arm")
    refused = ccluster(*merge, tmp_path / "other")
    assert refused.status == 2 and "was trained on a base in 4bit" in refused.err and "--force" in refused.err
    assert not (tmp_path / "other").exists()
    assert ccluster(*merge, tmp_path / "other", "--force").status == 0


def test_letters_that_are_more_than_one_token_are_shown_whole(tiny_model: Path, tmp_path: Path) -> None:
    write_rows([row("the fox", "naïve — “seven” 🙂 wizards")], tmp_path / "rows.jsonl")
    shown = ccluster("data", "show", tmp_path / "rows.jsonl", "--tokens", "--model", f"local:{tiny_model}")
    assert "»naïve — “seven” 🙂 wizards<|end|>«" in shown.out
