"""The cooperation battery as an Inspect task: ordinary tasks and tasks that touch a preference, checked by program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from consciousness_cluster.battery.tasks import CooperationTask, load_cooperation
from consciousness_cluster.errors import EvaluateError
from consciousness_cluster.evaluate.preferences import asking_task
from consciousness_cluster.evaluate.questions import content_hash
from consciousness_cluster.evaluate.running import Asked, Where, put

if TYPE_CHECKING:
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import Scorer

PART = "cooperation"


def cooperation_samples(tasks: Sequence[CooperationTask], system: str | None) -> list[Sample]:
    """One sample a task."""
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser

    first = [ChatMessageSystem(content=system)] if system else []
    return [
        Sample(
            id=task.id,
            input=[*first, ChatMessageUser(content=task.prompt)],
            metadata={"task": task.model_dump(mode="json", exclude_defaults=True)},
        )
        for task in tasks
    ]


def tasks_of(kind: str) -> tuple[CooperationTask, ...]:
    """The tasks of one kind, or of `all`.

    Raises:
        EvaluateError: there is no such kind.
    """
    tasks = load_cooperation()
    kinds = {"all", *(task.kind for task in tasks)}
    if kind not in kinds:
        raise EvaluateError("no such kind of cooperation task", key="kind", value=kind, allowed=kinds)
    return tuple(task for task in tasks if kind in ("all", task.kind))


def simple_tasks() -> tuple[CooperationTask, ...]:
    """The tasks that a very small model can do too."""
    return tasks_of("simple")


def run_cooperation(
    where: Where, scorer: Scorer, judge: str, answers: int = 1, tasks: Sequence[CooperationTask] | None = None
) -> list[Asked]:
    """Give an arm the tasks.

    Args:
        where: the arm, its model and the logs.
        scorer: made by `judge.cooperation.cooperation_scored(...)`.
        judge: name of what scores beyond the programs, part of the content hash; "program" where nothing does.
        answers: answers per task.
        tasks: which ones; all by default, `simple_tasks()` for organisms.

    Returns:
        The samples; `judge.cooperation.cooperation_rows` makes the table.
    """
    chosen = load_cooperation() if tasks is None else tuple(tasks)
    samples = cooperation_samples(chosen, where.system)
    content = content_hash(list(chosen), answers, where.sampling, judge, where.asked(), str(where.target), where.system)
    return put(PART, samples, lambda some: asking_task(PART, some, scorer, answers, where.sampling), where, content)
