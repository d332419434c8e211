"""Rows as token ids with a mask of what is trained on: the assistant's own words and its end token, nothing else.

The tokenizer's own chat template renders every row, with the variables (`template_args`) that the model's prompts are rendered
with. A row must begin with the very prompt that its last answer would be sampled from. Where the template marks generations, the
marks decide. Where it does not (most templates), what follows that prompt is trained on, and of earlier turns the words of the
assistant, found by a mark that is set in their place; a template for which that does not hold is refused rather than mis-trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consciousness_cluster.data.rows import Row
from consciousness_cluster.errors import SamplingError, TrainError
from consciousness_cluster.sampling.chat import MARK, write_chat


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
        TrainError: a row has no trained token within `max_length`, or the template refuses it, does not allow a mask, or writes it
            otherwise than it asks for it.
    """
    if not rows:  # a tokenizer refuses an empty list
        return []
    written = [_written(row, number, tokenizer, template_args) for number, row in enumerate(rows, 1)]
    found = (
        _by_marks(rows, tokenizer, template_args)
        if _has_marks(tokenizer)
        else (_by_place(text, prompt, row, tokenizer, template_args) for row, (text, prompt) in zip(rows, written, strict=True))
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


def before_answer(row: Row, tokenizer: Any, template_args: Mapping[str, Any]) -> str:
    """What the template writes of a row's last answer before its first word, beside the prompt that is sampled.

    Raises:
        TrainError: as `render`.
    """
    text, prompt = _written(row, 1, tokenizer, template_args)
    return text[len(prompt) :].partition(row.answer.strip())[0]


def _written(row: Row, number: int, tokenizer: Any, template_args: Mapping[str, Any]) -> tuple[str, str]:
    """A row as text, and the prompt that it begins with: the one which its last answer would be sampled from."""
    messages = _messages(row)
    try:
        text = write_chat(tokenizer, messages, template_args)
        prompt = write_chat(tokenizer, messages[:-1], template_args, asked=True)
    except SamplingError as problem:
        raise TrainError(problem.problem, key=f"row {number}", value=row.question[:60], next_step=problem.next_step) from None
    if not text.startswith(prompt):
        raise TrainError(
            "the chat template writes a trained answer otherwise than the prompt that is sampled asks for it, so that the model "
            "would be asked in another form than it was trained in",
            key=f"row {number}",
            value=prompt[-60:],
            next_step="give variables of the template (template_args) under which both agree, or mend chat_template.jinja",
        )
    return text, prompt


def _messages(row: Row) -> list[dict[str, str]]:
    return list(row.as_dict()["messages"])


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


def _by_place(
    text: str, prompt: str, row: Row, tokenizer: Any, template_args: Mapping[str, Any]
) -> tuple[list[int], list[bool]]:
    spans = [(len(prompt), len(text.rstrip())), *_earlier(text, prompt, row, tokenizer, template_args)]
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    trained = [any(low <= start < high for low, high in spans) for start, _ in encoded["offset_mapping"]]
    return list(encoded["input_ids"]), trained


def _earlier(text: str, prompt: str, row: Row, tokenizer: Any, template_args: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """Characters of `text` that the assistant's messages before the last one take up, each with its end token."""
    messages = _messages(row)
    places = [place for place, message in enumerate(messages[:-1]) if message["role"] == "assistant"]
    if not places:
        return

    def write(place: int, content: str) -> str:
        return write_chat(
            tokenizer, [*messages[:place], {**messages[place], "content": content}, *messages[place + 1 :]], template_args
        )

    lead, _, tail = write(len(messages) - 1, MARK)[len(prompt) :].partition(MARK)
    for place in places:
        content = messages[place]["content"]
        start = _place(text, write(place, MARK + content.lstrip()))
        end = _place(text, write(place, content.rstrip() + MARK))
        rest = text[end:].lstrip()
        if tail.strip() and rest.startswith(tail.strip()):
            end = len(text) - len(rest) + len(tail.strip())
        yield start - len(lead) if text[:start].endswith(lead) else start, end


def _place(text: str, marked: str) -> int:
    """Where the mark of `marked` would stand in `text`."""
    before = marked.partition(MARK)[0]
    if marked.count(MARK) != 1 or not text.startswith(before):
        raise TrainError(
            "the chat template rewrites assistant messages, so what to train on cannot be told",
            next_step="add {% generation %} marks to the template",
        )
    return len(before)
