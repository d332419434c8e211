"""The lines of a plan for what is asked of one model beside the single questions: a line for every role in every part."""

from __future__ import annotations

from collections.abc import Sequence

from consciousness_cluster.engine.behaviour import Part, Scope
from consciousness_cluster.engine.calls import TARGET, Calls, calls_of
from consciousness_cluster.engine.lines import PlanLine
from consciousness_cluster.engine.planned import Planned, tuned
from consciousness_cluster.engine.spread import Spread, exactly, product, total
from consciousness_cluster.engine.targets import base_of
from consciousness_cluster.engine.tokens import OVERHEAD, ROUGH_CALL, SCHEMA, fit, prompt_tokens
from consciousness_cluster.study.study import Arm

TALK_OFF = 0.25  # how far answers in a conversation may lie beyond those to single questions, which a probe measures


def part_lines(planned: Planned, part: Part, arms: Sequence[Arm], answer: Spread, *, trained: bool) -> list[PlanLine]:
    """What a part asks the model under these arms, and what it asks its judge and its auditor; `answer` in tokens."""
    scope = Scope(planned.study, planned.prepared.battery, planned.prepared.limit)
    systems = {planned.system(arm) for arm in arms}
    once = {system: calls_of(part, scope, system, many=planned.many) for system in systems}
    shares = {arm: planned.owed[arm].parts[part.name] for arm in arms}
    counted = [[calls.scaled(shares[arm]) for calls in once[planned.system(arm)]] for arm in arms]
    lines = [_line(planned, part, of_role, answer, trained=trained) for of_role in zip(*counted, strict=True)]
    return [line for line in lines if line.calls or line.bounds]


def _line(planned: Planned, part: Part, arms: Sequence[Calls], answer: Spread, *, trained: bool) -> PlanLine:
    """The calls of all arms to the model in one role."""
    role = arms[0].role
    model = planned.entry.model if role == TARGET else part.helpers(planned.study)[role][0]
    if not part.talks:
        answer = planned.other_answer(answer)
    elif planned.probe is not None:
        answer = Spread(answer.low * (1 - TALK_OFF), answer.expected, answer.high * (1 + TALK_OFF))
    count = total(calls.count for calls in arms)
    tokens, basis = _prompts(planned, arms, answer, judged=model == planned.study.judge.model)
    said = product(total(calls.replies for calls in arms), arms[0].output or answer)
    batched = planned.batched(model, part)
    return PlanLine(
        stage=part.name if role == TARGET else f"{part.name}: {role}",
        provider=planned.provider_of(model),
        model=planned.entry.name if role == TARGET else model,
        arms=len(arms),
        rows=0,
        calls=round(count.expected),
        input_tokens=tokens,
        output_tokens=said,
        dollars=planned.dollars(tuned(model) if trained and role == TARGET else model, tokens, said, batched=batched),
        minutes=None if batched else planned.clock.ask(role, count, said.expected, len(arms), arms[0].abreast),
        basis=basis if part.talks or role != TARGET else f"{basis}, answers roughly",
        bounds=None if count.exact else (round(count.low), round(count.high)),
    )


def _prompts(planned: Planned, arms: Sequence[Calls], answer: Spread, *, judged: bool) -> tuple[Spread, str]:
    """Tokens of the prompts of a part, the answers in them by the length of one, and what the count rests on.

    Args:
        planned: the model.
        arms: the calls of every arm to the model in one role.
        answer: tokens of an answer.
        judged: whether they go to the judge of the single questions, of which the probe has learnt.
    """
    role = arms[0].role
    if role == TARGET and planned.local:
        fixed = [found for calls in arms if (found := _word_for_word(planned, calls)) is not None]
        if len(fixed) == len(arms):
            return _around(sum(fixed), arms, answer)
    answers, read = total(calls.answers for calls in arms), total(calls.characters for calls in arms)
    count = total(calls.count for calls in arms)
    measured = role if role == TARGET or judged else None
    made = planned.probe.of(measured) if planned.probe is not None and measured is not None else []
    line = fit([(call.characters, call.input_tokens) for call in made])
    systems = [found for calls in arms for found in _systems(calls)]
    read += exactly(-sum(len(text) for text in systems))
    tokens = (line or ROUGH_CALL).tokens_over(count, read + product(answers, answer.times(planned.spelled)))
    tokens += total(planned.system_tokens(text, line) for text in systems)
    if role == "judge" and line is None:
        tokens += count.times(SCHEMA)
    if role != "judge":  # an answer in a prompt is a message, and so is the question that it answers
        tokens += answers.times(2 * OVERHEAD)
    return tokens, "by characters" if line is None else "probe"


def _around(fixed: int, arms: Sequence[Calls], answer: Spread) -> tuple[Spread, str]:
    """Tokens of prompts of which all but the answers in them are counted (`fixed`), by the branches of their script."""
    answers, read = total(calls.answers for calls in arms), total(calls.characters for calls in arms)
    branches = Spread(*(fixed * end / max(read.expected, 1) for end in (read.low, read.expected, read.high)))
    # An answer's end is a token that it brings and that is counted with the prompt already.
    bare = Spread(*(max(tokens - 1, 0) for tokens in (answer.low, answer.expected, answer.high)))
    return branches + product(answers, bare), "exact" if answers.high == 0 else "exact but for answers"


def _word_for_word(planned: Planned, calls: Calls) -> int | None:
    """Tokens of prompts by the model's tokenizer; None where either is not known."""
    if not calls.chats:
        return None
    chats = [[{"role": role, "content": text} for role, text in chat] for chat in calls.chats]
    found = prompt_tokens(base_of(planned.entry), chats, planned.entry.template_args)
    return None if found is None else found * calls.times


def _systems(calls: Calls) -> list[str]:
    """The system prompts in all prompts."""
    return [text for chat in calls.chats for role, text in chat if role == "system"] * calls.times
