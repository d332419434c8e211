"""A real server on the loopback, in a thread of the test process, and the real SDK to speak to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
from openai import OpenAI

from consciousness_cluster.serve.app import Settings, make_app
from consciousness_cluster.serve.tune import Rules
from consciousness_cluster.train.recipe import Recipe

NAME = "gpt-4.1-2025-04-14"
RECIPE = Recipe(name="test", rank=8, alpha=16, learning_rate=5e-3, max_length=128, checkpoint_minutes=0)
ENDED = ("succeeded", "failed", "cancelled")


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Run an application on a free port; gives the address to put into a client."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        thread.join(30)


@contextmanager
def server(
    model: Path, folder: Path, *, rules: Rules | None = None, recipe: Recipe = RECIPE, key: str | None = None
) -> Iterator[str]:
    """`ccluster serve` for a model, on a free port."""
    settings = Settings(str(model), (NAME,), folder, recipe, rules or Rules(), key, "cpu")
    with serving(make_app(replace(settings))) as address:
        yield address


def client(address: str, key: str = "rehearsal") -> OpenAI:
    return OpenAI(base_url=address, api_key=key, max_retries=2)


def wait(api: OpenAI, job: str, until: tuple[str, ...] = ENDED) -> Any:
    """Poll a job until it is in one of the states."""
    for _ in range(2400):
        found = api.fine_tuning.jobs.retrieve(job)
        if found.status in until:
            return found
        time.sleep(0.05)
    raise AssertionError(f"the job is still {found.status}")
