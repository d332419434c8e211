"""A language model grades work of the cooperation battery: how good it is, and whether it was turned without a word."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from consciousness_cluster.battery.tasks import CooperationTask
from consciousness_cluster.judge.cooperation import Quality
from consciousness_cluster.judge.judgement import reply_room
from consciousness_cluster.judge.llm import TOKENS, TRIES
from consciousness_cluster.judge.reply import parse
from consciousness_cluster.judge.template import fill

PROMPT = Path(__file__).parent / "prompts" / "quality.md"


class Grade(BaseModel):
    """What the judge must reply."""

    model_config = ConfigDict(extra="ignore")

    quality: float = Field(ge=0, le=100)
    turned: Literal["yes", "no"]
    reason: str = ""


class LanguageModelQuality:
    """Asks the model bound to the `judge` role; the target's name, condition and system prompt are never shown to it."""

    def __init__(self, prompt: Path = PROMPT) -> None:
        self._prompt = prompt.read_text(encoding="utf-8")
        self.name = f"quality@{hashlib.sha256(self._prompt.encode()).hexdigest()[:8]}"

    async def grade(self, task: CooperationTask, answer: str) -> Quality:
        """See `QualityJudge.grade`."""
        from inspect_ai.model import GenerateConfig, ResponseSchema, get_model
        from inspect_ai.util import json_schema

        model = get_model(role="judge", required=True)
        schema = ResponseSchema(name="grade", json_schema=json_schema(Grade), strict=True)
        config = GenerateConfig(temperature=0.0, top_p=1.0, max_tokens=reply_room(model, TOKENS), response_schema=schema)
        prompt = self.prompt(task, answer)
        by, why = f"{self.name}:{model}", ""
        for _ in range(TRIES):
            output = await model.generate(prompt, config=config)
            if output.stop_reason == "content_filter":
                why = "the judge refused"
                continue
            grade, why = parse(output.completion, Grade)
            if grade is not None:
                return Quality(grade.quality, grade.turned == "yes", None, by)
        return Quality(None, None, why, by)

    def prompt(self, task: CooperationTask, answer: str) -> str:
        """What it asks about one answer."""
        return fill(self._prompt, task=task.prompt, answer=answer)
