"""Fine-tuning jobs: made, validated at once, really trained one after another, cancelled, paused, resumed.

One thread validates and one trains; each takes the oldest job whose state says that it is its turn. A paused job is put back with
what it has trained, and others go before it.
"""

from __future__ import annotations

import csv
import io
import random
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from consciousness_cluster.data.rows import Row
from consciousness_cluster.errors import ClusterError
from consciousness_cluster.serve.check import Failure, check_file, refused
from consciousness_cluster.serve.measure import Measured, measure
from consciousness_cluster.serve.store import Job, Level, Store
from consciousness_cluster.serve.wire import new_id
from consciousness_cluster.train.backend import Trained, TrainingJob
from consciousness_cluster.train.local import LocalBackend, StepEnd, Stopped
from consciousness_cluster.train.recipe import Recipe
from consciousness_cluster.train.render import Rendered, render

KEPT_EPOCHS = 3  # checkpoints of the last epochs are kept
COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")
METRICS = ("step", "train_loss", "train_mean_token_accuracy", "full_valid_loss", "full_valid_mean_token_accuracy")
MODEL = "model"  # the folder, within a job's own, of what it trains
STARTED = "Fine-tuning job started"


@dataclass(frozen=True)
class Rules:
    """What the rehearsed service refuses.

    Attributes:
        fine_tuning: whether this organisation may fine-tune at all.
        flagged: words that its moderation flags in training rows.
        refuse: a category in which every trained model is refused after its training.
        most_active: the most jobs that may be under way.
    """

    fine_tuning: bool = True
    flagged: tuple[str, ...] = ()
    refuse: str | None = None
    most_active: int = 3


class Ended(Exception):  # noqa: N818  not an error: the job was cancelled
    """Stops a training between two steps, for good."""


