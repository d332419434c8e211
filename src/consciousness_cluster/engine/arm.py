"""One arm from start to finish: fine-tune it if its condition says so, ask it, judge it, leave its rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.data.mix import digest
from consciousness_cluster.data.rows import read_rows
from consciousness_cluster.engine.bank import Bank
from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.engine.rows import answer_rows, frame
from consciousness_cluster.engine.targets import Target, backend_of, base_of, is_local, target, weights_identity
from consciousness_cluster.errors import EngineError, TrainError
from consciousness_cluster.evaluate.questions import Question, content_hash
from consciousness_cluster.judge.judges import make_judge
from consciousness_cluster.study.conditions import Condition
from consciousness_cluster.study.models import Price
from consciousness_cluster.study.study import Arm, ModelEntry, Study
from consciousness_cluster.train.backend import RECORD, Trained, TrainingJob, load_record
from consciousness_cluster.train.backends import make_backend
from consciousness_cluster.train.recipe import load_recipe

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

Report = Callable[[str, int, int], None]  # phase, done, of
ROWS = "answers.parquet"
BATCH = 1000  # calls to a batch, where a study asks for batch mode


@dataclass(frozen=True)
class Context:
    """What every arm of a run shares."""

    study: Study
    conditions: dict[str, Condition]
    battery: Battery
    asked: tuple[Question, ...]
    folder: RunFolder
    bank: Bank | None = None


@dataclass(frozen=True)
class Done:
    """A finished arm: seconds, tokens (input, output) by model, and how many items failed."""

    arm: Arm
    content: str
    seconds: float
    usage: dict[str, tuple[int, int]]
    failed_items: int


def run_arm(context: Context, arm: Arm, report: Report) -> Done:
    """Bring one arm to its end, from wherever an earlier run left it."""
    started = time.monotonic()
    trained = train_arm(context, arm, report)
    at = target(context.study.model(arm.model), trained)
    judge = make_judge(context.study.judge.protocol, context.battery)
    condition = context.conditions[arm.condition]
    system = _system(context, condition)
    study = context.study
    content = content_hash(list(context.asked), study.battery.answers, study.sampling, judge.name, study.judge, at.name, system)
    logs = _logs(context, arm, content)
    missing = _missing(context, logs)
    usage: dict[str, tuple[int, int]] = {}
    if missing:
        log = _ask(context, arm, at, judge, system, content, missing, report, trained is not None)
        usage = {name: (entry.input_tokens, entry.output_tokens) for name, entry in log.stats.model_usage.items()}
        logs.append((Path(log.location), log))
    failed = _write_rows(context, arm, logs, system)
    return Done(arm, content, time.monotonic() - started, usage, failed)


def _system(context: Context, condition: Condition) -> str | None:
    """The condition's own system prompt, or the one of the condition it starts from."""
    at: Condition | None = condition
    while at is not None:
        if at.system is not None:
            return at.system
        at = context.conditions[at.after] if at.after else None
    return None


def train_arm(context: Context, arm: Arm, report: Report) -> Trained | None:
    """The fine-tune of an arm, made if it is not there; None for an arm whose condition trains nothing."""
    condition = context.conditions[arm.condition]
    parent = parent_of(context, arm)
    if not condition.trained:
        return None if parent is None else train_arm(context, parent, report)
    if arm.seed is None:
        raise EngineError("an arm that is trained needs a seed", key=arm.id)
    start = train_arm(context, parent, report) if parent is not None else None
    entry = context.study.model(arm.model)
    recipe = load_recipe(context.study.train.recipe, {**context.study.train.changes, **entry.train})
    rows = read_rows(context.folder.rows(arm.condition, arm.seed))
    before = None if start is None else start.adapter or start.weights or start.remote
    base = base_of(entry)
    tag = content_hash(weights_identity(base), digest(rows), recipe, arm.seed, start.tag if start else None)
    kept = load_record(context.folder.arm(arm), tag)
    if kept is not None:
        return kept
    backend = make_backend(backend_of(entry), context.folder.ledger, entry.args)
    job = TrainingJob(base, rows, recipe, arm.seed, context.folder.arm(arm), tag, before)
    return _paid_training(context, entry, job, lambda: backend.train(job, lambda step, steps: report("train", step, steps)))


def _paid_training(context: Context, entry: ModelEntry, job: TrainingJob, train: Callable[[], Trained]) -> Trained:
    """Train, with the price of a fine-tune at a service set aside before it is asked for.

    Raises:
        BudgetError: with it the budget would be passed.
    """
    from consciousness_cluster.engine.tokens import row_tokens

    bank = context.bank
    price = None if bank is None or backend_of(entry) == "local" else bank.registry.price(entry.model)
    if bank is None or price is None or price.train is None:
        return train()
    dollars = row_tokens(entry.args.get("tokenizer"), job.rows, job.recipe).billed.times(price.train / 1e6)
    ticket = bank.reserve(f"training {job.tag}", dollars.high, once=True)
    try:
        record = train()
    except TrainError:
        bank.release(ticket)  # no service bills a job that came to nothing
        raise
    bank.settle(ticket, dollars.expected)
    return record


def parent_of(context: Context, arm: Arm) -> Arm | None:
    """The arm that this one starts from, for chained conditions."""
    after = context.conditions[arm.condition].after
    if after is None:
        return None
    trained = context.conditions[after].trained or context.conditions[after].after is not None
    return Arm(arm.model, after, arm.seed if trained else None)


