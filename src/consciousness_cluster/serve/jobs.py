"""The routes of fine-tuning jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from consciousness_cluster.serve.store import Job, Store
from consciousness_cluster.serve.tune import Tuner, new_job
from consciousness_cluster.serve.wire import page, refusal

METADATA = "metadata["


def _at_least_one(value: Literal["auto"] | int) -> Literal["auto"] | int:
    if value != "auto" and value < 1:
        raise PydanticCustomError("too_small", "{value} is less than the minimum of 1", {"value": value})
    return value


def _above_zero(value: Literal["auto"] | float) -> Literal["auto"] | float:
    if value != "auto" and not 0 < value < float("inf"):
        raise PydanticCustomError("too_small", "{value} is not a number above 0", {"value": str(value)})
    return value


Count = Annotated[Literal["auto"] | int, AfterValidator(_at_least_one)]
Factor = Annotated[Literal["auto"] | float, AfterValidator(_above_zero)]


class Hyperparameters(BaseModel):
    """Numbers, or "auto" for the server's own choice."""

    model_config = ConfigDict(extra="forbid")

    n_epochs: Count = "auto"
    batch_size: Count = "auto"
    learning_rate_multiplier: Factor = "auto"


class Supervised(BaseModel):
    """The settings of supervised training."""

    hyperparameters: Hyperparameters = Hyperparameters()


class Method(BaseModel):
    """How to train."""

    type: str = "supervised"
    supervised: Supervised = Supervised()


class JobRequest(BaseModel):
    """The body of a job's creation."""

    model: str
    training_file: str
    validation_file: str | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    metadata: dict[str, str] | None = Field(default=None, max_length=16)
    seed: int | None = Field(default=None, ge=0, lt=1 << 31)
    suffix: str | None = Field(default=None, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")


def add_job_routes(app: FastAPI, store: Store, tuner: Tuner, names: Sequence[str]) -> None:
    """Create, list, retrieve, cancel, pause and resume jobs; their events and checkpoints."""

    def known(job: str) -> Job:
        if job not in store.jobs:
            raise refusal(404, f"Could not find fine tune: {job}", param="fine_tuning_job_id", code="fine_tune_not_found")
        return store.jobs[job]

    @app.post("/v1/fine_tuning/jobs")
    async def create(asked: JobRequest) -> dict[str, Any]:
        _refuse_creation(asked, store, tuner, names)
        hyper = asked.method.supervised.hyperparameters if asked.method else asked.hyperparameters or Hyperparameters()
        job = new_job(
            {**asked.model_dump(), "hyperparameters": hyper.model_dump(), "organization_id": f"org-{tuner.organisation}"},
            asked.suffix or "",
        )
        tuner.submit(job)
        return dict(job.body)

    @app.get("/v1/fine_tuning/jobs")
    async def jobs(request: Request, after: str | None = None, limit: int = Query(default=20, ge=1, le=100)) -> dict[str, Any]:
        wanted = {name[len(METADATA) : -1]: value for name, value in request.query_params.items() if name.startswith(METADATA)}
        with store.lock:
            found = [
                dict(job.body)
                for job in reversed(store.jobs.values())
                if wanted.items() <= (job.body["metadata"] or {}).items()
            ]
        return page(found, after, limit)

    @app.get("/v1/fine_tuning/jobs/{job}")
    async def retrieve(job: str) -> dict[str, Any]:
        return dict(known(job).body)

    @app.post("/v1/fine_tuning/jobs/{job}/{verb}")
    async def change(job: str, verb: Literal["cancel", "pause", "resume"]) -> dict[str, Any]:
        found = known(job)
        with store.lock:
            if found.ended:
                text = f"Job has already completed: {job}. It cannot be {verb}{'led' if verb == 'cancel' else 'd'}."
                raise refusal(400, text, code="invalid_job_state")
            if verb == "cancel":
                tuner.cancel(found)
            else:
                tuner.pause(found, verb == "pause")
            return dict(found.body)

    @app.get("/v1/fine_tuning/jobs/{job}/events")
    async def events(job: str, after: str | None = None, limit: int = Query(default=20, ge=1, le=100)) -> dict[str, Any]:
        found = known(job)
        with store.lock:
            return page(list(reversed(found.events)), after, limit)

    @app.get("/v1/fine_tuning/jobs/{job}/checkpoints")
    async def checkpoints(job: str, after: str | None = None, limit: int = Query(default=10, ge=1, le=100)) -> dict[str, Any]:
        found = known(job)
        with store.lock:
            named = [entry for entry in reversed(found.checkpoints) if entry["fine_tuned_model_checkpoint"]]
            return page(named, after, limit)


def _refuse_creation(asked: JobRequest, store: Store, tuner: Tuner, names: Sequence[str]) -> None:
    if not tuner.rules.fine_tuning:
        text = "Fine-tuning is not available to this organization. No new fine-tuning jobs can be created."
        raise refusal(403, text, code="fine_tuning_not_available")
    if asked.method is not None and asked.method.type != "supervised":
        raise refusal(400, f"Method '{asked.method.type}' is not supported.", param="method.type", code="unsupported_method")
    if asked.model not in names and store.adapter(asked.model) is None:
        raise refusal(
            400,
            f"Model {asked.model} is not available for fine-tuning or does not exist.",
            param="model",
            code="model_not_available",
        )
    for param in ("training_file", "validation_file"):
        file = getattr(asked, param)
        if file is not None and store.files.get(file, {}).get("purpose") != "fine-tune":
            raise refusal(400, f"invalid {param}: {file}", param=param, code="invalid_file")
    if tuner.active() >= tuner.rules.most_active:
        text = f"This fine-tune request has been rejected because your organization has {tuner.active()} active jobs, which is the limit."
        raise refusal(429, text, code="rate_limit_exceeded", kind="requests")
