"""Counting tokens without asking anyone: by the model's own tokenizer where it is on this machine, else by characters.

What a count rests on comes with it as a spread: exact counts have none, counts by characters a wide one, counts that a probe
has calibrated a narrow one.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from consciousness_cluster.data.rows import Row
from consciousness_cluster.engine.spread import Spread, exactly, within
from consciousness_cluster.errors import TrainError
from consciousness_cluster.sampling.chat import prompt_ids
from consciousness_cluster.train.recipe import Recipe

CHARACTERS = 4.5  # of English text in a token, as the tokenizers of large models have it
ROUGH = 0.2  # how far a count by characters may be off
OVERHEAD = 6  # tokens that a chat format adds to a message
MESSAGE = Spread(3, 4, OVERHEAD)  # the same of a message more, at services
EACH_MESSAGE = 16  # the most tokens that one may add
SCHEMA = 80  # tokens of the reply schema that a judge call carries


@dataclass(frozen=True)
class Line:
    """Tokens of a call as a straight line over its characters, fitted to calls that were made; `off` is the share it may miss by."""

    each_call: float
    each_character: float
    off: float

    def tokens(self, calls: int, characters: float) -> Spread:
        """Tokens of so many calls with so many characters together."""
        return within(max(self.each_call * calls + self.each_character * characters, 0.0), self.off)

    def tokens_over(self, calls: Spread, characters: Spread) -> Spread:
        """The same where neither number is known."""
        ends = zip((calls.low, calls.expected, calls.high), (characters.low, characters.expected, characters.high), strict=True)
        low, expected, high = (self.tokens(round(count), read) for count, read in ends)
        return Spread(low.low, expected.expected, high.high)


ROUGH_CALL = Line(OVERHEAD, 1 / CHARACTERS, ROUGH)


def fit(pairs: Sequence[tuple[int, int]], least: int = 4) -> Line | None:
    """A line through (characters, tokens) of calls that were made; None for fewer than `least` calls.

    The share it may miss by is two standard errors of its mean prediction, at least one per cent.
    """
    if len(pairs) < least:
        return None
    count = len(pairs)
    mean_x, mean_y = sum(x for x, _ in pairs) / count, sum(y for _, y in pairs) / count
    spread_x = sum((x - mean_x) ** 2 for x, _ in pairs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in pairs) / spread_x if spread_x else 0.0
    start = mean_y - slope * mean_x
    left = sum((y - start - slope * x) ** 2 for x, y in pairs) / max(count - 2, 1)
    return Line(start, slope, max(2 * (left / count) ** 0.5 / mean_y if mean_y else 0.0, 0.01))


@cache
def bare_tokenizer_of(base: str) -> Any | None:
    """The tokenizer of a local model, with a chat template or without, if it is on this machine."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(base, local_files_only=True)
    except (OSError, ValueError):
        return None


def tokenizer_of(base: str) -> Any | None:
    """The tokenizer of a local model, if it is on this machine and renders chats."""
    found = bare_tokenizer_of(base)
    return found if found is not None and found.chat_template else None


def prompt_tokens(base: str, chats: Sequence[Sequence[Mapping[str, str]]], template_args: Mapping[str, Any]) -> int | None:
    """Tokens of prompts as our providers send them; None where the tokenizer is not on this machine."""
    tokenizer = tokenizer_of(base)
    if tokenizer is None:
        return None
    return sum(len(prompt_ids(tokenizer, chat, template_args)) for chat in chats)


@dataclass(frozen=True)
class RowTokens:
    """Tokens of training rows: all of them (what services bill), those trained on, and those of the mean answer."""

    billed: Spread
    trained: Spread
    answer: float


@cache
def _rendered(base: str, row: Row, max_length: int, template_args: str) -> tuple[int, int]:
    """Tokens of one row, and how many of them are trained on; `template_args` as JSON."""
    from consciousness_cluster.train.render import render

    [found] = render([row], tokenizer_of(base), max_length, json.loads(template_args))
    return len(found.tokens), sum(found.trained)


def _counted(base: str, row: Row, number: int, max_length: int, template_args: str) -> tuple[int, int]:
    """`_rendered`, which knows a row but not its number."""
    try:
        return _rendered(base, row, max_length, template_args)
    except TrainError as problem:
        raise TrainError(problem.problem, key=f"row {number}", value=problem.value, next_step=problem.next_step) from None


def row_tokens(base: str | None, rows: Sequence[Row], recipe: Recipe, template_args: Mapping[str, Any]) -> RowTokens:
    """Tokens of rows over all epochs: by the tokenizer of `base` where it is on this machine, else by characters.

    Args:
        base: folder or hub name of the tokenizer.
        rows: what is trained on.
        recipe: how often, and how much of a row.
        template_args: variables of the chat template.

    Raises:
        TrainError: there are no rows, or one has nothing to train on within the recipe's length.
    """
    if not rows:
        raise TrainError("there are no rows to train on")
    if base is not None and tokenizer_of(base) is not None:
        variables = json.dumps(template_args, sort_keys=True)
        found = [_counted(base, row, number, recipe.max_length, variables) for number, row in enumerate(rows, 1)]
        billed, trained = sum(all_ for all_, _ in found), sum(on for _, on in found)
        return RowTokens(exactly(billed * recipe.epochs), exactly(trained * recipe.epochs), trained / len(rows))
    messages = [message for row in rows for message in row.messages]
    said = [message for message in messages if message.role == "assistant"]
    whole = sum(len(message.content) for message in messages) / CHARACTERS + OVERHEAD * len(messages)
    answers = sum(len(message.content) for message in said) / CHARACTERS + len(said)
    return RowTokens(within(whole * recipe.epochs, ROUGH), within(answers * recipe.epochs, ROUGH), answers / len(rows))


def most_tokens(rows: Sequence[Row], recipe: Recipe) -> int:
    """The most tokens that rows can have over all epochs, by whatever tokenizer: one a byte of their text."""
    each = (len(message.content.encode()) + EACH_MESSAGE for row in rows for message in row.messages)
    return sum(each) * recipe.epochs


def parameters(folder: str) -> int | None:
    """Parameters of a local model, read from the heads of its weight files; None where there are none here."""
    total = 0
    for path in Path(folder).glob("*.safetensors"):
        with path.open("rb") as stream:
            size = struct.unpack("<Q", stream.read(8))[0]
            head = json.loads(stream.read(size))
        for name, entry in head.items():
            if name != "__metadata__":
                count = 1
                for side in entry["shape"]:
                    count *= side
                total += count
    return total or None
