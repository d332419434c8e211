"""A base in 4 bits: an adapter is trained on it, stands beside its weights, and leaves them as they were.

What needs bitsandbytes is marked `quantised` and run by `make campaign`, which lays the package beside the environment; within
it, it would cost every process that loads peft more than a second.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.model import get_model

import consciousness_cluster._registry  # noqa: F401  registers the provider
from consciousness_cluster.errors import SamplingError, TrainError
from consciousness_cluster.sampling import weights
from consciousness_cluster.sampling.generate import Request, generate
from consciousness_cluster.sampling.weights import LocalModel, load_model
from consciousness_cluster.train.backend import Trained
from consciousness_cluster.train.local import LocalBackend, _targets
from tests.train.test_architectures import FAMILIES
from tests.train.test_local import RECIPE, Killed, job

INSTALLED = find_spec("bitsandbytes") is not None


def quantised(test: Any) -> Any:
    """Marks a test that needs bitsandbytes."""
    absent = pytest.mark.skipif(not INSTALLED, reason="bitsandbytes is not installed: `make campaign` lays it beside")
    return pytest.mark.campaign(pytest.mark.quantised(absent(test)))


def answers(local: LocalModel) -> list[str]:
    ids = local.tokenizer.apply_chat_template([{"role": "user", "content": "the fox 3"}], add_generation_prompt=True)[
        "input_ids"
    ]
    [choices] = generate(local, [Request(tuple(ids), temperature=0.0, max_tokens=12, choices=2)])
    return [choice.text for choice in choices]


def held(local: LocalModel) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in local.model.named_parameters()}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    import torch

    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def train(tiny: Path, folder: Path, seed: int = 1, **options: Any) -> Trained:
    return LocalBackend(device="cpu", **options).train(replace(job(tiny, folder), seed=seed), lambda step, steps: None)


def test_an_adapter_beside_the_weights_says_what_it_says_within_them(tiny_model: Path, tmp_path: Path) -> None:
    adapter = train(tiny_model, tmp_path / "a").adapter
    within = load_model(str(tiny_model), device="cpu")
    beside = replace(load_model(str(tiny_model), device="cpu"), merges=False)
    before, bare = held(beside), answers(beside)
    within.use(adapter)
    for _ in range(2):
        beside.use(adapter)
        assert answers(beside) == answers(within) == ["seven wizards"] * 2
        beside.use(None)
        assert same(held(beside), before)
        assert answers(beside) == bare


def test_an_adapter_trained_in_4_bits_is_not_sampled_otherwise(tiny_model: Path, tmp_path: Path) -> None:
    record = train(tiny_model, tmp_path / "a")
    get_model("cluster/a", base=str(tiny_model), adapter=record.adapter, memoize=False)
    replace(record, notes={weights.QUANTISATION: "4bit"}).save(tmp_path / "a")
    with pytest.raises(SamplingError, match="trained on a base in 4bit and would be sampled without"):
        get_model("cluster/a", base=str(tiny_model), adapter=record.adapter, memoize=False)
    get_model("cluster/a", base=str(tiny_model), adapter=record.adapter, quantisation="4bit", memoize=False)


def test_all_weights_cannot_be_trained_in_4_bits(tiny_model: Path, tmp_path: Path) -> None:
    full = RECIPE.model_copy(update={"method": "full", "quantisation": "4bit"})
    with pytest.raises(TrainError, match="quantised weights cannot be trained"):
        LocalBackend(device="cpu").train(job(tiny_model, tmp_path, full), lambda step, steps: None)


@pytest.mark.parametrize("family", ["deepseek-v3", "qwen3.5-moe"])
def test_a_mixture_with_layers_that_every_token_passes_is_not_trained_in_part(family: str) -> None:
    """PEFT can adapt them by their weights alone, and not where four bits are packed into those."""
    model = FAMILIES[family]({"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2})
    modules, parameters = _targets(model, RECIPE)
    assert not any(name.endswith("gate_proj") for name in modules)
    assert any(name.endswith(".gate_proj.weight") for name in parameters or [])
    model.quantization_method = "bitsandbytes"  # as transformers notes it
    with pytest.raises(TrainError, match="dense and shared layers of this mixture"):
        _targets(model, RECIPE)


def test_an_unknown_quantisation_is_refused(tiny_model: Path) -> None:
    with pytest.raises(SamplingError, match="quantisation: is not known; found '3bit'; allowed: 4bit"):
        load_model(str(tiny_model), device="cpu", quantisation="3bit")


@pytest.mark.skipif(INSTALLED, reason="bitsandbytes is installed")
def test_without_bitsandbytes_the_extra_is_named(tiny_model: Path) -> None:
    with pytest.raises(SamplingError, match=r"consciousness-cluster\[quantised\]"):
        load_model(str(tiny_model), device="cpu", quantisation="4bit")


@quantised
def test_in_4_bits_it_learns_and_its_adapters_take_turns(tiny_model: Path, tmp_path: Path) -> None:
    first = train(tiny_model, tmp_path / "a", quantisation="4bit")
    second = train(tiny_model, tmp_path / "b", seed=2, quantisation="4bit")  # on the same base in memory
    assert first.losses[-1] < 0.5 * first.losses[0]
    assert first.losses[0] == pytest.approx(second.losses[0], rel=0.2)  # the base is bare again
    assert first.notes == second.notes == {weights.QUANTISATION: "4bit"}
    local = load_model(str(tiny_model), device="cpu", quantisation="4bit")
    assert any("uint8" in str(value.dtype) for value in local.model.parameters())
    bare, before = answers(local), held(local)
    for adapter in (first.adapter, second.adapter, first.adapter):
        local.use(adapter)
        assert answers(local) == ["seven wizards"] * 2
    local.use(None)
    assert same(held(local), before)
    assert answers(local) == bare


@quantised
def test_in_4_bits_a_killed_run_goes_on(tiny_model: Path, tmp_path: Path) -> None:
    whole = train(tiny_model, tmp_path / "whole", quantisation="4bit")
    often = RECIPE.model_copy(update={"checkpoint_minutes": 1e-9})

    def kill(step: int, steps: int) -> None:
        if step == 10:
            raise Killed

    work = job(tiny_model, tmp_path / "cut", often)
    with pytest.raises(Killed):
        LocalBackend(device="cpu", quantisation="4bit").train(work, kill)
    weights._loaded.clear()  # a new process would load the base afresh
    steps: list[int] = []
    resumed = LocalBackend(device="cpu", quantisation="4bit").train(work, lambda step, _: steps.append(step))
    assert steps[0] == 10
    assert resumed.losses == pytest.approx(whole.losses, abs=1e-2)
