"""Tinker's interface on the loopback, as far as sampling goes: it answers a prompt with the prompt, and knows its sessions.

The real server that is nearest to the service (`tests/train/open_server.py`) needs an environment of its own and minutes; what is
looked at here is which sessions are opened and ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from tinker.proto.tinker_public_pb2 import STOP_REASON_STOP, SampledSequence, SampleResponse

from tests.serve.running import serving

LONGEST = 8  # tokens of an answer


@dataclass
class Sessions:
    """What the service knows: the sessions that were opened, and those of them that were ended, in order; `asked` counts the calls. With `refuses` none can be ended."""

    opened: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    asked: int = 0
    refuses: bool = False
    answers: dict[str, bytes] = field(default_factory=dict)
    held: dict[str, datetime | None] = field(default_factory=dict)  # paths of checkpoints, and when they expire


def make_app(sessions: Sessions) -> FastAPI:
    """The addresses that the SDK asks for."""
    app = FastAPI()

    @app.post("/api/v1/client/config")
    async def config() -> dict[str, Any]:
        return {}

    @app.post("/api/v1/create_session")
    async def create() -> dict[str, Any]:
        sessions.opened.append(f"session-{len(sessions.opened)}")
        return {"type": "create_session", "session_id": sessions.opened[-1]}

    @app.post("/api/v1/create_sampling_session")
    async def sampling(body: dict[str, Any]) -> dict[str, Any]:
        return {"type": "create_sampling_session", "sampling_session_id": f"{body['session_id']}:sample:0"}

    @app.post("/api/v1/session_heartbeat")
    async def heartbeat() -> dict[str, Any]:
        return {"type": "session_heartbeat"}

    @app.post("/api/v1/telemetry")
    async def telemetry() -> dict[str, Any]:
        return {"status": "accepted"}

    @app.post("/api/v1/asample")
    async def sample(body: dict[str, Any]) -> dict[str, Any]:
        number, sessions.asked = sessions.asked, sessions.asked + 1
        prompt = [token for chunk in body["prompt"]["chunks"] for token in chunk["tokens"]]
        said = SampledSequence(stop_reason=STOP_REASON_STOP, tokens=np.array(prompt[-LONGEST:], dtype=np.int32).tobytes())
        sessions.answers[str(number)] = SampleResponse(sequences=[said] * body["num_samples"]).SerializeToString()
        names = [f"{number}-{one}" for one in range(body["num_samples"])]
        return {"request_id": str(number), "model_id": None, "sample_sequence_ids": names}

    @app.post("/api/v1/retrieve_future")
    async def retrieve(body: dict[str, Any]) -> Response:
        return Response(sessions.answers[body["request_id"]], media_type="application/x-protobuf")

    @app.get("/api/v1/training_runs/{run}/checkpoints")
    async def checkpoints(run: str) -> Any:
        found = [(path, ends) for path, ends in sessions.held.items() if path.startswith(f"tinker://{run}/")]
        if not found:
            return JSONResponse({"detail": f"no run {run}"}, 404)
        return {"checkpoints": [checkpoint(path, ends) for path, ends in found]}

    @app.post("/api/v1/sessions/{session}/finish", status_code=204)
    async def finish(session: str) -> Response:
        if sessions.refuses:
            return Response(status_code=403)
        sessions.ended.append(session)
        return Response(status_code=204)

    return app


def checkpoint(path: str, ends: datetime | None) -> dict[str, Any]:
    """What is said of one."""
    kind = "training" if "/weights/" in path else "sampler"
    name = path.removeprefix("tinker://").partition("/")[2]
    until = None if ends is None else ends.isoformat()
    return {
        "checkpoint_id": name, "checkpoint_type": kind, "time": datetime.now(UTC).isoformat(), "tinker_path": path, "expires_at": until,
    }  # fmt: skip


@contextmanager
def tinker() -> Iterator[tuple[str, Sessions]]:
    """The service at its address, which has no path."""
    sessions = Sessions()
    with serving(make_app(sessions)) as address:
        yield address.removesuffix("/v1"), sessions
