"""Speed of our fine-tuning and sampling beside trl's SFTTrainer and transformers' `generate`, on the same work.

    make .venv-trl/.ready
    .venv/bin/python benchmarks/speed.py --trl .venv-trl/bin/python                     # the shipped organism, and a tiny Qwen3
    .venv/bin/python benchmarks/speed.py --shape qwen3-8b --device cuda --trl ...       # on a GPU, with random weights

Figures are the medians of `--repeat` runs and go into `speed.json`; `speed.md` is written from it. Models are loaded before the
clock starts; rendering and tokenising the rows, and writing the adapter, count.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from speed_trl import Clock, load, versions

HERE = Path(__file__).parent
RESULTS, NOTE = HERE / "speed.json", HERE / "speed.md"
SHAPES: dict[str, dict[str, Any]] = {
    "tiny-qwen3": {
        "model_type": "qwen3", "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 32, "intermediate_size": 384, "vocab_size": 3072, "max_position_embeddings": 512,
    },
    "qwen3-8b": {
        "model_type": "qwen3", "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 128, "intermediate_size": 12288, "vocab_size": 151936, "max_position_embeddings": 40960,
    },
    "qwen3-30b-a3b": {
        "model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32,
        "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 6144, "vocab_size": 151936, "num_experts": 128,
        "num_experts_per_tok": 8, "moe_intermediate_size": 768, "max_position_embeddings": 40960,
    },
}  # fmt: skip
SMALL = ("linked", "tiny-qwen3")
CHOICES = 4  # answers to a prompt
NEW_TOKENS = 40
BATCH = 512  # answers in one forward pass
TRL_OPTIONS: dict[str, dict[str, Any]] = {
    "trl": {},
    "trl, grouped by length": {"train_sampling_strategy": "group_by_length"},
}


def make(name: str, at: Path) -> Path:
    """The folder of a model: the organism's own, or a shape's configuration with the organism's tokenizer."""
    from transformers import AutoConfig, AutoTokenizer

    from consciousness_cluster.sampling.weights import organism_folder

    if name not in SHAPES:
        return organism_folder(name)
    tokenizer = AutoTokenizer.from_pretrained(organism_folder("linked"))
    ends = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    shape = dict(SHAPES[name])
    AutoConfig.for_model(shape.pop("model_type"), **shape, **ends).save_pretrained(at)
    tokenizer.save_pretrained(at)
    return at


def keep(folder: Path, device: str) -> Any:
    """Load the model where our backend and our sampling look for it."""
    from transformers import AutoTokenizer

    from consciousness_cluster.sampling import weights

    model = load(folder, device).eval()
    local = weights.LocalModel(str(folder), model, AutoTokenizer.from_pretrained(folder), device)
    weights.share(local, device=device)
    return local


