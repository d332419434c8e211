"""One arm from start to finish: fine-tune it if its condition says so, ask it, judge it, leave its rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.data.mix import digest
from consciousness_cluster.data.rows import read_rows
from consciousness_cluster.engine.addresses import addresses, trained_at
from consciousness_cluster.engine.bank import Bank
from consciousness_cluster.engine.behaviour import Helper, Part, Scope, failed_samples, judge_of, part_frame, parts_of
from consciousness_cluster.engine.folder import RunFolder, whole_file
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.rows import answer_rows, frame
from consciousness_cluster.engine.targets import (
    Named,
    Target,
    backend_of,
    base_of,
    helper,
    is_local,
    named,
    patience,
    target,
    tokenizer_source,
    trains_here,
    unlisted,
    weights_identity,
)
from consciousness_cluster.errors import EngineError, EvaluateError, TrainError
from consciousness_cluster.evaluate.questions import Question, content_hash
from consciousness_cluster.evaluate.running import Count, Where, good, put, stream, why_failed
from consciousness_cluster.judge.judgement import Judge
from consciousness_cluster.judge.judges import make_judge
from consciousness_cluster.study.conditions import Condition
from consciousness_cluster.study.models import Price
from consciousness_cluster.study.study import Arm, ModelEntry, SamplingEntry, Study
from consciousness_cluster.train.backend import Pay, Trained, TrainingJob, load_record, unpaid
from consciousness_cluster.train.backends import make_backend
from consciousness_cluster.train.jobs import JobBook
from consciousness_cluster.train.recipe import recipe_of

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.log import EvalLog
    from inspect_ai.model import Model

    from consciousness_cluster.engine.budget import Watch

Report = Callable[[str, int, int], None]  # phase, done, of
ROWS = "answers.parquet"
BATCH = 1000  # calls to a batch, where a study asks for batch mode


@dataclass(frozen=True)
class Context:
    """What every arm of a run shares. `limit` bounds the items of the parts as it did those in `asked`."""

    study: Study
    conditions: dict[str, Condition]
    battery: Battery
    asked: tuple[Question, ...]
    folder: RunFolder
    bank: Bank | None = None
    limit: int | None = None

    @property
    def scope(self) -> Scope:
        """What the parts go by."""
        return Scope(self.study, self.battery, self.limit)


@dataclass(frozen=True)
class Done:
    """A finished arm: seconds, how many items failed, and of what."""

    arm: Arm
    content: str
    seconds: float
    failed_items: int
    why: str = ""


@dataclass(frozen=True)
class _Asking:
    """An arm that is ready to be asked."""

    context: Context
    arm: Arm
    at: Target
    system: str | None
    trained: bool
    report: Report

    @contextmanager
    def where(self, phase: str, helpers: Mapping[str, Helper], *, batched: bool) -> Iterator[Where]:
        """Whom to ask and with what beside it, with the sessions that they open at a service, for as long as it is held open.

        A batched model must not be shared by two evaluations, so each has its own.
        """
        from inspect_ai.model import get_model

        from consciousness_cluster.sampling.provider import LocalAPI, check_together
        from consciousness_cluster.sampling.tinker import sessions

        study, calls = self.context.study, self.context.study.calls
        own = study.model(self.arm.model).model
        sizes = {name: self._batch(name) if batched else None for name in (own, *(name for name, _ in helpers.values()))}
        model = get_model(self.at.name, memoize=False, config=patience(calls, sizes[own]), **self.at.args)
        roles = {role: helper(name, args, sizes[name], calls) for role, (name, args) in helpers.items()}
        batched = any(sizes.values())
        local = is_local(study.model(self.arm.model))
        load = model.api.load if isinstance(model.api, LocalAPI) else None
        watch = partial(self._watch, phase, batched, self._prices(helpers), [model, *roles.values()], load)
        check_together([model, *roles.values()])
        with sessions([model, *roles.values()]):
            yield Where(
                self.arm,
                model,
                self.context.folder.logs,
                _sampling(self.context, self.arm),
                self.system,
                roles,
                local,
                batched,
                watch,
                tuple(addresses(study, study.model(self.arm.model))),
            )

    @contextmanager
    def _watch(
        self, phase: str, batched: bool, prices: Mapping[str, Price | None], models: Sequence[Model],
        load: Callable[[], None] | None, samples: int,
    ) -> Iterator[Callable[[EvalLog], None]]:  # fmt: skip
        """Progress, money and tokens of one evaluation; loads what is to be asked first, where it is loaded by this process."""
        from consciousness_cluster.engine.budget import watching
        from consciousness_cluster.engine.progress import counting

        if load is not None:
            load()
        bank = self.context.bank if self.context.bank is None else replace(self.context.bank, batch=batched)
        with counting(samples, self.report, phase), watching(bank, prices, models) as money:
            try:
                yield partial(self._note, bank, prices)
            finally:
                if money is not None:
                    self._unanswered(money)
        if money is not None and money.stopped is not None:
            raise money.stopped

    def _batch(self, model: str) -> int | None:
        """Calls to a batch of a model; None where its provider has no batch mode."""
        bank = self.context.bank
        return BATCH if bank is not None and bank.registry.batches(model) else None

    def _prices(self, helpers: Mapping[str, Helper]) -> dict[str, Price | None]:
        """Prices by Inspect name of the arm's own target (a checkpoint's name does not say of what it is one) and of its helpers."""
        if self.context.bank is None:
            return {}
        registry, own = self.context.bank.registry, self.context.study.model(self.arm.model).model
        found = {target(unlisted(name, args), None).name: registry.price(name) for name, args in helpers.values()}
        return found | {self.at.name: registry.tuned_price(own) if self.trained else registry.price(own)}

    def _unanswered(self, money: Watch) -> None:
        """Put into the ledger what stays spent on calls that may be billed and brought no answer."""
        ledger = Ledger(self.context.folder.ledger)
        try:
            for name, dollars in money.unanswered.items():
                ledger.spend("unanswered", name, (0, 0), dollars, self.arm.id)
        finally:
            ledger.close()

    def _note(self, bank: Bank | None, prices: Mapping[str, Price | None], log: EvalLog) -> None:
        """Put into the ledger what an evaluation used, at once: an arm that fails later was billed for it all the same."""
        from consciousness_cluster.engine.budget import cost, sent

        ledger = Ledger(self.context.folder.ledger)
        try:
            for name, used in log.stats.model_usage.items():
                dollars = 0.0 if bank is None else cost(bank, prices, name, used)
                ledger.spend("evaluate", name, (sent(used), used.output_tokens), dollars, self.arm.id)
        finally:
            ledger.close()


def run_arm(context: Context, arm: Arm, report: Report) -> Done:
    """Bring one arm to its end, from wherever an earlier run left it."""
    started = time.monotonic()
    trained = train_arm(context, arm, report)
    entry = context.study.model(arm.model)
    at = target(entry, trained, _lora_rank(context, entry))
    asking = _Asking(
        context, arm, at, system_of(context.conditions, context.conditions[arm.condition]), trained is not None, report
    )
    try:
        failed, why = _ask(asking)
    finally:
        if entry.sampler == "vllm" and recipe_of(context.study, entry).method == "full":
            from consciousness_cluster.sampling.vllm import close_server

            close_server(at.args["base"])  # the next arm has other weights, and no room for them beside these
    return Done(arm, arm_content(context, arm), time.monotonic() - started, failed, "; ".join(why))


def _ask(asking: _Asking) -> tuple[int, list[str]]:
    """Put the questions and every part; how much could not be asked, and why."""
    count, first = _ask_questions(asking)
    failed = {"questions": count}
    broken: list[str] = []
    for part in parts_of(asking.context.study):
        try:
            failed[part.name] = _ask_part(asking, part)
        except EvaluateError as problem:  # what one part lacks is no reason to leave out the others
            broken.append(f"{part.name}: {problem}")
    why = [f"{count} of the {name} could not be asked" for name, count in failed.items() if count]
    why = [f"{why[0]} ({first})", *why[1:]] if first else why
    return sum(failed.values()) + len(broken), [*why, *broken]


def _lora_rank(context: Context, entry: ModelEntry) -> int | None:
    """The rank of the adapters of a model's arms; None where none has an adapter."""
    if not any(condition.trained and entry.takes(condition.name) for condition in context.conditions.values()):
        return None
    recipe = recipe_of(context.study, entry)
    return recipe.rank if recipe.method == "lora" else None


