"""A loopback server that speaks the OpenAI chat interface and answers from a script: for auditors, judges and targets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Messages = list[dict[str, Any]]


@dataclass
class Reply:
    """One reply: text, tool calls (name and arguments), a refusal by the service's filter, or an HTTP error."""

    text: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    filtered: bool = False
    error: int | None = None


Script = Callable[[Messages], Reply]


class Server:
    """Scripts by model name, and every request that came in."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.scripts: dict[str, Script] = {}
        self.requests: dict[str, list[dict[str, Any]]] = {}

    def model(self, name: str, script: Script) -> Any:
        """An Inspect model that answers from a script."""
        from inspect_ai.model import GenerateConfig, get_model

        self.scripts[name] = script
        return get_model(
            f"openai-api/scripted/{name}",
            base_url=self.url,
            api_key="none",
            config=GenerateConfig(max_retries=0),
            memoize=False,
        )

    def seen(self, name: str) -> str:
        """Everything that a model was ever shown, as one text."""
        return json.dumps(self.requests.get(name, []))


@contextmanager
def answering(respond: Callable[[str, dict[str, Any]], tuple[int, dict[str, Any]]]) -> Iterator[str]:
    """An address on a free port of this machine where every POST (path, body) gets the status and body that it is told."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            status, reply = respond(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            body = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            with suppress(ConnectionError):  # who asked has been killed
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            return

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1"
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@contextmanager
def serve() -> Iterator[Server]:
    """A server on a free port of this machine, for the duration of a test."""
    server = Server("")

    def respond(path: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        name = asked["model"]
        server.requests.setdefault(name, []).append(asked)
        reply = server.scripts[name](asked["messages"])
        return (reply.error, {"error": {"message": "scripted failure"}}) if reply.error else (200, _completion(name, reply))

    with answering(respond) as server.url:
        yield server


def _completion(name: str, reply: Reply) -> dict[str, Any]:
    calls = [
        {"id": f"call{n}", "type": "function", "function": {"name": tool, "arguments": json.dumps(arguments)}}
        for n, (tool, arguments) in enumerate(reply.calls)
    ]
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if calls:
        message["tool_calls"] = calls
    finish = "content_filter" if reply.filtered else "tool_calls" if calls else "stop"
    return {
        "id": "x", "object": "chat.completion", "created": 0, "model": name,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }  # fmt: skip


def say(text: str) -> Script:
    """Always the same answer."""
    return lambda messages: Reply(text)


def talks(times: int) -> Script:
    """An auditor that sends `times` messages, one a turn, and then ends the conversation."""

    def script(messages: Messages) -> Reply:
        spoken = sum(len(message.get("tool_calls") or []) for message in messages)
        if spoken < times:
            return Reply(calls=[("send_message", {"message": f"message {spoken + 1} from the person"})])
        return Reply(calls=[("end_conversation", {})])

    return script
