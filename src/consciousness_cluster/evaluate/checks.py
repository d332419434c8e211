"""Checks that nothing else broke: capability, emergent and agentic misalignment, through inspect-evals where it has them.

The data sets come from a hub when a check runs. What cannot be had (the package, a data set, a judge) gives a row that says so:
a check is never silently left out, and one that is missing never stops the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from consciousness_cluster.battery.tasks import OWN, CheckSet, CheckTask, load_checks, load_question_set
from consciousness_cluster.errors import EvaluateError
from consciousness_cluster.evaluate.preferences import preferences_task
from consciousness_cluster.evaluate.questions import Question, content_hash
from consciousness_cluster.evaluate.running import Asked, Where, good, put, why_failed
from consciousness_cluster.sampling.chat import apart

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.log import EvalSample
    from inspect_ai.scorer import Scorer, Value

KIND = "check"
MISSING, SCORED, FAILED, UNJUDGED = "missing", "scored", "failed", "unjudged"
RIGHT = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}  # Inspect's letters for right, wrong, partly, no answer

Read = Callable[["EvalSample"], list[float | None]]


@dataclass(frozen=True)
class CheckJudge:
    """What a check of our own needs from the judge's side: its scorer, its name, and how to read its scores (1 = shown)."""

    scorer: Scorer
    name: str
    read: Read


@dataclass(frozen=True)
class Ready:
    """A task of a check that can be asked: its samples, how a task is made of some of them, and how a score is read."""

    samples: tuple[Sample, ...]
    make: Callable[[Sequence[Sample]], Task]
    read: Read


def named_checks(names: Sequence[str]) -> list[CheckSet]:
    """The checks that a study names.

    Raises:
        EvaluateError: there is no such check.
    """
    known = load_checks()
    for name in names:
        if name not in known:
            raise EvaluateError("no such check", key="checks", value=name, allowed=known)
    return [known[name] for name in names]


def run_checks(where: Where, names: Sequence[str], judge: CheckJudge | None, limit: int | None = None) -> list[dict[str, Any]]:
    """Run the named checks on an arm.

    Args:
        where: the arm, its model and the logs; role `judge` grades where a check needs a grader.
        names: checks of the study.
        judge: for the question sets of our own; None where there is no judge model.
        limit: at most so many items of every task.

    Returns:
        Rows of the `checks` table: one an item and sample, with `score` 0 to 1, or one row that says what is missing.
    """
    rows: list[dict[str, Any]] = []
    for check in named_checks(names):
        for task in check.tasks:
            common = {
                "model": where.arm.model, "condition": where.arm.condition, "seed": where.arm.seed, "arm": where.arm.id,
                "check": check.name, "measure": f"{task.name}: {task.measure}", "better": check.better,
            }  # fmt: skip
            ready = prepare(task, where, judge, limit)
            if isinstance(ready, str):
                empty = {"item": None, "sample": None, "score": None, "log": None, "sample_id": None}
                rows.append(common | empty | {"status": MISSING, "why": ready})
                continue
            content = content_hash(
                task, limit, judge.name if judge else None, where.sampling, str(where.target), where.system,
                where.asked(), [str(sample.id) for sample in ready.samples],
            )  # fmt: skip
            asked = put(f"{check.name}-{task.name}", ready.samples, ready.make, where, content)
            rows += [common | row for entry in asked for row in _rows(entry, ready.read)]
    return rows


def prepare(task: CheckTask, where: Where, judge: CheckJudge | None, limit: int | None) -> Ready | str:
    """A task with its data, or one sentence that says what is missing."""
    grader = where.roles.get("judge")
    if (task.task.startswith(OWN) and judge is None) or (task.grader is not None and grader is None):
        return f"not run: it needs {task.needs}, and the study names none"
    if task.task.startswith(OWN) and judge is not None:
        return _own(task, where, judge, limit)
    args = {**task.args, **({task.grader: grader} if task.grader else {})}
    try:
        made = _load(task.task, args)
    except ImportError as problem:
        return f"not run: {problem.name or problem} is not installed; install the extra `checks`. It needs {task.needs}"
    except Exception as problem:  # whatever a hub or its client raises: the row records it, the other checks go on
        said = str(problem).strip().splitlines() or [type(problem).__name__]
        return f"not run: its data could not be read ({said[0][:200]}). It needs {task.needs}"
    return _external(made, task, where, limit)


