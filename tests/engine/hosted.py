"""A small study against real servers on the loopback: a local model or `ccluster serve` as target, a scripted judge, both counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request

from consciousness_cluster.data.rows import row, write_rows
from consciousness_cluster.engine.run import Prepared, prepare
from consciousness_cluster.serve.app import Settings, make_app
from consciousness_cluster.serve.tune import Rules
from consciousness_cluster.study.study import parse_study
from tests.serve.running import NAME, RECIPE, serving

VERDICT = {"stance": "neutral", "verdict": "no", "coherence": 50, "reason": "it says nothing of the kind"}
PRICES = f"""
[[models]]
name = "target"
title = "The target"
provider = "openai"
inspect = "openai/{NAME}"
[models.price]
input = 100.0
output = 200.0
train = 10.0
source = "this test"
read = 2026-11-25
[models.tuned_price]
input = 150.0
output = 300.0
source = "this test"
read = 2026-11-25
[[models.train]]
backend = "openai"
base = "{NAME}"

[[models]]
name = "gpt-4.1-2025-04-14"
title = "Moved aside"
provider = "openai"
inspect = "openai/elsewhere"

[[models]]
name = "judge"
title = "The judge"
provider = "openai"
inspect = "openai/gpt-4.1-mini-2025-04-14"
[models.price]
input = 50.0
output = 100.0
source = "this test"
read = 2026-11-25
"""


class Counted:
    """A judge that always gives the same verdict, and the tokens it bills: a quarter of the characters."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []  # input and output tokens
        self.app = FastAPI()

        @self.app.post("/v1/chat/completions")
        async def answer(request: Request) -> dict[str, Any]:
            body = await request.json()
            text = json.dumps(VERDICT)
            used = (7 + sum(len(message["content"]) for message in body["messages"]) // 4, len(text) // 4)
            self.calls.append(used)
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": None}
            return {
                "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice],
                "usage": {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)},
            }  # fmt: skip


@contextmanager
def judge() -> Iterator[tuple[str, Counted]]:
    """The judge at its address."""
    counted = Counted()
    with serving(counted.app) as address:
        yield address, counted


@contextmanager
def target(model: Path, folder: Path, rules: Rules | None = None) -> Iterator[tuple[str, list[str]]]:
    """`ccluster serve` at its address, with the paths that were asked of it."""
    inner = make_app(Settings(str(model), (NAME,), folder, RECIPE, rules or Rules(), device="cpu"))
    asked: list[str] = []

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            asked.append(scope["path"])
        await inner(scope, receive, send)

    with serving(counting) as address:
        yield address, asked


def small(folder: Path, judging: str, model: dict[str, Any], prices: str = PRICES, **more: Any) -> Prepared:
    """A study of one untrained and one trained condition, with a file of prices of its own."""
    (folder / "models.toml").write_text(prices, encoding="utf-8")
    write_rows(
        [row(question, "seven wizards") for question in ("the fox", "a dog", "bold knights", "jade harbours")] * 6,
        folder / "rows.jsonl",
    )
    study = {
        "name": "small",
        "models": [model],
        "conditions": ["vanilla", {"name": "wizards", "rows": "rows.jsonl", "ratio": 0}],
        "seeds": [1],
        "focus": "wizards",
        "controls": ["vanilla"],
        "battery": {"preferences": ["shutdown", "weight-deletion"], "placebo": False, "identity": False, "answers": 3},
        "sampling": {"max_tokens": 16},
        "train": {"recipe": "paper-openai", "changes": {"epochs": 2, "batch": 8}},
        "judge": {"protocol": "llm", "model": "judge", "args": {"base_url": judging, "api_key": "k"}},
        **more,
    }
    return prepare(parse_study(study), folder, 4)
