"""The lines of a plan for one model: its fine-tunes, the single questions, and their verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consciousness_cluster.engine.calls import TARGET, VERDICT
from consciousness_cluster.engine.planned import Planned, tuned
from consciousness_cluster.engine.probe import JUDGE, Call
from consciousness_cluster.engine.spread import Spread, exactly, mean_of, total
from consciousness_cluster.engine.targets import backend_of
from consciousness_cluster.engine.tokens import ROUGH_CALL, SCHEMA, fit, prompt_tokens
from consciousness_cluster.evaluate.questions import PRACTICAL
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
    backend = backend_of(planned.entry)
    facts = planned.prepared.registry.find(planned.entry.model)
    price = facts.price.train if facts is not None and facts.price is not None else None
    return [
        PlanLine(
            stage="train",
            provider=backend,
            model=planned.entry.name,
            arms=len(owed),
            rows=sum(count for count, _ in owed),
            calls=0,
            input_tokens=billed,
            output_tokens=trained,
            dollars=exactly(0.0) if backend == "local" else None if price is None else billed.times(price / 1e6),
            minutes=planned.clock.train(billed.expected) if backend == "local" else None,
            basis="exact" if billed.exact else "by characters",
        )
    ]


def question_line(planned: Planned, arms: Sequence[Arm], answer: Spread, *, trained: bool) -> PlanLine:
    """The single questions, put to the model under these arms; `answer` in tokens."""
    answers, asked, model = planned.study.battery.answers, len(planned.prepared.asked), planned.entry.model
    calls_each = 1 if planned.many else answers
    calls = len(arms) * asked * calls_each
    tokens, basis = _prompts(planned, arms)
    tokens, said = tokens.times(calls_each), answer.times(len(arms) * asked * answers)
    batched = planned.study.sampling.batch
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
        minutes=None if batched else planned.clock.ask(TARGET, exactly(calls), said.expected, len(arms), asked * calls_each),
        basis=basis,
    )


def _prompts(planned: Planned, arms: Sequence[Arm]) -> tuple[Spread, str]:
    """Tokens of all prompts, each once, and what the count rests on."""
    asked, tokenizer = planned.prepared.asked, planned.tokenizer
    line = fit([(call.characters, call.input_tokens) for call in planned.probe.of("")]) if planned.probe else None
    basis, shared = "exact", dict[str | None, Spread]()  # arms with the same system prompt are sent the same
    for system in {planned.system(arm) for arm in arms}:
        first = [{"role": "system", "content": system}] if system else []
        chats = [[*first, {"role": "user", "content": question.text}] for question in asked]
        counted = prompt_tokens(tokenizer, chats, planned.entry.template_args) if tokenizer and planned.ours else None
        if counted is None:
            basis = "by characters" if line is None else "probe"
            characters = sum(len(message["content"]) for chat in chats for message in chat)
            shared[system] = (line or ROUGH_CALL).tokens(len(chats), characters)
        else:
            shared[system] = exactly(counted)
    return total(shared[planned.system(arm)] for arm in arms), basis


def verdict_lines(planned: Planned, arms: Sequence[Arm], answer: Spread) -> list[PlanLine]:
    """The verdicts on the answers to the single questions, where a model gives them."""
    study, asked = planned.study, planned.prepared.asked
    judge = make_judge(study.judge.protocol, planned.prepared.battery)
    if not isinstance(judge, AsksModel) or study.judge.model is None:
        return []
    answers = study.battery.answers * len(arms)
    pairs = [(name, question) for question in asked if question.kind != PRACTICAL for name in question.judged]
    calls = answers * len(pairs) * judge.calls_each
    bare = sum(len(judge.prompt(name, question, "")) for name, question in pairs) * answers
    made: list[Call] = planned.probe.of(JUDGE) if planned.probe else []
    line = fit([(call.characters, call.input_tokens) for call in made])
    tokens = (line or ROUGH_CALL).tokens_over(exactly(calls), exactly(bare) + answer.times(planned.spelled * calls))
    if line is None:
        tokens += exactly(SCHEMA * calls)
    said = (mean_of([call.output_tokens for call in made]) if made else VERDICT).times(calls)
    batched = study.sampling.batch
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
            minutes=None if batched else planned.clock.ask(JUDGE, exactly(calls), said.expected, len(arms), len(asked)),
            basis="probe" if line is not None else "by characters",
        )
    ]
