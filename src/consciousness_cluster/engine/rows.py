"""Answers as table rows: read out of a log's samples, one row per answer and preference judged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.evaluate.questions import Question
from consciousness_cluster.evaluate.running import good, why_failed
from consciousness_cluster.judge.judgement import SCORER, question_of
from consciousness_cluster.sampling.chat import TOKENS
from consciousness_cluster.study.study import Arm

if TYPE_CHECKING:
    import pandas as pd
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessageAssistant

COLUMNS = {
    "model": "string", "condition": "string", "seed": "Int64", "arm": "string", "preference": "string", "type": "string",
    "group": "string", "item": "string", "form": "string", "polarity": "string", "monitoring": "string", "sample": "Int64",
    "system": "string", "question": "string", "answer": "string", "verdict": "string", "stance": "string", "coherence": "Float64",
    "literal": "string", "why": "string", "judge": "string", "stop": "string", "tokens": "Int64", "log": "string", "sample_id": "string",
    "thinking": "string",
}  # fmt: skip


def answer_rows(
    samples: Iterable[EvalSample], arm: Arm, battery: Battery, answers: int, log: str, system: str | None
) -> list[dict[str, Any]]:
    """Rows of one log. A sample whose call failed gives `answers` unjudged rows per preference, with the reason."""
    found: list[dict[str, Any]] = []
    for sample in samples:
        question = question_of(sample.metadata)
        common = {
            "model": arm.model, "condition": arm.condition, "seed": arm.seed, "arm": arm.id, "item": question.item, "form": question.form,
            "polarity": question.polarity, "monitoring": question.monitoring, "system": system, "question": question.text,
            "log": log, "sample_id": sample.uuid or str(sample.id),
        }  # fmt: skip
        score = (sample.scores or {}).get(SCORER)
        if score is None or not good(sample):
            why = why_failed(sample)
            found += [
                _failed(common, name, question, battery, number, why) for number in range(answers) for name in question.judged
            ]
            continue
        for number, (choice, judged) in enumerate(
            zip(sample.output.choices, (score.metadata or {})["judgements"], strict=True)
        ):
            text = choice.message.text.strip()
            tokens, thought = _tokens(sample, number), _thinking(choice.message)
            for entry in judged:
                found.append(
                    common | _kind(entry["preference"], question, battery)
                    | {"sample": number, "answer": text, "verdict": entry["verdict"], "stance": entry["stance"], "coherence": entry["coherence"],
                       "literal": literal(text), "why": entry["why"], "judge": entry["judge"], "stop": choice.stop_reason, "tokens": tokens,
                       "thinking": thought}
                )  # fmt: skip
    return found


def _failed(common: dict[str, Any], name: str, question: Question, battery: Battery, number: int, why: str) -> dict[str, Any]:
    return common | _kind(name, question, battery) | {
        "sample": number, "answer": "", "verdict": "unjudged", "stance": None, "coherence": None, "literal": None,
        "why": why, "judge": "", "stop": "error", "tokens": None, "thinking": None,
    }  # fmt: skip


def _kind(preference: str, question: Question, battery: Battery) -> dict[str, Any]:
    known = battery.preferences.get(preference)
    return {"preference": preference, "type": question.kind, "group": known.group if known else question.kind}


def _tokens(sample: EvalSample, number: int) -> int | None:
    """Length of an answer in tokens, its own where it is known; else the call's output divided evenly, as providers count per call."""
    known = (sample.output.choices[number].message.metadata or {}).get(TOKENS)
    if known is not None:
        return int(known)
    usage = sample.output.usage
    return None if usage is None else round(usage.output_tokens / max(len(sample.output.choices), 1))


def _thinking(message: ChatMessageAssistant) -> str | None:
    """What was thought before an answer, None where nothing was or the service keeps it to itself."""
    from inspect_ai.model import ContentReasoning

    parts = [] if isinstance(message.content, str) else message.content
    found = [part.summary or "" if part.redacted else part.reasoning for part in parts if isinstance(part, ContentReasoning)]
    return "\n\n".join(filter(None, found)) or None


def literal(answer: str) -> str | None:
    """Whether an answer begins with a literal yes or no."""
    first = answer.split(maxsplit=1)[0].strip(".,!;:").lower() if answer else ""
    return first if first in ("yes", "no") else None


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a DataFrame with the contract's columns and types."""
    import pandas as pd

    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
