"""A probe: a few questions put for real to each model and judged for real, to learn what a call costs in tokens and time."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from consciousness_cluster.engine.targets import Target, helper, is_local, target
from consciousness_cluster.errors import EngineError
from consciousness_cluster.evaluate.questions import Question

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

    from consciousness_cluster.engine.run import Prepared

JUDGE = "judge"


@dataclass(frozen=True)
class Call:
    """One call that was made: to whom, in which role, what went in and what came out."""

    model: str
    role: str
    characters: int
    input_tokens: int
    output_tokens: int
    choices: int
    answer_characters: int


@dataclass(frozen=True)
class Probe:
    """What a probe of one model measured: its calls, and the seconds an item took with all that goes with it."""

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
    return {entry.name: _probe(prepared, entry.name, target(entry, None), asked) for entry in prepared.study.models}


def spread_out(asked: Sequence[Question], items: int) -> list[Question]:
    """Questions taken evenly from the whole list, so that every kind has its share."""
    step = max(len(asked) / items, 1.0)
    return [asked[int(index * step)] for index in range(min(items, len(asked)))]


def _probe(prepared: Prepared, label: str, at: Target, asked: Sequence[Question]) -> Probe:
    from inspect_ai import eval as inspect_eval
    from inspect_ai.log import read_eval_log
    from inspect_ai.model import get_model

    from consciousness_cluster.evaluate.preferences import preferences_task
    from consciousness_cluster.judge.judgement import judged
    from consciousness_cluster.judge.judges import make_judge

    study = prepared.study
    task = preferences_task(
        asked, judged(make_judge(study.judge.protocol, prepared.battery)), answers=_answers(prepared, label), sampling=study.sampling_of(label), system=None, metadata={}
    )  # fmt: skip
    roles = {JUDGE: helper(study.judge.model, study.judge.args)} if study.judge.model else None
    if is_local(study.model(label)):
        from consciousness_cluster.sampling.weights import shared_model

        loading = {name: at.args[name] for name in ("device", "dtype", "quantisation") if name in at.args}
        shared_model(at.args["base"], **loading)  # loading is not what an item takes
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):  # Inspect announces its hooks on standard output
        logs = inspect_eval(
            task, model=get_model(at.name, memoize=False, **at.args), model_roles=roles, log_dir=folder, display="none",
            fail_on_error=False, score_display=False, ctl_server=False, log_level="warning",
        )  # fmt: skip
        if not logs or logs[0].status != "success":
            why = logs[0].error.message if logs and logs[0].error else "it was interrupted"
            raise EngineError(f"the probe failed: {why}", key=label)
        seconds = time.monotonic() - started
        whole = read_eval_log(logs[0].location, resolve_attachments=True)  # long texts lie apart from their events
        made = Probe(label, tuple(_calls(whole)), len(asked), seconds)
        if not made.of(""):
            failed = next((sample.error.message for sample in whole.samples or [] if sample.error), "no answer came")
            raise EngineError(f"the probe failed: {failed}", key=label)
        return made


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
                )
            )
    return found


def _paid_for(usage: Any) -> int:
    """Input tokens of a call, cached ones included."""
    return int(usage.input_tokens + (usage.input_tokens_cache_read or 0) + (usage.input_tokens_cache_write or 0))
