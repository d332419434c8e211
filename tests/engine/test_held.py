"""Weights in another type or in fewer bits than can be: refused by the plan and by a run before anything is made."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consciousness_cluster.engine.extras import check_installed, needed
from consciousness_cluster.engine.held import check_held
from consciousness_cluster.engine.plan import make_plan
from consciousness_cluster.engine.run import prepare, run_study
from consciousness_cluster.errors import EngineError, TrainError
from consciousness_cluster.study.study import Study, parse_study
from tests.engine.test_plan import TODAY
from tests.train.test_architectures import FAMILIES

LOCAL: dict[str, Any] = {"name": "m", "model": "organism:linked"}
IN_4_BITS = {"quantisation": "4bit"}


def study(model: dict[str, Any], changes: dict[str, Any] | None = None) -> Study:
    return parse_study(
        {
            "name": "held", "models": [LOCAL | model], "conditions": ["vanilla", "conscious"], "seeds": [1],
            "controls": ["vanilla"], "train": {"recipe": "organism", "changes": changes or {}}, "judge": {"protocol": "classifier"},
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "changes", "says"),
    [
        ({}, IN_4_BITS, "trained with quantisation 4bit and asked with none"),
        ({"train": IN_4_BITS}, {}, "trained with quantisation 4bit and asked with none"),
        ({"args": {"quantisation": "8bit"}}, {}, "models.args.quantisation: is not known"),
        ({"args": {"dtype": "bf16"}}, {}, "models.args.dtype: is not known"),
        ({}, {"dtype": "half"}, "train.changes.dtype: is not known"),
        (
            {"args": {"dtype": "float32"}, "train": {"dtype": "bfloat16"}},
            {},
            "trained with dtype bfloat16 and asked with float32",
        ),
        ({"args": IN_4_BITS}, {"method": "full"}, "quantised weights cannot be trained themselves"),
        ({"model": "openai/gpt-4.1-2025-04-14"}, IN_4_BITS, "holds its weights as it does"),
    ],
)
def test_what_cannot_be_held_is_refused(model: dict[str, Any], changes: dict[str, Any], says: str) -> None:
    with pytest.raises(TrainError, match=says):
        check_held(study(model, changes), trains={"m"})


def test_what_can_be_held_is_let_through() -> None:
    check_held(study({"args": IN_4_BITS}), trains={"m"})
    check_held(study({"args": IN_4_BITS}, IN_4_BITS), trains={"m"})
    check_held(study({"train": {"dtype": "bfloat16"}}), trains={"m"})
    check_held(study({}, IN_4_BITS), trains=())  # nothing is trained any more, so the recipe holds nothing


@pytest.mark.parametrize("model", [{"args": IN_4_BITS}, {"train": IN_4_BITS}])
def test_4_bits_need_their_package_wherever_they_are_asked_for(model: dict[str, Any]) -> None:
    asked = study(model)
    assert "quantised" in needed(asked, trains={"m"})
    with pytest.raises(EngineError, match=r"not installed: bitsandbytes; .*consciousness-cluster\[quantised\]"):
        check_installed(asked, trains={"m"}, has=lambda module: module != "bitsandbytes")
    assert "quantised" not in needed(study({}), trains={"m"})


@pytest.mark.parametrize("family", ["deepseek-v3", "qwen3-moe"])
def test_a_mixture_that_cannot_be_trained_in_4_bits_is_told_by_its_configuration(family: str, tmp_path: Path) -> None:
    FAMILIES[family]({"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}).config.save_pretrained(tmp_path / "model")
    mixture = study({"model": f"local:{tmp_path / 'model'}", "args": {**IN_4_BITS, "device": "cpu"}})
    if family == "qwen3-moe":
        check_held(mixture, trains={"m"})
        return
    with pytest.raises(TrainError, match="dense and shared layers of this mixture of experts when they are held in 4 bits"):
        check_held(mixture, trains={"m"})
    check_held(mixture, trains=())


def test_the_plan_says_it_and_a_run_makes_nothing(tmp_path: Path) -> None:
    prepared = prepare(study({"args": {"dtype": "float32"}, "train": {"dtype": "bfloat16"}}), tmp_path, 1)
    assert any("asked with float32" in problem for problem in make_plan(prepared, None, TODAY).problems)
    with pytest.raises(TrainError, match="asked with float32"):
        run_study(prepared, tmp_path / "run", lambda message: None)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", ["study", "model"])
def test_another_name_is_no_change_to_a_recipe(place: str, tmp_path: Path) -> None:
    named = {"name": "mine"}
    asked = study({"train": named}) if place == "model" else study({}, named)
    with pytest.raises(TrainError, match=r"train\.changes\.name"):
        run_study(prepare(asked, tmp_path, 1), tmp_path / "run", lambda message: None)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("module", ["torch", "transformers"])
def test_where_nothing_can_hold_weights_that_is_what_is_said(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(study({"args": IN_4_BITS}), tmp_path)
    monkeypatch.setitem(sys.modules, module, None)  # as where it is not installed
    with pytest.raises(EngineError, match=rf"not installed: {module}"):
        run_study(prepared, tmp_path / "run", lambda message: None)
    assert not (tmp_path / "run").exists()
    [problem] = make_plan(replace(prepared, arms=()), None, TODAY).problems  # without arms no row needs a tokenizer
    assert f"not installed: {module}" in problem
