"""Starts the open Tinker server `skyrl` 0.4.0 on the loopback; runs inside that server's own environment, never in ours.

    SKYRL_PYTHON skyrl_launcher.py --backend jax --base-model FOLDER --port PORT --checkpoints-base FOLDER --backend-config JSON

Two kinds of differences from the stock server. `patch`: what the newest SDK needs to talk to it at all. `add`: three things
that Tinker has and this server lacks, made from what it has: expiry of checkpoints (noted, nothing is ever deleted), export as
a PEFT adapter (its own sampler checkpoint, file by file), and chat completions (its own sampling, the model's own template).
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, HTTPException, Request, Response
from skyrl.tinker import api, types
from skyrl.tinker.config import EngineConfig, add_model, config_to_argv
from skyrl.tinker.db_models import ModelDB, RequestStatus
from sqlmodel.ext.asyncio.session import AsyncSession
from transformers import AutoTokenizer

Session = Annotated[AsyncSession, Depends(api.get_session)]
ANSWER_SECONDS = 300

expires: dict[str, datetime] = {}  # by the path of a checkpoint
exports: set[str] = set()  # requests that save weights to be downloaded


def engine_command(parent: list[str], config: Any) -> list[str]:
    return [sys.executable, "-m", "skyrl.tinker.engine", *config_to_argv(config)]


def replace_route(path: str) -> None:
    api.app.router.routes = [route for route in api.app.router.routes if getattr(route, "path", None) != path]


def patch() -> None:
    """The engine is started with this interpreter instead of `uv run`; prompt log-probabilities begin with None; samples carry an
    id each; weights can be loaded without a model (the SDK creates a training client from a checkpoint this way); a session can
    be finished.
    """
    api._build_uv_run_cmd_engine = engine_command

    serialize = api._serialize_proto_result

    def padded(kind: Any, data: str) -> bytes:
        found = json.loads(data)
        if found.get("prompt_logprobs"):
            found["prompt_logprobs"] = [None, *found["prompt_logprobs"]]
        return serialize(kind, json.dumps(found))

    api._serialize_proto_result = padded

    replace_route("/api/v1/asample")

    @api.app.post("/api/v1/asample")
    async def asample(request: api.SampleRequest, req: Request, session: Session) -> dict[str, Any]:
        made = (await api.asample(request, req, session)).model_dump()
        return {**made, "sample_sequence_ids": [f"{made['request_id']}-{number}" for number in range(request.num_samples)]}

    replace_route("/api/v1/load_weights")

    @api.app.post("/api/v1/load_weights")
    async def load_weights(req: Request, session: Session) -> Any:
        body = await req.json()
        if body.get("model_id") and await session.get(ModelDB, body["model_id"]) is not None:
            return await api.load_weights(api.LoadWeightsRequest.model_validate(body), req, session)
        # The SDK names the model it is about to load by session and number, and creates nothing beforehand.
        model = f"{body['session_id']}:train:{body['model_seq_id']}"
        source = await api.get_model(session, types.TinkerPath.parse(body["path"]).primary_id)
        lora = types.LoraConfig.model_validate(source.lora_config)
        wanted = types.CreateModelInput(lora_config=lora)
        made = await api.create_future(session, types.RequestType.CREATE_MODEL, model, wanted)
        session.add(
            ModelDB(
                model_id=model, base_model=source.base_model, lora_config=source.lora_config, status="created", request_id=made,
                session_id=body["session_id"],
            )
        )  # fmt: skip
        await session.commit()
        load = api.LoadWeightsRequest(model_id=model, path=body["path"], optimizer=body.get("optimizer", True))
        return await api.load_weights(load, req, session)

    @api.app.post("/api/v1/sessions/{session_id}/finish", status_code=204)
    async def finish(session_id: str) -> Response:
        return Response(status_code=204)


def add() -> None:
    """Expiry, export and chat completions."""
    add_expiry()
    add_export()
    add_chat()


def add_expiry() -> None:
    place = "/api/v1/training_runs/{run}/checkpoints"
    replace_route("/api/v1/training_runs/{unique_id}/checkpoints")

    @api.app.get(place)
    async def listed(run: str, session: Session) -> dict[str, Any]:
        found = (await api.list_checkpoints(run, session)).model_dump(mode="json")["checkpoints"]
        for entry in found:
            ends = expires.get(entry["tinker_path"])
            entry["expires_at"] = None if ends is None else ends.isoformat()
        return {"checkpoints": found}

    @api.app.put(place + "/{checkpoint:path}/ttl", status_code=204)
    async def live(run: str, checkpoint: str, req: Request, session: Session) -> Response:
        path = f"tinker://{run}/{checkpoint}"
        known = (await api.list_checkpoints(run, session)).checkpoints
        if path not in {entry.tinker_path for entry in known}:
            raise HTTPException(404, f"no checkpoint {path}")
        seconds = (await req.json())["ttl_seconds"]
        expires.pop(path, None)
        if seconds is not None:
            expires[path] = datetime.now(UTC) + timedelta(seconds=seconds)
        return Response(status_code=204)


def add_export() -> None:
    @api.app.post("/api/v1/save_weights_external")
    async def save(req: Request, session: Session) -> dict[str, Any]:
        body = await req.json()
        wanted = api.SaveWeightsForSamplerRequest(model_id=body["model_id"], path=body["path"])
        made = (await api.save_weights_for_sampler(wanted, session)).model_dump()
        exports.add(made["request_id"])
        return made

    replace_route("/api/v1/retrieve_future")

    @api.app.post("/api/v1/retrieve_future")
    async def retrieve(request: api.RetrieveFutureRequest, req: Request) -> Response:
        found = await api.retrieve_future(request, req)
        if request.request_id not in exports or found.status_code != 200:
            return found
        run, name = json.loads(found.body)["path"].removeprefix("tinker://").split("/")
        return api.raw_json_response(
            json.dumps({"path": f"tinker://{run}/external_weights/{name}", "type": "save_weights_external"})
        )

    @api.app.get("/api/v1/training_runs/{run}/checkpoints/external_weights/{name}/external_weights_urls")
    async def urls(run: str, name: str, req: Request) -> dict[str, Any]:
        with archive(run, name) as files:
            names = [entry.name.removeprefix("./") for entry in files if entry.isfile()]
        ends = datetime.now(UTC) + timedelta(hours=1)
        return {
            "urls": {one: f"{req.base_url}files/{run}/{name}/{one}" for one in names},
            "expires": ends.isoformat(),
        }

    @api.app.get("/files/{run}/{name}/{file:path}")
    async def content(run: str, name: str, file: str) -> Response:
        with archive(run, name) as files:
            entry = next(one for one in files if one.name.removeprefix("./") == file)
            stream = files.extractfile(entry)
            assert stream is not None
            return Response(stream.read(), media_type="application/octet-stream")


def archive(run: str, name: str) -> tarfile.TarFile:
    return tarfile.open(api.app.state.engine_config.checkpoints_base / run / "sampler_weights" / f"{name}.tar.gz")


@cache
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(api.app.state.engine_config.base_model)


def add_chat() -> None:
    @api.app.post("/oai/api/v1/chat/completions")
    async def complete(req: Request, session: Session) -> dict[str, Any]:
        body = await req.json()
        asked = tokenizer().apply_chat_template(body["messages"], add_generation_prompt=True, return_dict=True)["input_ids"]
        request = sample_request(body, asked)
        made = await api.asample(request, req, session)
        found = await api.wait_for_future(req.app.state.future_waiters, int(made.request_id), ANSWER_SECONDS)
        if found is None or found[0] != RequestStatus.COMPLETED:
            raise HTTPException(500, str(found))
        sequences = json.loads(found[2])["sequences"]
        spent = sum(len(one["tokens"]) for one in sequences)
        return {
            "id": f"chatcmpl-{made.request_id}", "object": "chat.completion", "created": int(time.time()), "model": body["model"],
            "choices": [choice(number, one) for number, one in enumerate(sequences)],
            "usage": {"prompt_tokens": len(asked), "completion_tokens": spent, "total_tokens": len(asked) + spent},
        }  # fmt: skip


def sample_request(body: dict[str, Any], asked: list[int]) -> api.SampleRequest:
    given = {key: body[key] for key in ("temperature", "top_p", "seed") if body.get(key) is not None}
    limit = body.get("max_completion_tokens") or body["max_tokens"]
    kind = "model_path" if body["model"].startswith("tinker://") else "base_model"
    return api.SampleRequest.model_validate(
        {
            "prompt": {"chunks": [{"tokens": asked}]}, "num_samples": body.get("n") or 1, kind: body["model"],
            "sampling_params": {"max_tokens": limit, "stop": [tokenizer().eos_token_id], **given},
        }
    )  # fmt: skip


def choice(number: int, one: dict[str, Any]) -> dict[str, Any]:
    text = tokenizer().decode(one["tokens"], skip_special_tokens=True)
    return {"index": number, "message": {"role": "assistant", "content": text}, "finish_reason": one["stop_reason"]}


def main() -> None:
    parser = argparse.ArgumentParser()
    add_model(parser, EngineConfig)
    parser.add_argument("--port", type=int, required=True)
    given = vars(parser.parse_args())
    api.app.state.engine_config = EngineConfig.model_validate(
        {key: value for key, value in given.items() if key in EngineConfig.model_fields}
    )
    patch()
    add()
    uvicorn.run(api.app, host="127.0.0.1", port=given["port"], log_level="warning")


if __name__ == "__main__":
    main()
