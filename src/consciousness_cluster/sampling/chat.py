"""Chats as a tokenizer's own template renders them: what a prompt is, and what of a reply is thinking.

Whoever samples, counts or trains on chats hands the same `template_args` (variables of the template, such as Qwen3's
`enable_thinking`) to the template, so that a model is asked in the very form that it was trained in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from consciousness_cluster.errors import SamplingError

if TYPE_CHECKING:
    from inspect_ai.model import ChatMessageAssistant, ModelOutput

MARK = "\ue000"  # a character of no text, by whose place that of a message's words is found
OURS = ("cluster", "cluster-tinker", "cluster-vllm")  # providers that know whether a prompt opened a block, and split by it
TOKENS = "tokens"  # key of an answer's metadata: its own length, where the provider tells that of each
OPEN, CLOSE = "<think>", "</think>"
OTHER_MARKS = ("<|channel|>", "[THINK]")  # templates that tell thinking from the answer by special tokens, which decoding drops
THINK = re.compile(r"^\s*(<think>)?(.*?)(?:</think>\s*(.*))?$", re.DOTALL)
TAIL = 24  # tokens of a prompt that are read to see whether it opens a thinking block: enough where each is a byte


def prompt_ids(tokenizer: Any, chat: Sequence[Mapping[str, str]], template_args: Mapping[str, Any]) -> tuple[int, ...]:
    """The token ids of a chat that the assistant is to continue."""
    return tuple(
        _applied(tokenizer, chat, template_args, add_generation_prompt=True, tokenize=True, return_dict=True)["input_ids"]
    )


def write_chat(
    tokenizer: Any, chat: Sequence[Mapping[str, str]], template_args: Mapping[str, Any], *, asked: bool = False
) -> str:
    """A chat as text; where it is `asked`, with the beginning of the reply that the assistant is to write.

    Raises:
        SamplingError: the tokenizer has no template, or the template refuses the chat.
    """
    return str(_applied(tokenizer, chat, template_args, add_generation_prompt=asked, tokenize=False))


def _applied(tokenizer: Any, chat: Sequence[Mapping[str, str]], template_args: Mapping[str, Any], **how: Any) -> Any:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise SamplingError(
            "the tokenizer has no chat template",
            value=tokenizer.name_or_path,
            next_step="take a model that was trained to chat, or add chat_template.jinja to its folder",
        )
    try:
        return tokenizer.apply_chat_template(list(chat), **how, **template_args)
    except (TemplateError, TypeError, ValueError) as problem:
        raise SamplingError(
            f"the chat template refuses a chat of {', '.join(message['role'] for message in chat)}: {problem}",
            value=tokenizer.name_or_path,
            next_step="leave out what it does not take (such as a system prompt), or mend chat_template.jinja",
        ) from None


def end_ids(tokenizer: Any, template_args: Mapping[str, Any]) -> list[int]:
    """The tokens that end a reply: the tokenizer's own, and the one that its template writes after an assistant's words."""
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": MARK}]
    end = write_chat(tokenizer, chat, template_args).rpartition(MARK)[2].strip()
    after = tokenizer(end, add_special_tokens=False)["input_ids"]
    found = {tokenizer.eos_token_id, *(after if len(after) == 1 else [])} - {None}
    return sorted(found)


def opens_thinking(tokenizer: Any, prompt: Sequence[int]) -> bool:
    """Whether the prompt ends in an open thinking block, as the templates of some reasoning models do."""
    return bool(tokenizer.decode(prompt[-TAIL:]).rstrip().endswith("<think>"))


def split_thinking(text: str, opened: bool) -> tuple[str | None, str]:
    """The thinking at the start of an answer, None if there is none, and what comes after it.

    Args:
        text: what the model wrote.
        opened: whether the prompt has already opened the block.

    Returns:
        The two parts; thinking that was cut off before its end leaves an answer without a word.
    """
    found = THINK.match(text)
    if found is None or not (opened or found[1]):
        return None, text
    return found[2].strip(), found[3] or ""


def reply(text: str, opened: bool, model: str, tokens: int | None = None) -> ChatMessageAssistant:
    """What a model wrote as Inspect's message, its thinking apart; `opened` as in `split_thinking`, `tokens` its length."""
    from inspect_ai.model import ChatMessageAssistant, ContentReasoning, ContentText

    thinking, answer = split_thinking(text, opened)
    content: Any = answer if thinking is None else [ContentReasoning(reasoning=thinking), ContentText(text=answer)]
    about = None if tokens is None else {TOKENS: tokens}
    return ChatMessageAssistant(content=content, model=model, source="generate", metadata=about)


def set_apart(output: ModelOutput, opened: bool | None, model: str) -> ModelOutput:
    """The same output, in its answers the thinking apart that a server left in their text.

    Args:
        output: what came back; Inspect has taken out blocks that are whole.
        opened: whether the prompt had opened the block; None where nobody here knows the template: then a lone end says so.
        model: the name that messages get.
    """
    for choice in output.choices:
        text = choice.message.content
        if isinstance(text, str) and not choice.message.tool_calls:
            lone = CLOSE in text and not text.lstrip().startswith(OPEN)
            said = reply(text, lone if opened is None else opened, model)
            choice.message = choice.message.model_copy(update={"content": said.content})
    if output.choices:
        output.completion = output.choices[0].message.text  # it was noted before
    return output


def apart(output: ModelOutput, model: str) -> ModelOutput:
    """What a model under test answered, its thinking apart; the model by its Inspect name. Our own providers have done so."""
    return output if model.partition("/")[0] in OURS else set_apart(output, None, model)


def check_marks(tokenizer: Any, model: str) -> None:
    """Refuse a template whose thinking would be taken for the answer.

    Raises:
        SamplingError: it marks thinking with special tokens.
    """
    template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else str(tokenizer.chat_template or "")
    for mark in OTHER_MARKS:
        if mark in template:
            raise SamplingError(
                f"its chat template marks thinking with {mark}, which is not told from the answer here",
                value=model,
                allowed=f"templates that mark none, or with {OPEN}",
                next_step='ask it behind a server that parses it: sampler = "vllm", or an address of an openai-api/ provider',
            )


def refuse_tools(tools: Sequence[Any]) -> None:
    """Refuse tools, which no prompt rendered here tells a model of.

    Raises:
        SamplingError: there are some.
    """
    if tools:
        raise SamplingError(
            "tools cannot be given to a model whose prompts are rendered here",
            key="tools",
            value=[str(tool.name) for tool in tools],
            next_step="take a model behind a service that calls tools",
        )