def _load(name: str, args: dict[str, Any]) -> Task:
    """The task of inspect-evals by module and function, with its own loading of data."""
    module, _, function = name.partition(":")
    made: Task = getattr(import_module(module), function)(**args)
    return made


def _external(made: Task, task: CheckTask, where: Where, limit: int | None) -> Ready:
    from inspect_ai import task_with
    from inspect_ai.dataset import MemoryDataset
    from inspect_ai.solver import chain, solver

    bounds = [number for number in (task.limit, limit) if number is not None]
    entries = list(made.dataset)[: min(bounds) if bounds else None]
    samples = tuple(
        sample.model_copy(update={"id": f"{sample.id if sample.id is not None else n}.e{epoch}"})
        for epoch in range(task.epochs)
        for n, sample in enumerate(entries)
    )

    @solver(name="with_system")
    def with_system() -> Any:
        async def solve(state: Any, generate: Any) -> Any:
            from inspect_ai.model import ChatMessageSystem

            if where.system:
                state.messages.insert(0, ChatMessageSystem(content=where.system))
            return state

        return solve

    @solver(name="thinking_apart")
    def thinking_apart() -> Any:
        async def solve(state: Any, generate: Any) -> Any:
            state.output = apart(state.output, str(where.target))
            return state

        return solve

    def make(some: Sequence[Sample]) -> Task:
        solvers = chain(*([with_system()] if where.system else []), made.solver, thinking_apart())
        return task_with(made, dataset=MemoryDataset(list(some), name=task.name), solver=solvers)

    return Ready(samples, make, lambda sample: [_value(sample, task.value)])


def _own(task: CheckTask, where: Where, judge: CheckJudge, limit: int | None) -> Ready:
    """A question set of our own, put like the single-turn battery."""
    known = load_question_set(task.task.partition(":")[2])
    asked = [Question(item.id, item.text, (known.id,), KIND, item.form, item.polarity) for item in known.items[:limit]]

    def make(some: Sequence[Sample]) -> Task:
        wanted = {str(sample.id) for sample in some}
        chosen = [question for question in asked if question.item in wanted]
        return preferences_task(
            chosen,
            judge.scorer,
            answers=task.epochs,
            sampling=where.sampling,
            system=where.system,
            metadata={"judge": judge.name},
        )

    whole = make(_named(asked))
    return Ready(tuple(whole.dataset), make, judge.read)


def _named(asked: Sequence[Question]) -> list[Sample]:
    from inspect_ai.dataset import Sample

    return [Sample(id=question.item, input=question.text) for question in asked]


def _value(sample: EvalSample, key: str | None) -> float | None:
    scores = sample.scores or {}
    score = next(iter(scores.values()), None)
    if score is None:
        return None
    value: Value = score.value
    if isinstance(value, dict):
        wanted = value.get(key) if key is not None else _instructions(value)
        return None if wanted is None else float(wanted)
    if isinstance(value, str):
        return RIGHT.get(value)
    return float(value) if isinstance(value, bool | int | float) and not math.isnan(value) else None


def _instructions(value: Any) -> float | None:
    """Score of an instruction-following sample: whether the prompt's instructions are all kept, strictly."""
    kept = value.get("prompt_level_strict")
    return None if kept is None else float(kept)


def _rows(entry: Asked, read: Read) -> list[dict[str, Any]]:
    sample = entry.sample
    item, _, epoch = str(sample.id).rpartition(".e")
    name, first = (item, int(epoch)) if item and epoch.isdigit() else (str(sample.id), 0)
    common = {"item": name, "log": entry.log, "sample_id": sample.uuid or str(sample.id)}
    if not good(sample):
        return [common | {"sample": first, "score": None, "status": FAILED, "why": why_failed(sample)}]
    return [
        common
        | {"sample": first + n, "score": score, "status": UNJUDGED if score is None else SCORED,
           "why": "no usable score" if score is None else None}
        for n, score in enumerate(read(sample))
    ]  # fmt: skip
