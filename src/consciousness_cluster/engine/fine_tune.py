"""The fine-tune of an arm: made if it is not there, from that of the arm it starts from, and paid for where a service makes it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from consciousness_cluster.data.mix import digest
from consciousness_cluster.data.rows import read_rows
from consciousness_cluster.engine.addresses import trained_at
from consciousness_cluster.engine.context import Context, Report, parent_of
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.targets import (
    backend_of,
    base_of,
    tokenizer_source,
    trains_here,
    weights_identity,
)
from consciousness_cluster.errors import EngineError, TrainError
from consciousness_cluster.evaluate.questions import content_hash
from consciousness_cluster.study.study import Arm, ModelEntry
from consciousness_cluster.train.backend import Pay, Trained, TrainingJob, load_record, unpaid
from consciousness_cluster.train.backends import make_backend
from consciousness_cluster.train.jobs import JobBook
from consciousness_cluster.train.recipe import recipe_of


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
    job = job_of(context, arm, arm.seed, start)
    kept = load_record(context.folder.arm(arm), job.tag)
    if kept is not None:
        return kept
    backend = make_backend(backend_of(entry), context.folder.ledger, entry.args)
    return _paid_training(context, entry, job, partial(backend.train, job, lambda step, steps: report("train", step, steps)))


def is_trained(context: Context, arm: Arm) -> bool:
    """Whether an arm's fine-tune is there, made of what the study says now; true where there is nothing to train."""
    if not context.conditions[arm.condition].trained:
        parent = parent_of(context, arm)
        return parent is None or is_trained(context, parent)
    return record_of(context, arm) is not None


def job_of(context: Context, arm: Arm, seed: int, start: Trained | None) -> TrainingJob:
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


def record_of(context: Context, arm: Arm) -> Trained | None:
    """The record of a trained arm's fine-tune, if an earlier run left it."""
    parent = parent_of(context, arm)
    start = None
    if parent is not None and context.conditions[parent.condition].trained:
        start = record_of(context, parent)
        if start is None:
            return None
    if arm.seed is None:
        raise EngineError("an arm that is trained needs a seed", key=arm.id)
    return load_record(context.folder.arm(arm), job_of(context, arm, arm.seed, start).tag)


def lora_rank(context: Context, entry: ModelEntry) -> int | None:
    """The rank of the adapters of a model's arms; None where none has an adapter."""
    if not any(condition.trained and entry.takes(condition.name) for condition in context.conditions.values()):
        return None
    recipe = recipe_of(context.study, entry)
    return recipe.rank if recipe.method == "lora" else None


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