def train_alone(context: Context, arm: Arm, report: Report) -> Done:
    """The fine-tune of one arm, in a worker; nothing is asked."""
    started = time.monotonic()
    train_arm(context, arm, report)
    return Done(arm, "", time.monotonic() - started, 0)


def _ask_questions(asking: _Asking) -> tuple[int, str]:
    """The single questions; leaves the arm's answers and says how many items failed, and why the first of them."""
    from consciousness_cluster.evaluate.preferences import preferences_task, sample
    from consciousness_cluster.judge.judgement import judged

    context, study, arm = asking.context, asking.context.study, asking.arm
    judge = make_judge(study.judge.protocol, context.battery)
    content = answers_content(context, arm, asking.at.name)

    def make(some: Sequence[Sample]) -> Task:
        wanted = {str(entry.id) for entry in some}
        return preferences_task(
            [question for question in context.asked if question.item in wanted], judged(judge), answers=study.battery.answers,
            sampling=_sampling(context, arm), system=asking.system, metadata={"study": study.name, "judge": judge.name},
        )  # fmt: skip

    samples = [sample(question, asking.system) for question in context.asked]
    with asking.where("ask", judge_of(study), batched=study.sampling.batch) as where:
        entries = put("", samples, make, where, content)
    rows: list[dict[str, Any]] = []
    for entry in entries:
        rows += answer_rows([entry.sample], arm, context.battery, study.battery.answers, entry.log, asking.system)
    with whole_file(context.folder.arm(arm) / ROWS) as part:
        frame(rows).to_parquet(part)
    failed = [entry.sample for entry in entries if not good(entry.sample)]
    return len(failed), why_failed(failed[0]) if failed else ""