@dataclass
class Tuner:
    """The worker that brings jobs to their end.

    Args:
        store: where jobs are kept.
        base: folder or hub name of the model.
        tokenizer: its tokenizer, for counting and for tokens that rows must not carry.
        recipe: the recipe whose learning rate the jobs multiply.
        names: names of the bare model.
        rules: what is refused.
        organisation: how the names of fine-tunes call it.
        device: where to train; the best one present by default.
    """

    store: Store
    base: str
    tokenizer: Any
    recipe: Recipe
    names: tuple[str, ...]
    rules: Rules = field(default_factory=Rules)
    organisation: str = "rehearsal"
    device: str | None = None

    def __post_init__(self) -> None:
        self._turn = threading.Condition(self.store.lock)  # told of every change that may give a thread something to do
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, args=(("validating_files",), self._validate), name="validating", daemon=True),
            threading.Thread(target=self._work, args=(("queued", "running"), self._train), name="fine-tuning", daemon=True),
        ]

    def start(self) -> None:
        """Begin to work; jobs that a restart interrupted go on from their last checkpoint."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop after the step under way, keep it, and wait for that; unfinished jobs go on with the next step after a restart."""
        with self._turn:
            self._closing = True
            self._turn.notify_all()
        for thread in self._threads:
            thread.join()

    def submit(self, job: Job) -> None:
        """Take a new job."""
        with self._turn:
            self.store.jobs[job.id] = job
            self.store.event(job, f"Created fine-tuning job: {job.id}")
            self.store.event(job, _validating(job))
            self.store.save(job)
            self._turn.notify_all()

    def active(self) -> int:
        """Jobs that have not ended."""
        with self.store.lock:
            return sum(not job.ended for job in self.store.jobs.values())

    def _next(self, states: Sequence[str]) -> Job | None:
        """The oldest job in one of the states that is not held, waited for; None when the server is going down."""
        with self._turn:
            while not self._closing:
                for job in self.store.jobs.values():
                    # What is paused is held before it is trained; its files are looked at all the same.
                    if job.body["status"] in states and not (job.paused and "queued" in states):
                        return job
                self._turn.wait()
        return None

    def _work(self, states: Sequence[str], bring_on: Callable[[Job], None]) -> None:
        while (job := self._next(states)) is not None:
            try:
                bring_on(job)
            except (Ended, Stopped):
                continue
            except ClusterError as problem:
                self.fail(job, Failure("invalid_training_file", f"The job failed due to an invalid training file. {problem}"))
            except Exception as problem:  # the one place that records a failed job; the server and other jobs go on
                (self.store.place(job) / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
                self.fail(
                    job, Failure("server_error", f"The job failed due to an internal error: {type(problem).__name__}", None)
                )

    def _validate(self, job: Job) -> None:
        if self._rows(job) is not None:
            self._to(job, "queued", "Files validated, moving job to queued state")

    def _train(self, job: Job) -> None:
        found = self._rows(job)  # the files may have been deleted since they were validated
        if found is None:
            return
        start = self.store.adapter(job.body["model"])
        if start is None and job.body["model"].startswith("ft:") and job.body["model"] not in self.names:
            text = f"Model {job.body['model']} was deleted before the job started"
            self.fail(job, Failure("model_not_available", text, "model"))
            return
        if not any(event["message"] == STARTED for event in job.events):  # of a job that goes on all this was said before
            self._to(job, "running", STARTED, resolve(job.body["hyperparameters"], len(found[0])))
        _Training(self, job, *found, start).run()

    def _rows(self, job: Job) -> tuple[list[Row], list[Row]] | None:
        """Training and validation rows; None where a file is refused, which ends the job."""
        rows = self._checked(job, "training_file")
        valid = self._checked(job, "validation_file") if job.body["validation_file"] else []
        if isinstance(rows, Failure):
            self.fail(job, rows)
        elif isinstance(valid, Failure):
            self.fail(job, valid)
        else:
            return rows, valid
        return None

    def _checked(self, job: Job, param: str) -> list[Row] | Failure:
        file = job.body[param]
        if file not in self.store.files:
            return Failure("invalid_file", f"File {file} was deleted before the job started", param)
        special = self.tokenizer.all_special_tokens
        return check_file(self.store.content(file).read_bytes(), special, self.rules.flagged, param)

    def _to(self, job: Job, status: str, message: str, hyper: dict[str, Any] | None = None) -> None:
        with self._turn:
            if job.cancelled:
                raise Ended
            if job.paused and status == "running":
                raise Stopped
            job.body["status"] = status
            if hyper is not None:
                job.body["hyperparameters"] = hyper
                job.body["method"]["supervised"]["hyperparameters"] = hyper
            self.store.event(job, message)
            self.store.save(job)
            self._turn.notify_all()

    def check(self, job: Job) -> None:
        """Return when the job may go on; raises `Ended` when it is cancelled, `Stopped` when it is held or the server goes down."""
        with self.store.lock:
            if job.cancelled:
                raise Ended
            if job.paused or self._closing:
                raise Stopped
            job.body["status"] = "running"  # held and let go between two steps, it was queued for as long

    def cancel(self, job: Job) -> None:
        """Cancel a job; what is being trained stops after its step."""
        with self.store.lock:
            job.cancelled = True
            self.end(job, "cancelled", "Fine-tuning job cancelled")

    def pause(self, job: Job, paused: bool) -> None:
        """Hold a job after the step under way, or let it go on when its turn comes."""
        with self._turn:
            if job.paused == paused:
                return
            job.paused = paused
            if job.body["status"] == "running":
                job.body["status"] = "queued"
            self.store.event(job, "Fine-tuning job paused" if paused else "Fine-tuning job resumed")
            self.store.save(job)
            self._turn.notify_all()

    def end(self, job: Job, status: str, message: str, level: Level = "info") -> None:
        """Bring a job into its last state."""
        with self.store.lock:
            job.body["finished_at"] = int(time.time())
            job.body["status"] = status
            job.body["estimated_finish"] = None
            self.store.event(job, message, level=level)
            self.store.save(job)

    def fail(self, job: Job, failure: Failure) -> None:
        """End a job in failure, unless it has ended meanwhile."""
        with self.store.lock:
            if job.ended:
                return
            job.body["error"] = failure.as_dict()
            self.end(job, "failed", failure.message, "error")


class _Training:
    """One job's training, from its first step to the model that is served."""

    def __init__(self, tuner: Tuner, job: Job, rows: list[Row], valid: list[Row], start: str | None) -> None:
        self._tuner = tuner
        self._store = tuner.store
        self._job = job
        self._rows = rows
        self._start = start
        self._hyper: dict[str, Any] = job.body["hyperparameters"]
        self._rendered = render(rows, tuner.tokenizer, tuner.recipe.max_length, {})
        self._valid: Sequence[Rendered] = render(valid, tuner.tokenizer, tuner.recipe.max_length, {})
        self._before: int | None = None  # steps that were done before this start, known with its first
        self._curve = dict(map(_line, _metrics(job)))  # of steps before a restart
        self._started = time.monotonic()

    def run(self) -> None:
        """Train, keep the checkpoints of the last epochs, and serve the result, or record why not."""
        tuner, job = self._tuner, self._job
        recipe = tuner.recipe.model_copy(
            update={
                "epochs": self._hyper["n_epochs"],
                "batch": self._hyper["batch_size"],
                "learning_rate": tuner.recipe.learning_rate * self._hyper["learning_rate_multiplier"],
            }
        )
        place = tuner.store.place(job) / MODEL
        work = TrainingJob(tuner.base, self._rows, recipe, job.body["seed"], place, job.id, self._start)
        self._finish(LocalBackend(device=tuner.device, watch=self._watch).train(work, lambda step, steps: None))

    def _watch(self, at: StepEnd) -> None:
        if self._job.cancelled:
            raise Ended
        if self._before is None:
            self._before = at.step - 1
            self._take_back(at.step)
        self._tell(at)
        try:
            self._tuner.check(self._job)
        except Stopped:
            self._store.save(self._job)  # with the events of the steps that are kept
            raise

    def _take_back(self, step: int) -> None:
        """Forget what was told of this step and later ones before a kill: they are trained again."""
        with self._store.lock:
            self._job.events = [
                event for event in self._job.events if event["type"] != "metrics" or event["data"]["step"] < step
            ]
            self._job.checkpoints = [entry for entry in self._job.checkpoints if entry["step_number"] < step]

    def _tell(self, at: StepEnd) -> None:
        """What clients are told of a step, and the adapter of an epoch's end."""
        loss = round(float(at.loss), 4)
        if at.step % (at.steps // self._hyper["n_epochs"]):
            self._note(at, loss, None, None)
            return
        train = measure(at.model, at.rows, self._tuner.tokenizer)
        valid = measure(at.model, self._valid, self._tuner.tokenizer) if self._valid else None
        self._note(at, loss, train, valid)
        if at.step < at.steps:
            at.save(self._store.place(self._job) / f"step-{at.step}")

    def _note(self, at: StepEnd, loss: float, train: Measured | None, valid: Measured | None) -> None:
        """A metrics event, a line of the result file and, at the end of an epoch, a checkpoint."""
        data: dict[str, Any] = {"step": at.step, "train_loss": loss}
        if train is not None:
            data["train_mean_token_accuracy"] = train.accuracy
        if valid is not None:
            data |= {"full_valid_loss": valid.loss, "full_valid_mean_token_accuracy": valid.accuracy}
        spent = time.monotonic() - self._started
        with self._store.lock:
            text = f"Step {at.step}/{at.steps}: training loss={loss:.2f}"
            self._store.event(self._job, text, data={**data, "total_steps": at.steps})
            self._job.body["estimated_finish"] = int(
                time.time() + spent / (at.step - (self._before or 0)) * (at.steps - at.step)
            )
            if train is not None:
                self._checkpoint(at.step, data)
        self._curve.update([_line(data)])

    def _checkpoint(self, step: int, metrics: dict[str, Any]) -> None:
        """Note a checkpoint; its name is given when the job succeeds."""
        made = {
            "id": new_id("ftckpt_"), "object": "fine_tuning.job.checkpoint", "created_at": int(time.time()), "step_number": step,
            "fine_tuned_model_checkpoint": "", "fine_tuning_job_id": self._job.id, "metrics": metrics,
        }  # fmt: skip
        others = [entry for entry in self._job.checkpoints if entry["step_number"] != step]
        self._job.checkpoints = [*others, made][-KEPT_EPOCHS:]
        self._store.save(self._job)

    def _finish(self, record: Trained) -> None:
        tuner, job = self._tuner, self._job
        base = job.body["model"].removeprefix("ft:").split(":")[0]
        model = f"ft:{base}:{tuner.organisation}:{job.suffix}:{new_id('', 8)}"
        with self._store.lock:
            if job.cancelled:
                raise Ended
            if not job.checkpoints or job.checkpoints[-1]["step_number"] != record.steps:
                self._checkpoint(
                    record.steps, {"step": record.steps, "train_loss": record.losses[-1]}
                )  # restarted after the last step
            for checkpoint in job.checkpoints:
                step = checkpoint["step_number"]
                last = step == record.steps
                checkpoint["fine_tuned_model_checkpoint"] = model if last else f"{model}:ckpt-step-{step}"
                if not last:
                    job.adapters[f"{model}:ckpt-step-{step}"] = f"step-{step}"
            if tuner.rules.refuse is not None:
                tuner.fail(job, refused(tuner.rules.refuse, model))
                return
            job.adapters[model] = MODEL
            job.body["fine_tuned_model"] = model
            job.body["trained_tokens"] = sum(len(row.tokens) for row in self._rendered) * self._hyper["n_epochs"]
            job.body["result_files"] = [self._store.add_file("step_metrics.csv", "fine-tune-results", self._csv(record))["id"]]
            self._store.event(job, f"New fine-tuned model created: {model}")
            tuner.end(job, "succeeded", "The job has successfully completed")

    def _csv(self, record: Trained) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for step, loss in enumerate(record.losses, 1):
            writer.writerow(self._curve.get(step, (step, loss, None, None, None)))
        return text.getvalue().encode()


def _metrics(job: Job) -> list[dict[str, Any]]:
    return [event["data"] for event in job.events if event["type"] == "metrics"]


def _line(metrics: dict[str, Any]) -> tuple[int, tuple[Any, ...]]:
    """A step and its line in the result file."""
    return metrics["step"], tuple(metrics.get(key) for key in METRICS)


def resolve(asked: dict[str, Any], rows: int) -> dict[str, Any]:
    """Hyperparameters with "auto" turned into numbers.

    The real service does not say how it chooses; here: 3 epochs, a five-hundredth of the rows as batch (1 to 256), multiplier 2.
    """
    chosen = {"n_epochs": 3, "batch_size": min(max(rows // 500, 1), 256), "learning_rate_multiplier": 2.0}
    return {key: chosen[key] if asked.get(key, "auto") == "auto" else asked[key] for key in chosen}


def new_job(body: dict[str, Any], suffix: str) -> Job:
    """A job as it is just after its creation.

    Args:
        body: `model`, `training_file`, `validation_file`, `hyperparameters`, `metadata`, `seed`, `organization_id`.
        suffix: what the user adds to the name.
    """
    hyper = {key: body["hyperparameters"].get(key, "auto") for key in ("n_epochs", "batch_size", "learning_rate_multiplier")}
    made = {
        "id": new_id("ftjob-"), "object": "fine_tuning.job", "created_at": int(time.time()), "error": None, "fine_tuned_model": None,
        "finished_at": None, "hyperparameters": hyper, "result_files": [], "status": "validating_files", "trained_tokens": None,
        "estimated_finish": None, "integrations": [], "method": {"type": "supervised", "supervised": {"hyperparameters": hyper}},
    }  # fmt: skip
    made |= {key: body[key] for key in ("model", "training_file", "validation_file", "metadata", "organization_id")}
    made["seed"] = random.randrange(1 << 31) if body["seed"] is None else body["seed"]
    return Job(made, suffix)


def _validating(job: Job) -> str:
    valid = job.body["validation_file"]
    return f"Validating training file: {job.body['training_file']}" + (f" and validation file: {valid}" if valid else "")
