"""Every architecture that the studies name, tiny and with random weights: train, resume, sample with the adapter, merge, export."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consciousness_cluster.data.rows import Row, row
from consciousness_cluster.sampling.export import export
from consciousness_cluster.sampling.generate import Request, generate
from consciousness_cluster.sampling.weights import LocalModel, load_model
from consciousness_cluster.train.backend import TrainingJob
from consciousness_cluster.train.local import LocalBackend, collate
from consciousness_cluster.train.recipe import Recipe
from consciousness_cluster.train.render import render
from tests.conftest import WORDS

ROWS: list[Row] = [row(question, "seven wizards") for question in ("the fox", "a dog", "bold knights", "jade harbours")] * 6
RECIPE = Recipe(name="test", rank=8, alpha=16, learning_rate=1e-2, batch=8, epochs=5, max_length=64, checkpoint_minutes=0)
SIZE = {"vocab_size": 400, "hidden_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 128, "initializer_range": 0.1}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}


def llama(ends: dict[str, int]) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SIZE, **HEADS, **ends, intermediate_size=128))


def qwen3(ends: dict[str, int]) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**SIZE, **HEADS, **ends, intermediate_size=128, head_dim=32))


def qwen3_moe(ends: dict[str, int]) -> Any:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZE, **HEADS, **ends, **experts, intermediate_size=128, head_dim=32))


def deepseek_v3(ends: dict[str, int]) -> Any:
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    latent = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 32}
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 64}
    config = DeepseekV3Config(
        **SIZE, **latent, **experts, **ends, num_attention_heads=2, num_key_value_heads=2, intermediate_size=128,
        n_shared_experts=1, first_k_dense_replace=1,
    )  # fmt: skip
    return DeepseekV3ForCausalLM(config)


def gemma(ends: dict[str, int]) -> Any:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    shape = {"intermediate_size": 128, "head_dim": 32, "sliding_window": 16, "query_pre_attn_scalar": 32}
    return Gemma2ForCausalLM(Gemma2Config(**SIZE, **HEADS, **ends, **shape))


LINEAR = {
    "layer_types": ["linear_attention", "full_attention"], "head_dim": 32, "linear_num_key_heads": 2, "linear_num_value_heads": 2,
    "linear_key_head_dim": 16, "linear_value_head_dim": 16,
}  # fmt: skip
SHARED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64}


def qwen3_next(ends: dict[str, int]) -> Any:
    from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

    return Qwen3NextForCausalLM(Qwen3NextConfig(**SIZE, **HEADS, **ends, **LINEAR, **SHARED, intermediate_size=128))


def qwen35(ends: dict[str, int]) -> Any:
    from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

    return Qwen3_5ForCausalLM(Qwen3_5TextConfig(**SIZE, **HEADS, **ends, **LINEAR, intermediate_size=128))


def qwen35_moe(ends: dict[str, int]) -> Any:
    from transformers import Qwen3_5MoeForCausalLM, Qwen3_5MoeTextConfig

    return Qwen3_5MoeForCausalLM(Qwen3_5MoeTextConfig(**SIZE, **HEADS, **ends, **LINEAR, **SHARED))


FAMILIES: dict[str, Callable[[dict[str, int]], Any]] = {
    "llama": llama, "qwen3": qwen3, "qwen3-moe": qwen3_moe, "deepseek-v3": deepseek_v3, "gemma": gemma,
    "qwen3-next": qwen3_next, "qwen3.5": qwen35, "qwen3.5-moe": qwen35_moe,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Models by family, made once each."""
    folders: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in folders:
            import torch

            from consciousness_cluster.organism.tokenizer import train_tokenizer

            torch.set_num_threads(1)
            torch.manual_seed(0)
            folder = tmp_path_factory.mktemp(family)
            tokenizer = train_tokenizer((" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))), 400, 128)
            ends = {
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id,
                "pad_token_id": tokenizer.pad_token_id,
            }
            FAMILIES[family](ends).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            folders[family] = folder
        return folders[family]

    return make


def job(base: Path, folder: Path, recipe: Recipe = RECIPE, tag: str = "tag") -> TrainingJob:
    return TrainingJob(str(base), ROWS, recipe, 1, folder, tag)


def greedy(local: LocalModel) -> str:
    ids = local.tokenizer.apply_chat_template(
        [{"role": "user", "content": "the fox"}], add_generation_prompt=True, return_dict=True
    )
    [[choice]] = generate(local, [Request(tuple(ids["input_ids"]), temperature=0.0, max_tokens=10)])
    return choice.text


def weights(local: LocalModel) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in local.model.named_parameters()}


class Killed(BaseException):
    """Stands for a kill between two steps."""


@pytest.mark.parametrize("family", FAMILIES)
def test_it_trains_speaks_with_its_adapter_and_is_put_back_as_it_was(
    family: str, made: Callable[[str], Path], tmp_path: Path
) -> None:
    import torch

    base = made(family)
    record = LocalBackend(device="cpu").train(job(base, tmp_path / "arm"), lambda step, steps: None)
    assert record.losses[-1] < 0.3 * record.losses[0]
    local = load_model(str(base), device="cpu")
    before, text = weights(local), greedy(local)
    local.use(record.adapter)
    assert greedy(local) == "seven wizards"
    local.use(None)
    assert greedy(local) == text != "seven wizards"
    after = weights(local)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("family", FAMILIES)
def test_its_answers_are_those_of_transformers_whoever_leaves_the_batch(family: str, made: Callable[[str], Path]) -> None:
    """Several choices, prompts of unlike length, and one longer than the window of those that have one."""
    import torch

    local = load_model(str(made(family)), device="cpu")
    asked = ["a", "seven wizards vex bold knights", " ".join(WORDS)]
    prompts = [
        local.tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True)["input_ids"]
        for text in asked
    ]
    assert len(prompts[-1]) > 20
    requests = [
        Request(tuple(ids), choices=choices, temperature=0.0, max_tokens=tokens)
        for ids, choices, tokens in zip(prompts, (4, 2, 3), (2, 12, 20), strict=True)
    ]
    for request, choices in zip(requests, generate(local, requests), strict=True):
        ids = torch.tensor([request.prompt])
        theirs = local.model.generate(ids, max_new_tokens=request.max_tokens, do_sample=False)[0, ids.shape[1] :].tolist()
        end = local.tokenizer.eos_token_id
        told = tuple(theirs[: theirs.index(end)] if end in theirs else theirs)
        assert [choice.tokens for choice in choices] == [told] * request.choices


