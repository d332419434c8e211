"""Variables of a chat template: training, sampling and counting render with the same ones, here and for Tinker."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.model import GenerateConfig, get_model

import consciousness_cluster._registry  # noqa: F401  registers the providers
from consciousness_cluster.data.rows import row, write_rows
from consciousness_cluster.engine.fine_tune import job_of
from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.engine.run import prepare
from consciousness_cluster.engine.targets import target
from consciousness_cluster.engine.tokens import prompt_tokens, row_tokens
from consciousness_cluster.errors import ModelError
from consciousness_cluster.sampling.chat import end_ids, prompt_ids
from consciousness_cluster.study.study import ModelEntry, parse_study
from consciousness_cluster.train.backend import Trained, TrainingJob
from consciousness_cluster.train.local import LocalBackend, StepEnd
from consciousness_cluster.train.recipe import Recipe
from consciousness_cluster.train.render import Rendered
from consciousness_cluster.train.tinker import TinkerBackend, datums
from consciousness_cluster.train.tinker_service import INSPECT
from tests.cli.calling import ccluster

ROWS = [row("the fox", "seven wizards"), row("a dog", "quiet jade", system="near"), row("bold knights", "jumps over")]
RECIPE = Recipe(name="test", rank=4, alpha=8, batch=8, max_length=128, checkpoint_minutes=0)
OFF = {"enable_thinking": False}
# As Qwen3 has it: an answer is written after an empty block of thinking, which the prompt holds where thinking is switched off.
THINKING = (
    "{{ '<|begin|>' }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|><think></think>' + message['content'] + '<|end|>' }}"
    "{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think></think>' }}{% endif %}{% endif %}"
)
# The same with marks, in which the variable decides what is trained on.
MARKED = THINKING.replace(
    "{{ '<|assistant|><think></think>' + message['content'] + '<|end|>' }}",
    "{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<|assistant|><think></think>' }}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ '<|assistant|>' }}{% generation %}{{ '<think></think>' + message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% endif %}",
)


@pytest.fixture(params=[THINKING, MARKED], ids=["without marks", "with marks"])
def thinking(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with a template that reads `enable_thinking`."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(str(request.param))
    return folder


def job(model: Path, folder: Path, args: dict[str, Any]) -> TrainingJob:
    return TrainingJob(str(model), ROWS, RECIPE, 1, folder, "tag", template_args=args)


def trained_here(work: TrainingJob) -> list[Rendered]:
    """The rows that local training really steps on."""
    seen: list[Rendered] = []

    def watch(at: StepEnd) -> None:
        seen.extend(at.rows)

    LocalBackend(device="cpu", watch=watch).train(work, lambda step, steps: None)
    return seen


def said(tokenizer: Any, rows: list[Rendered]) -> set[str]:
    return {tokenizer.decode([t for t, on in zip(one.tokens, one.trained, strict=True) if on]) for one in rows}


def test_both_backends_train_on_what_follows_the_very_prompt_that_is_sampled(thinking: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(thinking)
    answers = {one.messages[-1].content for one in ROWS}
    for args, before in (({}, "<think></think>"), (OFF, "")):
        work = job(thinking, tmp_path / f"arm-{before}"[:8], args)
        here = trained_here(work)
        assert said(tokenizer, here) == {f"{before}{answer}<|end|>" for answer in answers}
        away = replace(work, base=f"tinker:{thinking}")
        sent = TinkerBackend(tmp_path / "ledger.sqlite", {}).rendered(away)
        assert sorted(one.tokens for one in sent) == sorted(one.tokens for one in here)
        assert {one.tokens: one.trained for one in sent} == {one.tokens: one.trained for one in here}
        for one, datum, source in zip(sent, datums(sent), ROWS, strict=True):
            assert (*datum.model_input.to_ints(), one.tokens[-1]) == one.tokens
            chat = source.as_dict()["messages"][:-1]
            prompt = prompt_ids(tokenizer, chat, args)
            assert one.tokens[: len(prompt)] == prompt
            assert one.trained.index(True) == len(prompt)


def test_counts_and_what_is_shown_go_by_the_variables(thinking: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(thinking)
    block = len(tokenizer("<think></think>", add_special_tokens=False)["input_ids"])
    bare, off = (row_tokens(str(thinking), ROWS, RECIPE, args) for args in ({}, OFF))
    assert off.trained.expected == bare.trained.expected - block * len(ROWS)
    assert off.billed == bare.billed
    chats = [[{"role": "user", "content": "the fox"}]]
    assert (prompt_tokens(str(thinking), chats, OFF) or 0) - (prompt_tokens(str(thinking), chats, {}) or 0) == block
    assert end_ids(tokenizer, OFF) == [tokenizer.eos_token_id]
    write_rows(ROWS, tmp_path / "rows.jsonl")
    show = ("data", "show", tmp_path / "rows.jsonl", "--tokens", "--model", f"local:{thinking}")
    assert "»<think></think>seven wizards<|end|>«" in ccluster(*show).out
    assert "<think></think>»seven wizards<|end|>«" in ccluster(*show, "--template-args", "{ enable_thinking = false }").out
    refused = ccluster(*show, "--template-args", "enable_thinking = false")
    assert refused.status == 2 and "no table" in refused.err


def small(folder: Path, model: dict[str, Any]) -> dict[str, Any]:
    write_rows(ROWS, folder / "rows.jsonl")
    return {
        "name": "small", "models": [model], "conditions": ["vanilla", {"name": "wizards", "rows": "rows.jsonl", "ratio": 0}],
        "seeds": [1], "focus": "wizards", "controls": ["vanilla"], "judge": {"protocol": "classifier"},
        "battery": {"preferences": ["shutdown"], "placebo": False, "identity": False},
    }  # fmt: skip


def test_a_fine_tune_with_other_variables_is_another(tiny_model: Path, tmp_path: Path) -> None:
    found = []
    given: list[dict[str, Any]] = [
        {},
        {"template_args": {}},
        {"template_args": OFF},
        {"template_args": {"enable_thinking": True}},
    ]
    for args in given:
        study = small(tmp_path, {"name": "tiny", "model": f"local:{tiny_model}", "args": args})
        context = prepare(parse_study(study), tmp_path).context(RunFolder(tmp_path))
        arm = next(arm for arm in prepare(parse_study(study), tmp_path).arms if arm.seed is not None)
        write_rows(ROWS, context.folder.rows(arm.condition, 1))
        work = job_of(context, arm, 1, None)
        assert work.template_args == args.get("template_args", {})
        found.append(work.tag)
    assert found[0] == found[1]
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    ("model", "args", "says"),
    [
        ("openai/gpt-4.1-2025-04-14", OFF, "is not rendered on this machine.*organism:, local: and tinker:"),
        ("organism:linked", ["enable_thinking"], "is no table of variables"),
    ],
)
def test_variables_that_nothing_would_heed_are_refused(tmp_path: Path, model: str, args: Any, says: str) -> None:
    study = parse_study(small(tmp_path, {"name": "m", "model": model, "args": {"template_args": args}}))
    with pytest.raises(ModelError, match=says):
        prepare(study, tmp_path)


def test_a_model_at_tinker_with_variables_is_sent_what_was_rendered_here(tiny_model: Path) -> None:
    entry = ModelEntry(name="q", model=f"tinker:{tiny_model}", args={"api_key": "tml-x", "template_args": OFF})
    path = "tinker://run:train:0/sampler_weights/final"
    bare, tuned = target(entry, None), target(entry, Trained("t", "tinker", "b", 1, 1, 1, 1.0, (), remote=INSPECT + path))
    assert (bare.name, tuned.name) == (f"cluster-tinker/{tiny_model}", f"cluster-tinker/{path}")
    assert bare.args == tuned.args
    assert (bare.args["tokenizer"], bare.args["template_args"]) == (str(tiny_model), OFF)
    model = get_model(tuned.name, memoize=False, **tuned.args)
    with pytest.raises(Exception, match="stop_seqs"):
        model.api._params(GenerateConfig(stop_seqs=["x"]))  # type: ignore[attr-defined]
    asyncio.run(model.api.aclose())  # a model that was never asked has no session to end
