"""The lines of a plan for one model: its fine-tunes, the single questions, and their verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from consciousness_cluster.engine.calls import TARGET, verdict_of
from consciousness_cluster.engine.planned import Planned, tuned
from consciousness_cluster.engine.probe import JUDGE, Call
from consciousness_cluster.engine.spread import Spread, exactly, mean_of, total
from consciousness_cluster.engine.targets import backend_of, trains_here
from consciousness_cluster.engine.tokens import ROUGH_CALL, SCHEMA, fit, prompt_tokens
from consciousness_cluster.evaluate.questions import PRACTICAL, Question
from consciousness_cluster.judge.judgement import AsksModel
from consciousness_cluster.judge.judges import make_judge
from consciousness_cluster.study.study import Arm


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


def train_lines(planned: Planned) -> list[PlanLine]:
    """The fine-tunes that are still to be made."""
    owed = [found for arm, found in planned.rows.items() if not planned.has_tune(arm)]
    if not owed:
        return []
    billed, trained = total(tokens.billed for _, tokens in owed), total(tokens.trained for _, tokens in owed)
    here = trains_here(planned.entry)
    facts = planned.prepared.registry.find(planned.entry.model)
    price = facts.price.train if facts is not None and facts.price is not None else None
    return [
        PlanLine(
            stage="train",
            provider=backend_of(planned.entry) or "nobody",
            model=planned.entry.name,
            arms=len(owed),
            rows=sum(count for count, _ in owed),
            calls=0,
            input_tokens=billed,
            output_tokens=trained,
            dollars=exactly(0.0) if here else None if price is None else billed.times(price / 1e6),
            minutes=planned.clock.train(billed.expected) if here else None,
            basis="exact" if billed.exact else "by characters",
        )
    ]


def question_line(planned: Planned, arms: Sequence[Arm], answer: Spread, *, trained: bool) -> PlanLine:
    """The single questions, put to the model under these arms; `answer` in tokens."""
    model = planned.entry.model
    answers = [sum(map(planned.answers_to, planned.owed[arm].questions)) for arm in arms]
    made = [len(planned.owed[arm].questions) for arm in arms] if planned.many else answers  # calls
    calls = sum(made)
    tokens, basis = _prompts(planned, arms)
    said = answer.times(sum(answers))
    batched = planned.batched(model)
    return PlanLine(
        stage="evaluate",
        provider=planned.provider_of(model),
        model=planned.entry.name,
        arms=len(arms),
        rows=0,
        calls=calls,
        input_tokens=tokens,
        output_tokens=said,
        dollars=planned.dollars(tuned(model) if trained else model, tokens, said, batched=batched),
        minutes=None if batched else planned.clock.ask(TARGET, exactly(calls), said.expected, len(arms), max(made)),
        basis=basis,
    )


def _prompts(planned: Planned, arms: Sequence[Arm]) -> tuple[Spread, str]:
    """Tokens of the prompts of all calls, and what the count rests on."""
    line = fit([(call.characters, call.input_tokens) for call in planned.probe.of("")]) if planned.probe else None
    found, basis = exactly(0.0), "exact"
    for alike, each, asked in _by_calls(planned, arms):
        systems = Counter(planned.system(arm) for arm in alike)  # arms with the same system prompt are sent the same
        for system, times in systems.items():
            counted = _counted(planned, asked, system)
            if counted is None:
                basis = "by characters" if line is None else "probe"
                bare = (line or ROUGH_CALL).tokens(len(asked), sum(len(question.text) for question in asked))
                counted = bare + planned.system_tokens(system, line).times(len(asked))
            found += counted.times(times * each)
    return found, basis


def _by_calls(planned: Planned, arms: Sequence[Arm]) -> Iterator[tuple[list[Arm], int, list[Question]]]:
    """Arms that are asked alike, with the questions that take as many calls each."""
    for alike, asked in planned.alike(arms):
        found: dict[int, list[Question]] = {}
        for question in asked:
            found.setdefault(1 if planned.many else planned.answers_to(question), []).append(question)
        yield from ((alike, each, some) for each, some in found.items())


def _counted(planned: Planned, asked: Sequence[Question], system: str | None) -> Spread | None:
    """Tokens of prompts by the model's tokenizer; None where it is not here, or the prompts are rendered elsewhere."""
    if not planned.tokenizer or not planned.ours:
        return None
    first = [{"role": "system", "content": system}] if system else []
    chats = [[*first, {"role": "user", "content": question.text}] for question in asked]
    counted = prompt_tokens(planned.tokenizer, chats, planned.entry.template_args)
    return None if counted is None else exactly(counted)


def verdict_lines(planned: Planned, arms: Sequence[Arm], answer: Spread) -> list[PlanLine]:
    """The verdicts on the answers to the single questions, where a model gives them."""
    study = planned.study
    judge = make_judge(study.judge.protocol, planned.prepared.battery)
    if not isinstance(judge, AsksModel) or study.judge.model is None:
        return []
    prompts = [  # to be sent after every answer of so many arms
        (prompt, len(alike))
        for alike, asked in planned.alike(arms)
        for question in asked
        if question.kind != PRACTICAL
        for name in question.judged
        for prompt in judge.prompts(name, question, "")
    ]
    if not prompts:
        return []
    calls = study.battery.answers * sum(times for _, times in prompts)
    bare = study.battery.answers * sum(len(prompt) * times for prompt, times in prompts)
    items = max(len(planned.owed[arm].questions) for arm in arms)
    made: list[Call] = planned.probe.of(JUDGE) if planned.probe else []
    line = fit([(call.characters, call.input_tokens) for call in made])
    tokens = (line or ROUGH_CALL).tokens_over(exactly(calls), exactly(bare) + answer.times(planned.spelled * calls))
    if line is None:
        tokens += exactly(SCHEMA * calls)
    said = (mean_of([call.output_tokens for call in made]) if made else verdict_of(study)).times(calls)
    batched = planned.batched(study.judge.model)
    return [
        PlanLine(
            stage="judge",
            provider=study.judge.model.split("/", maxsplit=1)[0],
            model=study.judge.model,
            arms=len(arms),
            rows=0,
            calls=calls,
            input_tokens=tokens,
            output_tokens=said,
            dollars=planned.dollars(study.judge.model, tokens, said, batched=batched),
            minutes=None if batched else planned.clock.ask(JUDGE, exactly(calls), said.expected, len(arms), items),
            basis="probe" if line is not None else "by characters",
        )
    ]
