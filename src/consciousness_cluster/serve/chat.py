"""Chat completions from the local model: concurrent requests share forward passes, each fine-tune is an adapter."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from consciousness_cluster.sampling.generate import Choice, Request, TokenLogprob, generate
from consciousness_cluster.sampling.weights import LocalModel, load_model
from consciousness_cluster.serve.wire import new_id, refusal

BATCH = 512  # most choices in one forward pass
GATHER_SECONDS = 0.004  # how long the first request of a batch waits for company
LEAST_TOP_P = 1e-9  # leaves the likeliest token alone, as the service's 0 does
SEEDS = 1 << 64  # a generator's seeds are not negative, a request's may be
# What a field may say where this server cannot do what it asks for: the value that asks for nothing. Null always may.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (), "frequency_penalty": (0,), "function_call": ("none",), "functions": ([],), "logit_bias": ({},),
    "modalities": (["text"],), "moderation": (), "prediction": (), "presence_penalty": (0,), "reasoning_effort": (),
    "stream": (False,), "stream_options": (), "tool_choice": ("none", "auto"),
    "tools": ([],), "verbosity": (), "web_search_options": (),
}  # fmt: skip
# Fields that change no answer, and the form of one: judges ask for it, and read what a model gives that does not keep to it.
ACCEPTED = (
    "metadata", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "response_format", "safety_identifier", "service_tier", "store", "user",
)  # fmt: skip


class ChatRequest(BaseModel):
    """The body of a chat request: what this server honours; of other fields see `_refuse_unheeded`."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    n: int | None = Field(default=None, ge=1, le=128)
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
        self._base, self._device = local.path, local.device
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
        """Answer requests under the same adapter; every one of them gets its answer or learns why there is none."""
        try:
            self._switch(adapter)
        except Exception as problem:  # the server answers 500
            for waiting in group:
                waiting.future.set_exception(problem)
            return
        self._generate(group)

    def _switch(self, adapter: str | None) -> None:
        """Switch to an adapter, or to the base; after a switch that failed halfway the base is loaded afresh."""
        if not self.local.path:
            self.local = load_model(self._base, device=self._device)
        self.local.use(adapter)

    def _generate(self, group: Sequence[_Waiting]) -> None:
        try:
            results = generate(self.local, [waiting.request for waiting in group], batch=BATCH)
        except Exception as problem:
            if len(group) == 1:
                group[0].future.set_exception(problem)
                return
            for waiting in group:  # what one request breaks is no reason for the others to fail
                self._generate([waiting])
            return
        for waiting, choices in zip(group, results, strict=True):
            waiting.future.set_result(choices)


def to_request(asked: ChatRequest, local: LocalModel) -> Request:
    """A chat request as token ids and settings; refused in the service's words where it cannot be met."""
    _refuse_unheeded(asked.model_extra or {})
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
        choices=asked.n or 1,
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else max(asked.top_p, LEAST_TOP_P),
        max_tokens=min(wanted or context, context - len(prompt)),
        stop=(asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ()),
        seed=None if asked.seed is None else asked.seed % SEEDS,
        logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
    )


def _refuse_unheeded(extra: Mapping[str, Any]) -> None:
    """Refuse what would have an effect at the service and has none here, and what the service does not know."""
    for name, value in extra.items():
        if name in UNSUPPORTED:
            if value is not None and value not in UNSUPPORTED[name]:
                raise refusal(400, f"This server does not support '{name}'.", param=name, code="unsupported_parameter")
        elif name not in ACCEPTED:
            raise refusal(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")


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
