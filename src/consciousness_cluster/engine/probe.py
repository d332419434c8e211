"""A probe: a few questions put for real to each model and judged for real, to learn what a call costs in tokens and time.

The first two are put by themselves and not timed: with them come the loading of packages and weights and the opening of
connections, which a run pays for once and not for every question.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consciousness_cluster.engine.bank import Bank
from consciousness_cluster.engine.extras import installed
from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.targets import Target, helper, is_local, patience, target
from consciousness_cluster.errors import EngineError
from consciousness_cluster.evaluate.questions import Question
from consciousness_cluster.study.models import Price
from consciousness_cluster.study.study import ModelEntry

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog
    from inspect_ai.model import Model

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

    Of a judge that is a model the seconds hold nothing; its calls tell theirs. `systems` are the tokens that system prompts add to
    a call; the calls that told them are not among the others.
    """

    model: str
    calls: tuple[Call, ...]
    items: int
    seconds: float
    systems: Mapping[str, int] = field(default_factory=dict)

    def of(self, role: str) -> list[Call]:
        """The calls in one role; the model under test has the role ''."""
        return [call for call in self.calls if call.role == role]


@dataclass
class Purse:
    """What a probe is paid from.

    Attributes:
        bank: its money; None where every model is free.
        noted: whether the bank is that of a run folder, whose ledger is then told.
        dollars: what was spent so far.
    """

    bank: Bank | None
    noted: bool
    dollars: float = 0.0

    @contextmanager
    def paying(self, prices: Mapping[str, Price | None], models: Sequence[Model]) -> Iterator[list[EvalLog]]:
        """Pay for the evaluation whose log is put into the list that this gives.

        Raises:
            BudgetError: a call could have passed the budget.
        """
        from consciousness_cluster.engine.budget import cost, sent, watching

        logs: list[EvalLog] = []
        before = 0.0 if self.bank is None else self.bank.spent()
        try:
            with watching(self.bank, prices, models) as money:
                yield logs
        finally:
            if self.bank is not None:
                self.dollars += self.bank.spent() - before
            if self.bank is not None and self.noted:
                used = [entry for log in logs for entry in log.stats.model_usage.items()]
                ledger = Ledger(self.bank.ledger)
                for name, usage in used:
                    ledger.spend("probe", name, (sent(usage), usage.output_tokens), cost(self.bank, prices, name, usage))
                ledger.close()
        if money is not None and money.stopped is not None:
            raise money.stopped


@contextmanager
def purse(prepared: Prepared, folder: RunFolder, budget: float | None = None) -> Iterator[Purse]:
    """The money of a probe: that of the run folder where a run began, else a bank of its own that ends with it."""
    with tempfile.TemporaryDirectory() as aside:
        begun = folder.ledger.is_file()
        bank = prepared.context(folder if begun else RunFolder(Path(aside)), budget).bank
        yield Purse(None if bank is None else replace(bank, batch=False), begun)


def probe(prepared: Prepared, items: int, paid: Purse | None = None) -> dict[str, Probe]:
    """Put up to `items` questions to every untrained model of a study, and have the answers judged.

    A model at a service is sent each system prompt of the study with one of them besides, to learn how long it is.

    Args:
        prepared: the study.
        items: how many.
        paid: what it is paid from; nothing is counted without.

    Raises:
        EngineError: the questions could not be put.
        BudgetError: a call could have passed the budget.
    """
    import consciousness_cluster._registry  # noqa: F401  makes our provider known to Inspect

    asked, paying = spread_out(prepared.asked, items), paid or Purse(None, noted=False)
    return {entry.name: _probe_of(prepared, entry, asked, paying) for entry in prepared.study.models}


