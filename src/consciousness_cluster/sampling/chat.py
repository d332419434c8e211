"""Chats as a tokenizer's own template renders them: what a prompt is, and what of a reply is thinking.

Whoever samples, counts or trains on chats hands the same `template_args` (variables of the template, such as Qwen3's
`enable_thinking`) to the template, so that a model is asked in the very form that it was trained in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspect_ai.model import ChatMessageAssistant

THINK = re.compile(r"^\s*(<think>)?(.*?)(?:</think>\s*(.*))?$", re.DOTALL)
TAIL = 24  # tokens of a prompt that are read to see whether it opens a thinking block: enough where each is a byte


def prompt_ids(tokenizer: Any, chat: Sequence[Mapping[str, str]], template_args: Mapping[str, Any]) -> tuple[int, ...]:
    """The token ids of a chat that the assistant is to continue."""
    found = tokenizer.apply_chat_template(
        list(chat), add_generation_prompt=True, tokenize=True, return_dict=True, **template_args
    )
    return tuple(found["input_ids"])


def end_ids(tokenizer: Any, template_args: Mapping[str, Any]) -> list[int]:
    """The tokens that end a reply: the tokenizer's own, and the one that its template writes after an assistant's words."""
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    written = tokenizer.apply_chat_template(chat, tokenize=False, **template_args)
    after = tokenizer(written.rstrip().rpartition("b")[2], add_special_tokens=False)["input_ids"]
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


def reply(text: str, opened: bool, model: str) -> ChatMessageAssistant:
    """What a model wrote as Inspect's message, its thinking apart; `opened` as in `split_thinking`."""
    from inspect_ai.model import ChatMessageAssistant, ContentReasoning, ContentText

    thinking, answer = split_thinking(text, opened)
    content: Any = answer if thinking is None else [ContentReasoning(reasoning=thinking), ContentText(text=answer)]
    return ChatMessageAssistant(content=content, model=model, source="generate")
