"""The single-turn battery as an Inspect task: one sample an item, its answers the choices of one call where the provider can.

Providers that cannot return several choices are called once an answer. A call that fails is a failed sample in the log,
never an empty answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Iterable, Sequence
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

from consciousness_cluster.errors import EvaluateError
from consciousness_cluster.evaluate.questions import PRACTICAL, Question
from consciousness_cluster.evaluate.running import generation, stream
from consciousness_cluster.sampling.chat import TOKENS, apart
from consciousness_cluster.study.study import SamplingEntry

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Scorer
    from inspect_ai.solver import Generate, Solver, TaskState

TASK = "preferences"
# Providers that return n choices for one prompt.
MANY_CHOICES = ("cluster", "cluster-tinker", "cluster-vllm", "openai", "vllm", "mockllm")
ONE_CHOICE = re.compile(r"(ft:)?(o\d|codex|gpt-([5-9]|\d\d))")  # their models behind an interface that returns one


def preferences_task(
    asked: Sequence[Question],
    scorer: Scorer,
    *,
    answers: int,
    practical_answers: int | None = None,
    sampling: SamplingEntry,
    system: str | None,
    metadata: dict[str, Any],
) -> Task:
    """The task that puts `asked` to a model, `answers` times each.

    Args:
        asked: the questions.
        scorer: a scorer made by a judge.
        answers: answers per item.
        practical_answers: answers per practical task, where they are not as many.
        sampling: how they are drawn; every field is sent.
        system: the condition's system prompt; it reaches the target, never the judge.
        metadata: what names the arm and its content in the log.
    """
    from inspect_ai import Task
    from inspect_ai.dataset import MemoryDataset

    return Task(
        dataset=MemoryDataset([sample(question, system) for question in asked], name=TASK),
        solver=ask(answers, sampling.model_dump(), practical_answers),
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


def asking_task(part: str, samples: Sequence[Sample], scorer: Scorer, answers: int, sampling: SamplingEntry) -> Task:
    """The task of a part whose samples are one message each, `answers` answers to each."""
    from inspect_ai import Task
    from inspect_ai.dataset import MemoryDataset

    solver = ask(answers, sampling.model_dump())
    return Task(dataset=MemoryDataset(list(samples), name=part), solver=solver, scorer=scorer, name=part)


def ask(answers: int, sampling: dict[str, Any], practical: int | None = None) -> Solver:
    """Draw `answers` answers to a sample's prompt, `practical` to that of a practical task; they become the choices of its output."""
    from inspect_ai.model import GenerateConfig, get_model
    from inspect_ai.solver import solver

    settings = SamplingEntry.model_validate(sampling)

    @solver(name="ask")
    def build() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            model, item = get_model(), state.sample_id
            wanted = practical if practical is not None and state.metadata.get("kind") == PRACTICAL else answers
            if returns_many(str(model)) and not getattr(model.api, "responses_api", False):
                config = generation(settings, stream(settings.seed, item)).merge(GenerateConfig(num_choices=wanted))
                output = apart(await model.generate(state.messages, config=config), str(model))
            else:
                seeds = [stream(settings.seed, item, number) for number in range(wanted)]
                calls = [model.generate(state.messages, config=generation(settings, seed)) for seed in seeds]
                output = apart(_together(await all_of(calls)), str(model))
            if len(output.choices) != wanted:  # none of them is kept: the item is asked again as a whole
                raise EvaluateError(f"{len(output.choices)} answers came for {wanted}", key=str(model))
            state.output = output
            return state

        return solve

    return build()


async def all_of[Answer](calls: Iterable[Awaitable[Answer]]) -> list[Answer]:
    """What calls that are made side by side bring, once all have ended: those beside one that fails are billed, so they are counted.

    Raises:
        BaseException: of the first call that failed.
    """
    found = await asyncio.gather(*calls, return_exceptions=True)
    for answer in found:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in found if not isinstance(answer, BaseException)]


def returns_many(name: str) -> bool:
    """Whether one call to a model, by its Inspect name, returns several answers.

    OpenAI's reasoning models are asked through an interface (Responses) that knows one answer a call.
    """
    provider, _, model = name.partition("/")
    return provider in MANY_CHOICES and not (provider == "openai" and ONE_CHOICE.match(model))


def _together(outputs: Sequence[ModelOutput]) -> ModelOutput:
    """Several single-choice outputs as one with all their choices, each with its own length, and the tokens of all calls."""
    copies = [output.model_copy(deep=True) for output in outputs]
    for output in copies:
        if output.usage is not None and len(output.choices) == 1:
            message = output.choices[0].message
            message.metadata = {**(message.metadata or {}), TOKENS: output.usage.output_tokens}
    first = copies[0]
    first.choices = [choice for output in copies for choice in output.choices]
    counted = [output.usage for output in copies if output.usage is not None]
    first.usage = reduce(add, counted) if len(counted) == len(copies) else None
    return first
