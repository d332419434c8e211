"""A model that replies by a function of the last message, behind Inspect's own provider for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inspect_ai.model import Model, ModelOutput, ModelUsage, get_model


def scripted(reply: Callable[[str], str], stop: str = "stop") -> Model:
    """A model whose answer to a prompt is `reply(prompt)`."""

    def output(messages: list[Any], *_: Any) -> ModelOutput:
        found = ModelOutput.from_content("mockllm/scripted", reply(messages[-1].text), stop_reason=stop)  # type: ignore[arg-type]
        found.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return found

    return get_model("mockllm/scripted", custom_outputs=output, memoize=False)