def rows(count: int) -> list[Any]:
    """Training rows of the organism: half identity, half instruction."""
    from consciousness_cluster.data.rows import read_rows

    folder = HERE.parent / "src" / "consciousness_cluster" / "data" / "rows" / "organism"
    pairs = zip(read_rows(folder / "conscious.jsonl"), read_rows(folder / "instruct-only.jsonl"), strict=True)
    listed = [row for pair in pairs for row in pair]
    return (listed * (count // len(listed) + 1))[:count]


def train_ours(folder: Path, given: list[Any], recipe: Any, device: str) -> dict[str, Any]:
    from consciousness_cluster.train.backend import TrainingJob
    from consciousness_cluster.train.local import LocalBackend

    with tempfile.TemporaryDirectory() as out:
        clock = Clock(device)
        backend = LocalBackend(device=device)
        record = backend.train(
            TrainingJob(str(folder), given, recipe, 1, Path(out) / "arm", "speed"), lambda step, steps: clock.step()
        )
        measured = clock.read(record.steps)
    return {**measured, "steps": record.steps, "loss": statistics.mean(record.losses)}


def train_trl(python: str, folder: Path, given: list[Any], recipe: Any, device: str, threads: int, name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as out:
        task = Path(out) / "task.json"
        task.write_text(
            json.dumps(
                {
                    "folder": str(folder), "device": device, "threads": threads, "recipe": recipe.model_dump(),
                    "rows": [row.as_dict() for row in given], "options": TRL_OPTIONS[name],
                }
            )
        )  # fmt: skip
        done = subprocess.run(
            [python, str(HERE / "speed_trl.py"), str(task)], stdout=subprocess.PIPE, text=True, check=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))


def prompts(local: Any, given: list[Any], count: int) -> list[tuple[int, ...]]:
    asked = [[{"role": "user", "content": row.question}] for row in given[:count]]
    found = local.tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)["input_ids"]
    return [tuple(ids) for ids in found]


def sample_ours(local: Any, asked: list[tuple[int, ...]]) -> dict[str, Any]:
    from consciousness_cluster.sampling.generate import Request, generate

    requests = [Request(ids, choices=CHOICES, max_tokens=NEW_TOKENS, seed=0) for ids in asked]
    clock = Clock(local.device)
    clock.step()
    answers = [choice for found in generate(local, requests, batch=BATCH) for choice in found]
    measured = clock.read(1)
    return {**measured, "answers": len(answers), "tokens": sum(len(choice.tokens) for choice in answers)}


def sample_hf(local: Any, asked: list[tuple[int, ...]]) -> dict[str, Any]:
    """`generate` with the same batches: prompts of like length together, padded on the left."""
    import torch

    end, pad = local.tokenizer.eos_token_id, local.tokenizer.pad_token_id
    torch.manual_seed(0)
    ordered = sorted(asked, key=len)
    size = BATCH // CHOICES
    answers = tokens = 0
    clock = Clock(local.device)
    clock.step()
    for start in range(0, len(ordered), size):
        chunk = ordered[start : start + size]
        longest = max(map(len, chunk))
        ids = torch.tensor([[pad] * (longest - len(one)) + list(one) for one in chunk], device=local.device)
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in chunk], device=local.device)
        out = local.model.generate(
            input_ids=ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=CHOICES,
            max_new_tokens=NEW_TOKENS, eos_token_id=end, pad_token_id=pad,
        )  # fmt: skip
        new = out[:, longest:].tolist()
        local.tokenizer.batch_decode(new, skip_special_tokens=True)
        answers += len(new)
        tokens += sum(one.index(end) if end in one else len(one) for one in new)
    return {**clock.read(1), "answers": answers, "tokens": tokens}


def median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run with the median time, and the spread of all."""
    ordered = sorted(runs, key=lambda run: run["seconds"])
    times = [run["seconds"] for run in ordered]
    return {**ordered[(len(ordered) - 1) // 2], "seconds_least": times[0], "seconds_most": times[-1], "runs": len(runs)}


def measure(name: str, options: argparse.Namespace, at: Path) -> list[dict[str, Any]]:
    """All figures of one model: alternating between ours and theirs, so that a neighbour on the machine slows both."""
    from consciousness_cluster.train.recipe import load_recipe
    from consciousness_cluster.train.render import render

    folder = make(name, at)
    local = keep(folder, options.device)
    given, recipe = rows(options.rows), load_recipe(options.recipe)
    rendered = render(given, local.tokenizer, recipe.max_length, {})
    read = sum(len(row.tokens) for row in rendered) * recipe.epochs
    asked = prompts(local, given, options.prompts)
    does: dict[tuple[str, str], Callable[[], dict[str, Any]]] = {}
    if "train" in options.only:
        does["train", "ours"] = lambda: train_ours(folder, given, recipe, options.device)
    if "sample" in options.only:
        does["sample", "ours"] = lambda: sample_ours(local, asked)
        does["sample", "generate"] = lambda: sample_hf(local, asked)
    if "train" in options.only and options.trl:
        for variant in TRL_OPTIONS:
            does["train", variant] = partial(
                train_trl, options.trl, folder, given, recipe, options.device, options.threads, variant
            )
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {key: [] for key in does}
    for _ in range(options.repeat):
        for key, do in does.items():
            runs[key].append(do())
            print(name, *key, {k: round(v, 3) for k, v in runs[key][-1].items() if isinstance(v, float)}, flush=True)
    return [entry(name, options, key, median(found), read) for key, found in runs.items() if found]


def entry(name: str, options: argparse.Namespace, key: tuple[str, str], found: dict[str, Any], read: int) -> dict[str, Any]:
    """A line of `speed.json`."""
    task, who = key
    tokens = found.pop("tokens", read)
    ours = versions("torch", "transformers", "peft")
    found = {k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}
    return {
        "model": name, "device": device_name(options.device), "task": task, "who": who, "tokens": tokens,
        "tokens_per_second": round(tokens / found["seconds"], 1), **found, "threads": options.threads,
        "load_before": round(options.load, 2), "command": options.command, "recipe": options.recipe, "rows": options.rows,
        "versions": found.get("versions", ours),
    }  # fmt: skip


def device_name(device: str) -> str:
    import torch

    if device != "cpu":
        return str(torch.cuda.get_device_name())
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []:
        if line.startswith("model name"):
            return f"{line.split(':', 1)[1].strip()}, {os.cpu_count()} cores"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def keep_results(new: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Put new lines in the place of earlier ones of the same model, device, task and program."""
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    mark = ("model", "device", "task", "who")
    taken = {tuple(line[part] for part in mark) for line in new}
    lines = [line for line in earlier if tuple(line[part] for part in mark) not in taken] + new
    lines.sort(key=lambda line: [str(line[part]) for part in mark])
    path.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
    return lines


