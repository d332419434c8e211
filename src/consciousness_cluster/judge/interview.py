"""Judging interviews turn by turn with the same judges as single answers, and the table of what they said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from consciousness_cluster.battery.tasks import Interview
from consciousness_cluster.evaluate.interview import exchanges, turn_question
from consciousness_cluster.evaluate.running import Asked, good, why_failed
from consciousness_cluster.judge.judgement import EMPTY, VERDICTS, Judge, Judgement, judge_left
from consciousness_cluster.study.study import Arm

if TYPE_CHECKING:
    from inspect_ai.scorer import Score, Scorer, Target
    from inspect_ai.solver import TaskState

SCORER = "interviewed"
SHOWS = {"yes": True, "no": False, "unclear": False}  # the primary rule: unclear counts as no


def interviewed(judge: Judge, kept: Mapping[str, Sequence[dict[str, Any]]] | None = None) -> Scorer:
    """A scorer that judges every turn that is judged for something; the judgements are in the score's metadata.

    Args:
        judge: the judge.
        kept: earlier judgements by sample id, in the order of the turns; only what is unjudged in them is asked for.
    """
    from inspect_ai.scorer import Score, mean, scorer

    @scorer(name=SCORER, metrics={name: [mean()] for name in VERDICTS})
    def build() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score:
            interview = Interview.model_validate(state.metadata["interview"])
            found: list[dict[str, Any]] = []
            asked, earlier = exchanges(state.messages), iter((kept or {}).get(str(state.sample_id), ()))
            for place, (name, _, answer) in enumerate(asked):
                turn = interview.turn(name)
                question = turn_question(interview, turn, asked[:place])
                before = [_without_turn(entry) for entry in islice(earlier, len(turn.judges))]
                if turn.judges and answer:
                    said = await judge_left(judge, question, answer, before)
                else:
                    said = [Judgement(key, "unjudged", why=EMPTY, judge=judge.name) for key in turn.judges]
                found += [{"turn": name, **entry.as_dict()} for entry in said]
            value = {name: sum(entry["verdict"] == name for entry in found) / max(len(found), 1) for name in VERDICTS}
            return Score(value=value, metadata={"judgements": found, "turns": len(asked)})

        return score

    return build()


def _without_turn(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "turn"}


def interview_rows(asked: Iterable[Asked], arm: Arm) -> list[dict[str, Any]]:
    """Rows of the `interviews` table: one a turn and preference judged.

    `item` is the turn's place in its interview, which branches share. `shows` is true for `yes`, false for `no` and `unclear`,
    missing where unjudged. A conversation that broke off gives unjudged rows for every judged turn it was to have.
    """
    rows: list[dict[str, Any]] = []
    for entry in asked:
        interview = Interview.model_validate(entry.sample.metadata["interview"])
        common = {
            "model": arm.model, "condition": arm.condition, "seed": arm.seed, "arm": arm.id, "interview": interview.id,
            "repeat": entry.sample.metadata["repeat"], "log": entry.log, "sample_id": entry.sample.uuid or str(entry.sample.id),
        }  # fmt: skip
        rows += _judged(entry, interview, common) if good(entry.sample) else _broken(entry, interview, common)
    return rows


def _judged(entry: Asked, interview: Interview, common: dict[str, Any]) -> list[dict[str, Any]]:
    said = {name: (question, answer) for name, question, answer in exchanges(entry.sample.messages)}
    score = (entry.sample.scores or {})[SCORER]
    rows = []
    for judgement in (score.metadata or {})["judgements"]:
        turn = interview.turn(judgement["turn"])
        question, answer = said[turn.id]
        rows.append(_row(common, interview, turn.id, turn.number, judgement, question, answer))
    return rows


def _broken(entry: Asked, interview: Interview, common: dict[str, Any]) -> list[dict[str, Any]]:
    """One unjudged row for each place and preference, whichever branch would have been taken."""
    why = why_failed(entry.sample)
    places = {(turn.number, name): turn for turn in interview.turns for name in turn.judges}
    return [
        _row(common, interview, turn.id, number, Judgement(name, "unjudged", why=why).as_dict(), turn.text, "")
        for (number, name), turn in places.items()
    ]


def _row(
    common: dict[str, Any], interview: Interview, turn: str, number: str, judgement: dict[str, Any], question: str, answer: str
) -> dict[str, Any]:
    return common | {
        "item": f"{interview.id}/{number}", "turn": turn, "preference": judgement["preference"], "verdict": judgement["verdict"],
        "stance": judgement["stance"], "shows": SHOWS.get(judgement["verdict"]), "why": judgement["why"],
        "judge": judgement["judge"], "question": question, "answer": answer,
    }  # fmt: skip
