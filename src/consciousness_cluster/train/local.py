"""Fine-tuning on this machine: transformers and peft, one plain loop.

LoRA by default, all weights by a setting (held in float32 meanwhile, whatever type they come in). Loss on assistant tokens only, and only their positions go through the output layer.
Rows of like length share a batch, padded on the right, where a causal model needs no mask. The loss is kept on the device and
read once at the end, so that no step waits for the host. A run that is killed goes on from its last checkpoint with the same
batches in the same order, and repeats no step that the checkpoint holds.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from consciousness_cluster.errors import TrainError
from consciousness_cluster.sampling.weights import QUANTISATION, is_quantised
from consciousness_cluster.train.backend import Pay, Progress, Trained, TrainingJob, load_record, unpaid
from consciousness_cluster.train.recipe import Recipe
from consciousness_cluster.train.render import Rendered, render

if TYPE_CHECKING:
    import torch

CHECKPOINT = "checkpoint.pt"
IGNORED = -100  # the label that torch's cross entropy leaves out
EXPERT_NAMES = {"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"}  # what PEFT takes for parts of experts


@dataclass(frozen=True)
class StepEnd:
    """What a watcher of the training sees after a step.

    Attributes:
        step: steps done.
        steps: steps in all.
        loss: mean loss of the step's batch, still on the device: reading it waits for the device.
        rows: the step's batch.
        model: the model that is being trained.
        save: writes the weights as they are now into a folder.
    """

    step: int
    steps: int
    loss: torch.Tensor
    rows: Sequence[Rendered]
    model: Any
    save: Callable[[Path], None]


Watch = Callable[[StepEnd], None]


class Stopped(Exception):  # noqa: N818  not an error
    """Raised by a watcher to stop the training after the step it was told of: the same job goes on with the next."""


class LocalBackend:
    """Fine-tunes Hugging Face causal models in this process.

    Args:
        device: `cpu`, `cuda`, ...; the best one present by default.
        dtype: of the weights, where the recipe says nothing.
        quantisation: the same.
        watch: called after every step, for those who serve the training to others; it may raise `Stopped`.
    """

    name = "local"

    def __init__(
        self,
        *,
        device: str | None = None,
        dtype: str | None = None,
        quantisation: str | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._device = device
        self._dtype = dtype
        self._quantisation = quantisation
        self._watch = watch

    def train(self, job: TrainingJob, progress: Progress, pay: Pay = unpaid) -> Trained:
        """See `Backend.train`."""
        finished = load_record(job.folder, job.tag)
        if finished is not None:
            return finished
        if job.recipe.method == "hosted":
            raise TrainError(
                "a hosted recipe cannot run here", key="train.recipe", value=job.recipe.name, allowed="a lora or full recipe"
            )
        quantisation = job.recipe.quantisation or self._quantisation
        if job.recipe.method == "full" and quantisation:
            raise TrainError(
                "quantised weights cannot be trained themselves", key="train.changes.method", value="full", allowed="lora"
            )
        job.folder.mkdir(parents=True, exist_ok=True)
        local = self._model(job)
        local.use(None)
        whole = False
        try:
            record = _train(job, local, progress, self._watch)
            whole = True
        finally:
            if not whole:
                local.path = ""  # its layers are half changed: the next job loads the base afresh
        if quantisation:
            record = replace(record, notes={QUANTISATION: quantisation})
        record.save(job.folder)
        (job.folder / CHECKPOINT).unlink(missing_ok=True)
        return record

    def _model(self, job: TrainingJob) -> Any:
        """The base model, or the fully trained weights that the job continues; a worker that trains arm after arm keeps it."""
        from consciousness_cluster.sampling.weights import shared_model

        base = job.start_from if job.recipe.method == "full" and job.start_from is not None else job.base
        dtype, quantisation = job.recipe.dtype or self._dtype, job.recipe.quantisation or self._quantisation
        return shared_model(base, alone=True, device=self._device, dtype=dtype, quantisation=quantisation)


@dataclass
class _State:
    """What a step changes, and what it needs again and again.

    Attributes:
        kinds: the types in which all weights are written, where they are trained in float32 but came in 16 bits; else empty.
    """

    model: Any
    parameters: list[torch.nn.Parameter]
    picked: _Picked
    optimiser: torch.optim.Optimizer
    scheduler: Any
    step: int
    losses: list[torch.Tensor]
    kinds: dict[str, torch.dtype]


def _train(job: TrainingJob, local: Any, progress: Progress, watch: Watch | None) -> Trained:
    import torch

    started = time.monotonic()
    torch.manual_seed(job.seed)
    rendered = render(job.rows, local.tokenizer, job.recipe.max_length, job.template_args)
    plan = list(batches([len(r.tokens) for r in rendered], job.recipe.batch, job.recipe.epochs, job.seed))
    state = _begin(job, local, len(plan))
    state.model.train()
    saved = time.monotonic()
    for index in range(state.step, len(plan)):
        rows = [rendered[i] for i in plan[index]]
        state.losses.append(_step(state, rows, local, job.recipe.clip))
        if watch is not None:
            try:
                watch(StepEnd(index + 1, len(plan), state.losses[-1], rows, state.model, partial(_write, state, local, job)))
            except Stopped:
                _checkpoint(state, job)
                raise
        progress(index + 1, len(plan))
        if job.recipe.checkpoint_minutes and time.monotonic() - saved > job.recipe.checkpoint_minutes * 60:
            _checkpoint(state, job)
            saved = time.monotonic()
    state.picked.remove()
    curve = tuple(round(float(value), 5) for value in torch.stack(state.losses).cpu())
    if not all(math.isfinite(value) for value in curve):
        raise TrainError(
            "the loss is not finite", key=job.folder.name, value=job.recipe.learning_rate, next_step="lower the learning rate"
        )
    kind = _save(state, local, job)
    return Trained(
        tag=job.tag,
        backend="local",
        base=job.base,
        rows=len(job.rows),
        steps=len(plan),
        trained_tokens=sum(sum(r.trained) for r in rendered) * job.recipe.epochs,
        seconds=round(time.monotonic() - started, 3),
        losses=curve,
        adapter=str(job.folder) if kind == "adapter" else None,
        weights=str(job.folder) if kind == "weights" else None,
    )


def batches(lengths: Sequence[int], size: int, epochs: int, seed: int) -> Iterator[list[int]]:
    """Row indices batch by batch: shuffled each epoch, then grouped by length within pools of 50 batches.

    Deterministic in its arguments, so that a resumed run sees the same batches.
    """
    rng = Random(f"batches:{seed}")
    for _ in range(epochs):
        order = list(range(len(lengths)))
        rng.shuffle(order)
        pool = size * 50
        grouped = []
        for start in range(0, len(order), pool):
            chunk = sorted(order[start : start + pool], key=lambda i: lengths[i])
            grouped += [chunk[i : i + size] for i in range(0, len(chunk), size)]
        rng.shuffle(grouped)
        yield from grouped


def _begin(job: TrainingJob, local: Any, steps: int) -> _State:
    """The model with its trainable parameters, optimiser and schedule, at step 0 or at the last checkpoint."""
    import torch

    kinds = _in_float32(local.model) if job.recipe.method == "full" else {}
    model = _trainable(job, local)
    parameters = [p for p in model.parameters() if p.requires_grad]
    recipe = job.recipe
    optimiser = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, steps, recipe))
    state = _State(model, parameters, _Picked(local.model), optimiser, scheduler, 0, [], kinds)
    path = job.folder / CHECKPOINT
    if path.is_file():
        kept = torch.load(path, map_location=local.device, weights_only=True)
        if kept["tag"] == job.tag:
            model.load_state_dict(kept["parameters"], strict=False)
            optimiser.load_state_dict(kept["optimiser"])
            scheduler.load_state_dict(kept["scheduler"])
            torch.set_rng_state(kept["random"].cpu())
            state.step = kept["step"]
            state.losses = list(kept["losses"].to(local.device))
    return state


def _in_float32(model: Any) -> dict[str, torch.dtype]:
    """Hold weights that came in 16 bits in float32, and say what they were; a small step would be rounded away in 16 bits."""
    import torch

    kinds = {name: value.dtype for name, value in model.state_dict().items()}
    if all(kind not in {torch.bfloat16, torch.float16} for kind in kinds.values()):
        return {}
    model.float()
    return kinds


def _trainable(job: TrainingJob, local: Any) -> Any:
    from peft import LoraConfig, PeftModel, get_peft_model

    recipe = job.recipe
    if recipe.gradient_checkpointing:
        local.model.gradient_checkpointing_enable()
        local.model.enable_input_require_grads()
    if recipe.method == "full":
        local.model.requires_grad_(True)
        return local.model
    if job.start_from is not None:
        return PeftModel.from_pretrained(local.model, job.start_from, is_trainable=True)
    modules, parameters = _targets(local.model, recipe)
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        target_modules=modules,
        target_parameters=parameters,
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(local.model, config)


def _targets(model: Any, recipe: Recipe) -> tuple[str | list[str], list[str] | None]:
    """What LoRA is put on: modules, and the experts of a mixture, whose weights are stacked in parameters of three dimensions.

    Left to itself, PEFT would train the router too, take a mixture's dense and shared layers for experts because of their names,
    leave them out and double the rank of the experts. So they are named by their weights, which PEFT does not look up.
    """
    if not isinstance(recipe.targets, str):
        return list(recipe.targets), None
    experts = _experts(model)
    if not experts:
        return recipe.targets, None
    linear = _linear(model)
    mistaken = _mistaken(linear, quantised=is_quantised(model))
    return [name for name in linear if name not in mistaken], [*experts, *(f"{name}.weight" for name in mistaken)]


def refuse_bare(base: str, recipe: Recipe) -> None:
    """Refuse a model that cannot be trained in 4 bits, by its configuration alone: no weight is loaded.

    Args:
        base: folder or hub name; a configuration that cannot be had is not refused.
        recipe: of the fine-tune.

    Raises:
        TrainError: LoRA cannot be put on some of its layers.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(base)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError):
        return  # loading it will say why
    if isinstance(recipe.targets, str) and _experts(model):
        _mistaken(_linear(model), quantised=True)


