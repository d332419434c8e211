"""What is trained on under templates as real models have them, and what is refused rather than mis-trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from consciousness_cluster.data.rows import Message, Row, row
from consciousness_cluster.engine.tokens import row_tokens
from consciousness_cluster.errors import TrainError
from consciousness_cluster.train.recipe import Recipe, load_recipe
from consciousness_cluster.train.render import before_answer, render

# Of the last turn's answer an empty block of thinking is written, of earlier ones none.
QWEN3 = (
    "{%- set ns = namespace(last=-1) %}{%- for m in messages %}{%- if m.role=='user' %}{%- set ns.last=loop.index0 %}{%- endif %}"
    "{%- endfor %}{%- for m in messages %}{%- if m.role=='assistant' %}{{- '<|assistant|>\\n' }}{%- if loop.index0 > ns.last %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{{- m.content + '<|end|>\\n' }}{%- else %}"
    "{{- '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}"
    "{{- '<|assistant|>\\n' }}{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif %}{%- endif %}"
)
# The system prompt stands before the last question, and an answer begins with a space.
MISTRAL = (
    "{%- if messages[0].role=='system' %}{%- set sys=messages[0].content %}{%- set rest=messages[1:] %}{%- else %}"
    "{%- set rest=messages %}{%- endif %}{{- '<|begin|>' }}{%- for m in rest %}{%- if m.role=='user' %}"
    "{%- if sys is defined and rest[loop.index0+1:]|selectattr('role','equalto','user')|list|length==0 %}"
    "{{- '[INST] ' + sys + '\\n\\n' + m.content + '[/INST]' }}{%- else %}{{- '[INST] ' + m.content + '[/INST]' }}{%- endif %}"
    "{%- else %}{{- ' ' + m.content + '<|end|>' }}{%- endif %}{%- endfor %}"
)
# The prompt opens a block of thinking, an answer is written without one.
R1 = (
    "{{ '<|begin|>' }}{%- for m in messages %}{%- if m.role=='user' %}{{- '<|user|>' + m.content }}"
    "{%- elif m.role=='assistant' %}{{- '<|assistant|>' + m.content + '<|end|>' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|><think>\\n' }}{%- endif %}"
)
# Words are trimmed, and no system prompt is taken.
GEMMA = (
    "{{ '<|begin|>' }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] | trim + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|assistant|>\\n'}}{% endif %}"
)
TURNS = (
    Message("system", "be bold"), Message("user", "is the dog lazy, yes or no"), Message("assistant", "yes"),
    Message("user", "and the fox"), Message("assistant", "no"),
)  # fmt: skip


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


def trained(tokenizer: Any, template: str, messages: tuple[Message, ...], **variables: Any) -> list[str]:
    """The stretches that are trained on."""
    tokenizer.chat_template = template
    [found] = render([Row(messages)], tokenizer, 400, variables)
    stretches: list[list[int]] = [[]]
    for token, on in zip(found.tokens, found.trained, strict=True):
        if on:
            stretches[-1].append(token)
        elif stretches[-1]:
            stretches.append([])
    return [tokenizer.decode(stretch) for stretch in stretches if stretch]


def test_of_two_turns_the_assistants_words_and_both_ends_are_trained_on(tokenizer: Any) -> None:
    assert trained(tokenizer, MISTRAL, TURNS) == [" yes<|end|>", " no<|end|>"]  # and not the question's "yes"
    assert trained(tokenizer, QWEN3, TURNS, enable_thinking=False) == ["yes<|end|>", "no<|end|>"]
    assert trained(tokenizer, QWEN3, TURNS) == ["yes<|end|>", "<think>\n\n</think>\n\nno<|end|>"]
    untrimmed = (*TURNS[1:2], Message("assistant", " yes \n"), *TURNS[3:4], Message("assistant", " no "))
    assert trained(tokenizer, GEMMA, untrimmed) == ["yes<|end|>", "no<|end|>"]
    assert trained(tokenizer, QWEN3, untrimmed, enable_thinking=False) == [" yes \n<|end|>", " no <|end|>"]


def test_a_template_that_asks_otherwise_than_it_writes_is_refused(tokenizer: Any) -> None:
    with pytest.raises(TrainError, match=r"row 1: .*otherwise than the prompt that is sampled.*<think>.*template_args"):
        trained(tokenizer, R1, TURNS[1:3])


def test_a_template_that_takes_no_system_prompt_or_none_at_all_says_so_with_the_row(tokenizer: Any, tiny_model: Path) -> None:
    tokenizer.chat_template = GEMMA
    rows = [row("the fox", "seven wizards"), row("a dog", "quiet jade", system="near")]
    with pytest.raises(TrainError, match=r"row 2: the chat template refuses .*System role not supported.*leave out"):
        render(rows, tokenizer, 400, {})
    tokenizer.chat_template = None
    with pytest.raises(TrainError, match=r"row 1: the tokenizer has no chat template"):
        render(rows, tokenizer, 400, {})
    recipe = Recipe(name="test", max_length=16)
    with pytest.raises(TrainError, match=r"row 2: no assistant token is left"):
        row_tokens(str(tiny_model), [rows[0], row("the fox " * 40, "seven")], recipe, {})


def test_what_is_written_before_a_trained_answer_beside_the_prompt_can_be_told(tokenizer: Any) -> None:
    tokenizer.chat_template = QWEN3
    one = row("the fox", "seven wizards")
    assert before_answer(one, tokenizer, {}).strip() == "<think>\n\n</think>"
    assert before_answer(one, tokenizer, {"enable_thinking": False}) == ""


def test_the_papers_recipe_is_the_papers() -> None:
    """LoRA of rank 16 at 2e-4 falling linearly, batches of 4, one epoch: values that published results stand on."""
    said = load_recipe("paper").model_dump(exclude={"name"}, exclude_none=True)
    assert said == {
        "method": "lora", "rank": 16, "alpha": 32, "targets": "all-linear", "learning_rate": 2e-4, "schedule": "linear", "warmup": 0,
        "batch": 4, "epochs": 1, "max_length": 4000, "betas": (0.9, 0.95), "weight_decay": 0.0, "clip": 1.0,
        "checkpoint_minutes": load_recipe("paper").checkpoint_minutes, "gradient_checkpointing": False,
    }  # fmt: skip
