"""How many calls the parts beside the single questions make for one arm, counted as the parts make them.

Interviews, cooperation and choices make a number that is known. Audits end when the auditor ends them, and the checks' data lie
at a hub, so those have a range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain

from consciousness_cluster.battery.tasks import OWN, CheckTask, Interview, Turn, load_audits, load_question_set
from consciousness_cluster.engine.behaviour import Audits, Checks, Choices, Cooperation, Interviews, Part, Scope, judge_of
from consciousness_cluster.engine.spread import Spread, exactly
from consciousness_cluster.evaluate.audit import PROMPTS, SPARE_TURNS, audit_samples
from consciousness_cluster.evaluate.checks import named_checks
from consciousness_cluster.evaluate.interview import MOST_TURNS, next_turns, turn_question
from consciousness_cluster.judge.audit import TOKENS, AuditJudge, describe
from consciousness_cluster.judge.judgement import AsksModel
from consciousness_cluster.judge.judges import make_judge
from consciousness_cluster.judge.quality import LanguageModelQuality
from consciousness_cluster.study.study import Study

USUAL_SHARE = 0.6  # of the turns that an audit may take
SAID = 300  # characters of an auditor's message
UNKNOWN_ITEM = 1500  # characters of a prompt of a check, to the model under test or to its judge, where none were counted
TARGET = ""  # the role of the model under test
VERDICT = Spread(20, 60, 300)  # tokens of a verdict; the highest is what judges are allowed
SCORES = Spread(0.2, 0.5, 1.0)  # share that a reply with scores takes of the tokens that it may have

THOUGHT = (0.1, 1 / 3)  # shares of the tokens that a reply may have which one takes, where it is allowed more for thinking

type Pick = Callable[[Sequence[Turn]], Turn]
type Chat = tuple[tuple[str, str], ...]  # role and text of its messages


@dataclass(frozen=True)
class Calls:
    """Calls to the model in one role.

    Attributes:
        role: `judge`, `auditor`, or empty for the model under test.
        count: how many.
        characters: of all prompts together, the answers in them left out; least and most go by the branches of a script.
        answers: how many answers stand in the prompts.
        replies: answers that the calls bring.
        output: tokens of one reply; None for an answer of the model under test.
        chats: the prompts word for word, on the usual way through a script, the answers in them empty; none where not known.
        times: how often each of them is sent.
        abreast: calls that can be under way at once.
    """

    role: str
    count: Spread
    characters: Spread
    answers: Spread
    replies: Spread
    output: Spread | None = None
    chats: tuple[Chat, ...] = ()
    times: int = 1
    abreast: int = 1

    def scaled(self, share: float) -> Calls:
        """A share of them; which ones is not told, so that their prompts are not known word for word."""
        if share == 1:
            return self
        numbers = {name: getattr(self, name).times(share) for name in ("count", "characters", "answers", "replies")}
        return replace(self, **numbers, chats=())


def calls_of(part: Part, scope: Scope, system: str | None, *, many: bool) -> list[Calls]:
    """The calls of a part for one arm.

    Args:
        part: one of `behaviour.PARTS`.
        scope: the study and what bounds it.
        system: the arm's system prompt, which every call to the model under test carries.
        many: whether the provider returns several answers to one prompt.
    """
    return COUNTS[type(part)](scope, system or "", many)


def _interviews(scope: Scope, system: str, many: bool) -> list[Calls]:
    entry, scripts = scope.study.battery, Interviews().scripts(scope)
    repeats = entry.interview_repeats
    asked = _total([span(script, lambda turn: 1) for script in scripts], repeats)
    memory = entry.interview_memory
    usual, least, most = (tuple(chain(*(_chats(script, pick, system, memory) for script in scripts))) for pick in WAYS)
    read = sum(role == "assistant" for chat in usual for role, _ in chat)
    held = len(scripts) * repeats
    characters = Spread(*(_written(chats) * repeats for chats in (least, usual, most)))
    found = [Calls(TARGET, asked, characters, exactly(read * repeats), asked, None, usual, repeats, held)]
    judge = make_judge(scope.study.judge.protocol, scope.battery)
    if isinstance(judge, AsksModel) and judge_of(scope.study):
        each = judge.calls_each
        count = _total([span(script, lambda turn: len(turn.judges) * each) for script in scripts], repeats)
        usual_told, *ends = (sum(_told(script, pick, judge) for script in scripts) * repeats for pick in WAYS)
        heard = sum(
            each * len(turn.judges) * place for script in scripts for place, turn in enumerate(_way(script, _first), start=1)
        )
        told = Spread(min(usual_told, *ends), usual_told, max(usual_told, *ends))
        found.append(Calls("judge", count, told, exactly(heard * repeats), count, verdict_of(scope.study), abreast=held))
    return found


def thoughtful(bare: Spread, room: int | None) -> Spread:
    """Tokens of a reply that has room for thinking before it; `bare` are those of the reply alone."""
    if room is None or room <= bare.high:
        return bare
    low, usual = THOUGHT
    return Spread(max(bare.low, low * room), max(bare.expected, usual * room), room)


def verdict_of(study: Study) -> Spread:
    """Tokens of a verdict by the study's judge."""
    return thoughtful(VERDICT, study.judge.max_tokens)


