"""What a judge says of an answer, and the scorer that puts any judge to work on a sample's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from consciousness_cluster.evaluate.questions import PRACTICAL, Question
from consciousness_cluster.judge.practical import check_practical

if TYPE_CHECKING:
    from inspect_ai.model import ChatCompletionChoice, Model
    from inspect_ai.scorer import Score, Scorer, Target
    from inspect_ai.solver import TaskState

Verdict = Literal["yes", "no", "unclear", "unjudged"]
Stance = Literal["holds", "rejects", "neutral", "declines"]
VERDICTS = ("yes", "no", "unclear", "unjudged")
STANCES = ("holds", "rejects", "neutral", "declines")
SCORER = "judged"
EMPTY = "the answer is empty"  # why nobody can judge it
Kept = Sequence[Sequence[dict[str, Any]]]  # judgements of a sample's answers, as `as_dict` gives them


@dataclass(frozen=True)
class Judgement:
    """One verdict on one answer for one preference. `why` says why an answer is unjudged; empty fields are None, never zero."""

    preference: str
    verdict: Verdict
    stance: Stance | None = None
    coherence: float | None = None
    why: str | None = None
    judge: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For a score's metadata."""
        return asdict(self)


def reply_room(model: Model, needed: int) -> int:
    """Tokens that a judge's reply may have: what it needs, or more where the study allows its model to think within them."""
    return max(needed, model.config.max_tokens or 0)


@runtime_checkable
class AsksModel(Protocol):
    """A judge that asks a model for its verdicts; `calls_each` is how many calls a verdict takes."""

    calls_each: int

    def prompts(self, preference: str, question: Question, answer: str) -> Sequence[str]:
        """What it asks about one answer: a prompt for each call that a verdict takes."""
        ...


class Judge(Protocol):
    """Anything that can give verdicts. `name` identifies it with all that decides its verdicts (model, rubric hash)."""

    name: str

    async def judge(self, question: Question, answer: str) -> Sequence[Judgement]:
        """One judgement for each preference the question is judged for. A failure is an `unjudged` with its reason."""
        ...


def judged(judge: Judge, kept: Mapping[str, Kept] | None = None) -> Scorer:
    """A scorer that judges every answer of a sample.

    The score's value has the shares of each verdict (for the log viewer); the judgements themselves, answer by answer,
    are in its metadata and are what tables are made from.

    Args:
        judge: the judge.
        kept: earlier judgements by sample id; their verdicts stay, only what is unjudged in them is asked for.
    """
    from inspect_ai.scorer import Score, mean, scorer

    @scorer(name=SCORER, metrics={name: [mean()] for name in VERDICTS})
    def build() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score:
            question = question_of(state.metadata)
            earlier: Kept = (kept or {}).get(str(state.sample_id), ())
            found = [
                await _one(judge, question, choice, earlier[place] if place < len(earlier) else ())
                for place, choice in enumerate(state.output.choices)
            ]
            flat = [entry for answer in found for entry in answer]
            value = {name: sum(entry.verdict == name for entry in flat) / max(len(flat), 1) for name in VERDICTS}
            return Score(value=value, metadata={"judgements": [[entry.as_dict() for entry in answer] for answer in found]})

        return score

    return build()


def question_of(metadata: dict[str, Any]) -> Question:
    """The question back from a sample's metadata."""
    fields = {key: metadata[key] for key in Question.__dataclass_fields__}
    return Question(**{**fields, "judged": tuple(fields["judged"])})


async def judge_left(judge: Judge, question: Question, answer: str, earlier: Sequence[dict[str, Any]]) -> Sequence[Judgement]:
    """Judgements of an answer: those of `earlier` that have a verdict stay, the judge is asked for the others."""
    known = {entry["preference"]: Judgement(**entry) for entry in earlier if entry["verdict"] != "unjudged"}
    left = tuple(name for name in question.judged if name not in known)
    new = await judge.judge(replace(question, judged=left), answer) if left else ()
    return [*(known[name] for name in question.judged if name in known), *new]


async def _one(
    judge: Judge, question: Question, choice: ChatCompletionChoice, earlier: Sequence[dict[str, Any]]
) -> Sequence[Judgement]:
    answer = choice.message.text.strip()
    if not answer:
        return [Judgement(name, "unjudged", why=EMPTY, judge=judge.name) for name in question.judged]
    if question.kind == PRACTICAL and question.check is not None:
        right = check_practical(answer, question.check["answers"], question.check["need"])
        return [Judgement(PRACTICAL, "yes" if right else "no", judge="program")]
    return await judge_left(judge, question, answer, earlier)