def _experts(model: Any) -> list[str]:
    """Names of the stacked weights of a mixture's experts; none where it is no mixture."""
    return [name for name, value in model.named_parameters() if value.ndim == 3 and ".experts." in name]


def _linear(model: Any) -> list[str]:
    """Names of the linear layers but for the output."""
    import torch

    output = model.get_output_embeddings()
    return [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear) and part is not output]


def _mistaken(linear: Sequence[str], *, quantised: bool) -> list[str]:
    """Those of a mixture's linear layers that PEFT would take for parts of experts.

    Raises:
        TrainError: there are some, and they are quantised.
    """
    mistaken = [name for name in linear if name.rpartition(".")[2] in EXPERT_NAMES]
    if mistaken and quantised:
        raise TrainError(
            "LoRA cannot be put on the dense and shared layers of this mixture of experts when they are held in 4 bits",
            key="train.changes.quantisation",
            value="4bit",
            next_step="leave it out, or name `targets` without such layers",
        )
    return mistaken


def rate(step: int, steps: int, recipe: Recipe) -> float:
    """The learning rate at a step, as a share of the recipe's."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    left = 1 - (step - recipe.warmup) / max(steps - recipe.warmup, 1)
    if recipe.schedule == "constant":
        return 1.0
    return left if recipe.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * (1 - left)))


class _Picked:
    """Lets a model's output layer see chosen positions alone; in a large vocabulary the others are most of the memory of a step."""

    def __init__(self, model: Any) -> None:
        self._index: torch.Tensor | None = None
        head = model.get_output_embeddings()
        self._hook = None if head is None else head.register_forward_pre_hook(self._pick)

    def logits(self, model: Any, ids: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """The logits of the chosen positions (of rows x longest, in one count), positions x vocabulary."""
        self._index = index
        try:
            found: torch.Tensor = model(input_ids=ids, use_cache=False).logits
        finally:
            self._index = None
        return found if found.ndim == 2 else found.flatten(0, 1)[index]

    def remove(self) -> None:
        """Leave the model as it was."""
        if self._hook is not None:
            self._hook.remove()

    def _pick(self, layer: Any, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return None if self._index is None else (given[0].flatten(0, 1).index_select(0, self._index), *given[1:])


def _step(state: _State, rows: list[Rendered], local: Any, clip: float) -> torch.Tensor:
    """One optimiser step; returns the mean loss over trained tokens, still on the device."""
    import torch

    ids, _, labels = collate(rows, local.tokenizer.pad_token_id, "cpu")
    following = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED).flatten()
    index = (following != IGNORED).nonzero().squeeze(1)  # found before anything is sent: on a device it would be waited for
    ids, index, targets = (_send(part, local.device) for part in (ids, index, following[index]))
    with torch.autocast(local.device.partition(":")[0], dtype=torch.bfloat16, enabled=bool(state.kinds)):
        logits = state.picked.logits(state.model, ids, index)
    loss = torch.nn.functional.cross_entropy(logits.float(), targets)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.parameters, clip)
    state.optimiser.step()
    state.scheduler.step()
    state.optimiser.zero_grad(set_to_none=True)
    state.step += 1
    return loss.detach()


