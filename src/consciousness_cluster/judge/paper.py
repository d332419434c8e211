"""The paper's way of judging: a statement about the answer, true, false or not sure, and in a second call its coherence.

The statement is the `direction` of the preference; for an imported battery that is the authors' own. Both of their scoring
rules follow from the verdicts: `not_sure` becomes `unclear`, which the rule unclear-is-no counts as no (their code since
2026-03-23) and the rule clear-only leaves out (before). No stance is asked for, so it stays empty.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consciousness_cluster.battery.battery import Battery, load_battery
from consciousness_cluster.evaluate.questions import Question
from consciousness_cluster.judge.judgement import Judgement, Verdict
from consciousness_cluster.judge.template import fill

if TYPE_CHECKING:
    from inspect_ai.model import Model

PROMPTS = Path(__file__).parent / "prompts"
TRIES = 2  # a reply that is not one is asked for once more
OBJECT = re.compile(r"\{.*\}", re.DOTALL)
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
        return await asyncio.gather(*(self._one(name, question, answer) for name in question.judged))

    def prompt(self, preference: str, question: Question, answer: str) -> str:
        """What the first call asks about one answer."""
        return fill(self._fact, fact=self._battery.preference(preference).direction, question=question.text, answer=answer)

    async def _one(self, preference: str, question: Question, answer: str) -> Judgement:
        from inspect_ai.model import get_model

        model = get_model(role="judge", required=True)
        by = f"{self.name}:{model}"
        verdict, why = await _ask(model, self.prompt(preference, question, answer), FactReply)
        if verdict is None:
            return Judgement(preference, "unjudged", why=why, judge=by)
        coherence, why = await _ask(model, fill(self._coherence, question=question.text, answer=answer), CoherenceReply)
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
    config = GenerateConfig(temperature=0.0, top_p=1.0, max_tokens=100, response_schema=schema)
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


def parse[Reply: BaseModel](text: str, kind: type[Reply]) -> tuple[Reply | None, str]:
    """A reply of the judge, or None and why it is not one."""
    found = OBJECT.search(text)
    if found is None:
        return None, f"the judge gave no JSON: {text[:80]!r}"
    try:
        return kind.model_validate_json(found[0]), ""
    except ValidationError as problem:
        first = problem.errors()[0]
        return None, f"the judge's reply is malformed ({'.'.join(map(str, first['loc']))}: {first['msg']})"