def _logs(context: Context, arm: Arm, content: str) -> list[tuple[Path, EvalLog]]:
    """Earlier logs of this arm with the same content; one that was cut off by a kill is recovered in place."""
    from inspect_ai.log import RecoveryNotAvailable, read_eval_log, recover_eval_log

    found: list[tuple[Path, EvalLog]] = []
    for path in sorted(context.folder.logs.glob(f"*_{log_name(arm)}_*.eval")):
        try:
            header = read_eval_log(str(path), header_only=True)
        except (OSError, ValueError, KeyError):  # killed before its header was written: it holds no answer
            path.unlink()
            continue
        if (header.eval.metadata or {}).get("content") != content:
            continue
        if header.status == "started":
            try:
                recover_eval_log(str(path), overwrite=True)
            except RecoveryNotAvailable:
                path.unlink()
                continue
        found.append((path, read_eval_log(str(path), exclude_fields={"events", "store", "attachments"})))
    return found


def log_name(arm: Arm) -> str:
    """The arm as Inspect writes it in a log's file name."""
    return arm.id.replace("_", "-")


def _missing(context: Context, logs: list[tuple[Path, EvalLog]]) -> list[Question]:
    answered = {str(sample.id) for _, log in logs for sample in log.samples or [] if _good(sample)}
    return [question for question in context.asked if question.item not in answered]


def _good(sample: Any) -> bool:
    """Whether a sample was asked and judged to its end: no error, and not stopped by the budget."""
    return sample.error is None and sample.limit is None and bool(sample.scores)


def _ask(
    context: Context,
    arm: Arm,
    at: Target,
    judge: Any,
    system: str | None,
    content: str,
    missing: list[Question],
    report: Report,
    trained: bool,
) -> EvalLog:
    from inspect_ai import eval as inspect_eval
    from inspect_ai import task_with
    from inspect_ai.model import GenerateConfig, get_model

    from consciousness_cluster.engine.budget import watching
    from consciousness_cluster.engine.progress import counting
    from consciousness_cluster.evaluate.preferences import preferences_task
    from consciousness_cluster.judge.judgement import judged

    study = context.study
    entry = study.model(arm.model)
    task = preferences_task(
        missing, judged(judge), answers=study.battery.answers, sampling=study.sampling, system=system,
        metadata={"study": study.name, "arm": arm.id, "model": arm.model, "condition": arm.condition, "seed": arm.seed,
                  "content": content, "judge": judge.name},
    )  # fmt: skip
    task = task_with(task, name=log_name(arm))
    batched = GenerateConfig(batch=BATCH if study.sampling.batch else None)
    # A batched model must not be shared: its worker does not outlive the first evaluation of a process.
    judging: dict[str, Any] = {"memoize": False, "config": batched} if study.sampling.batch else {}
    roles = {"judge": get_model(study.judge.model, **judging, **study.judge.args)} if study.judge.model else None
    at_once = 512 if is_local(entry) else len(missing) if study.sampling.batch else None  # a batch waits for all its samples
    with counting(len(missing), report), watching(context.bank, _prices(context, entry, at, trained)) as money:
        logs = inspect_eval(
            task, model=get_model(at.name, memoize=False, config=batched, **at.args), model_roles=roles, log_dir=str(context.folder.logs), display="none",
            fail_on_error=False, retry_on_error=0 if is_local(entry) else 2, max_samples=at_once, log_buffer=25,
            log_model_api=False, score_display=False, ctl_server=False, log_level="warning",
        )  # fmt: skip
    if not logs:
        raise KeyboardInterrupt  # Inspect returns nothing when it was interrupted
    if logs[0].status != "success":
        message = logs[0].error.message if logs[0].error else logs[0].status
        raise EngineError(f"the questions could not be put: {message}", key=arm.id, next_step="see the log with `inspect view`")
    if money is not None and money.stopped is not None:
        raise money.stopped
    return logs[0]


def _prices(context: Context, entry: ModelEntry, at: Target, trained: bool) -> dict[str, Price | None]:
    """The price of the arm's own target: the name of a checkpoint does not say what it is a fine-tune of."""
    if context.bank is None:
        return {}
    registry = context.bank.registry
    return {at.name: registry.tuned_price(entry.model) if trained else registry.price(entry.model)}


def _write_rows(context: Context, arm: Arm, logs: list[tuple[Path, EvalLog]], system: str | None) -> int:
    """Write the arm's rows; of an item in several logs the last good one counts. Returns how many items failed."""
    kept: dict[str, tuple[str, Any]] = {}
    for path, log in logs:
        for sample in log.samples or []:
            if _good(sample) or str(sample.id) not in kept:
                kept[str(sample.id)] = (path.name, sample)
    rows: list[dict[str, Any]] = []
    for name, sample in kept.values():
        rows += answer_rows([sample], arm, context.battery, context.study.battery.answers, name, system)
    place = context.folder.arm(arm)
    place.mkdir(parents=True, exist_ok=True)
    part = place / (ROWS + ".part")
    frame(rows).to_parquet(part)
    part.replace(place / ROWS)
    return sum(1 for _, sample in kept.values() if sample.error is not None)


def record_of(folder: RunFolder, arm: Arm) -> Path:
    """Where the training record of an arm is."""
    return folder.arm(arm) / RECORD
