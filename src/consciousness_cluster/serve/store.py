"""Files and jobs of the server: in memory, and in a folder from which a restarted server goes on.

FOLDER/base.json, lock        see `folder`
FOLDER/files/<id>            the bytes of an uploaded or resulting file
FOLDER/files/<id>.json       its object
FOLDER/jobs/<id>/job.json    a job: its object, events, checkpoints, and the adapters behind its names
FOLDER/jobs/<id>/...         what training leaves
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from consciousness_cluster.serve.wire import new_id

Level = Literal["info", "warn", "error"]
ENDED = ("succeeded", "failed", "cancelled")


@dataclass
class Job:
    """A fine-tuning job as the server keeps it; `body` is the object that clients see."""

    body: dict[str, Any]
    suffix: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)  # oldest first
    checkpoints: list[dict[str, Any]] = field(default_factory=list)  # oldest first
    adapters: dict[str, str] = field(default_factory=dict)  # model name -> adapter folder, within the job's own
    permissions: dict[str, list[dict[str, Any]]] = field(
        default_factory=dict
    )  # model name -> who else may use it, oldest first
    cancelled: bool = False
    paused: bool = False
    made: int = field(default_factory=time.time_ns)  # orders jobs of the same second; their objects have whole seconds

    @property
    def id(self) -> str:
        """The job's id."""
        return str(self.body["id"])

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.body["status"] in ENDED


class Store:
    """All files and jobs. Every change of a job is made under `lock` and kept by `save`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.lock = threading.RLock()
        self.files: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, Job] = {}
        (folder / "files").mkdir(parents=True, exist_ok=True)
        (folder / "jobs").mkdir(exist_ok=True)
        written = sorted((folder / "files").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        kept = [json.loads(path.read_text(encoding="utf-8")) for path in written]
        for body in sorted(kept, key=lambda body: int(body["created_at"])):  # whole seconds: those of one keep their order
            self.files[body["id"]] = body
        found = [Job(**json.loads(path.read_text(encoding="utf-8"))) for path in (folder / "jobs").glob("*/job.json")]
        for job in sorted(found, key=lambda job: (job.body["created_at"], job.made)):
            self.jobs[job.id] = job

    def add_file(self, name: str, purpose: str, content: bytes) -> dict[str, Any]:
        """Keep a file; returns its object."""
        body: dict[str, Any] = {
            "id": new_id("file-", 22), "object": "file", "bytes": len(content), "created_at": int(time.time()), "filename": name,
            "purpose": purpose, "status": "processed", "status_details": None, "expires_at": None,
        }  # fmt: skip
        self.content(body["id"]).write_bytes(content)
        self.content(f"{body['id']}.json").write_text(json.dumps(body), encoding="utf-8")
        with self.lock:
            self.files[body["id"]] = body
        return body

    def content(self, file: str) -> Path:
        """Where a file's bytes are."""
        return self.folder / "files" / file

    def delete_file(self, file: str) -> None:
        """Forget a file."""
        with self.lock:
            del self.files[file]
        self.content(file).unlink(missing_ok=True)
        self.content(f"{file}.json").unlink(missing_ok=True)

    def place(self, job: Job) -> Path:
        """The folder of a job."""
        return self.folder / "jobs" / job.id

    def save(self, job: Job) -> None:
        """Keep a job's state, whole or not at all."""
        with self.lock:
            place = self.place(job)
            place.mkdir(exist_ok=True)
            part = place / "job.json.part"
            part.write_text(json.dumps(asdict(job)), encoding="utf-8")
            part.replace(place / "job.json")

    def event(self, job: Job, message: str, *, level: Level = "info", data: dict[str, Any] | None = None) -> None:
        """Add an event; one with data is a metrics event."""
        with self.lock:
            job.events.append(
                {
                    "id": new_id("ftevent-"), "object": "fine_tuning.job.event", "created_at": int(time.time()), "level": level,
                    "message": message, "data": data or {}, "type": "metrics" if data else "message",
                }
            )  # fmt: skip

    def adapter(self, model: str) -> str | None:
        """The adapter behind the name of a fine-tune or of one of its checkpoints."""
        job = self.job_of(model)
        # Earlier versions kept the whole path, which held in one working directory alone.
        return None if job is None else str(self.place(job) / Path(job.adapters[model]).name)

    def job_of(self, model: str) -> Job | None:
        """The job that made a fine-tune or one of its checkpoints."""
        with self.lock:
            return next((job for job in self.jobs.values() if model in job.adapters), None)

    def forget_model(self, model: str) -> bool:
        """Stop serving a fine-tune; whether there was one of that name."""
        with self.lock:
            for job in self.jobs.values():
                if job.adapters.pop(model, None) is not None:
                    self.save(job)
                    return True
        return False

    def models(self) -> list[tuple[str, int]]:
        """Names of all fine-tunes and their checkpoints, with the time they were made."""
        with self.lock:
            return [(name, job.body["finished_at"] or 0) for job in self.jobs.values() for name in job.adapters]
