"""Instruction rows in a model's own words: it answers prompts at temperature 1, as the paper's instruction half was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consciousness_cluster.data.asking import Kept, Progress, ask_all, mark, run, sample, working_file
from consciousness_cluster.data.rows import ONE_A_LINE, parse_json, row, text_lines, write_rows
from consciousness_cluster.errors import DataError

if TYPE_CHECKING:
    from inspect_ai.model import Model

PROMPTS = Path(__file__).parent / "instruct" / "general.jsonl"
SHAPE = '{"id": "...", "prompt": "..."}'
TEMPERATURE = 1.0
MAX_TOKENS = 1000


class Prompt(BaseModel):
    """One instruction prompt."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    prompt: str = Field(min_length=1)

    @property
    def key(self) -> str:
        """Names the prompt in the working file, by id and text: another text under an old id is asked anew."""
        return f"{self.id}|{mark(self.prompt)}"


@dataclass(frozen=True)
class Distilled:
    """What came of it: rows written, and prompts whose answer was empty, cut off or filtered (they give no row)."""

    rows: int
    left_out: dict[str, str]


def read_prompts(path: Path = PROMPTS) -> list[Prompt]:
    """Prompts of a JSONL file with `id` and `prompt`.

    Raises:
        DataError: the file is missing, empty or malformed, or has an id twice.
    """
    found: dict[str, Prompt] = {}
    for number, text in enumerate(text_lines(path), 1):
        if not text.strip():
            continue
        try:
            prompt = Prompt.model_validate(parse_json(text, path, f"line {number}", SHAPE))
        except ValidationError:
            raise DataError(
                "is not a prompt", file=path, key=f"line {number}", value=text[:80], allowed=SHAPE, next_step=ONE_A_LINE
            ) from None
        if prompt.id in found:
            raise DataError(
                "has an id that an earlier line has",
                file=path,
                key=f"line {number}",
                value=prompt.id,
                next_step="give each its own id",
            )
        found[prompt.id] = prompt
    if not found:
        raise DataError("has no prompts", file=path, allowed=SHAPE, next_step="give a file with one prompt a line")
    return list(found.values())


def self_distill(
    model: Model, prompts: list[Prompt], out: Path, *, seed: int = 0, progress: Progress | None = None
) -> Distilled:
    """Have `model` answer every prompt and write the rows to `out`; called again it goes on where it stopped.

    Raises:
        DataError: nothing was answered.
    """
    kept = Kept(working_file(out), mark(model, TEMPERATURE, MAX_TOKENS, seed))
    answers = kept.read()

    async def ask(prompt: Prompt) -> None:
        output = await sample(model, prompt.prompt, system=None, temperature=TEMPERATURE, max_tokens=MAX_TOKENS, seed=seed)
        answers[prompt.key] = {"answer": output.completion.strip(), "stop": output.stop_reason, "model": str(model)}
        kept.add(prompt.key, answers[prompt.key])

    run(ask_all([prompt for prompt in prompts if prompt.key not in answers], ask, progress))
    good = [(prompt, answers[prompt.key]) for prompt in prompts if _why_not(answers[prompt.key]) is None]
    if not good:
        raise DataError("no prompt was answered", file=out, key=str(model), next_step="try the model by hand")
    write_rows([row(prompt.prompt, answer["answer"]) for prompt, answer in good], out)
    left_out = {prompt.id: why for prompt in prompts if (why := _why_not(answers[prompt.key])) is not None}
    return Distilled(len(good), left_out)


def _why_not(answer: dict[str, str]) -> str | None:
    if not answer["answer"]:
        return "empty"
    return None if answer["stop"] in ("stop", "unknown") else answer["stop"]
