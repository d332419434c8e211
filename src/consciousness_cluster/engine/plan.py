"""What a study would do and cost, before it does anything: arms, rows, tokens, calls, dollars and minutes by stage and provider.

Calls are counted as the engine makes them, so that with no faults the calls made are the calls planned. Tokens are exact where
the model's tokenizer is on this machine, calibrated where a probe was made, and given as a wide range otherwise. A price that
the registry does not know is left out and named; nothing is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from consciousness_cluster.data.rows import Row
from consciousness_cluster.engine.arm import arm_content, has_training_rows, is_trained
from consciousness_cluster.engine.behaviour import Part, Scope, parts_of
from consciousness_cluster.engine.calls import TARGET, Calls, calls_of
from consciousness_cluster.engine.data import training_rows
from consciousness_cluster.engine.extras import check_installed
from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.engine.held import held_problems
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.minutes import Clock, whole_run
from consciousness_cluster.engine.probe import JUDGE, Call, Probe
from consciousness_cluster.engine.run import worker_count
from consciousness_cluster.engine.served import is_served, side_by_side
from consciousness_cluster.engine.targets import LOCAL, TINKER, backend_of, base_of, is_local, target, tokenizer_source
from consciousness_cluster.engine.tokens import (
    CHARACTERS,
    OVERHEAD,
    ROUGH_CALL,
    SCHEMA,
    Line,
    RowTokens,
    Spread,
    exactly,
    fit,
    prompt_tokens,
    row_tokens,
)
from consciousness_cluster.errors import ClusterError, EngineError
from consciousness_cluster.evaluate.preferences import returns_many
from consciousness_cluster.evaluate.questions import PRACTICAL
from consciousness_cluster.judge.judgement import AsksModel
from consciousness_cluster.judge.judges import make_judge
from consciousness_cluster.study.models import Price, Registry, environment, model_problems, model_warnings
from consciousness_cluster.study.study import Arm, ModelEntry
from consciousness_cluster.train.recipe import recipe_of

if TYPE_CHECKING:
    from consciousness_cluster.engine.run import Prepared

QUESTIONS = "questions"  # the single questions, among what an arm owes
UNASKED_OUTPUT = (0.1, 1 / 3, 1.0)  # shares of max_tokens that an answer may take where nothing was measured
JUDGE_OUTPUT = Spread(20, 60, 300)  # tokens of a verdict; the highest is what judges are allowed
PROBE_OFF = 0.10  # a measured mean length is trusted within this share
TALK_OFF = 0.25  # how far answers in a conversation may lie beyond those to single questions, which a probe measures
TRAINED_OFF = 0.25  # how far trained answers may lie beyond the lengths of vanilla answers and of the rows


@dataclass(frozen=True)
class PlanLine:
    """One stage at one provider for one model. `dollars` None: a price is not known; `minutes` None: nothing was measured.

    Minutes are those by which a run gets longer, with as many arms at a time as it has workers.

    A part beside the single questions is a stage by its own name; what it asks a judge or an auditor is named behind it.
    `bounds` are the least and most calls, where their number is not known beforehand.
    """

    stage: str
    provider: str
    model: str
    arms: int
    rows: int
    calls: int
    input_tokens: Spread
    output_tokens: Spread
    dollars: Spread | None
    minutes: Spread | None
    basis: str
    bounds: tuple[int, int] | None = None


@dataclass(frozen=True)
class Plan:
    """The whole plan. `left` arms are not finished yet; only they are in the lines."""

    study: str
    arms: int
    left: int
    questions: int
    answers: int
    lines: tuple[PlanLine, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def dollars(self) -> Spread:
        """What the priced lines come to."""
        total = exactly(0.0)
        for line in self.lines:
            total += line.dollars or exactly(0.0)
        return total

    @property
    def minutes(self) -> Spread | None:
        """What a run takes from its start to its report, but for `untimed`; None where nothing was measured."""
        return whole_run([line.minutes for line in self.lines])

    @property
    def untimed(self) -> list[str]:
        """Stages and models of which no minutes are known."""
        return [f"{line.stage} {line.model}" for line in self.lines if line.minutes is None]

    @property
    def unpriced(self) -> list[str]:
        """Stages and models whose price is not known."""
        return [f"{line.stage} {line.model}" for line in self.lines if line.dollars is None]

    def as_dict(self) -> dict[str, Any]:
        """For a program to read."""
        minutes = None if self.minutes is None else asdict(self.minutes)
        return {
            **asdict(self), "dollars": asdict(self.dollars), "unpriced": self.unpriced, "minutes": minutes, "untimed": self.untimed,
        }  # fmt: skip


def make_plan(prepared: Prepared, folder: RunFolder | None, today: date, probes: Mapping[str, Probe] | None = None) -> Plan:
    """Plan what of a study is not yet done.

    Args:
        prepared: the study.
        folder: its output folder, if a run began there.
        today: the day by which models are checked.
        probes: what `probe` measured, by model.
    """
    owed = _owed(prepared, folder)
    left = [arm for arm in prepared.arms if owed[arm]]
    lines: list[PlanLine] = []
    for entry in prepared.study.models:
        own = {arm: owed[arm] for arm in left if arm.model == entry.name}
        if own:
            probe = (probes or {}).get(entry.name)
            clock = _clock(prepared, entry, left, probe)
            lines += _Model(prepared, entry, own, folder, probe, clock).lines()
    trains = any(condition.trained for condition in prepared.conditions.values())
    problems: list[ClusterError] = [*model_problems(prepared.study, today, prepared.registry, environment(), trains=trains)]
    try:
        check_installed(prepared.study, trains=trains)
    except EngineError as problem:
        problems.append(problem)
    problems += held_problems(prepared.study, trains=trains)
    return Plan(
        study=prepared.study.name,
        arms=len(prepared.arms),
        left=len(left),
        questions=len(prepared.asked),
        answers=prepared.study.battery.answers,
        lines=tuple(lines),
        problems=tuple(str(problem) for problem in problems),
        warnings=tuple(model_warnings(prepared.study, today, prepared.registry, trains=trains)),
    )


def _owed(prepared: Prepared, folder: RunFolder | None) -> dict[Arm, set[str]]:
    """What is left to ask of every arm: `QUESTIONS` and names of parts.

    A finished arm whose content is the present one owes nothing. One that lacks the tables of parts switched on since owes
    those parts; one that changed in another way owes everything.
    """
    parts = parts_of(prepared.study)
    everything = {QUESTIONS, *(part.name for part in parts)}
    owed = {arm: set(everything) for arm in prepared.arms}
    if folder is None or not folder.ledger.is_file():
        return owed
    ledger = Ledger(folder.ledger)
    noted = ledger.arms()
    ledger.close()
    context = prepared.context(folder)
    for arm in prepared.arms:
        content, status, _ = noted.get(arm.id, ("", "", None))
        if status == "finished" and has_training_rows(context, arm):
            missing = {part.name for part in parts if not (folder.arm(arm) / f"{part.tables[0]}.parquet").is_file()}
            if missing or arm_content(context, arm) == content:
                owed[arm] = missing
    return owed


def _clock(prepared: Prepared, entry: ModelEntry, left: Sequence[Arm], probe: Probe | None) -> Clock:
    """What the minutes of a model go by: as many arms at a time as a run takes, of those that it brings to their end together.

    Arms behind a server are fine-tuned with those of all such models, and asked with those of their own model alone.
    """
    workers, served = worker_count(prepared.study), is_served(entry)
    alike = [arm for arm in left if is_served(prepared.study.model(arm.model)) == served]
    asked = [arm for arm in alike if arm.model == entry.name] if served else alike
    return Clock(
        base_of(entry) if is_local(entry) else None,
        max(min(side_by_side(entry, workers), len(asked)), 1),
        probe,
        max(min(workers, len(alike)), 1),
    )


class _Model:
    """The lines of one model."""

    def __init__(
        self,
        prepared: Prepared,
        entry: ModelEntry,
        owed: Mapping[Arm, set[str]],
        folder: RunFolder | None,
        probe: Probe | None,
        clock: Clock,
    ) -> None:
        self._prepared = prepared
        self._study = prepared.study
        self._entry = entry
        self._owed = owed
        self._arms = tuple(owed)
        self._folder = folder
        self._probe = probe
        self._clock = clock
        self._registry: Registry = prepared.registry
        self._local = is_local(entry)
        self._rows: dict[Arm, RowTokens] = {}

    def lines(self) -> list[PlanLine]:
        """Training, asking and judging; untrained and trained arms apart, since their prices and lengths differ."""
        found = self._train()
        for trained in (False, True):
            arms = [arm for arm in self._arms if self._trained(arm) == trained]
            if not arms:
                continue
            output = self._output(arms, trained)
            asked = [arm for arm in arms if QUESTIONS in self._owed[arm]]
            if asked:
                found.append(self._evaluate(asked, trained, output))
                found += self._judge(asked, output)
            for part in parts_of(self._study):
                found += self._part(part, [arm for arm in arms if part.name in self._owed[arm]], trained, output)
        return found

    def _part(self, part: Part, arms: Sequence[Arm], trained: bool, output: Spread) -> list[PlanLine]:
        """What a part asks the model under test, and what it asks its judge and its auditor."""
        scope = Scope(self._study, self._prepared.battery, self._prepared.limit)
        systems = {self._system(arm) for arm in arms}
        once = {system: calls_of(part, scope, system, many=self._many()) for system in systems}
        counted = [once[self._system(arm)] for arm in arms]
        lines = [self._part_line(part, of_role, trained, output) for of_role in zip(*counted, strict=True)]
        return [line for line in lines if line.calls or line.bounds]

    def _part_line(self, part: Part, arms: Sequence[Calls], trained: bool, output: Spread) -> PlanLine:
        """The calls of all arms to the model in one role."""
        role = arms[0].role
        model = self._entry.model if role == TARGET else part.helpers(self._study)[role][0]
        if part.talks and self._probe is not None:
            output = Spread(output.low * (1 - TALK_OFF), output.expected, output.high * (1 + TALK_OFF))
        count = _sum(calls.count for calls in arms)
        tokens, basis = self._part_input(arms, output, judged=model == self._study.judge.model)
        out = _product(_sum(calls.replies for calls in arms), arms[0].output or output)
        batched = self._study.sampling.batch and not part.talks
        minutes = None if batched else self._clock.ask(role, count, out.expected, len(arms), arms[0].abreast)
        return PlanLine(
            stage=part.name if role == TARGET else f"{part.name}: {role}",
            provider=self._provider_of(model),
            model=self._entry.name if role == TARGET else model,
            arms=len(arms),
            rows=0,
            calls=round(count.expected),
            input_tokens=tokens,
            output_tokens=out,
            dollars=self._dollars(_tuned(model) if trained and role == TARGET else model, tokens, out, batched=batched),
            minutes=minutes,
            basis=basis,
            bounds=None if count.exact else (round(count.low), round(count.high)),
        )

    def _part_input(self, arms: Sequence[Calls], output: Spread, *, judged: bool) -> tuple[Spread, str]:
        """Tokens of the prompts of a part, the answers in them by the length of one, and what the count rests on.

        Args:
            arms: the calls of every arm to the model in one role.
            output: tokens of an answer.
            judged: whether they go to the judge of the single questions, of which the probe has learnt.
        """
        role, answers = arms[0].role, _sum(calls.answers for calls in arms)
        read, count = _sum(calls.characters for calls in arms), _sum(calls.count for calls in arms)
        if role == TARGET and self._local:
            fixed = [found for calls in arms if (found := self._word_for_word(calls)) is not None]
            if len(fixed) == len(arms):
                exact = _sum(exactly(tokens) for tokens in fixed)
                branches = Spread(
                    *(exact.expected * end / max(read.expected, 1) for end in (read.low, read.expected, read.high))
                )
                # An answer's end is a token that it brings and that is counted with the prompt already.
                bare = Spread(*(max(tokens - 1, 0) for tokens in (output.low, output.expected, output.high)))
                return branches + _product(answers, bare), "exact" if answers.high == 0 else "exact but for answers"
        measured = role if role == TARGET or judged else None
        made = self._probe.of(measured) if self._probe is not None and measured is not None else []
        line = fit([(call.characters, call.input_tokens) for call in made])
        tokens = _over(line or ROUGH_CALL, count, read + _product(answers, output.times(_spelled(self._probe))))
        if role == "judge" and line is None:
            tokens += count.times(SCHEMA)
        if role != "judge":  # an answer in a prompt is a message, and so is the question that it answers
            tokens += answers.times(2 * OVERHEAD) + exactly(OVERHEAD * sum(_systems(calls) for calls in arms))
        return tokens, "by characters" if line is None else "probe"

    def _word_for_word(self, calls: Calls) -> int | None:
        """Tokens of prompts by the model's tokenizer; None where either is not known."""
        if not calls.chats:
            return None
        chats = [[{"role": role, "content": text} for role, text in chat] for chat in calls.chats]
        found = prompt_tokens(base_of(self._entry), chats, self._entry.template_args)
        return None if found is None else found * calls.times

    def _many(self) -> bool:
        """Whether the model's provider returns several answers to one prompt."""
        return self._local or returns_many(target(self._entry, None).name)

    def _ours(self) -> bool:
        """Whether the model's prompts are rendered on this machine."""
        return self._local or (self._entry.model.startswith(TINKER) and bool(self._entry.template_args))

    def _trained(self, arm: Arm) -> bool:
        """Whether the arm asks a fine-tune, its own or that of the condition it starts from."""
        condition = self._prepared.conditions[arm.condition]
        while not condition.trained and condition.after is not None:
            condition = self._prepared.conditions[condition.after]
        return condition.trained

    def _train(self) -> list[PlanLine]:
        arms = [arm for arm in self._arms if self._prepared.conditions[arm.condition].rows is not None]
        counts: dict[Arm, int] = {}
        for arm in arms:
            mixed = self._training_rows(arm)
            counts[arm] = len(mixed)
            self._rows[arm] = row_tokens(
                self._tokenizer(), mixed, recipe_of(self._study, self._entry), self._entry.template_args
            )
        owed = [arm for arm in arms if not self._is_trained(arm)]
        if not owed:
            return []
        billed = _sum(self._rows[arm].billed for arm in owed)
        trained = _sum(self._rows[arm].trained for arm in owed)
        backend = backend_of(self._entry)
        facts = self._registry.find(self._entry.model)
        price = facts.price.train if facts is not None and facts.price is not None else None
        dollars = exactly(0.0) if backend == "local" else None if price is None else billed.times(price / 1e6)
        rows = sum(counts[arm] for arm in owed)
        basis = "exact" if billed.exact else "by characters"
        minutes = self._clock.train(billed.expected) if backend == "local" else None
        return [PlanLine("train", backend, self._entry.name, len(owed), rows, 0, billed, trained, dollars, minutes, basis)]

    def _is_trained(self, arm: Arm) -> bool:
        """Whether the fine-tune that a run would make is there: one of other rows or another recipe is made again."""
        if self._folder is None:
            return False
        context = self._prepared.context(self._folder)
        return has_training_rows(context, arm) and is_trained(context, arm)

    def _tokenizer(self) -> str | None:
        """What names the model's tokenizer, for models whose tokenizer may be on this machine."""
        return tokenizer_source(self._entry, self._registry)

    def _training_rows(self, arm: Arm) -> list[Row]:
        condition = self._prepared.conditions[arm.condition]
        return [] if arm.seed is None else training_rows(self._study, condition, arm.seed, self._folder)

    def _evaluate(self, arms: Sequence[Arm], trained: bool, output: Spread) -> PlanLine:
        answers, asked = self._study.battery.answers, self._prepared.asked
        calls_each = 1 if self._many() else answers
        calls = len(arms) * len(asked) * calls_each
        tokens, basis = self._input(arms)
        tokens = tokens.times(calls_each)
        out = output.times(len(arms) * len(asked) * answers)
        dollars = self._dollars(_tuned(self._entry.model) if trained else self._entry.model, tokens, out)
        batched = self._study.sampling.batch
        minutes = None if batched else self._clock.ask(TARGET, exactly(calls), out.expected, len(arms), len(asked) * calls_each)
        return PlanLine(
            "evaluate",
            self._provider_of(self._entry.model),
            self._entry.name,
            len(arms),
            0,
            calls,
            tokens,
            out,
            dollars,
            minutes,
            basis,
        )

    def _provider_of(self, model: str) -> str:
        facts = self._registry.find(model)
        return (
            facts.provider if facts is not None else "weights" if model.startswith(LOCAL) else model.split("/", maxsplit=1)[0]
        )

    def _input(self, arms: Sequence[Arm]) -> tuple[Spread, str]:
        """Tokens of all prompts, each once, and what the count rests on."""
        total, basis, tokenizer = exactly(0.0), "exact", self._tokenizer()
        shared: dict[str | None, Spread] = {}  # arms with the same system prompt are sent the same
        for arm in arms:
            system = self._system(arm)
            if system in shared:
                total += shared[system]
                continue
            first = [{"role": "system", "content": system}] if system else []
            chats = [[*first, {"role": "user", "content": question.text}] for question in self._prepared.asked]
            counted = (
                prompt_tokens(tokenizer, chats, self._entry.template_args) if tokenizer is not None and self._ours() else None
            )
            if counted is not None:
                shared[system] = exactly(counted)
                total += shared[system]
                continue
            line = fit([(call.characters, call.input_tokens) for call in self._probe.of("")]) if self._probe else None
            basis = "by characters" if line is None else "probe"
            shared[system] = (line or ROUGH_CALL).tokens(len(chats), sum(len(m["content"]) for chat in chats for m in chat))
            total += shared[system]
        return total, basis

    def _system(self, arm: Arm) -> str | None:
        """The system prompt of an arm's condition, or of the condition it starts from."""
        at = self._prepared.conditions[arm.condition]
        while at.system is None and at.after is not None:
            at = self._prepared.conditions[at.after]
        return at.system

    def _output(self, arms: Sequence[Arm], trained: bool) -> Spread:
        """Tokens of one answer."""
        most = self._study.sampling_of(self._entry.name).max_tokens
        if self._probe is None:
            low, expected, high = (share * most for share in UNASKED_OUTPUT)
        else:
            low, expected, high = _measured([call.output_tokens / call.choices for call in self._probe.of("")])
        known = [self._rows[arm].answer for arm in arms if arm in self._rows]
        if trained and known:
            low, high = min(low, *known) * (1 - TRAINED_OFF), max(high, *known) * (1 + TRAINED_OFF)
            expected = expected if self._probe is not None else sum(known) / len(known)
        return Spread(min(low, most), min(expected, most), min(high, most))

    def _judge(self, arms: Sequence[Arm], output: Spread) -> list[PlanLine]:
        judge = make_judge(self._study.judge.protocol, self._prepared.battery)
        if not isinstance(judge, AsksModel) or self._study.judge.model is None:
            return []
        answers = self._study.battery.answers * len(arms)
        pairs = [
            (name, question) for question in self._prepared.asked if question.kind != PRACTICAL for name in question.judged
        ]
        calls = answers * len(pairs) * judge.calls_each
        bare = sum(len(judge.prompt(name, question, "")) for name, question in pairs) * answers
        made: list[Call] = self._probe.of(JUDGE) if self._probe else []
        line = fit([(call.characters, call.input_tokens) for call in made])
        tokens = (line or ROUGH_CALL).tokens_over(calls, exactly(bare) + output.times(_spelled(self._probe) * calls))
        if line is None:
            tokens += exactly(SCHEMA * calls)
        each = Spread(*_measured([call.output_tokens for call in made])) if made else JUDGE_OUTPUT
        out = each.times(calls)
        dollars = self._dollars(self._study.judge.model, tokens, out)
        provider = self._study.judge.model.split("/", maxsplit=1)[0]
        basis = "probe" if line is not None else "by characters"
        batched = self._study.sampling.batch
        minutes = (
            None if batched else self._clock.ask(JUDGE, exactly(calls), out.expected, len(arms), len(self._prepared.asked))
        )
        return [PlanLine("judge", provider, self._study.judge.model, len(arms), 0, calls, tokens, out, dollars, minutes, basis)]

    def _dollars(self, model: str, tokens: Spread, out: Spread, *, batched: bool | None = None) -> Spread | None:
        if self._registry.free(model):
            return exactly(0.0)
        price: Price | None = self._registry.price(model)
        if price is None or price.input is None or price.output is None:
            return None
        share = self._registry.batch_share(model) if (self._study.sampling.batch if batched is None else batched) else 1.0
        return tokens.times(price.input * share / 1e6) + out.times(price.output * share / 1e6)