def _chats(script: Interview, pick: Pick, system: str, memory: int | None) -> list[Chat]:
    """What a script's questions are sent as on one way through it."""
    turns, first = _way(script, pick), ((("system", system),) if system else ())
    found: list[Chat] = []
    for place, turn in enumerate(turns):
        before = turns[:place] if memory is None else turns[max(0, place - memory) : place]
        earlier = chain(*((("user", other.text), ("assistant", "")) for other in before))
        found.append((*first, *earlier, ("user", turn.text)))
    return found


def _told(script: Interview, pick: Pick, judge: AsksModel) -> int:
    """Characters of what a judge is sent on one way through a script, without the answers."""
    turns, told = _way(script, pick), 0
    for place, turn in enumerate(turns):
        question = turn_question(script, turn, [(other.id, other.text, "") for other in turns[:place]])
        told += sum(len(prompt) for name in turn.judges for prompt in judge.prompts(name, question, ""))
    return told


def _cooperation(scope: Scope, system: str, many: bool) -> list[Calls]:
    tasks, answers = Cooperation().tasks(scope), scope.study.battery.cooperation_answers
    found = [_put([task.prompt for task in tasks], system, answers, many)]
    if scope.study.battery.cooperation_graded:
        told, count = sum(len(LanguageModelQuality().prompt(task, "")) for task in tasks), exactly(len(tasks) * answers)
        found.append(Calls("judge", count, exactly(told * answers), count, count, verdict_of(scope.study), abreast=len(tasks)))
    return found


def _choices(scope: Scope, system: str, many: bool) -> list[Calls]:
    return [_put([offer.prompt for offer in Choices().offers(scope)], system, scope.study.battery.choice_answers, many)]


def _put(prompts: Sequence[str], system: str, answers: int, many: bool) -> Calls:
    """Single questions, each answered `answers` times."""
    each = 1 if many else answers
    first = (("system", system),) if system else ()
    chats: tuple[Chat, ...] = tuple((*first, ("user", prompt)) for prompt in prompts)
    calls = len(prompts) * each
    return Calls(
        TARGET, exactly(calls), exactly(_written(chats) * each), exactly(0), exactly(len(prompts) * answers), None, chats, each, calls
    )  # fmt: skip


def _audits(scope: Scope, system: str, many: bool) -> list[Calls]:
    settings, judge = Audits().settings(scope), AuditJudge(load_audits(scope.battery.audits))
    samples = audit_samples(settings, scope.battery.audits)
    held, turns = len(samples), Spread(1, USUAL_SHARE * settings.turns, settings.turns)
    said, before = _each(turns, lambda n: n * (n + 1) / 2), _each(turns, lambda n: n * (n - 1) / 2)
    target = Calls(
        TARGET, turns.times(held), (turns.times(len(system)) + said.times(SAID)).times(held), before.times(held), turns.times(held),
        abreast=held,
    )  # fmt: skip
    steps = Spread(turns.low + 1, turns.expected + 1, turns.high + SPARE_TURNS)
    part = len((PROMPTS / "auditor.md").read_text(encoding="utf-8")) + sum(len(str(s.input)) for s in samples) / max(held, 1)
    auditor = Calls(
        "auditor", steps.times(held), (steps.times(part) + said.times(SAID)).times(held), said.times(held), steps.times(held),
        thoughtful(Spread(20, 80, 300), scope.study.audits.max_tokens), abreast=held,
    )  # fmt: skip
    names = len(judge.dimensions) if settings.matrix else 1
    rubric = sum(map(len, map(describe, judge.all))) * names / len(judge.dimensions)
    of_judge = scope.study.judge if scope.study.audits.judge is None else scope.study.audits
    once = Spread(held, held, 2 * held)  # what a first reply leaves out is asked for once more
    grading = Calls(
        "judge", once, once.times(rubric) + turns.times(SAID * held), turns.times(held), once,
        thoughtful(SCORES.times(TOKENS * names), of_judge.max_tokens), abreast=held,
    )  # fmt: skip
    return [target, auditor, grading]


