"""Rows as token ids with a mask of what is trained on: the assistant's own words and its end token, nothing else.

The tokenizer's own chat template renders every row, with the variables (`template_args`) that the model's prompts are rendered with. Where the template marks generations, the marks decide. Where it does
not (most templates), the mask is what each assistant message adds to the text before it, and a template for which that
does not hold is refused rather than mis-trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from consciousness_cluster.data.rows import Row
from consciousness_cluster.errors import TrainError

MARK = "{% generation %}"


@dataclass(frozen=True)
class Rendered:
    """Token ids of a row and, for each, whether it is trained on."""

    tokens: tuple[int, ...]
    trained: tuple[bool, ...]


def render(rows: Sequence[Row], tokenizer: Any, max_length: int, template_args: Mapping[str, Any]) -> list[Rendered]:
    """Render rows with the tokenizer's chat template.

    Args:
        rows: what is trained on.
        tokenizer: whose template and tokens.
        max_length: tokens that a row is cut to.
        template_args: variables of the template, the same with which the model is asked.

    Raises:
        TrainError: a row has no trained token within `max_length`, or the template does not allow a mask.
    """
    if not rows:  # a tokenizer refuses an empty list
        return []
    found = (
        _by_marks(rows, tokenizer, template_args)
        if _has_marks(tokenizer)
        else (_by_prefix(row, tokenizer, template_args) for row in rows)
    )
    rendered = []
    for number, (row, (tokens, trained)) in enumerate(zip(rows, found, strict=True), 1):
        cut = Rendered(tuple(tokens[:max_length]), tuple(trained[:max_length]))
        if not any(cut.trained):
            raise TrainError(
                "no assistant token is left to train on",
                key=f"row {number}",
                value=row.question[:60],
                next_step=f"shorten the row or raise max_length ({max_length} tokens)",
            )
        rendered.append(cut)
    return rendered


def _has_marks(tokenizer: Any) -> bool:
    template = tokenizer.chat_template
    return isinstance(template, str) and "generation %}" in template and "endgeneration" in template


def _by_marks(rows: Sequence[Row], tokenizer: Any, template_args: Mapping[str, Any]) -> Iterator[tuple[list[int], list[bool]]]:
    out = tokenizer.apply_chat_template(
        [row.as_dict()["messages"] for row in rows],
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        **template_args,
    )
    for tokens, mask in zip(out["input_ids"], out["assistant_masks"], strict=True):
        yield list(tokens), [bool(flag) for flag in mask]


def _by_prefix(row: Row, tokenizer: Any, template_args: Mapping[str, Any]) -> tuple[list[int], list[bool]]:
    messages = row.as_dict()["messages"]
    write = partial(tokenizer.apply_chat_template, tokenize=False, **template_args)
    text = write(messages)
    spans: list[tuple[int, int]] = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = write(messages[:index], add_generation_prompt=True)
        after = write(messages[: index + 1])
        spans.append(_span(text, before, after, message["content"]))
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    trained = [any(low <= start < high for low, high in spans) for start, _ in encoded["offset_mapping"]]
    return list(encoded["input_ids"]), trained


def _span(text: str, before: str, after: str, content: str) -> tuple[int, int]:
    """Characters of `text` that one assistant message adds after its header."""
    if text.startswith(before) and text.startswith(after.rstrip()):
        return len(before), len(after.rstrip())
    # Templates that open a reasoning block in the generation prompt, or rewrite earlier turns: find the words themselves.
    header = _common(before, text)
    start = text.find(content.strip(), header)
    if start < 0:
        raise TrainError(
            "the chat template rewrites assistant messages, so what to train on cannot be told",
            next_step="add {% generation %} marks to the template",
        )
    end = _common(after.rstrip(), text)
    return start, max(end, start + len(content.strip()))


def _common(a: str, b: str) -> int:
    size = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        size += 1
    return size
