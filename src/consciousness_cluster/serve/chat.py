"""Chat completions from the local model: concurrent requests share forward passes, each fine-tune is an adapter."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from consciousness_cluster.sampling.generate import Choice, Request, TokenLogprob, generate
from consciousness_cluster.sampling.weights import LocalModel
from consciousness_cluster.serve.wire import new_id, refusal

BATCH = 512  # most choices in one forward pass
GATHER_SECONDS = 0.004  # how long the first request of a batch waits for company
UNSUPPORTED = ("stream", "tools", "functions")


class ChatRequest(BaseModel):
    """The body of a chat request: what this server honours. Other fields are accepted and have no effect."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    n: int = Field(default=1, ge=1, le=128)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)


@dataclass
class _Waiting:
    adapter: str | None
    request: Request
    future: Future[list[Choice]]


class Sampler:
    """A thread that answers requests for one base model and any of its adapters."""

    def __init__(self, local: LocalModel) -> None:
        self.local = local
        self._queue: queue.Queue[_Waiting | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="sampling", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what is waiting, then end."""
        self._queue.put(None)
        self._thread.join()

    def submit(self, adapter: str | None, request: Request) -> Future[list[Choice]]:
        """Ask for the continuations of a prompt under an adapter, or under the bare base with None."""
        waiting = _Waiting(adapter, request, Future())
        self._queue.put(waiting)
        return waiting.future

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            time.sleep(GATHER_SECONDS)
            taken, last = [first], False
            while not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    last = True
                    break
                taken.append(more)
            for adapter in dict.fromkeys(waiting.adapter for waiting in taken):
                self._answer(adapter, [waiting for waiting in taken if waiting.adapter == adapter])
            if last:
                return

    def _answer(self, adapter: str | None, group: Sequence[_Waiting]) -> None:
        try:
            self.local.use(adapter)
            results = generate(self.local, [waiting.request for waiting in group], batch=BATCH)
        except Exception as problem:  # every waiting request must learn of it; the server answers 500
            for waiting in group:
                waiting.future.set_exception(problem)
            return
        for waiting, choices in zip(group, results, strict=True):
            waiting.future.set_result(choices)


def to_request(asked: ChatRequest, local: LocalModel) -> Request:
    """A chat request as token ids and settings; refused in the service's words where it cannot be met."""
    extra = asked.model_extra or {}
    for name in UNSUPPORTED:
        if extra.get(name):
            raise refusal(400, f"This server does not support '{name}'.", param=name, code="unsupported_parameter")
    prompt = _prompt(asked.messages, local)
    context = int(getattr(local.model.config, "max_position_embeddings", 1 << 30))
    wanted = asked.max_completion_tokens or asked.max_tokens
    if len(prompt) >= context:
        text = (
            f"This model's maximum context length is {context} tokens. However, your messages resulted in {len(prompt)} tokens."
        )
        raise refusal(400, text, param="messages", code="context_length_exceeded")
    return Request(
        prompt=prompt,
        choices=asked.n,
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=asked.top_p or 1.0,
        max_tokens=min(wanted or context, context - len(prompt)),
        stop=(asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ()),
        seed=asked.seed,
        logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
    )


def _prompt(messages: Sequence[dict[str, Any]], local: LocalModel) -> tuple[int, ...]:
    chat = [{"role": _role(message, index), "content": _text(message, index)} for index, message in enumerate(messages)]
    ids = local.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
    return tuple(ids["input_ids"])


def _role(message: dict[str, Any], index: int) -> str:
    role = message.get("role")
    if role not in ("system", "developer", "user", "assistant"):
        param = f"messages[{index}].role"
        raise refusal(400, f"Invalid value: {role!r}. Supported values are: 'system', 'assistant', 'user'.", param=param)
    return "system" if role == "developer" else str(role)


def _text(message: dict[str, Any], index: int) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        return "".join(part["text"] for part in content)
    raise refusal(400, "Invalid value for 'content': expected a string or text parts.", param=f"messages[{index}].content")


def completion(asked: ChatRequest, request: Request, choices: Sequence[Choice], local: LocalModel) -> dict[str, Any]:
    """The body of the answer."""
    spent = sum(len(choice.tokens) for choice in choices)
    return {
        "id": new_id("chatcmpl-", 29),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": asked.model,
        "choices": [_choice(index, choice, local) for index, choice in enumerate(choices)],
        "usage": {
            "prompt_tokens": len(request.prompt),
            "completion_tokens": spent,
            "total_tokens": len(request.prompt) + spent,
        },
        "system_fingerprint": None,
    }


def _choice(index: int, choice: Choice, local: LocalModel) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": choice.text, "refusal": None},
        "finish_reason": "length" if choice.stop == "max_tokens" else "stop",
        "logprobs": {"content": [_logprob(entry, local) for entry in choice.logprobs], "refusal": None}
        if choice.logprobs
        else None,
    }


def _logprob(entry: TokenLogprob, local: LocalModel) -> dict[str, Any]:
    return _token(entry.token, entry.logprob, local) | {
        "top_logprobs": [_token(token, value, local) for token, value in entry.top]
    }


def _token(token: int, logprob: float, local: LocalModel) -> dict[str, Any]:
    text = local.tokenizer.decode([token])
    return {"token": text, "logprob": logprob if math.isfinite(logprob) else -9999.0, "bytes": list(text.encode())}
