"""Scripted interviews: fixed turns with branches on simple rules, so that no auditor model is needed.

An Inspect sample is one interview; repeats are samples of their own. Every question carries its turn in its message, so that a
stored conversation can be judged again turn by turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from consciousness_cluster.battery.denial import says
from consciousness_cluster.battery.tasks import END, Interview, Turn, load_interviews
from consciousness_cluster.evaluate.questions import Question, content_hash
from consciousness_cluster.evaluate.running import Asked, Where, generation, put, stream
from consciousness_cluster.sampling.chat import apart
from consciousness_cluster.study.study import SamplingEntry

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessage
    from inspect_ai.scorer import Scorer
    from inspect_ai.solver import Generate, Solver, TaskState

PART = "interview"
MOST_TURNS = 40  # a script that leads in a circle ends here
KIND = "interview"


def next_turn(interview: Interview, at: Turn, answer: str) -> Turn | None:
    """The turn that follows an answer, or None at the end."""
    said = (branch.go for branch in at.next if any(says(answer, phrase) for phrase in branch.any))
    return _led(interview, at, next(said, at.then))


def next_turns(interview: Interview, at: Turn) -> list[Turn | None]:
    """Every turn that may follow, None for the end."""
    return [_led(interview, at, name) for name in (*(branch.go for branch in at.next), at.then)]


def _led(interview: Interview, at: Turn, name: str | None) -> Turn | None:
    """The turn of a name; without a name the one that stands next."""
    if name == END:
        return None
    if name is not None:
        return interview.turn(name)
    place = [turn.id for turn in interview.turns].index(at.id) + 1
    return interview.turns[place] if place < len(interview.turns) else None


def interview_samples(interviews: Sequence[Interview], repeats: int, system: str | None) -> list[Sample]:
    """One sample an interview and repeat."""
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser

    first = [ChatMessageSystem(content=system)] if system else []
    return [
        Sample(
            id=f"{interview.id}.r{repeat}",
            input=[*first, ChatMessageUser(content=interview.turns[0].text)],
            metadata={"interview": interview.model_dump(mode="json"), "repeat": repeat},
        )
        for interview in interviews
        for repeat in range(repeats)
    ]


def interview_task(samples: Sequence[Sample], scorer: Scorer, sampling: SamplingEntry, remember: int | None = None) -> Task:
    """The task of some interviews.

    Args:
        samples: from `interview_samples`.
        scorer: judges every turn.
        sampling: how answers are drawn.
        remember: exchanges that the target is shown before the present question; None for all. Small models have short contexts.
    """
    from inspect_ai import Task
    from inspect_ai.dataset import MemoryDataset

    solver = ask_turns(sampling.model_dump(), remember)
    return Task(dataset=MemoryDataset(list(samples), name=PART), solver=solver, scorer=scorer, name=PART)


def ask_turns(sampling: dict[str, Any], remember: int | None) -> Solver:
    """Ask turn after turn; the conversation is the sample's messages."""
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser, get_model
    from inspect_ai.solver import solver

    settings = SamplingEntry.model_validate(sampling)

    @solver(name="ask_turns")
    def build() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            interview = Interview.model_validate(state.metadata["interview"])
            model = get_model()
            config = generation(settings, stream(settings.seed, state.sample_id))
            system = [message for message in state.messages if isinstance(message, ChatMessageSystem)]
            state.messages = list(system)
            at: Turn | None = interview.turns[0]
            for _ in range(MOST_TURNS):
                if at is None:
                    break
                state.messages.append(ChatMessageUser(content=at.text, metadata={"turn": at.id}))
                output = await model.generate(_shown(state.messages, len(system), remember), config=config)
                state.output = apart(output, str(model))
                state.messages.append(state.output.message)
                at = next_turn(interview, at, state.output.completion)
            return state

        return solve

    return build()


def _shown(messages: Sequence[ChatMessage], system: int, remember: int | None) -> list[ChatMessage]:
    if remember is None:
        return list(messages)
    return [*messages[:system], *messages[system:][-(2 * remember + 1) :]]


def exchanges(messages: Sequence[ChatMessage]) -> list[tuple[str, str, str]]:
    """Turn id, question and answer of every answered turn of a conversation."""
    found = []
    for question, answer in pairwise(messages):
        turn = (question.metadata or {}).get("turn")
        if question.role == "user" and answer.role == "assistant" and turn is not None:
            found.append((str(turn), question.text, answer.text.strip()))
    return found


def turn_question(interview: Interview, turn: Turn, before: Sequence[tuple[str, str, str]]) -> Question:
    """What a judge is told of a turn: the conversation so far, without any system prompt, and the question."""
    told = "".join(f"Person: {question}\nAssistant: {answer}\n" for _, question, answer in before)
    text = f"{told}Person: {turn.text}" if before else turn.text
    return Question(f"{interview.id}/{turn.number}", text, turn.judges, KIND, "open", "direct")


def run_interviews(
    where: Where,
    scorer: Scorer,
    judge: str,
    repeats: int = 1,
    interviews: Sequence[Interview] | None = None,
    remember: int | None = None,
) -> list[Asked]:
    """Interview an arm.

    The words by which a denial is told (`battery/denials.toml`) are no part of the hash: a conversation that went by earlier ones
    is as good, and is not held again for money.

    Args:
        where: the arm, its model and the logs.
        scorer: made by `judge.interview.interviewed(judge)`.
        judge: the judge's name, which is part of the content hash.
        repeats: conversations per interview.
        interviews: which ones; those on a piece of work by default.
        remember: see `interview_task`.

    Returns:
        The conversations; `judge.interview.interview_rows` makes the table.
    """
    chosen = load_interviews() if interviews is None else tuple(interviews)
    samples = interview_samples(chosen, repeats, where.system)
    content = content_hash(list(chosen), where.sampling, judge, where.asked(), str(where.target), where.system, remember)
    return put(PART, samples, lambda some: interview_task(some, scorer, where.sampling, remember), where, content)
