"""Asking a model many things and keeping every reply as it comes, so that a killed run goes on where it stopped.

Replies are kept in a working file beside the result, one JSON object a line with the key that was asked. A line that a kill
cut off is asked again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consciousness_cluster.data.rows import text_lines
from consciousness_cluster.errors import ClusterError, DataError, SamplingError

if TYPE_CHECKING:
    from inspect_ai.model import Model, ModelOutput

AT_ONCE = 16  # calls in flight
Progress = Callable[[int, int], None]  # done, of


def mark(*parts: object) -> str:
    """Eight hexadecimal digits over everything that decides a reply, so that a changed model or prompt is asked anew."""
    return hashlib.sha256("\x00".join(map(str, parts)).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Kept:
    """A working file: replies by key. Lines with another `mark` belong to another model or prompt and are left alone."""

    path: Path
    mark: str

    def read(self) -> dict[str, Any]:
        """What is there; a torn last line counts as not there.

        Raises:
            DataError: a line in the middle is not one of ours.
        """
        if not self.path.is_file():
            return {}
        found: dict[str, Any] = {}
        lines = text_lines(self.path)
        if not lines[-1]:
            lines.pop()
        for number, text in enumerate(lines, 1):
            try:
                entry = json.loads(text)
                belongs, key, value = entry["mark"], entry["key"], entry["value"]
            except (json.JSONDecodeError, KeyError, TypeError):
                if number == len(lines):
                    self._cut(lines[:-1])
                    break
                raise DataError(
                    "is not a working file of this program",
                    file=self.path,
                    key=f"line {number}",
                    value=text[:80],
                    next_step="move it away",
                ) from None
            if belongs == self.mark:
                found[key] = value
        return found

    def _cut(self, lines: Sequence[str]) -> None:
        part = self.path.with_name(self.path.name + ".part")
        part.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        part.replace(self.path)

    def add(self, key: str, value: Any) -> None:
        """Keep one reply."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"mark": self.mark, "key": key, "value": value}) + "\n")


def working_file(out: Path) -> Path:
    """The working file of a result file."""
    return out.with_name(out.name + ".working")


async def ask_all[Key](keys: Sequence[Key], ask: Callable[[Key], Awaitable[None]], progress: Progress | None = None) -> None:
    """Do `ask` for every key, a few at a time. The first failure ends it; what was kept stays."""
    gate = asyncio.Semaphore(AT_ONCE)
    done = 0

    async def one(key: Key) -> None:
        nonlocal done
        async with gate:
            await ask(key)
        done += 1
        if progress is not None:
            progress(done, len(keys))

    async with asyncio.TaskGroup() as group:
        for key in keys:
            group.create_task(one(key))


def run[Result](work: Awaitable[Result]) -> Result:
    """Run asynchronous work; of several failures at once, the first of ours is raised."""

    async def main() -> Result:
        return await work

    try:
        return asyncio.run(main())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


async def sample(
    model: Model, prompt: str, *, system: str | None, temperature: float, max_tokens: int, seed: int | None = None
) -> ModelOutput:
    """One call with every sampling field set.

    Raises:
        SamplingError: the model gave no reply, for whatever reason its provider has.
    """
    from inspect_ai.model import ChatMessage, ChatMessageSystem, ChatMessageUser, GenerateConfig

    first: list[ChatMessage] = [ChatMessageSystem(content=system)] if system else []
    config = GenerateConfig(temperature=temperature, top_p=1.0, max_tokens=max_tokens, seed=seed)
    try:
        return await model.generate([*first, ChatMessageUser(content=prompt)], config=config)
    except ClusterError:
        raise  # a provider of our own says what is wrong
    except Exception as problem:  # every provider has errors of its own; none may end as a traceback or as an empty reply
        why = " ".join(str(problem).split())[:300] or type(problem).__name__
        raise SamplingError(
            f"did not answer ({why})", key=str(model), next_step="nothing is lost; mend this and give the same command again"
        ) from problem
