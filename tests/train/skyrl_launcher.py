"""Starts the open Tinker server `skyrl` 0.4.0 on the loopback; runs inside that server's own environment, never in ours.

    SKYRL_PYTHON skyrl_launcher.py --backend jax --base-model FOLDER --port PORT --checkpoints-base FOLDER --backend-config JSON

It differs from the stock server in what the newest SDK needs: the engine is started with this interpreter instead of `uv run`;
prompt log-probabilities begin with None; samples carry an id each; weights can be loaded without a model (the SDK creates a
training client from a checkpoint this way); a session can be finished.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, Request, Response
from skyrl.tinker import api, types
from skyrl.tinker.config import EngineConfig, add_model, config_to_argv
from skyrl.tinker.db_models import ModelDB
from sqlmodel.ext.asyncio.session import AsyncSession

Session = Annotated[AsyncSession, Depends(api.get_session)]


def engine_command(parent: list[str], config: Any) -> list[str]:
    return [sys.executable, "-m", "skyrl.tinker.engine", *config_to_argv(config)]


def replace_route(path: str) -> None:
    api.app.router.routes = [route for route in api.app.router.routes if getattr(route, "path", None) != path]


def patch() -> None:
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


def main() -> None:
    parser = argparse.ArgumentParser()
    add_model(parser, EngineConfig)
    parser.add_argument("--port", type=int, required=True)
    given = vars(parser.parse_args())
    api.app.state.engine_config = EngineConfig.model_validate(
        {key: value for key, value in given.items() if key in EngineConfig.model_fields}
    )
    patch()
    uvicorn.run(api.app, host="127.0.0.1", port=given["port"], log_level="warning")


if __name__ == "__main__":
    main()
