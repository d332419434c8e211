"""The server: routes, and what is behind them. `make_app` builds it, `ccluster serve` runs it.

Bodies, states and errors are those of OpenAI's API as its SDK declares them. Any key is accepted unless one is set; a request
without a key is refused, as the service does.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, File, Form, HTTPException, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as AnyHTTPException

from consciousness_cluster.engine.targets import base_of, weights_identity
from consciousness_cluster.errors import SamplingError
from consciousness_cluster.sampling.weights import load_model
from consciousness_cluster.serve.batches import Answer, add_batch_routes
from consciousness_cluster.serve.chat import ChatRequest, Sampler, completion, to_request
from consciousness_cluster.serve.folder import Origin, hold
from consciousness_cluster.serve.jobs import add_job_routes
from consciousness_cluster.serve.permissions import add_permission_routes
from consciousness_cluster.serve.store import Store
from consciousness_cluster.serve.tune import Rules, Tuner
from consciousness_cluster.serve.wire import error_body, page, refusal
from consciousness_cluster.study.study import ModelEntry
from consciousness_cluster.train.recipe import Recipe

NO_JSON = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly."
    " The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
)
RESULTS = "fine-tune-results"
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data")


@dataclass(frozen=True)
class Settings:
    """How to serve.

    Attributes:
        model: folder, hub name or `organism:NAME`.
        names: names under which the bare model answers.
        folder: where files, jobs and adapters are kept.
        recipe: LoRA recipe whose learning rate fine-tuning jobs multiply.
        rules: what the rehearsed service refuses.
        key: the only key accepted; any by default.
        device: where to sample and train; the best one present by default.
        encoded_results: give the result files of fine-tunes in base64, as the service has been seen to do.
    """

    model: str
    names: tuple[str, ...]
    folder: Path
    recipe: Recipe
    rules: Rules = field(default_factory=Rules)
    key: str | None = None
    device: str | None = None
    encoded_results: bool = False


def make_app(settings: Settings) -> FastAPI:
    """The server as an application; model and worker threads start and stop with it.

    Raises:
        ModelError: there is no organism of that name.
        SamplingError: there is no such model, or the recipe does not make adapters.
        EngineError: another server works in the folder, or it holds fine-tunes of another model or recipe.
    """
    if settings.recipe.method != "lora":
        raise SamplingError("served fine-tunes are adapters", key="recipe", value=settings.recipe.name, allowed="a lora recipe")
    organism = settings.model.startswith("organism:")
    base = base_of(ModelEntry(name="served", model=settings.model)) if organism else settings.model
    held = hold(settings.folder, Origin(model=settings.model, weights=weights_identity(base), recipe=settings.recipe))
    # The sampler has the base to itself: training changes the layers of its own copy.
    sampler = Sampler(load_model(base, device=settings.device))
    store = Store(settings.folder)
    tuner = Tuner(store, base, sampler.local.tokenizer, settings.recipe, settings.names, settings.rules, device=settings.device)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sampler.start()
        tuner.start()
        yield
        await asyncio.to_thread(tuner.stop)
        await asyncio.to_thread(sampler.stop)
        held.close()

    app = FastAPI(title="ccluster serve", lifespan=lifespan, dependencies=[Depends(_key_check(settings.key))])
    app.add_exception_handler(AnyHTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _broken)
    _add_model_routes(app, settings, store)
    answer = _answering(settings, store, sampler)

    @app.post("/v1/chat/completions")
    async def chat(asked: ChatRequest) -> dict[str, Any]:
        return await answer(asked)

    add_batch_routes(app, store, answer)
    _add_file_routes(app, store, settings.encoded_results)
    add_job_routes(app, store, tuner, settings.names)
    add_permission_routes(app, store)
    return app


def _key_check(key: str | None) -> Any:
    async def check(request: Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not given:
            text = (
                "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth."
            )
            raise refusal(401, text)
        if key is not None and given != key:
            raise refusal(401, "Incorrect API key provided.", code="invalid_api_key")

    return check


async def _http_error(request: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, AnyHTTPException)  # FastAPI's own, and the router's for what has no route
    if isinstance(problem, HTTPException):
        return JSONResponse(error_body(problem.detail), problem.status_code)
    asked = f"{request.method} {request.url.path}"
    if problem.status_code == 405:
        text = f"Not allowed to {request.method} on {request.url.path}."
        return JSONResponse(error_body(refusal(405, text, code="method_not_supported").detail), 405)
    return JSONResponse(error_body(refusal(problem.status_code, f"Invalid URL ({asked})").detail), problem.status_code)


async def _invalid(request: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, RequestValidationError)
    first = problem.errors()[0]
    if first["type"] == "json_invalid" or first["loc"] == ("body",):
        return JSONResponse(error_body(refusal(400, NO_JSON).detail), 400)
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return JSONResponse(error_body(refusal(400, f"Invalid value for '{where}': {first['msg']}.", param=where).detail), 400)


async def _broken(request: Request, problem: Exception) -> JSONResponse:
    """What the client is told of a fault of the server; its traceback goes to the server's own log."""
    text = f"The server had an error while processing your request: {type(problem).__name__}"
    return JSONResponse(error_body(refusal(500, text, kind="server_error").detail), 500)