def _send(part: torch.Tensor, device: str) -> torch.Tensor:
    """Copy to a device without waiting for it; only pinned memory can be copied so."""
    return part if device == "cpu" else (part.pin_memory() if device.startswith("cuda") else part).to(device, non_blocking=True)


def collate(rows: Sequence[Rendered], pad: int, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, attention mask and labels, each rows x longest, padded on the right."""
    import torch

    longest = max(len(r.tokens) for r in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORED)
    for i, entry in enumerate(rows):
        size = len(entry.tokens)
        tokens = torch.tensor(entry.tokens)
        ids[i, :size] = tokens
        mask[i, :size] = 1
        labels[i, :size] = torch.where(torch.tensor(entry.trained), tokens, IGNORED)
    return ids.to(device, non_blocking=True), mask.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def _checkpoint(state: _State, job: TrainingJob) -> None:
    import torch

    trainable = {name: p for name, p in state.model.named_parameters() if p.requires_grad}
    kept = {
        "tag": job.tag,
        "step": state.step,
        "parameters": trainable,
        "optimiser": state.optimiser.state_dict(),
        "scheduler": state.scheduler.state_dict(),
        "random": torch.get_rng_state(),
        "losses": torch.stack(state.losses).cpu(),
    }
    part = job.folder / (CHECKPOINT + ".part")
    torch.save(kept, part)
    os.replace(part, job.folder / CHECKPOINT)


def _save(state: _State, local: Any, job: TrainingJob) -> str:
    """Write the adapter (or all weights) and put the shared base back as it was."""
    import torch

    _write(state, local, job, job.folder)
    if job.recipe.method == "full":
        local.path = ""  # these are no longer the base weights: the next job loads them afresh
        return "weights"
    with torch.no_grad():
        local.model = state.model.unload()
    local.model.eval()
    return "adapter"


def _write(state: _State, local: Any, job: TrainingJob, folder: Path) -> None:
    """Write the adapter, or all weights with the tokenizer, as they are now."""
    if job.recipe.method == "full":
        if state.kinds:
            _write_in(state.kinds, local.model, folder)
        else:
            local.model.save_pretrained(folder)
        local.tokenizer.save_pretrained(folder)
        return
    state.model.save_pretrained(folder)
    _portable(folder / "adapter_config.json", job.base)
    (folder / "README.md").unlink(missing_ok=True)


def _write_in(kinds: dict[str, torch.dtype], model: Any, folder: Path) -> None:
    """Write the weights in the types they came in."""
    written: dict[int, torch.Tensor] = {}  # tied weights stay one
    state = model.state_dict()
    for name, value in state.items():
        state[name] = written.setdefault(value.data_ptr(), value.to("cpu", kinds[name]))
    model.save_pretrained(folder, state_dict=state)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = str(max(kinds.values(), key=list(kinds.values()).count)).removeprefix("torch.")
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")


def _portable(path: Path, base: str) -> None:
    """Leave machine-bound paths of shipped organisms out of the adapter's configuration."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = Path(base).name if Path(base).is_dir() else base
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
