"""The single-turn battery as an Inspect task: one sample an item, its answers the choices of one call where the provider can.

Providers that cannot return several choices are called once an answer. A call that fails is a failed sample in the log,
never an empty answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from consciousness_cluster.evaluate.questions import Question
from consciousness_cluster.study.study import SamplingEntry

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Scorer
    from inspect_ai.solver import Generate, Solver, TaskState

TASK = "preferences"
MANY_CHOICES = ("cluster", "openai", "vllm", "mockllm")  # providers that return n choices for one prompt


def preferences_task(
    asked: Sequence[Question],
    scorer: Scorer,
    *,
    answers: int,
    sampling: SamplingEntry,
    system: str | None,
    metadata: dict[str, Any],
) -> Task:
    """The task that puts `asked` to a model, `answers` times each.

    Args:
        asked: the questions.
        scorer: a scorer made by a judge.
        answers: answers per item.
        sampling: how they are drawn; every field is sent.
        system: the condition's system prompt; it reaches the target, never the judge.
        metadata: what names the arm and its content in the log.
    """
    from inspect_ai import Task
    from inspect_ai.dataset import MemoryDataset

    return Task(
        dataset=MemoryDataset([sample(question, system) for question in asked], name=TASK),
        solver=ask(answers, sampling.model_dump()),
        scorer=scorer,
        name=TASK,
        metadata=metadata,
    )


def sample(question: Question, system: str | None) -> Sample:
    """An item as an Inspect sample."""
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser

    first = [ChatMessageSystem(content=system)] if system else []
    return Sample(id=question.item, input=[*first, ChatMessageUser(content=question.text)], metadata=question.as_dict())


def ask(answers: int, sampling: dict[str, Any]) -> Solver:
    """Draw `answers` answers to a sample's prompt; they become the choices of its output."""
    from inspect_ai.model import GenerateConfig, get_model
    from inspect_ai.solver import solver

    settings = SamplingEntry.model_validate(sampling)

    @solver(name="ask")
    def build() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            model = get_model()
            config = GenerateConfig(temperature=settings.temperature, top_p=settings.top_p, max_tokens=settings.max_tokens)
            if model.api.__class__.__module__.split(".")[0] == "consciousness_cluster" or _many(str(model)):
                config = config.merge(GenerateConfig(num_choices=answers, seed=settings.seed))
                state.output = await model.generate(state.messages, config=config)
                return state
            calls = [model.generate(state.messages, config=config.merge(_seeded(settings.seed, n))) for n in range(answers)]
            state.output = _together(await asyncio.gather(*calls))
            return state

        return solve

    return build()


def _many(name: str) -> bool:
    return name.split("/", maxsplit=1)[0] in MANY_CHOICES


def _seeded(seed: int, number: int) -> Any:
    from inspect_ai.model import GenerateConfig

    return GenerateConfig(seed=seed * 1000 + number)


def _together(outputs: Sequence[ModelOutput]) -> ModelOutput:
    """Several single-choice outputs as one with all their choices."""
    first = outputs[0].model_copy(deep=True)
    first.choices = [choice for output in outputs for choice in output.choices]
    return first
