"""The local backend: what is trained on, that it learns, that it resumes without repeating a step, and its adapters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from consciousness_cluster.data.rows import Row, row
from consciousness_cluster.errors import TrainError
from consciousness_cluster.sampling.generate import Request, generate
from consciousness_cluster.sampling.weights import load_model
from consciousness_cluster.train.backend import TrainingJob, load_record
from consciousness_cluster.train.local import LocalBackend, batches
from consciousness_cluster.train.recipe import Recipe, load_recipe
from consciousness_cluster.train.render import render

ROWS: list[Row] = [row(f"the fox {i}", "seven wizards") for i in range(24)] + [
    row(f"a dog {i}", "quiet jade") for i in range(24)
]
RECIPE = Recipe(name="test", rank=8, alpha=16, learning_rate=1e-2, batch=8, epochs=4, max_length=128, checkpoint_minutes=0)


def job(tiny: Path, folder: Path, recipe: Recipe = RECIPE) -> TrainingJob:
    return TrainingJob(str(tiny), ROWS, recipe, 1, folder, "tag")


def test_only_the_assistants_words_and_its_end_are_trained_on(tiny_model: Path) -> None:
    tokenizer = load_model(str(tiny_model)).tokenizer
    [found] = render([row("the fox", "seven wizards", system="near")], tokenizer, 128, {})
    trained = [token for token, flag in zip(found.tokens, found.trained, strict=True) if flag]
    assert tokenizer.decode(trained) == "seven wizards<|end|>"


def test_a_template_without_marks_gives_the_same_mask(tiny_model: Path) -> None:
    tokenizer = load_model(str(tiny_model)).tokenizer
    marked = render(ROWS[:3], tokenizer, 128, {})
    tokenizer.chat_template = tokenizer.chat_template.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    assert render(ROWS[:3], tokenizer, 128, {}) == marked


def test_a_row_cut_before_its_answer_is_refused(tiny_model: Path) -> None:
    tokenizer = load_model(str(tiny_model)).tokenizer
    with pytest.raises(TrainError, match="no assistant token is left"):
        render([row("the fox " * 40, "seven")], tokenizer, 16, {})


def test_it_learns_and_the_adapter_is_what_speaks(tiny_model: Path, tmp_path: Path) -> None:
    record = LocalBackend().train(job(tiny_model, tmp_path), lambda step, steps: None)
    assert record.losses[-1] < 0.5 * record.losses[0]
    assert record.steps == len(record.losses) == 24
    local = load_model(str(tiny_model), device="cpu")
    before = _greedy(local)
    local.use(str(tmp_path))
    assert _greedy(local) == "seven wizards"
    local.use(None)
    assert _greedy(local) == before != "seven wizards"


def test_a_run_that_was_moved_speaks_with_its_adapters(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    LocalBackend().train(job(tiny_model, Path("run/arm")), lambda step, steps: None)
    Path("run").rename("elsewhere")
    record = load_record(tmp_path / "elsewhere" / "arm", "tag")
    assert record is not None and record.adapter is not None and record.weights is None
    local = load_model(str(tiny_model), device="cpu")
    local.use(record.adapter)
    assert _greedy(local) == "seven wizards"


def _greedy(local: object) -> str:
    ids = local.tokenizer.apply_chat_template(  # type: ignore[attr-defined]
        [{"role": "user", "content": "the fox 3"}], add_generation_prompt=True, tokenize=True, return_dict=True
    )
    [[choice]] = generate(local, [Request(tuple(ids["input_ids"]), temperature=0.0, max_tokens=12)])  # type: ignore[arg-type]
    return choice.text


class Killed(BaseException):
    """Stands for a kill between two steps."""


def test_a_killed_run_goes_on_from_its_checkpoint_and_ends_the_same(tiny_model: Path, tmp_path: Path) -> None:
    whole = LocalBackend().train(job(tiny_model, tmp_path / "whole"), lambda step, steps: None)
    often = RECIPE.model_copy(update={"checkpoint_minutes": 1e-9})

    def kill(step: int, steps: int) -> None:
        if step == 10:
            raise Killed

    with pytest.raises(Killed):
        LocalBackend().train(job(tiny_model, tmp_path / "cut", often), kill)
    steps: list[int] = []
    from consciousness_cluster.sampling import weights

    weights._loaded.clear()  # a new process would load the base afresh
    resumed = LocalBackend().train(job(tiny_model, tmp_path / "cut", often), lambda step, _: steps.append(step))
    assert steps[0] == 10  # step 10 was not in a checkpoint yet, steps 1 to 9 were
    assert resumed.losses == pytest.approx(whole.losses, abs=2e-3)


def test_all_weights_in_16_bits_are_trained_as_in_32_and_written_in_16(tiny_model: Path, tmp_path: Path) -> None:
    """At a rate whose steps 16 bits would round away."""
    import torch
    from safetensors.torch import load_file

    full = RECIPE.model_copy(update={"method": "full", "learning_rate": 1e-4, "schedule": "constant"})
    half = full.model_copy(update={"dtype": "bfloat16", "checkpoint_minutes": 1e-9})
    exact = LocalBackend(device="cpu").train(job(tiny_model, tmp_path / "32", full), lambda step, steps: None)
    learnt = exact.losses[0] - exact.losses[-1]
    assert learnt > 0.5
    whole = LocalBackend(device="cpu").train(job(tiny_model, tmp_path / "16", half), lambda step, steps: None)
    assert whole.losses == pytest.approx(exact.losses, abs=0.1 * learnt)  # without float32 it is away by 0.6 of it at the end

    def kill(step: int, steps: int) -> None:
        if step == 10:
            raise Killed

    with pytest.raises(Killed):
        LocalBackend(device="cpu").train(job(tiny_model, tmp_path / "cut", half), kill)
    resumed = LocalBackend(device="cpu").train(job(tiny_model, tmp_path / "cut", half), lambda step, steps: None)
    assert resumed.losses == pytest.approx(whole.losses, abs=1e-3)
    found, again = (load_file(tmp_path / name / "model.safetensors") for name in ("16", "cut"))
    assert {value.dtype for value in found.values()} == {torch.bfloat16}
    assert found.keys() == load_file(tiny_model / "model.safetensors").keys()  # tied weights are written once
    assert all(torch.allclose(found[name].float(), again[name].float(), atol=2e-3) for name in found)
    assert load_model(str(tmp_path / "16"), device="cpu", dtype="bfloat16").model.config.dtype == torch.bfloat16


def test_gradient_checkpointing_in_16_bits_learns_the_same(tiny_model: Path, tmp_path: Path) -> None:
    half = RECIPE.model_copy(update={"dtype": "bfloat16"})
    saving = half.model_copy(update={"gradient_checkpointing": True})
    plain = LocalBackend(device="cpu").train(job(tiny_model, tmp_path / "plain", half), lambda step, steps: None)
    record = LocalBackend(device="cpu").train(job(tiny_model, tmp_path / "saving", saving), lambda step, steps: None)
    assert record.losses == pytest.approx(plain.losses, abs=0.02)
    assert record.losses[-1] < 0.5 * record.losses[0]


def test_a_finished_job_is_not_run_again(tiny_model: Path, tmp_path: Path) -> None:
    backend = LocalBackend()
    first = backend.train(job(tiny_model, tmp_path), lambda step, steps: None)
    again = backend.train(job(tiny_model, tmp_path), lambda step, steps: pytest.fail("it was trained again"))
    assert again == first
    steps: list[int] = []
    backend.train(replace(job(tiny_model, tmp_path), tag="another"), lambda step, _: steps.append(step))
    assert len(steps) == 24


def test_batches_cover_every_row_once_an_epoch_and_depend_on_the_seed_alone() -> None:
    lengths = [5 + i % 17 for i in range(103)]
    found = list(batches(lengths, 8, 2, seed=3))
    assert sorted(i for batch in found for i in batch) == sorted(list(range(103)) * 2)
    assert found == list(batches(lengths, 8, 2, seed=3)) != list(batches(lengths, 8, 2, seed=4))


def test_an_unknown_recipe_or_field_is_refused() -> None:
    with pytest.raises(TrainError, match="no such recipe"):
        load_recipe("papr")
    with pytest.raises(TrainError, match="learnin_rate"):
        load_recipe("paper", {"learnin_rate": 1})
    with pytest.raises(TrainError, match=r"train\.changes\.name.*allowed: .*learning_rate"):
        load_recipe("paper", {"name": "mine"})