def _ask_part(asking: _Asking, part: Part) -> int:
    """One part; leaves its tables, whole or not at all, and says how many samples failed."""
    context, place = asking.context, asking.context.folder.arm(asking.arm)
    files = {table: place / f"{table}.parquet" for table in part.tables}
    for file in files.values():
        file.unlink(missing_ok=True)  # rows of other settings are no rows of these
    batched = context.study.sampling.batch and not part.talks
    with asking.where(part.name, part.helpers(context.study), batched=batched) as where:
        found = part.ask(context.scope, where)
    for table, file in files.items():
        if found[table]:
            with whole_file(file) as at:
                part_frame(found[table]).to_parquet(at)
    return failed_samples(row for rows in found.values() for row in rows)


def has_rows(context: Context, arm: Arm) -> bool:
    """Whether everything that a finished arm leaves is there."""
    names = [ROWS, *(f"{part.tables[0]}.parquet" for part in parts_of(context.study))]
    return all((context.folder.arm(arm) / name).is_file() for name in names)


def _sampling(context: Context, arm: Arm) -> SamplingEntry:
    """How an arm's answers are drawn: as the study says of its model, by a stream of random numbers that is the arm's own."""
    given = context.study.sampling_of(arm.model)
    return given.model_copy(update={"seed": stream(given.seed, arm.id)})


def _settings(context: Context, arm: Arm, judge: Judge) -> list[Any]:
    """All that decides an arm's answers and verdicts, but for its weights and the questions."""
    study = context.study
    # A service draws by its own means: what it answered before arms had streams of their own is as good, and not paid for again.
    drawn = _sampling(context, arm) if is_local(study.model(arm.model)) else study.sampling_of(arm.model)
    system = system_of(context.conditions, context.conditions[arm.condition])
    return [study.battery.answers, drawn, judge.name, study.judge, system]