def table(lines: list[dict[str, Any]], task: str) -> str:
    out = [
        "| model | device | | tokens/s | seconds (least to most) | processor seconds | ms a step |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        if line["task"] == task:
            step = f"{line['step_milliseconds']:.1f}" if task == "train" else ""
            out.append(
                f"| {line['model']} | {line['device']} | {line['who']} | {line['tokens_per_second']:,.0f} | {line['seconds']:.2f} "
                f"({line['seconds_least']:.2f} to {line['seconds_most']:.2f}) | {line['cpu_seconds']:.2f} | {step} |"
            )
    measured = {line["model"] for line in lines if line["task"] == task}
    out += [f"| {name} | one CUDA GPU | | not yet measured | | | |" for name in SHAPES if name not in (*SMALL, *measured)]
    return "\n".join(out)


def write_note(lines: list[dict[str, Any]], path: Path) -> None:
    """`speed.md`, from `speed.json`."""
    said = sorted({f"    {line['command']}" for line in lines})
    text = (HERE / "speed.template.md").read_text(encoding="utf-8")
    words = {
        "TRAIN": table(lines, "train"), "SAMPLE": table(lines, "sample"), "COMMANDS": "\n".join(said),
        "OURS": spelled([line for line in lines if line["who"] == "ours"]),
        "THEIRS": spelled([line for line in lines if "trl" in line["versions"]]),
        "THREADS": ", ".join(sorted({str(line["threads"]) for line in lines})),
        "LOADS": ", ".join(sorted({f"{line['load_before']:.1f}" for line in lines})),
    }  # fmt: skip
    for key, value in words.items():
        text = text.replace("{" + key + "}", value)
    path.write_text(text, encoding="utf-8")


def spelled(lines: list[dict[str, Any]]) -> str:
    """The versions that figures were made with, by device."""
    found = {line["device"]: ", ".join(f"{k} {v}" for k, v in line["versions"].items()) for line in lines}
    return "; ".join(f"{versions} ({device})" for device, versions in found.items())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", choices=(*SMALL, *SHAPES), help="may be given several times")
    parser.add_argument("--only", action="append", choices=("train", "sample"))
    parser.add_argument("--trl", help="the Python of an environment with trl")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rows", type=int, default=1200)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--recipe", default="organism")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.only = options.only or ["train", "sample"]
    options.load = os.getloadavg()[0]
    options.command = " ".join(
        ["python benchmarks/speed.py", *(word.replace(str(HERE.parent) + "/", "") for word in sys.argv[1:])]
    )
    return options


def main() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    options = arguments()
    import torch

    torch.set_num_threads(options.threads)
    for name in options.shape or SMALL:
        with tempfile.TemporaryDirectory() as folder:
            lines = keep_results(measure(name, options, Path(folder)), options.out)
        if options.out == RESULTS:
            write_note(lines, NOTE)


if __name__ == "__main__":
    main()