def _probe_of(prepared: Prepared, entry: ModelEntry, asked: Sequence[Question], paid: Purse) -> Probe:
    """The probe of one model; its weights, or the server that was started for it, go with it, since the next needs the accelerator."""
    at = target(entry, None)
    try:
        return _probe(prepared, entry, at, asked, paid)
    finally:
        if installed("torch"):
            from consciousness_cluster.sampling.weights import release

            release()
        if entry.sampler == "vllm":
            from consciousness_cluster.sampling.vllm import close_server

            close_server(at.args["base"])


def spread_out(asked: Sequence[Question], items: int) -> list[Question]:
    """Questions taken evenly from the whole list, so that every kind has its share."""
    step = max(len(asked) / items, 1.0)
    return [asked[int(index * step)] for index in range(min(items, len(asked)))]


def _probe(prepared: Prepared, entry: ModelEntry, at: Target, asked: Sequence[Question], paid: Purse) -> Probe:
    label = entry.name
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr), _as_a_worker():  # Inspect announces its hooks
        first, timed = (
            _put(prepared, label, at, some, folder, paid) for some in (asked[:WARMING], asked[WARMING:] or asked[:WARMING])
        )
        calls = [*_calls(first), *_calls(timed)]
        systems = _systems(prepared, entry) if any(call.role == "" for call in calls) else []
        longer = {system: _calls(_put(prepared, label, at, asked[:1], folder, paid, system)) for system in systems}
    if not any(call.role == "" for call in calls):
        failed = next((sample.error.message for sample in timed.samples or [] if sample.error), "no answer came")
        raise EngineError(f"the probe failed: {failed}", key=label)
    seconds = _seconds(timed, judged=prepared.study.judge.model is not None)
    added = {system: _added(made, calls, len(system)) for system, made in longer.items()}
    known = {system: tokens for system, tokens in added.items() if tokens is not None}
    return Probe(label, tuple(calls), len(timed.samples or []), seconds, known)


def _systems(prepared: Prepared, entry: ModelEntry) -> list[str]:
    """System prompts of a model whose prompts are rendered elsewhere; those of others are counted by its tokenizer."""
    if is_local(entry):
        return []
    conditions = [prepared.conditions[arm.condition] for arm in prepared.arms if arm.model == entry.name]
    return list(dict.fromkeys(condition.system for condition in conditions if condition.system))


def _added(longer: Sequence[Call], calls: Sequence[Call], characters: int) -> int | None:
    """Tokens that a system prompt of so many characters added to a question that was also put without; None where either failed."""
    for call in longer:
        for bare in calls:
            if call.role == bare.role == "" and call.characters == bare.characters + characters:
                return call.input_tokens - bare.input_tokens
    return None


def _put(
    prepared: Prepared, label: str, at: Target, asked: Sequence[Question], folder: str, paid: Purse, system: str | None = None
) -> EvalLog:
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
        asked, judged(make_judge(study.judge.protocol, prepared.battery)), answers=_answers(prepared, label), practical_answers=_answers(prepared, label, practical=True), sampling=study.sampling_of(label), system=system, metadata={}
    )  # fmt: skip
    model = get_model(at.name, memoize=False, config=patience(study.calls), **at.args)
    roles = {JUDGE: helper(study.judge.model, study.judge.asked_with, calls=study.calls)} if study.judge.model else {}
    registry = prepared.registry
    prices = {str(model): registry.price(study.model(label).model)}
    if study.judge.model is not None:
        prices[str(roles[JUDGE])] = registry.price(study.judge.model)
    with sessions([model, *roles.values()]), paid.paying(prices, [model, *roles.values()]) as used:
        logs = inspect_eval(
            task, model=model, model_roles=roles or None, log_dir=folder, display="none", fail_on_error=False, score_display=False,
            ctl_server=False, log_level="warning",
        )  # fmt: skip
        used.extend(logs)
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


def _answers(prepared: Prepared, label: str, *, practical: bool = False) -> int:
    """Answers to a question of the probe: all of them where they cost nothing, one where each is paid for."""
    return prepared.study.battery.answers_to(practical=practical) if is_local(prepared.study.model(label)) else 1


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