def answers_content(context: Context, arm: Arm, name: str) -> str:
    """Identity of all that decides an arm's answers to the single questions and their verdicts; `name` is that of what is asked."""
    return content_hash(_settings(context, arm, make_judge(context.study.judge.protocol, context.battery)), name)


def arm_content(context: Context, arm: Arm, chosen: Sequence[Part] | None = None) -> str:
    """Identity of all that decides an arm: questions, settings, judge, base weights, rows and recipe, back to its first parent.

    It is known before anything is trained; a finished arm counts as finished only while it has not changed.

    Args:
        context: what arms share.
        arm: the arm.
        chosen: the parts that it is asked; those of the study where left out.
    """
    entry = context.study.model(arm.model)
    parts = [
        list(context.asked),
        _settings(context, arm, make_judge(context.study.judge.protocol, context.battery)),
        weights_identity(base_of(entry)),
        entry.model_dump(
            mode="json", exclude={"conditions"} | (set() if entry.sampler else {"sampler"})
        ),  # as arms of before them
        *(
            [part.name, part.helpers(context.study), part.content(context.scope)]
            for part in (parts_of(context.study) if chosen is None else chosen)
        ),
    ]
    if moved := addresses(context.study, entry):
        parts.append(moved)
    at: Arm | None = arm
    while at is not None:
        if context.conditions[at.condition].trained and at.seed is not None:
            rows = digest(read_rows(context.folder.rows(at.condition, at.seed)))
            parts.append([rows, recipe_of(context.study, entry), at.seed])
        at = parent_of(context, at)
    return content_hash(*parts)


def has_training_rows(context: Context, arm: Arm) -> bool:
    """Whether the rows that the arm and its parents train on are in the run's folder, so that its content can be told."""
    at: Arm | None = arm
    while at is not None:
        trained = context.conditions[at.condition].trained and at.seed is not None
        if trained and not context.folder.rows(at.condition, at.seed or 0).is_file():
            return False
        at = parent_of(context, at)
    return True


def system_of(conditions: Mapping[str, Condition], condition: Condition) -> str | None:
    """The condition's own system prompt, or the one of the condition it starts from."""
    at: Condition | None = condition
    while at is not None:
        if at.system is not None:
            return at.system
        at = conditions[at.after] if at.after else None
    return None


def train_arm(context: Context, arm: Arm, report: Report) -> Trained | None:
    """The fine-tune of an arm, made if it is not there; None for an arm whose condition trains nothing.

    Raises:
        EngineError: the arm has no seed.
        TrainError: it cannot be made.
    """
    condition = context.conditions[arm.condition]
    parent = parent_of(context, arm)
    if not condition.trained:
        return None if parent is None else train_arm(context, parent, report)
    if arm.seed is None:
        raise EngineError("an arm that is trained needs a seed", key=arm.id)
    start = train_arm(context, parent, report) if parent is not None else None
    entry = context.study.model(arm.model)
    job = _job(context, arm, arm.seed, start)
    kept = load_record(context.folder.arm(arm), job.tag)
    if kept is not None:
        return kept
    backend = make_backend(backend_of(entry), context.folder.ledger, entry.args)
    return _paid_training(context, entry, job, partial(backend.train, job, lambda step, steps: report("train", step, steps)))


def _job(context: Context, arm: Arm, seed: int, start: Trained | None) -> TrainingJob:
    """What is to be trained; its tag names all that decides the weights."""
    entry = context.study.model(arm.model)
    recipe = recipe_of(context.study, entry)
    rows = read_rows(context.folder.rows(arm.condition, seed))
    before = None if start is None else start.adapter or start.weights or start.remote
    base = base_of(entry)
    rendered = [entry.template_args] if entry.template_args else []  # so that fine-tunes of models without keep their names
    moved = trained_at(entry)
    tag = content_hash(
        weights_identity(base), digest(rows), recipe, seed, start.tag if start else None, *rendered, *([moved] if moved else [])
    )
    return TrainingJob(base, rows, recipe, seed, context.folder.arm(arm), tag, before, entry.template_args)