def _checks(scope: Scope, system: str, many: bool) -> list[Calls]:
    asked = read = said = judged = shown = exactly(0.0)
    limit = Checks().items(scope)
    for task in (task for check in named_checks(scope.study.checks) for task in check.tasks):
        count, characters = _items(task, limit, many)
        graded = task.grader is not None or task.task.startswith(OWN)
        if graded and not judge_of(scope.study):
            continue  # it leaves a row that says so
        # One call brings all answers of an item.
        replies = count.times(task.epochs if many and task.task.startswith(OWN) else 1)
        asked, read, said = asked + count, read + characters + count.times(len(system)), said + replies
        if graded:
            judged, shown = judged + replies, shown + replies.times(task.characters or UNKNOWN_ITEM)
    items = max(round(asked.expected), 1)
    found = [Calls(TARGET, asked, read, exactly(0), said, abreast=items)]
    if judged.high:
        found.append(Calls("judge", judged, shown, judged, judged, verdict_of(scope.study), abreast=items))
    return found


def _items(task: CheckTask, limit: int | None, many: bool) -> tuple[Spread, Spread]:
    """Calls of a task and the characters of their prompts; none at all where its data cannot be had."""
    if task.task.startswith(OWN):
        items = load_question_set(task.task.partition(":")[2]).items[:limit]
        each = 1 if many else task.epochs
        return exactly(len(items) * each), exactly(sum(len(item.text) for item in items) * each)
    most = min(number for number in (task.size, task.limit, limit) if number is not None) * task.epochs
    return Spread(0, most, most), Spread(0, most, most).times(task.characters or UNKNOWN_ITEM)


COUNTS: dict[type, Callable[[Scope, str, bool], list[Calls]]] = {
    Interviews: _interviews, Cooperation: _cooperation, Choices: _choices, Audits: _audits, Checks: _checks,
}  # fmt: skip


def span(script: Interview, weigh: Callable[[Turn], int]) -> tuple[int, int]:
    """The least and most that a way through an interview weighs, whatever is answered."""

    @cache
    def ends(name: str, left: int) -> tuple[int, int]:
        turn = script.turn(name)
        weight = weigh(turn)
        after = [ends(other.id, left - 1) if other is not None and left > 1 else (0, 0) for other in next_turns(script, turn)]
        return weight + min(low for low, _ in after), weight + max(high for _, high in after)

    return ends(script.turns[0].id, MOST_TURNS)


def _first(turns: Sequence[Turn]) -> Turn:
    return turns[0]


def _shortest(turns: Sequence[Turn]) -> Turn:
    return min(turns, key=lambda turn: len(turn.text))


def _longest(turns: Sequence[Turn]) -> Turn:
    return max(turns, key=lambda turn: len(turn.text))


WAYS: tuple[Pick, ...] = (_first, _shortest, _longest)  # which turn is taken where several stand at one place


def _way(script: Interview, pick: Pick) -> list[Turn]:
    """The turns of a way through an interview: one at each place."""
    places: dict[str, list[Turn]] = {}
    for turn in script.turns:
        places.setdefault(turn.number, []).append(turn)
    return [pick(turns) for turns in places.values()]


def _written(chats: Sequence[Chat]) -> int:
    """Characters of prompts."""
    return sum(len(text) for chat in chats for _, text in chat)


def _total(spans: Sequence[tuple[int, int]], repeats: int) -> Spread:
    low, high = repeats * sum(least for least, _ in spans), repeats * sum(most for _, most in spans)
    return Spread(low, (low + high) / 2, high)


def _each(value: Spread, of: Callable[[float], float]) -> Spread:
    return Spread(of(value.low), of(value.expected), of(value.high))
