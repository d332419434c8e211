"""A whole study, or what is left of it: data, arms, tables, report, manifest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from consciousness_cluster.battery.battery import Battery, load_battery
from consciousness_cluster.battery.check import refuse
from consciousness_cluster.engine.arm import ROWS, has_rows
from consciousness_cluster.engine.bank import Bank, check_budget
from consciousness_cluster.engine.behaviour import check_parts
from consciousness_cluster.engine.context import Context, Done, has_training_rows
from consciousness_cluster.engine.data import make_data
from consciousness_cluster.engine.devices import accelerators
from consciousness_cluster.engine.estimate import estimate, register_claims, registered_claims
from consciousness_cluster.engine.extras import check_installed
from consciousness_cluster.engine.fine_tune import is_trained
from consciousness_cluster.engine.folder import RunFolder, working
from consciousness_cluster.engine.held import check_held
from consciousness_cluster.engine.identity import arm_content
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.listening import check_listening
from consciousness_cluster.engine.manifest import write_manifest
from consciousness_cluster.engine.names import (
    check_backend,
    check_local,
    check_names,
    check_provider,
    check_sampler,
    check_template_args,
)
from consciousness_cluster.engine.pool import Message, Outcome, run_pool
from consciousness_cluster.engine.resolved import written_out
from consciousness_cluster.engine.served import check_server, is_served, run_served
from consciousness_cluster.engine.tables import items_asked
from consciousness_cluster.engine.targets import base_of, is_local, trains_here
from consciousness_cluster.engine.templates import check_templates
from consciousness_cluster.engine.training import check_training
from consciousness_cluster.errors import ClusterError, EngineError, ModelError
from consciousness_cluster.evaluate.audit import folder_of
from consciousness_cluster.evaluate.questions import Question, questions
from consciousness_cluster.judge.judges import asks_model, make_judge
from consciousness_cluster.study.conditions import Condition, conditions_of, expand, only_asked, settled
from consciousness_cluster.study.models import Registry, helpers, load_registry, resolve_models
from consciousness_cluster.study.problems import check_models
from consciousness_cluster.study.services import check_settings
from consciousness_cluster.study.study import Arm, Study, load_study

Hear = Callable[[Message], None]


@dataclass(frozen=True)
class Prepared:
    """A checked study with everything it names resolved."""

    study: Study
    conditions: dict[str, Condition]
    battery: Battery
    asked: tuple[Question, ...]
    arms: tuple[Arm, ...]
    registry: Registry
    limit: int | None = None
    file: Path | None = None  # the study file, for messages

    @property
    def trains(self) -> frozenset[str]:
        """Labels of the models that something is trained of; the others are only asked."""
        return frozenset(arm.model for arm in self.arms if self.conditions[arm.condition].trained)

    @property
    def notes(self) -> list[str]:
        """What a reader of the study file may not expect: models that are only asked."""
        return only_asked(self.study, self.conditions)

    def context(self, folder: RunFolder, budget: float | None = None) -> Context:
        """What workers need. Money is watched where any model costs some."""
        asked = [*(entry.model for entry in self.study.models), *(model for _, model, _ in helpers(self.study))]
        bank = None
        if any(not self.registry.free(model) for model in asked):
            bank = Bank(folder.ledger, budget, self.registry, self.study.sampling.batch)
        return Context(self.study, self.conditions, self.battery, self.asked, folder, bank, self.limit)


def prepare_file(path: Path, limit: int | None = None) -> Prepared:
    """A study by its file; see `prepare`.

    Raises:
        ClusterError: as `prepare`, with the file named.
    """
    try:
        return replace(prepare(load_study(path), path.resolve().parent, limit), file=path)
    except ClusterError as problem:
        raise problem.of(path) from None


def prepare(study: Study, base: Path, limit: int | None = None) -> Prepared:
    """Resolve and check everything that a study names, before anything is spent.

    Args:
        study: the study.
        base: folder that its file names are relative to.
        limit: ask only the first `limit` items of every preference, and of every kind of the parts beside them.

    Raises:
        ClusterError: a name, a file or a model is not there; the message says which.
    """
    registry = load_registry(base)
    study = written_out(resolve_models(study, registry))
    battery = load_battery(base / study.battery.folder) if study.battery.folder else load_battery()
    if study.battery.folder:
        refuse(battery, base / study.battery.folder)
    battery = battery.model_copy(update={"audits": folder_of(study.audits, base)})
    conditions = conditions_of(study, base)
    study = settled(study, conditions, registry)
    make_judge(study.judge.protocol, battery)
    check_parts(study, battery)
    for entry in study.models:
        base_of(entry)
        check_local(entry.model)
        check_template_args(entry)
        check_sampler(entry)
        check_backend(entry)
    check_names(study, conditions, battery)
    if asks_model(study.judge.protocol) and study.judge.model is None:
        raise ModelError("the judge has no model", key="judge.model", next_step="name one, or use the classifier for organisms")
    answerable = None
    if study.battery.items == "answerable":
        from consciousness_cluster.organism.answerable import answerable_items

        answerable = answerable_items()
    asked = questions(battery, study.battery, answerable)
    if limit is not None:
        asked = _first(asked, limit)
    return Prepared(study, conditions, battery, tuple(asked), tuple(expand(study, conditions)), registry, limit)


def _first(asked: list[Question], limit: int) -> list[Question]:
    seen: dict[tuple[str, ...], int] = {}
    kept = []
    for question in asked:
        seen[question.judged] = seen.get(question.judged, 0) + 1
        if seen[question.judged] <= limit:
            kept.append(question)
    return kept


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    folder: RunFolder
    outcome: Outcome
    kept: int  # arms that an earlier run had finished
    seconds: float
    report: Path


def run_study(prepared: Prepared, out: Path, hear: Hear, workers: int | None = None, budget: float | None = None) -> Result:
    """Do everything of a study that is not yet done; `budget` is the dollars that may be spent in its folder in all."""
    started = time.monotonic()
    check_usable(prepared, out, budget)
    with working(out, prepared.study, prepared.registry) as (folder, ledger):
        make_data(
            prepared.study, prepared.conditions, prepared.battery, folder
        )  # what it refuses leaves a finished run finished
        folder.manifest.unlink(missing_ok=True)
        folder.logs.mkdir(exist_ok=True)
        register_claims(prepared, folder)
        outcome, kept = run_arms(prepared, folder, ledger, hear, workers, budget)
        _need_answers(prepared, folder, outcome)
        report = finish(prepared, folder, ledger, outcome, time.monotonic() - started)
    return Result(folder, outcome, kept, time.monotonic() - started, report)


def _need_answers(prepared: Prepared, folder: RunFolder, outcome: Outcome) -> None:
    """Say why there is nothing to report on, where no arm left an answer.

    Raises:
        EngineError: with the reason of the first arm that failed.
    """
    if outcome.failed and not any((folder.arm(arm) / ROWS).is_file() for arm in prepared.arms):
        arm, why = next(iter(outcome.failed.items()))
        raise EngineError(f"no arm left an answer, the first of {len(outcome.failed)} that failed since: {why}", key=arm.id)


def check_usable(prepared: Prepared, out: Path, budget: float | None = None, *, trained: bool = False) -> None:
    """Refuse ended services, missing keys and budgets that cannot be kept, before anything is made.

    A run whose arms are all finished can be reported again whatever has ended since; `trained` says that nothing is left to train.

    Raises:
        ModelError: a model of the study cannot be used today.
        TrainError: its backend cannot train a model as it says, or weights cannot be held so.
        EngineError: packages that it needs are not installed.
        BudgetError: a price that the budget needs is not known.
    """
    left = list(prepared.arms)
    folder = RunFolder(out)
    if folder.ledger.is_file():
        ledger = Ledger(folder.ledger)
        left = unfinished(prepared.context(folder), prepared.arms, ledger)
        ledger.close()
    if not left:
        return
    trains = frozenset[str]() if trained else prepared.trains
    asked, owing = still_to_do(prepared, folder, left)
    try:
        check_models(asked, date.today(), registry=prepared.registry, trains=trains & owing)
        for key, model in [
            *(("models", entry.model) for entry in asked.models),
            *((key, name) for key, name, _ in helpers(asked)),
        ]:
            check_provider(model, key)
    except ModelError as problem:
        raise problem if prepared.file is None else problem.of(prepared.file) from None
    check_settings(prepared.study, prepared.registry)
    check_installed(prepared.study, trains=trains)
    check_training(prepared.study, trains=trains)
    check_held(prepared.study, trains=trains)
    check_server(prepared.study, trains=trains)
    check_templates(asked, prepared.conditions, left, trains=trains & owing)
    if budget is not None:
        check_budget(prepared, [arm.model for arm in left])
    check_listening(prepared.study)


def still_to_do(prepared: Prepared, folder: RunFolder | None, left: Sequence[Arm]) -> tuple[Study, frozenset[str]]:
    """The study with the models alone that arms are left of, and the labels of those of which a fine-tune is still to be made.

    What an ended service has made already can be asked as long as it answers, and a model that has ended keeps no other one back.
    """
    models = tuple(entry for entry in prepared.study.models if any(arm.model == entry.name for arm in left))
    study = prepared.study.model_copy(update={"models": models})
    if folder is None or not folder.ledger.is_file():
        return study, frozenset(entry.name for entry in models) & prepared.trains
    context = prepared.context(folder)
    made = [arm for arm in left if has_training_rows(context, arm) and is_trained(context, arm)]
    return study, frozenset(arm.model for arm in left if arm not in made) & prepared.trains


def run_arms(
    prepared: Prepared, folder: RunFolder, ledger: Ledger, hear: Hear, workers: int | None, budget: float | None = None
) -> tuple[Outcome, int]:
    """Bring every unfinished arm to its end; returns what came of them and how many were finished before."""
    context = prepared.context(folder, budget)
    left = unfinished(context, prepared.arms, ledger)

    def listen(message: Message) -> None:
        if message.kind == "done":
            _note(ledger, message.value)
        elif message.kind == "failed":
            ledger.fail(message.arm.id, "", str(message.value))
        hear(message)

    count = workers or worker_count(prepared.study)
    left.sort(key=lambda arm: not _to_train_at_service(context, arm))  # it may refuse, and the others would be paid for in vain
    served = [arm for arm in left if is_served(prepared.study.model(arm.model))]
    outcome = run_pool(context, [arm for arm in left if arm not in served], count, listen)
    behind = run_served(context, served, count, listen) if served else Outcome()
    return Outcome(outcome.done + behind.done, outcome.failed | behind.failed), len(prepared.arms) - len(left)


def _to_train_at_service(context: Context, arm: Arm) -> bool:
    return not trains_here(context.study.model(arm.model)) and not is_trained(context, arm)


def unfinished(context: Context, arms: Sequence[Arm], ledger: Ledger) -> list[Arm]:
    """The arms that no earlier run brought to their end with the very content that is asked for now."""
    noted = ledger.arms()

    def done(arm: Arm) -> bool:
        content, status, _ = noted.get(arm.id, ("", "", None))
        return (
            status == "finished"
            and has_rows(context, arm)
            and has_training_rows(context, arm)
            and content == arm_content(context, arm)
        )

    return [arm for arm in arms if not done(arm)]


def worker_count(study: Study) -> int:
    """Workers of a study: for local models one an accelerator, or one a core of a machine without; for hosted models alone one.

    Two workers on one accelerator would each load the model. Calls to hosted models overlap in one worker.
    """
    found = len(accelerators())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return (found or cores) if any(is_local(entry) for entry in study.models) else 1


def _note(ledger: Ledger, done: Done) -> None:
    if done.failed_items:
        ledger.fail(done.arm.id, done.content, done.why)
    else:
        ledger.finish(done.arm.id, done.content, done.seconds)


def finish(prepared: Prepared, folder: RunFolder, ledger: Ledger, outcome: Outcome, seconds: float) -> Path:
    """Tables, manifest and report from what is there, with the transcripts beside it where that takes a few seconds at most."""
    from consciousness_cluster.report import build_report, bundle_transcripts, bundles_itself

    tabulate(prepared, folder, ledger, seconds)
    if bundles_itself(folder.root):
        bundle_transcripts(folder.root)
    return build_report(folder.root)


def tabulate(prepared: Prepared, folder: RunFolder, ledger: Ledger, seconds: float | None) -> None:
    """All tables, and the manifest of a run that has come to its end; `seconds` it took, None where arms are still to come."""
    estimate(prepared, folder, ledger)
    if seconds is None:
        return
    extra: dict[str, Any] = {
        "arms": {arm: {"status": status, "why": why} for arm, (_, status, why) in ledger.arms().items()},
        "items": items_asked(folder),
        "answers_per_item": prepared.study.battery.answers,
        "claims_hash": kept.digest if (kept := registered_claims(folder)) is not None else None,
        "spend": [
            dict(zip(("stage", "model", "input_tokens", "output_tokens", "dollars"), row, strict=True))
            for row in ledger.spent()
        ],
        "seconds": round(seconds, 1),
    }
    write_manifest(folder, prepared.study, extra)
