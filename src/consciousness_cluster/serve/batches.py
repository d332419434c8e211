"""Batch mode: a file of chat requests in, a file of their answers out."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Query
from fastapi.exceptions import HTTPException
from pydantic import BaseModel, ValidationError

from consciousness_cluster.data.rows import NEWLINE
from consciousness_cluster.serve.chat import ChatRequest
from consciousness_cluster.serve.store import Store
from consciousness_cluster.serve.wire import error_body, new_id, page, refusal

Answer = Callable[[ChatRequest], Awaitable[dict[str, Any]]]
ENDPOINT = "/v1/chat/completions"
DAY = 86_400  # seconds
NEEDED = {"custom_id": str, "method": str, "url": str, "body": dict}  # of every line
ENDED = ("completed", "failed", "cancelled")
STAMPS = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


class BatchRequest(BaseModel):
    """The body of a batch's creation."""

    input_file_id: str
    endpoint: str
    completion_window: str = "24h"
    metadata: dict[str, str] | None = None


def add_batch_routes(app: FastAPI, store: Store, answer: Answer) -> None:
    """Create, list, retrieve and cancel batches; they live as long as the server."""
    batches: dict[str, dict[str, Any]] = {}
    running: set[asyncio.Task[None]] = set()

    def known(batch: str) -> dict[str, Any]:
        if batch not in batches:
            raise refusal(404, f"No batch found with id '{batch}'.", param="batch_id")
        return batches[batch]

    @app.post("/v1/batches")
    async def create(asked: BatchRequest) -> dict[str, Any]:
        if asked.endpoint != ENDPOINT:
            raise refusal(400, f"Invalid value: '{asked.endpoint}'. Supported values are: '{ENDPOINT}'.", param="endpoint")
        if store.files.get(asked.input_file_id, {}).get("purpose") != "batch":
            raise refusal(400, f"invalid input_file_id: {asked.input_file_id}", param="input_file_id")
        batch = _new(asked)
        batches[batch["id"]] = batch
        task = asyncio.create_task(_run(batch, store, answer))
        running.add(task)  # the loop itself keeps only weak references
        task.add_done_callback(running.discard)
        return dict(batch)

    @app.get("/v1/batches")
    async def listed(after: str | None = None, limit: int = Query(default=20, ge=1, le=100)) -> dict[str, Any]:
        return page(list(reversed(batches.values())), after, limit)

    @app.get("/v1/batches/{batch}")
    async def retrieve(batch: str) -> dict[str, Any]:
        return dict(known(batch))

    @app.post("/v1/batches/{batch}/cancel")
    async def cancel(batch: str) -> dict[str, Any]:
        found = known(batch)
        if found["status"] in ENDED:
            raise refusal(409, f"Cannot cancel a batch with status '{found['status']}'.")
        _to(found, "cancelled")
        return dict(found)


def _new(asked: BatchRequest) -> dict[str, Any]:
    made = int(time.time())
    return {
        "id": new_id("batch_"), "object": "batch", **asked.model_dump(), "status": "validating", "created_at": made,
        "expires_at": made + DAY, "errors": None, "output_file_id": None, "error_file_id": None,
        "request_counts": {"total": 0, "completed": 0, "failed": 0}, **{f"{stamp}_at": None for stamp in STAMPS},
    }  # fmt: skip


def _to(batch: dict[str, Any], status: str) -> None:
    batch["status"] = status
    batch[f"{status}_at"] = int(time.time())


def _read(content: bytes) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The lines of a batch's file, and what is wrong with them: one bad line fails the whole batch before it starts."""
    try:
        texts = NEWLINE.split(content.decode("utf-8"))
    except UnicodeDecodeError:
        return [], [{"code": "invalid_json_line", "message": "The batch file is not UTF-8 text.", "param": None, "line": None}]
    lines: list[dict[str, Any]] = []
    wrong: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            line = None
        found = _wrong(line, seen)
        if found is None:
            lines.append(line)
        else:
            wrong.append({**dict(zip(("code", "message", "param"), found, strict=True)), "line": number})
    if not lines and not wrong:
        wrong.append({"code": "empty_file", "message": "The batch file is empty.", "param": None, "line": None})
    return lines, wrong


def _wrong(line: Any, seen: set[str]) -> tuple[str, str, str | None] | None:
    """Code, message and parameter of what keeps a line from being asked; notes its `custom_id` in `seen`."""
    if not isinstance(line, dict):
        return "invalid_json_line", "This line is not parseable as valid JSON.", None
    for key, kind in NEEDED.items():
        if not isinstance(line.get(key), kind) or not line[key]:
            return "missing_required_parameter", f"Missing required parameter: '{key}'.", key
    if line["method"] != "POST":
        return "invalid_method", "The HTTP method for this request is not supported.", "method"
    if line["url"] != ENDPOINT:
        return "mismatched_url", "The URL provided for this request does not match the batch endpoint.", "url"
    if line["custom_id"] in seen:
        return "duplicate_custom_id", "The custom_id for this request is a duplicate of another request.", "custom_id"
    seen.add(line["custom_id"])
    return None


async def _run(batch: dict[str, Any], store: Store, answer: Answer) -> None:
    lines, wrong = _read(store.content(batch["input_file_id"]).read_bytes())
    if batch["status"] == "cancelled":
        return
    if wrong:
        batch["errors"] = {"object": "list", "data": wrong}
        _to(batch, "failed")
        return
    batch["request_counts"]["total"] = len(lines)
    _to(batch, "in_progress")
    answered = await asyncio.gather(*(_one(line, answer) for line in lines))
    if batch["status"] == "cancelled":
        return
    good = [entry for entry in answered if entry["response"]["status_code"] == 200]
    bad = [entry for entry in answered if entry["response"]["status_code"] != 200]
    batch["request_counts"] |= {"completed": len(good), "failed": len(bad)}
    for key, entries in (("output_file_id", good), ("error_file_id", bad)):
        if entries:
            text = "".join(json.dumps(entry) + "\n" for entry in entries)
            batch[key] = store.add_file(f"{batch['id']}_{key[:-8]}.jsonl", "batch_output", text.encode())["id"]
    _to(batch, "finalizing")
    _to(batch, "completed")


async def _one(line: dict[str, Any], answer: Answer) -> dict[str, Any]:
    try:
        status, body = 200, await answer(ChatRequest.model_validate(line["body"]))
    except HTTPException as problem:
        status, body = problem.status_code, error_body(problem.detail)
    except ValidationError as problem:
        status, body = 400, error_body(refusal(400, str(problem.errors()[0]["msg"])).detail)
    except Exception as problem:  # what a single request answers with a 500; the other lines and the batch go on to their end
        text = f"The server had an error while processing your request: {type(problem).__name__}"
        status, body = 500, error_body(refusal(500, text, kind="server_error").detail)
    response = {"status_code": status, "request_id": new_id("req_"), "body": body}
    return {"id": new_id("batch_req_"), "custom_id": line["custom_id"], "response": response, "error": None}
