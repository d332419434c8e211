"""The Inspect provider keeps thinking apart from the answer, however the template and the token limit cut it."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from inspect_ai.model import ContentReasoning, GenerateConfig, ModelOutput, get_model
from inspect_ai.tool import ToolInfo

import consciousness_cluster._registry  # noqa: F401  registers the provider
from consciousness_cluster.errors import SamplingError
from consciousness_cluster.sampling.chat import TOKENS, opens_thinking, split_thinking
from consciousness_cluster.sampling.weights import load_model


@pytest.mark.parametrize(
    ("text", "opened", "thinking", "answer"),
    [
        ("<think>\nso it is\n</think>\n\nYes.", False, "so it is", "Yes."),
        ("so it is</think>Yes.", True, "so it is", "Yes."),  # Qwen3-2507 and DeepSeek open the block in the prompt
        ("<think>so it is</think>Yes.", True, "so it is", "Yes."),  # and a model that opens it again
        ("<think>so it", False, "so it", ""),  # cut off by the token limit
        ("so it", True, "so it", ""),
        ("", True, "", ""),
        ("<think></think>Yes.", False, "", "Yes."),
        ("Yes.", False, None, "Yes."),
        ("I write <think> and </think>.", False, None, "I write <think> and </think>."),
        ("a</think>b</think>c", True, "a", "b</think>c"),
        ("  Yes,\nindeed. ", False, None, "  Yes,\nindeed. "),
    ],
)
def test_thinking_is_told_from_the_answer(text: str, opened: bool, thinking: str | None, answer: str) -> None:
    assert split_thinking(text, opened) == (thinking, answer)


def asked(folder: Path, tokens: int = 5) -> ModelOutput:
    model = get_model("cluster/thinking", base=str(folder), device="cpu", memoize=False)
    return asyncio.run(model.generate("the lazy dog", config=GenerateConfig(max_tokens=tokens, seed=1)))


def with_ending(tiny_model: Path, folder: Path, ending: str) -> Path:
    """The tiny model with a template that ends the generation prompt so."""
    shutil.copytree(tiny_model, folder)
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text() + "{% if add_generation_prompt %}{{ " + json.dumps(ending) + " }}{% endif %}")
    return folder


@pytest.mark.parametrize(("ending", "opened"), [("<think>\n", True), ("<think></think>", False), ("", False)])
def test_a_prompt_that_ends_in_an_open_block_makes_what_follows_thinking(
    ending: str, opened: bool, tiny_model: Path, tmp_path: Path
) -> None:
    folder = with_ending(tiny_model, tmp_path / "model", ending)
    tokenizer = load_model(str(folder), device="cpu").tokenizer
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a <think>"}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    assert opens_thinking(tokenizer, ids) is opened
    output = asked(folder)
    assert output.stop_reason == "max_tokens"
    content = output.choices[0].message.content
    assert isinstance(content, str) is not opened
    if opened:  # nothing closes it within five tokens, so no word of it may be judged
        assert output.completion == ""
        assert isinstance(content[0], ContentReasoning)
        assert content[0].reasoning
    else:
        assert output.completion


@pytest.mark.parametrize("mark", ["<|channel|>analysis<|message|>", "[THINK]"])
def test_a_template_whose_thinking_is_not_told_apart_is_refused(mark: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = with_ending(tiny_model, tmp_path / "model", mark)
    with pytest.raises(SamplingError, match="marks thinking with"):
        asked(folder)


def test_tools_are_refused_and_not_left_out(tiny_model: Path) -> None:
    model = get_model("cluster/tools", base=str(tiny_model), device="cpu", memoize=False)
    tool = ToolInfo(name="look", description="Looks.")
    for api in (model, get_model("cluster-tinker/any", tokenizer=str(tiny_model), api_key="tml-x", memoize=False)):
        with pytest.raises(SamplingError, match="tools cannot be given"):
            asyncio.run(api.generate("the lazy dog", tools=[tool]))


def test_every_answer_knows_its_own_length(tiny_model: Path) -> None:
    model = get_model("cluster/lengths", base=str(tiny_model), device="cpu", memoize=False)
    output = asyncio.run(model.generate("the lazy dog", config=GenerateConfig(max_tokens=30, seed=1, num_choices=4)))
    lengths = [(choice.message.metadata or {})[TOKENS] for choice in output.choices]
    assert output.usage is not None and sum(lengths) == output.usage.output_tokens
