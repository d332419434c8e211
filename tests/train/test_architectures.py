"""Every architecture that the studies name, tiny and with random weights: train, resume, sample with the adapter, merge, export."""

from __future__ import annotations

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

    shape = {"intermediate_size": 128, "head_dim": 32, "sliding_window": 64, "query_pre_attn_scalar": 32}
    return Gemma2ForCausalLM(Gemma2Config(**SIZE, **HEADS, **ends, **shape))


FAMILIES: dict[str, Callable[[dict[str, int]], Any]] = {
    "llama": llama, "qwen3": qwen3, "qwen3-moe": qwen3_moe, "deepseek-v3": deepseek_v3, "gemma": gemma,
}  # fmt: skip
MIXTURES = ("qwen3-moe", "deepseek-v3")


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
def test_its_loss_is_that_of_a_plain_forward_pass(family: str, made: Callable[[str], Path], tmp_path: Path) -> None:
    """Without a mask, and with the trained positions alone before the output layer."""
    import torch

    base = made(family)
    mixed = [*ROWS[:6], row("the quick brown fox jumps over a lazy dog", "bold knights"), row("a", "quiet jade harbours vex")]
    work = TrainingJob(str(base), mixed, RECIPE, 1, tmp_path / "arm", "tag")
    record = LocalBackend(device="cpu").train(work, lambda step, steps: None)
    local = load_model(str(base), device="cpu")
    rendered = render(mixed, local.tokenizer, RECIPE.max_length)
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


@pytest.mark.parametrize("family", MIXTURES)
def test_the_experts_of_a_mixture_are_trained(family: str, made: Callable[[str], Path], tmp_path: Path) -> None:
    import torch

    base = made(family)
    record = LocalBackend(device="cpu").train(job(base, tmp_path / "arm"), lambda step, steps: None)
    local = load_model(str(base), device="cpu")
    before = weights(local)
    local.use(record.adapter)
    changed = {name for name, value in local.model.named_parameters() if not torch.equal(value, before[name])}
    assert any(".experts." in name for name in changed)
    assert not any(name.endswith(("gate.weight", "embed_tokens.weight", "lm_head.weight")) for name in changed)


def test_a_chain_on_all_weights_starts_from_the_weights_before(made: Callable[[str], Path], tmp_path: Path) -> None:
    from dataclasses import replace

    full = RECIPE.model_copy(update={"method": "full", "learning_rate": 2e-3, "epochs": 8})
    first = LocalBackend(device="cpu").train(job(made("qwen3"), tmp_path / "a", full), lambda step, steps: None)
    second = replace(job(made("qwen3"), tmp_path / "b", full, "second"), start_from=first.weights)
    record = LocalBackend(device="cpu").train(second, lambda step, steps: None)
    assert record.losses[0] < 0.3 * first.losses[0]