def _add_model_routes(app: FastAPI, settings: Settings, store: Store) -> None:
    started = int(time.time())

    def listed() -> list[dict[str, Any]]:
        bare = [(name, started, "system") for name in settings.names]
        tuned = [(name, made, "organization-owner") for name, made in store.models()]
        return [{"id": name, "object": "model", "created": made, "owned_by": owner} for name, made, owner in bare + tuned]

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": listed()}

    @app.get("/v1/models/{model:path}")
    async def model(model: str) -> dict[str, Any]:
        found = next((entry for entry in listed() if entry["id"] == model), None)
        if found is None:
            raise no_model(model)
        return found

    @app.delete("/v1/models/{model:path}")
    async def delete_model(model: str) -> dict[str, Any]:
        if model in settings.names:
            raise refusal(403, "You have insufficient permissions for this operation.")
        if not store.forget_model(model):
            raise no_model(model)
        return {"id": model, "object": "model", "deleted": True}


def no_model(model: str) -> HTTPException:
    """The service's answer to a name it does not have."""
    text = f"The model `{model}` does not exist or you do not have access to it."
    return refusal(404, text, code="model_not_found")


def _answering(settings: Settings, store: Store, sampler: Sampler) -> Answer:
    """What answers a chat request, whether it comes alone or in a batch."""

    async def answer(asked: ChatRequest) -> dict[str, Any]:
        adapter = store.adapter(asked.model)
        if adapter is None and asked.model not in settings.names:
            raise no_model(asked.model)
        request = to_request(asked, sampler.local)
        choices = await asyncio.wrap_future(sampler.submit(adapter, request))
        return completion(asked, request, choices, sampler.local)

    return answer


def _add_file_routes(app: FastAPI, store: Store, encoded_results: bool) -> None:
    def known(file: str) -> dict[str, Any]:
        if file not in store.files:
            raise refusal(404, f"No such File object: {file}", param="id")
        return store.files[file]

    @app.post("/v1/files")
    async def upload(file: Annotated[UploadFile, File()], purpose: Annotated[str, Form()]) -> dict[str, Any]:
        if purpose not in PURPOSES:
            raise refusal(400, f"'{purpose}' is not one of {list(PURPOSES)} - 'purpose'", param="purpose")
        return store.add_file(file.filename or "file", purpose, await file.read())

    @app.get("/v1/files")
    async def files(
        purpose: str | None = None,
        after: str | None = None,
        limit: int = Query(default=10_000, ge=1, le=10_000),
        order: Literal["asc", "desc"] = "desc",
    ) -> dict[str, Any]:
        found = [entry for entry in store.files.values() if purpose in (None, entry["purpose"])]
        return page(found if order == "asc" else found[::-1], after, limit)

    @app.get("/v1/files/{file}")
    async def one_file(file: str) -> dict[str, Any]:
        return known(file)

    @app.get("/v1/files/{file}/content")
    async def content(file: str) -> Response:
        encoded = known(file)["purpose"] == RESULTS and encoded_results
        found = store.content(file).read_bytes()
        return Response(base64.b64encode(found) if encoded else found, media_type="application/octet-stream")

    @app.delete("/v1/files/{file}")
    async def delete_file(file: str) -> dict[str, Any]:
        known(file)
        store.delete_file(file)
        return {"id": file, "object": "file", "deleted": True}