def _tuned(model: str) -> str:
    """The name by which the registry prices a fine-tune of a model."""
    provider, _, name = model.partition("/")
    return f"{provider}/ft:{name}::" if provider == "openai" else model


def _sum(spreads: Any) -> Spread:
    total = exactly(0.0)
    for spread in spreads:
        total += spread
    return total


def _product(a: Spread, b: Spread) -> Spread:
    return Spread(a.low * b.low, a.expected * b.expected, a.high * b.high)


def _systems(calls: Calls) -> int:
    """System prompts in all prompts together."""
    return calls.times * sum(role == "system" for chat in calls.chats for role, _ in chat)


def _over(line: Line, calls: Spread, characters: Spread) -> Spread:
    """Tokens of calls whose number and whose characters are both spread."""
    ends = zip((calls.low, calls.expected, calls.high), (characters.low, characters.expected, characters.high), strict=True)
    low, expected, high = (line.tokens(round(count), read) for count, read in ends)
    return Spread(low.low, expected.expected, high.high)


def _measured(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of what was measured, with two standard errors and at least a tenth to either side."""
    mean = sum(values) / len(values)
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1) / len(values))
    off = max(2 * error, PROBE_OFF * mean)
    return max(mean - off, 0.0), mean, mean + off


def _spelled(probe: Probe | None) -> float:
    """Characters of an answer's token."""
    calls = [] if probe is None else probe.of("")
    tokens = sum(call.output_tokens for call in calls)
    return sum(call.answer_characters for call in calls) / tokens if tokens else CHARACTERS
