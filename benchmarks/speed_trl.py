"""The half of the speed benchmark that belongs to others: trl's trainer. Runs in an environment with trl; prints one JSON line.

    .venv-trl/bin/python benchmarks/speed_trl.py TASK.json

It shares `load` and `Clock` with `speed.py`, which starts it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def load(folder: Path, device: str) -> Any:
    """The model in a folder; one that holds a configuration alone is made with random weights, on its device."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind = torch.float32 if device == "cpu" else torch.bfloat16
    if list(folder.glob("*.safetensors")):
        return AutoModelForCausalLM.from_pretrained(folder, dtype=kind).to(device)
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=kind)


class Clock:
    """Wall and processor seconds of a training: whole, and from the end of the first step to the end of the last."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.started = self.now()
        self.first: tuple[float, float] | None = None

    def now(self) -> tuple[float, float]:
        if self.device != "cpu":
            import torch

            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def step(self) -> None:
        """A step has ended; only the first is waited for."""
        if self.first is None:
            self.first = self.now()

    def read(self, steps: int) -> dict[str, float]:
        ended = self.now()
        assert self.first is not None
        return {
            "seconds": ended[0] - self.started[0],
            "cpu_seconds": ended[1] - self.started[1],
            "step_milliseconds": 1000 * (ended[0] - self.first[0]) / max(steps - 1, 1),
        }


def versions(*names: str) -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in names}


def train(task: dict[str, Any]) -> dict[str, Any]:
    """trl's SFTTrainer on prompt and completion, so that it trains on the assistant's tokens alone, as ours does."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    device, recipe = task["device"], task["recipe"]
    torch.set_num_threads(task["threads"])
    folder = Path(task["folder"])
    model, tokenizer = load(folder, device), AutoTokenizer.from_pretrained(folder)
    rows = [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in task["rows"]]
    settings = SFTConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=device == "cpu", bf16=device != "cpu", per_device_train_batch_size=recipe["batch"],
        num_train_epochs=recipe["epochs"], learning_rate=recipe["learning_rate"], lr_scheduler_type="linear", warmup_steps=0,
        adam_beta1=recipe["betas"][0], adam_beta2=recipe["betas"][1], max_grad_norm=recipe["clip"], max_length=recipe["max_length"],
        gradient_checkpointing=recipe["gradient_checkpointing"], logging_strategy="no", save_strategy="no", report_to="none",
        disable_tqdm=True, seed=1, dataloader_pin_memory=device != "cpu", **task["options"],
    )  # fmt: skip
    lora = LoraConfig(r=recipe["rank"], lora_alpha=recipe["alpha"], target_modules="all-linear", task_type="CAUSAL_LM")
    clock = Clock(device)

    class Watch(TrainerCallback):
        def on_step_end(self, *args: Any, **named: Any) -> None:
            clock.step()

    trainer = SFTTrainer(
        model=model, args=settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, peft_config=lora,
        callbacks=[Watch()],
    )  # fmt: skip
    steps = trainer.train().global_step
    trainer.save_model()
    measured = clock.read(steps)
    losses = [entry["train_loss"] for entry in trainer.state.log_history if "train_loss" in entry]
    return {
        **measured, "steps": steps, "loss": losses[-1],
        "versions": versions("trl", "transformers", "peft", "torch", "accelerate"),
    }  # fmt: skip


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)  # what the libraries print goes beside the result
    result = train(task)
    os.write(kept, (json.dumps(result) + "\n").encode())


if __name__ == "__main__":
    main()
