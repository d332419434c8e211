"""One arm from start to finish: fine-tune it if its condition says so, ask it, judge it, leave its rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from consciousness_cluster.engine.addresses import addresses
from consciousness_cluster.engine.bank import Bank
from consciousness_cluster.engine.behaviour import Helper, Part, failed_samples, judge_of, part_frame, parts_of
from consciousness_cluster.engine.context import Context, Done, Report, drawn_by, parent_of, system_of
from consciousness_cluster.engine.fine_tune import lora_rank, record_of, train_arm
from consciousness_cluster.engine.folder import whole_file
from consciousness_cluster.engine.identity import answers_content, arm_content
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.rows import answer_rows, frame
from consciousness_cluster.engine.targets import (
    Named,
    Target,
    helper,
    is_local,
    named,
    patience,
    target,
    unlisted,
)
from consciousness_cluster.errors import EvaluateError
from consciousness_cluster.evaluate.questions import PRACTICAL
from consciousness_cluster.evaluate.running import Count, Where, good, put, why_failed
from consciousness_cluster.judge.judges import make_judge
from consciousness_cluster.study.models import Price
from consciousness_cluster.study.study import Arm
from consciousness_cluster.train.recipe import recipe_of

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.log import EvalLog
    from inspect_ai.model import Model

    from consciousness_cluster.engine.budget import Watch

ROWS = "answers.parquet"
BATCH = 1000  # calls to a batch, where a study asks for batch mode


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
                drawn_by(self.context, self.arm),
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
    at = target(entry, trained, lora_rank(context, entry))
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
            practical_answers=study.battery.practical_answers,
            sampling=drawn_by(context, arm), system=asking.system, metadata={"study": study.name, "judge": judge.name},
        )  # fmt: skip

    samples = [sample(question, asking.system) for question in context.asked]
    with asking.where("ask", judge_of(study), batched=study.sampling.batch) as where:
        entries = put("", samples, make, where, content)
    rows: list[dict[str, Any]] = []
    tasks = {question.item for question in context.asked if question.kind == PRACTICAL}
    for entry in entries:
        count = study.battery.answers_to(practical=entry.sample.id in tasks)
        rows += answer_rows([entry.sample], arm, context.battery, count, entry.log, asking.system)
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


def counted_at(context: Context, arm: Arm, helpers: Mapping[str, Helper], counting: Count) -> Where:
    """An arm as it would be asked, for counting what its logs lack; no model is reached. Its fine-tune must be there."""
    from inspect_ai.model import GenerateConfig

    entry, at = context.study.model(arm.model), arm
    while not context.conditions[at.condition].trained and (parent := parent_of(context, at)) is not None:
        at = parent
    made = record_of(context, at) if context.conditions[at.condition].trained else None
    model = Named(target(entry, made, lora_rank(context, entry)).name, GenerateConfig())
    roles = {role: cast("Model", named(name, args)) for role, (name, args) in helpers.items()}
    system = system_of(context.conditions, context.conditions[arm.condition])
    at_home = tuple(addresses(context.study, entry))
    return Where(
        arm, cast("Model", model), context.folder.logs, drawn_by(context, arm), system, roles, addresses=at_home, counting=counting,
    )  # fmt: skip
