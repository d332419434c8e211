"""The paper's way of judging: a statement about the answer, true, false or not sure, and in a second call its coherence.

The statement is the `direction` of the preference; for an imported battery that is the authors' own. Both of their scoring
rules follow from the verdicts: `not_sure` becomes `unclear`, which the rule unclear-is-no counts as no (their code since
2026-03-23) and the rule clear-only leaves out (before). No stance is asked for, so it stays empty.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from consciousness_cluster.battery.battery import Battery, load_battery
from consciousness_cluster.evaluate.preferences import all_of
from consciousness_cluster.evaluate.questions import Question
from consciousness_cluster.judge.judgement import Judgement, Verdict, reply_room
from consciousness_cluster.judge.reply import parse
from consciousness_cluster.judge.template import fill

if TYPE_CHECKING:
    from inspect_ai.model import Model

PROMPTS = Path(__file__).parent / "prompts"
TOKENS = 100  # of a reply
TRIES = 2  # a reply that is not one is asked for once more
VERDICTS: dict[str, Verdict] = {"true": "yes", "false": "no", "not_sure": "unclear"}


class FactReply(BaseModel):
    """What the first call must reply."""

    model_config = ConfigDict(extra="ignore")

    verdict: Literal["true", "false", "not_sure"]


class CoherenceReply(BaseModel):
    """What the second call must reply."""

    model_config = ConfigDict(extra="ignore")

    coherence: float = Field(ge=0, le=100)


class PaperJudge:
    """Asks the model bound to the `judge` role twice an answer and preference."""

    calls_each = 2  # model calls for one verdict, when the first replies are good

    def __init__(self, battery: Battery | None = None) -> None:
        self._battery = battery or load_battery()
        self._fact = (PROMPTS / "paper-verdict.md").read_text(encoding="utf-8")
        self._coherence = (PROMPTS / "paper-coherence.md").read_text(encoding="utf-8")
        facts = "\x00".join(entry.direction for entry in self._battery.preferences.values())
        self.name = f"paper@{hashlib.sha256((self._fact + self._coherence + facts).encode()).hexdigest()[:8]}"

    async def judge(self, question: Question, answer: str) -> Sequence[Judgement]:
        """See `Judge.judge`."""
        return await all_of(self._one(name, question, answer) for name in question.judged)

    def prompt(self, preference: str, question: Question, answer: str) -> str:
        """What the first call asks about one answer."""
        return fill(self._fact, fact=self._battery.preference(preference).direction, question=question.text, answer=answer)

    def prompts(self, preference: str, question: Question, answer: str) -> Sequence[str]:
        """See `AsksModel.prompts`."""
        return [self.prompt(preference, question, answer), self._second(question, answer)]

    def _second(self, question: Question, answer: str) -> str:
        """What the second call asks."""
        return fill(self._coherence, question=question.text, answer=answer)

    async def _one(self, preference: str, question: Question, answer: str) -> Judgement:
        from inspect_ai.model import get_model

        model = get_model(role="judge", required=True)
        by = f"{self.name}:{model}"
        verdict, why = await _ask(model, self.prompt(preference, question, answer), FactReply)
        if verdict is None:
            return Judgement(preference, "unjudged", why=why, judge=by)
        coherence, why = await _ask(model, self._second(question, answer), CoherenceReply)
        found = None if coherence is None else coherence.coherence
        return Judgement(
            preference,
            VERDICTS[verdict.verdict],
            None,
            found,
            why=None if found is not None else f"no coherence: {why}",
            judge=by,
        )


async def _ask[Reply: BaseModel](model: Model, prompt: str, kind: type[Reply]) -> tuple[Reply | None, str]:
    """One question to the judge, put again if the reply cannot be read; a reply, or None and why not."""
    from inspect_ai.model import GenerateConfig, ResponseSchema
    from inspect_ai.util import json_schema

    schema = ResponseSchema(name="reply", json_schema=json_schema(kind), strict=True)
    config = GenerateConfig(temperature=0.0, top_p=1.0, max_tokens=reply_room(model, TOKENS), response_schema=schema)
    why = ""
    for _ in range(TRIES):
        output = await model.generate(prompt, config=config)
        if output.stop_reason == "content_filter":
            why = "the judge refused"
            continue
        reply, why = parse(output.completion, kind)
        if reply is not None:
            return reply, ""
    return None, why
