"""vLLM's OpenAI-compatible interface on the loopback, over our own sampling engine: every answer is drawn from real weights.

It speaks what Inspect's provider uses, and refuses as vLLM does: `/v1/models`, `/v1/load_lora_adapter` (a name that is loaded
already, a folder without an adapter), `/v1/chat/completions` (a model that it does not have; `n` choices a call). Run as a program
it stands in for the command `vllm serve`, of which `install` makes one.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from consciousness_cluster.sampling.chat import prompt_ids
from consciousness_cluster.sampling.generate import Request as Asked
from consciousness_cluster.sampling.weights import load_model
from consciousness_cluster.serve.chat import ChatRequest, Sampler, completion
from tests.serve.running import serving

CONTEXT = 256
KEY = "a key of the server"


@dataclass
class Server:
    """A base model under its path as a name, and the adapters that were loaded; `asked` holds the bodies of all chat calls."""

    base: str
    lora: bool = True
    key: str = KEY
    adapters: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.local = load_model(self.base, device="cpu")
        self.sampler = Sampler(self.local)
        self.sampler.start()

    def models(self) -> dict[str, Any]:
        """What the server lists: a base says how long its context is, an adapter what it stands on."""
        own = [{"id": self.base, "object": "model", "root": self.base, "parent": None, "max_model_len": CONTEXT}]
        more = [
            {"id": name, "object": "model", "root": path, "parent": self.base, "max_model_len": None}
            for name, path in self.adapters.items()
        ]
        return {"object": "list", "data": own + more}

    def load(self, name: str, path: str) -> JSONResponse:
        """Take an adapter under a name."""
        if name in self.adapters:
            return refused(400, f"The lora adapter '{name}' has already been loaded.")
        if not (Path(path) / "adapter_config.json").is_file():
            return refused(404, f"No adapter found for {path}")
        self.adapters[name] = path
        return JSONResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def chat(self, body: dict[str, Any]) -> JSONResponse:
        """Draw `n` answers from the model that is named."""
        self.asked.append(body)
        if body["model"] != self.base and body["model"] not in self.adapters:
            return refused(404, f"The model `{body['model']}` does not exist.")
        asked = ChatRequest.model_validate(body)
        prompt = prompt_ids(self.local.tokenizer, asked.messages, body.get("chat_template_kwargs") or {})
        if len(prompt) + (asked.max_tokens or 1) > CONTEXT:
            return refused(400, f"This model's maximum context length is {CONTEXT} tokens.")
        request = Asked(
            prompt,
            asked.n or 1,
            asked.temperature or 0.0,
            asked.top_p or 1.0,
            max(body["top_k"], 0),
            asked.max_tokens or 16,
            (),
            asked.seed,
        )
        choices = await asyncio.wrap_future(self.sampler.submit(self.adapters.get(body["model"]), request))
        return JSONResponse(completion(asked, request, choices, self.local))


def refused(status: int, message: str) -> JSONResponse:
    """An error as vLLM words it."""
    return JSONResponse({"error": {"message": message, "type": "BadRequestError", "code": status}}, status)


def make_app(server: Server) -> FastAPI:
    """The server's addresses."""
    app = FastAPI()

    @app.middleware("http")
    async def keyed(request: Request, call: Any) -> Any:
        if request.headers.get("authorization") != f"Bearer {server.key}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        return await call(request)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return server.models()

    if server.lora:

        @app.post("/v1/load_lora_adapter")
        async def load(body: dict[str, str]) -> JSONResponse:
            return server.load(body["lora_name"], body["lora_path"])

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> JSONResponse:
        return await server.chat(await request.json())

    return app


@contextmanager
def vllm(base: Path, *, lora: bool = True) -> Iterator[tuple[str, Server]]:
    """A server for one base model, at its address."""
    server = Server(str(base), lora)
    try:
        with serving(make_app(server)) as address:
            yield address, server
    finally:
        server.sampler.stop()


def install(folder: Path) -> dict[str, str]:
    """A command `vllm` and a package of that name in `folder`; gives the variables by which both are found.

    Every start leaves `<process id>.json` there with its arguments. As on one accelerator, a server does not start while another
    one is running.
    """
    (folder / "vllm").mkdir(parents=True)
    (folder / "vllm" / "__init__.py").touch()
    command = folder / "bin" / "vllm"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.engine.vllm_server {folder} "$@"\n')
    command.chmod(0o755)
    project = Path(__file__).parents[2]
    paths = [str(folder), str(project), os.environ.get("PYTHONPATH", "")]
    return {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": ":".join(filter(None, paths))}


def main() -> None:
    """`vllm serve BASE --host HOST --port PORT --api-key KEY ...`, in the foreground."""
    import uvicorn

    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("verb", choices=["serve"])
    parser.add_argument("base")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--api-key")
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument("--max-lora-rank", type=int, choices=[1, 8, 16, 32, 64, 128, 256, 320, 512])
    parser.add_argument("--max-model-len", type=int)
    asked = parser.parse_args()
    (asked.folder / f"{os.getpid()}.json").write_text(json.dumps(sys.argv[3:]))
    memory = (asked.folder / "accelerator").open("w")
    try:
        fcntl.flock(memory, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process is gone, however it ends
    except BlockingIOError:
        sys.exit("CUDA out of memory: another server holds the accelerator")
    uvicorn.run(
        make_app(Server(asked.base, asked.enable_lora, asked.api_key)), host=asked.host, port=asked.port, log_level="error"
    )


if __name__ == "__main__":
    main()
