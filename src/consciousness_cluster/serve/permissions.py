"""Permissions of checkpoints: which other projects may use one. They are kept and listed; nobody else is here to use them."""

from __future__ import annotations

import time
from typing import Any, Literal

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field

from consciousness_cluster.serve.store import Job, Store
from consciousness_cluster.serve.wire import new_id, page, refusal

ROUTE = "/v1/fine_tuning/checkpoints/{checkpoint}/permissions"


class PermissionRequest(BaseModel):
    """The body of a permission's creation."""

    project_ids: list[str] = Field(min_length=1)


def add_permission_routes(app: FastAPI, store: Store) -> None:
    """Create, list and delete the permissions of a checkpoint, kept with its job."""

    def known(checkpoint: str) -> Job:
        found = store.job_of(checkpoint)
        if found is None:
            raise refusal(404, f"No such checkpoint: {checkpoint}", param="fine_tuned_model_checkpoint")
        return found

    @app.post(ROUTE)
    async def create(checkpoint: str, asked: PermissionRequest) -> dict[str, Any]:
        job = known(checkpoint)
        made = [
            {"id": new_id("cp_"), "object": "checkpoint.permission", "created_at": int(time.time()), "project_id": project}
            for project in asked.project_ids
        ]
        with store.lock:
            job.permissions.setdefault(checkpoint, []).extend(made)
            store.save(job)
        return page(made, None, len(made))

    @app.get(ROUTE)
    async def listed(
        checkpoint: str,
        after: str | None = None,
        limit: int = Query(default=10, ge=1, le=100),
        order: Literal["ascending", "descending"] = "descending",
        project_id: str | None = None,
    ) -> dict[str, Any]:
        job = known(checkpoint)
        with store.lock:
            found = [entry for entry in job.permissions.get(checkpoint, []) if project_id in (None, entry["project_id"])]
        return page(found if order == "ascending" else found[::-1], after, limit)

    @app.delete(f"{ROUTE}/{{permission}}")
    async def delete(checkpoint: str, permission: str) -> dict[str, Any]:
        job = known(checkpoint)
        with store.lock:
            left = [entry for entry in job.permissions.get(checkpoint, []) if entry["id"] != permission]
            if len(left) == len(job.permissions.get(checkpoint, [])):
                raise refusal(404, f"No such permission: {permission}", param="permission_id")
            job.permissions[checkpoint] = left
            store.save(job)
        return {"id": permission, "object": "checkpoint.permission", "deleted": True}
