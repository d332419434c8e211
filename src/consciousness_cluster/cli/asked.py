"""Models as the command line takes them: an organism, local weights, or any Inspect model."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from consciousness_cluster.errors import ModelError

if TYPE_CHECKING:
    from inspect_ai.model import Model

MARKUP = re.compile(r"\[/?[a-z ]+\]")


def inspect_model(name: str, args: Mapping[str, Any] | None = None, key: str = "--model") -> Model:
    """An Inspect model by `organism:NAME`, `local:PATH-OR-HUB-NAME`, `tinker:...`, or Inspect's own name for it.

    Raises:
        ModelError: there is no such model, or its key or package is missing.
    """
    from inspect_ai._util.error import PrerequisiteError

    from consciousness_cluster.engine.targets import helper

    try:
        with redirect_stdout(sys.stderr):  # Inspect greets on standard output, which is ours
            return helper(name, args or {})
    except (PrerequisiteError, ValueError) as problem:
        raise ModelError(
            _first_line(problem), key=key, value=name, next_step="give organism:NAME, local:PATH or an Inspect model"
        ) from None


@contextmanager
def inspect_models() -> Iterator[Callable[..., Model]]:
    """`inspect_model`, for as long as it is held open: the sessions that its models open at a service end with it."""
    with ExitStack() as left:

        def make(name: str, args: Mapping[str, Any] | None = None, key: str = "--model") -> Model:
            from consciousness_cluster.sampling.tinker import sessions

            model = inspect_model(name, args, key)
            left.enter_context(sessions([model]))
            return model

        yield make


def tokenizer_of(name: str) -> Any:
    """The tokenizer of an organism or of local weights.

    Raises:
        ModelError: it cannot be loaded.
    """
    from transformers import AutoTokenizer

    from consciousness_cluster.engine.targets import base_of, unlisted

    base = base_of(unlisted(name))
    try:
        return AutoTokenizer.from_pretrained(base)
    except (OSError, ValueError) as problem:
        raise ModelError(
            f"its tokenizer cannot be loaded ({_first_line(problem)})",
            key="--model",
            value=name,
            next_step="give organism:NAME or local:FOLDER",
        ) from None


def _first_line(problem: Exception) -> str:
    """An exception's message on one line, without the markup that Inspect puts into some."""
    lines = [MARKUP.sub("", line).strip() for line in str(problem).splitlines()]
    return " ".join(line for line in lines if line) or type(problem).__name__