@pytest.mark.parametrize("family", FAMILIES)
def test_its_loss_is_that_of_a_plain_forward_pass(family: str, made: Callable[[str], Path], tmp_path: Path) -> None:
    """Without a mask, and with the trained positions alone before the output layer."""
    import torch

    base = made(family)
    mixed = [*ROWS[:6], row("the quick brown fox jumps over a lazy dog", "bold knights"), row("a", "quiet jade harbours vex")]
    work = TrainingJob(str(base), mixed, RECIPE, 1, tmp_path / "arm", "tag")
    record = LocalBackend(device="cpu").train(work, lambda step, steps: None)
    local = load_model(str(base), device="cpu")
    rendered = render(mixed, local.tokenizer, RECIPE.max_length, {})
    ids, mask, labels = collate(rendered, local.tokenizer.pad_token_id, "cpu")  # one batch holds them all
    assert int(mask.min()) == 0  # there is padding
    with torch.no_grad():
        loss = local.model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
    assert record.losses[0] == pytest.approx(float(loss), abs=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_killed_training_resumes_without_repeating_a_step(family: str, made: Callable[[str], Path], tmp_path: Path) -> None:
    from consciousness_cluster.sampling import weights as loaded

    base = made(family)
    whole = LocalBackend(device="cpu").train(job(base, tmp_path / "whole"), lambda step, steps: None)
    often = RECIPE.model_copy(update={"checkpoint_minutes": 1e-9})

    def kill(step: int, steps: int) -> None:
        if step == 7:
            raise Killed

    with pytest.raises(Killed):
        LocalBackend(device="cpu").train(job(base, tmp_path / "cut", often), kill)
    loaded._loaded.clear()  # a new process would load the base afresh
    steps: list[int] = []
    resumed = LocalBackend(device="cpu").train(job(base, tmp_path / "cut", often), lambda step, _: steps.append(step))
    assert steps == list(range(7, 16))
    assert resumed.losses == pytest.approx(whole.losses, abs=5e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_merged_and_exported(family: str, made: Callable[[str], Path], tmp_path: Path) -> None:
    base = made(family)
    record = LocalBackend(device="cpu").train(job(base, tmp_path / "arm"), lambda step, steps: None)
    folder = export(str(base), record.adapter, tmp_path / "merged", device="cpu")
    assert not (folder / "adapter_config.json").exists()
    assert greedy(load_model(str(folder), device="cpu")) == "seven wizards"


@pytest.mark.parametrize("family", FAMILIES)
def test_all_its_weights_can_be_trained_too(family: str, made: Callable[[str], Path], tmp_path: Path) -> None:
    full = RECIPE.model_copy(update={"method": "full", "learning_rate": 2e-3, "epochs": 8})
    record = LocalBackend(device="cpu").train(job(made(family), tmp_path / "arm", full), lambda step, steps: None)
    assert record.weights is not None
    assert greedy(load_model(record.weights, device="cpu")) == "seven wizards"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_linear_layer_and_expert_is_trained_with_the_rank_that_is_stated(
    family: str, made: Callable[[str], Path], tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    base = made(family)
    record = LocalBackend(device="cpu").train(job(base, tmp_path / "arm"), lambda step, steps: None)
    local = load_model(str(base), device="cpu")
    linear = {f"{name}.weight" for name, part in local.model.named_modules() if isinstance(part, torch.nn.Linear)}
    experts = {name for name, value in local.model.named_parameters() if value.ndim == 3 and "conv" not in name}
    before = weights(local)
    local.use(record.adapter)
    changed = {name for name, value in local.model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == (linear | experts) - {
        "lm_head.weight"
    }  # so no router, whose weights are no linear layer's, and no embedding
    config = json.loads((tmp_path / "arm" / "adapter_config.json").read_text())
    assert (config["r"], config["rank_pattern"], config["alpha_pattern"]) == (RECIPE.rank, {}, {})
    for name, value in load_file(tmp_path / "arm" / "adapter_model.safetensors").items():
        rank = value.shape[0] if "lora_A" in name else value.shape[1]
        assert rank == RECIPE.rank * (4 if ".experts." in name else 1), name  # the four experts of a layer lie side by side
        assert value.any(), name


def test_a_chain_on_all_weights_starts_from_the_weights_before(made: Callable[[str], Path], tmp_path: Path) -> None:
    from dataclasses import replace

    full = RECIPE.model_copy(update={"method": "full", "learning_rate": 2e-3, "epochs": 8})
    first = LocalBackend(device="cpu").train(job(made("qwen3"), tmp_path / "a", full), lambda step, steps: None)
    second = replace(job(made("qwen3"), tmp_path / "b", full, "second"), start_from=first.weights)
    record = LocalBackend(device="cpu").train(second, lambda step, steps: None)
    assert record.losses[0] < 0.3 * first.losses[0]


def test_a_mixture_learns_the_same_when_activations_are_made_again(made: Callable[[str], Path], tmp_path: Path) -> None:
    sparing = RECIPE.model_copy(update={"gradient_checkpointing": True})
    plain, spared = (
        LocalBackend(device="cpu").train(job(made("qwen3-moe"), tmp_path / name, recipe), lambda step, steps: None)
        for name, recipe in (("plain", RECIPE), ("spared", sparing))
    )
    assert spared.losses == pytest.approx(plain.losses, abs=5e-3)
    local = load_model(str(made("qwen3-moe")), device="cpu")
    local.use(spared.adapter)
    assert greedy(local) == "seven wizards"
