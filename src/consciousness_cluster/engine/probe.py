"""A probe: a few questions put for real to each model and judged for real, to learn what a call costs in tokens and time.

The first two are put by themselves and not timed: with them come the loading of packages and weights and the opening of
connections, which a run pays for once and not for every question.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from consciousness_cluster.engine.extras import installed
from consciousness_cluster.engine.targets import Target, helper, is_local, target
from consciousness_cluster.errors import EngineError
from consciousness_cluster.evaluate.questions import Question
from consciousness_cluster.study.study import ModelEntry

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

    from consciousness_cluster.engine.run import Prepared

JUDGE = "judge"
WARMING = 2  # questions that are put beforehand and not timed


@dataclass(frozen=True)
class Call:
    """One call that was made: to whom, in which role, what went in, what came out, and the seconds from asking to answer."""

    model: str
    role: str
    characters: int
    input_tokens: int
    output_tokens: int
    choices: int
    answer_characters: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Probe:
    """What a probe of one model measured: its calls, and the seconds that its timed items took together.

    Of a judge that is a model the seconds hold nothing; its calls tell theirs.
    """

    model: str
    calls: tuple[Call, ...]
    items: int
    seconds: float

    def of(self, role: str) -> list[Call]:
        """The calls in one role; the model under test has the role ''."""
        return [call for call in self.calls if call.role == role]


def probe(prepared: Prepared, items: int) -> dict[str, Probe]:
    """Put up to `items` questions to every untrained model of a study, and have the answers judged.

    Raises:
        EngineError: the questions could not be put.
    """
    import consciousness_cluster._registry  # noqa: F401  makes our provider known to Inspect

    asked = spread_out(prepared.asked, items)
    return {entry.name: _probe_of(prepared, entry, asked) for entry in prepared.study.models}


def _probe_of(prepared: Prepared, entry: ModelEntry, asked: Sequence[Question]) -> Probe:
    """The probe of one model; a server that was started for it ends with it, since the next model needs the accelerator."""
    at = target(entry, None)
    try:
        return _probe(prepared, entry.name, at, asked)
    finally:
        if entry.sampler == "vllm":
            from consciousness_cluster.sampling.vllm import close_server

            close_server(at.args["base"])


def spread_out(asked: Sequence[Question], items: int) -> list[Question]:
    """Questions taken evenly from the whole list, so that every kind has its share."""
    step = max(len(asked) / items, 1.0)
    return [asked[int(index * step)] for index in range(min(items, len(asked)))]


def _probe(prepared: Prepared, label: str, at: Target, asked: Sequence[Question]) -> Probe:
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr), _as_a_worker():  # Inspect announces its hooks
        first, timed = (
            _put(prepared, label, at, some, folder) for some in (asked[:WARMING], asked[WARMING:] or asked[:WARMING])
        )
    calls = [*_calls(first), *_calls(timed)]
    if not any(call.role == "" for call in calls):
        failed = next((sample.error.message for sample in timed.samples or [] if sample.error), "no answer came")
        raise EngineError(f"the probe failed: {failed}", key=label)
    return Probe(label, tuple(calls), len(timed.samples or []), _seconds(timed, judged=prepared.study.judge.model is not None))


def _put(prepared: Prepared, label: str, at: Target, asked: Sequence[Question], folder: str) -> EvalLog:
    """Put some questions and have the answers judged."""
    from inspect_ai import eval as inspect_eval
    from inspect_ai.log import read_eval_log
    from inspect_ai.model import get_model

    from consciousness_cluster.evaluate.preferences import preferences_task
    from consciousness_cluster.judge.judgement import judged
    from consciousness_cluster.judge.judges import make_judge
    from consciousness_cluster.sampling.tinker import sessions

    study = prepared.study
    task = preferences_task(
        asked, judged(make_judge(study.judge.protocol, prepared.battery)), answers=_answers(prepared, label), sampling=study.sampling_of(label), system=None, metadata={}
    )  # fmt: skip
    model = get_model(at.name, memoize=False, **at.args)
    roles = {JUDGE: helper(study.judge.model, study.judge.args)} if study.judge.model else {}
    with sessions([model, *roles.values()]):
        logs = inspect_eval(
            task, model=model, model_roles=roles or None, log_dir=folder, display="none", fail_on_error=False, score_display=False,
            ctl_server=False, log_level="warning",
        )  # fmt: skip
    if not logs or logs[0].status != "success":
        why = logs[0].error.message if logs and logs[0].error else "it was interrupted"
        raise EngineError(f"the probe failed: {why}", key=label)
    return read_eval_log(logs[0].location, resolve_attachments=True)  # long texts lie apart from their events


@contextmanager
def _as_a_worker() -> Iterator[None]:
    """Compute on one thread, as the workers of a run do."""
    if not installed("torch"):
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _seconds(log: EvalLog, *, judged: bool) -> float:
    """From the first question to the last answer, and to the last verdict where no model gives it."""
    events = [event for sample in log.samples or [] for event in sample.events if event.event == "model" and not event.role]
    starts = [event.timestamp for event in events]
    ends = [event.completed for event in events if event.completed is not None]
    if not judged:
        ends += [datetime.fromisoformat(sample.completed_at) for sample in log.samples or [] if sample.completed_at]
    return (max(ends) - min(starts)).total_seconds() if starts and ends else 0.0


def _answers(prepared: Prepared, label: str) -> int:
    """Answers to a question of the probe: all of them where they cost nothing, one where each is paid for."""
    return prepared.study.battery.answers if is_local(prepared.study.model(label)) else 1


def _calls(log: EvalLog) -> list[Call]:
    found: list[Call] = []
    for sample in log.samples or []:
        for event in sample.events:
            if event.event != "model" or event.output.usage is None:
                continue
            texts: list[Any] = [message.text for message in event.input]
            found.append(
                Call(
                    model=event.model,
                    role=event.role or "",
                    characters=sum(map(len, texts)),
                    input_tokens=_paid_for(event.output.usage),
                    output_tokens=event.output.usage.output_tokens,
                    choices=len(event.output.choices),
                    answer_characters=sum(len(choice.message.text) for choice in event.output.choices),
                    seconds=event.working_time or 0.0,
                )
            )
    return found


def _paid_for(usage: Any) -> int:
    """Input tokens of a call, cached ones included."""
    return int(usage.input_tokens + (usage.input_tokens_cache_read or 0) + (usage.input_tokens_cache_write or 0))
