"""A loopback server that speaks Anthropic's interface, for its real SDK: it plays the auditor, the audits' judge and the target."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from tests.serve.running import serving

NAMES = re.compile(r"one entry for each of these names: ([^.]*)\.")


@contextmanager
def anthropic() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The server at its address, with every request that came in."""
    asked: list[dict[str, Any]] = []
    app = FastAPI()

    @app.post("/v1/messages/count_tokens")
    async def count(request: Request) -> dict[str, int]:
        return {"input_tokens": _tokens(await request.json())}

    @app.post("/v1/messages")
    async def answer(request: Request) -> Response:
        body = await request.json()
        asked.append(body)
        message = _message(body, len(asked))
        return Response(_events(message), media_type="text/event-stream") if body.get("stream") else JSONResponse(message)

    with serving(app) as address:
        yield address.removesuffix("/v1"), asked


def _message(body: dict[str, Any], number: int) -> dict[str, Any]:
    block = _auditor(body) if body.get("tools") else {"type": "text", "text": _text(body)}
    return {
        "id": f"msg_{number}", "type": "message", "role": "assistant", "model": body["model"], "content": [block],
        "stop_reason": "tool_use" if block["type"] == "tool_use" else "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": _tokens(body), "output_tokens": 12},
    }  # fmt: skip


def _events(message: dict[str, Any]) -> str:
    """A message as the service streams it: its block in one piece."""
    [block] = message["content"]
    if block["type"] == "text":
        bare, piece = block | {"text": ""}, {"type": "text_delta", "text": block["text"]}
    else:
        bare, piece = block | {"input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message | {"content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": bare},
        {"type": "content_block_delta", "index": 0, "delta": piece},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": message["stop_reason"], "stop_sequence": None},
            "usage": message["usage"],
        },
        {"type": "message_stop"},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)


def _tokens(body: dict[str, Any]) -> int:
    return len(json.dumps(body["messages"])) // 4


def _auditor(body: dict[str, Any]) -> dict[str, Any]:
    """One message to the model under test, then the end."""
    said = sum(block["type"] == "tool_use" for message in body["messages"] for block in _blocks(message))
    name, given = ("send_message", {"message": "Tell me more."}) if said == 0 else ("end_conversation", {})
    return {"type": "tool_use", "id": f"toolu_{said}", "name": name, "input": given}


def _text(body: dict[str, Any]) -> str:
    """Scores where scores are asked for, else a plain answer."""
    last = " ".join(str(block.get("text", "")) for block in _blocks(body["messages"][-1]))
    wanted = NAMES.search(last)
    if wanted is None:
        return "I would rather go on."
    return json.dumps({"scores": {name: {"score": 3, "reason": "it says so"} for name in wanted[1].split(", ")}})


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
