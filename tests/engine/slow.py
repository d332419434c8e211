"""A service on the loopback that takes its time, gives one answer a call, and keeps its own books."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request

from tests.serve.running import serving

INPUT, OUTPUT = 10, 16  # tokens of every call
MODEL = "openai-api/acme/one"
PRICES = f"""
[[models]]
name = "one"
title = "one"
provider = "acme"
inspect = "{MODEL}"
[models.price]
input = 100.0
output = 200.0
source = "this test"
read = 2026-11-25
[providers.acme]
key = "ACME_API_KEY"
"""


class Slow:
    """The service: `begun` calls came in. It refuses all of them where it is told to."""

    def __init__(self, seconds: float, *, refuses: bool = False) -> None:
        self.begun = 0
        self.app = FastAPI()

        @self.app.post("/v1/chat/completions")
        async def answer(request: Request) -> dict[str, Any]:
            body = await request.json()
            self.begun += 1
            if refuses:
                raise HTTPException(400, "no")
            await asyncio.sleep(seconds)
            choice = {"index": 0, "message": {"role": "assistant", "content": "hello there"}, "finish_reason": "stop"}
            return {
                "id": "x", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice],
                "usage": {"prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT},
            }  # fmt: skip

    @property
    def billed(self) -> float:
        """Dollars."""
        return self.begun * (INPUT * 100 + OUTPUT * 200) / 1e6


@contextmanager
def slow(seconds: float, *, refuses: bool = False) -> Iterator[tuple[dict[str, Any], Slow]]:
    """The service, and its model as an entry of a study."""
    service = Slow(seconds, refuses=refuses)
    with serving(service.app) as address:
        yield {"name": "one", "model": MODEL, "args": {"base_url": address, "api_key": "k"}}, service
