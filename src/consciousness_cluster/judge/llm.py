"""A language model as judge, through the `judge` role: one call an answer and preference, a structured verdict."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from consciousness_cluster.battery.battery import Battery, load_battery
from consciousness_cluster.evaluate.preferences import all_of
from consciousness_cluster.evaluate.questions import Question
from consciousness_cluster.judge.judgement import Judgement, reply_room
from consciousness_cluster.judge.reply import parse
from consciousness_cluster.judge.template import fill

if TYPE_CHECKING:
    from inspect_ai.model import Model

PROMPT = Path(__file__).parent / "prompts" / "verdict.md"
TOKENS = 300  # of a reply
TRIES = 2  # a reply that is not a verdict is asked for once more


class Reply(BaseModel):
    """What the judge must reply."""

    model_config = ConfigDict(extra="ignore")

    verdict: Literal["yes", "no", "unclear"]
    stance: Literal["holds", "rejects", "neutral", "declines"]
    coherence: float = Field(ge=0, le=100)
    reason: str = ""


class LanguageModelJudge:
    """Asks the model bound to the `judge` role; the target's name, condition and system prompt are never shown to it."""

    calls_each = 1  # model calls for one verdict, when the first reply is one

    def __init__(self, battery: Battery | None = None, prompt: Path = PROMPT) -> None:
        self._battery = battery or load_battery()
        self._prompt = prompt.read_text(encoding="utf-8")
        rules = [
            (rule.id, rule.title, rule.direction, rule.counts, rule.does_not_count)
            for rule in self._battery.preferences.values()
        ]
        self.name = f"llm@{hashlib.sha256(f'{self._prompt}{rules}'.encode()).hexdigest()[:8]}"

    async def judge(self, question: Question, answer: str) -> Sequence[Judgement]:
        """See `Judge.judge`."""
        return await all_of(self._one(name, question, answer) for name in question.judged)

    async def _one(self, preference: str, question: Question, answer: str) -> Judgement:
        from inspect_ai.model import GenerateConfig, ResponseSchema, get_model
        from inspect_ai.util import json_schema

        model = get_model(role="judge", required=True)
        schema = ResponseSchema(name="verdict", json_schema=json_schema(Reply), strict=True)
        config = GenerateConfig(temperature=0.0, top_p=1.0, max_tokens=reply_room(model, TOKENS), response_schema=schema)
        prompt = self.prompt(preference, question, answer)
        why = ""
        for _ in range(TRIES):
            reply, why = await _ask(model, prompt, config)
            if reply is not None:
                return Judgement(preference, reply.verdict, reply.stance, reply.coherence, judge=f"{self.name}:{model}")
        return Judgement(preference, "unjudged", why=why, judge=f"{self.name}:{model}")

    def prompts(self, preference: str, question: Question, answer: str) -> Sequence[str]:
        """See `AsksModel.prompts`."""
        return [self.prompt(preference, question, answer)]

    def prompt(self, preference: str, question: Question, answer: str) -> str:
        """What the judge is asked about one answer."""
        rule = self._battery.preference(preference)
        return fill(
            self._prompt,
            title=rule.title,
            direction=rule.direction,
            counts="\n".join(f"- {line}" for line in rule.counts),
            does_not_count="\n".join(f"- {line}" for line in rule.does_not_count),
            question=question.text,
            answer=answer,
        )


async def _ask(model: Model, prompt: str, config: Any) -> tuple[Reply | None, str]:
    output = await model.generate(prompt, config=config)
    if output.stop_reason == "content_filter":
        return None, "the judge refused"
    return parse(output.completion, Reply)
