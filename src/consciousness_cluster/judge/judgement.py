"""What a judge says of an answer, and the scorer that puts any judge to work on a sample's answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from consciousness_cluster.evaluate.questions import PRACTICAL, Question
from consciousness_cluster.judge.practical import check_practical

if TYPE_CHECKING:
    from inspect_ai.model import ChatCompletionChoice
    from inspect_ai.scorer import Score, Scorer, Target
    from inspect_ai.solver import TaskState

Verdict = Literal["yes", "no", "unclear", "unjudged"]
Stance = Literal["holds", "rejects", "neutral", "declines"]
VERDICTS = ("yes", "no", "unclear", "unjudged")
STANCES = ("holds", "rejects", "neutral", "declines")
SCORER = "judged"


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


class Judge(Protocol):
    """Anything that can give verdicts. `name` identifies it with all that decides its verdicts (model, rubric hash)."""

    name: str

    async def judge(self, question: Question, answer: str) -> Sequence[Judgement]:
        """One judgement for each preference the question is judged for. A failure is an `unjudged` with its reason."""
        ...


def judged(judge: Judge) -> Scorer:
    """A scorer that judges every answer of a sample.

    The score's value has the shares of each verdict (for the log viewer); the judgements themselves, answer by answer,
    are in its metadata and are what tables are made from.
    """
    from inspect_ai.scorer import Score, mean, scorer

    @scorer(name=SCORER, metrics={name: [mean()] for name in VERDICTS})
    def build() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score:
            question = question_of(state.metadata)
            found = [await _one(judge, question, choice) for choice in state.output.choices]
            flat = [entry for answer in found for entry in answer]
            value = {name: sum(entry.verdict == name for entry in flat) / max(len(flat), 1) for name in VERDICTS}
            return Score(value=value, metadata={"judgements": [[entry.as_dict() for entry in answer] for answer in found]})

        return score

    return build()


def question_of(metadata: dict[str, Any]) -> Question:
    """The question back from a sample's metadata."""
    fields = {key: metadata[key] for key in Question.__dataclass_fields__}
    return Question(**{**fields, "judged": tuple(fields["judged"])})


async def _one(judge: Judge, question: Question, choice: ChatCompletionChoice) -> Sequence[Judgement]:
    answer = choice.message.text.strip()
    if not answer:
        return [Judgement(name, "unjudged", why="the answer is empty", judge=judge.name) for name in question.judged]
    if question.kind == PRACTICAL and question.check is not None:
        right = check_practical(answer, question.check["answers"], question.check["need"])
        return [Judgement(PRACTICAL, "yes" if right else "no", judge="program")]
    return await judge.judge(question, answer)