def is_trained(context: Context, arm: Arm) -> bool:
    """Whether an arm's fine-tune is there, made of what the study says now; true where there is nothing to train."""
    if not context.conditions[arm.condition].trained:
        parent = parent_of(context, arm)
        return parent is None or is_trained(context, parent)
    return _record(context, arm) is not None


def counted_at(context: Context, arm: Arm, helpers: Mapping[str, Helper], counting: Count) -> Where:
    """An arm as it would be asked, for counting what its logs lack; no model is reached. Its fine-tune must be there."""
    from inspect_ai.model import GenerateConfig

    entry, at = context.study.model(arm.model), arm
    while not context.conditions[at.condition].trained and (parent := parent_of(context, at)) is not None:
        at = parent
    made = _record(context, at) if context.conditions[at.condition].trained else None
    model = Named(target(entry, made, _lora_rank(context, entry)).name, GenerateConfig())
    roles = {role: cast("Model", named(name, args)) for role, (name, args) in helpers.items()}
    system = system_of(context.conditions, context.conditions[arm.condition])
    at_home = tuple(addresses(context.study, entry))
    return Where(
        arm, cast("Model", model), context.folder.logs, _sampling(context, arm), system, roles, addresses=at_home, counting=counting,
    )  # fmt: skip


def _record(context: Context, arm: Arm) -> Trained | None:
    """The record of a trained arm's fine-tune, if an earlier run left it."""
    parent = parent_of(context, arm)
    start = None
    if parent is not None and context.conditions[parent.condition].trained:
        start = _record(context, parent)
        if start is None:
            return None
    if arm.seed is None:
        raise EngineError("an arm that is trained needs a seed", key=arm.id)
    return load_record(context.folder.arm(arm), _job(context, arm, arm.seed, start).tag)


def _paid_training(context: Context, entry: ModelEntry, job: TrainingJob, train: Callable[[Pay], Trained]) -> Trained:
    """Train, with the price of every job at a service set aside before it is asked for, and what was billed in the ledger.

    It is given back only where the service made no job. One that came to nothing and is made again stays paid for at its worst
    price, since nobody says what the service billed for it. Where the price is not known the ledger has the tokens alone.

    Raises:
        BudgetError: with it the budget would be passed.
    """
    if trains_here(entry):
        return train(unpaid)
    from consciousness_cluster.engine.tokens import most_tokens, row_tokens

    bank, book = context.bank, JobBook(context.folder.ledger)
    price = None if bank is None else bank.registry.price(entry.model)
    registry = None if bank is None else bank.registry
    guess = row_tokens(tokenizer_source(entry, registry), job.rows, job.recipe, job.template_args).billed
    most = guess.high if guess.exact else most_tokens(job.rows, job.recipe)
    each = None if price is None or price.train is None else price.train / 1e6
    billed = guess.expected  # of the job asked for last, until its record says more

    def what(number: int) -> str:
        return f"training {job.tag}" + (f", job {number}" if number > 1 else "")

    def pay(number: int) -> None:
        if bank is not None and each is not None:
            bank.reserve(what(number), most * each, once=True)

    try:
        record = train(pay)
        billed = record.billed_tokens or billed
        if bank is not None and each is not None:
            bank.pay(what(book.made(job.tag)), billed * each)
    except TrainError:
        if bank is not None:
            bank.withdraw(
                what(book.made(job.tag) + 1)
            )  # what was made may be billed, however it ended and whatever is known of it
        raise
    finally:
        made, ledger = book.made(job.tag), Ledger(context.folder.ledger)
        if made:
            paid = None if bank is None or each is None else bank.worth(what(1))
            ledger.trained(job.tag, entry.model, round((made - 1) * guess.expected + billed), paid)
        ledger.close()
    return record


def parent_of(context: Context, arm: Arm) -> Arm | None:
    """The arm that this one starts from, for chained conditions."""
    after = context.conditions[arm.condition].after
    if after is None:
        return None
    trained = context.conditions[after].trained or context.conditions[after].after is not None
    return Arm(arm.model, after, arm.seed if trained else None)
