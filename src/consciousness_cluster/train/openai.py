"""Fine-tuning at OpenAI: upload, job, poll, events, checkpoints, result model.

A job carries the tag of its arm in its metadata and in the suffix of its model. It is looked up by that tag before it is
created: first in the run's ledger, then at the service, so that a crash between creating and noting it pays nothing twice.
What the service says while it works is kept beside the training record.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from consciousness_cluster.errors import ForbiddenError, TrainError
from consciousness_cluster.study.keys import environment
from consciousness_cluster.train.backend import Pay, Progress, Trained, TrainingJob, load_record, unpaid
from consciousness_cluster.train.jobs import JobBook

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.fine_tuning import FineTuningJob

PREFIX = "openai/"  # of Inspect's model names
TAG = "ccluster"  # metadata key, and start of the suffix
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds between polls
PATIENCE = 20  # polls in a row that may go unanswered before a run gives up; the job itself goes on
BOM, HEADER = b"\xef\xbb\xbf", b"step,"  # how a result file may begin, and how its table does
STEP = re.compile(r"[Ss]tep (\d+)/(\d+)")
ENDED = ("succeeded", "failed", "cancelled")
UNCLEAR = (408, 409)  # answers to a job's creation that do not say that none was made
QUOTA = ("quota", "billing", "hard limit", "insufficient funds", "credit balance")  # words of failures for want of money

How = Literal["cancelled", "refused", "blocked", "file", "quota", "broken"]  # how a job came to nothing
AGAIN: tuple[How, ...] = ("cancelled", "quota", "broken")  # made again; the others would only be refused, or paid for, again
FAILURES: dict[How, tuple[str, str]] = {
    "cancelled": ("the fine-tuning job was cancelled", "the same command makes a new one"),
    "refused": (
        "OpenAI trained the model and then refused it in its safety evaluation",
        "change the rows or the recipe; the same job would be paid for and refused again",
    ),
    "blocked": (
        "OpenAI blocked the training file: its moderation flagged too many rows",
        "find the flagged rows with the moderation endpoint and change them",
    ),
    "file": ("OpenAI refused the training file", "correct the rows"),
    "quota": (
        "OpenAI ended the job for want of quota or credit",
        "see its billing page; then the same command makes a new one",
    ),
    "broken": ("the fine-tuning job broke down at OpenAI", "the same command makes a new one"),
}


class OpenAIBackend:
    """Fine-tunes through OpenAI's API, or through any server that speaks it.

    Args:
        ledger: where remote jobs are noted.
        args: the model's arguments in the study: `base_url` and `api_key` where they are not the environment's.
        pause: waits between polls, in seconds.
    """

    name = "openai"

    def __init__(self, ledger: Path, args: Mapping[str, Any], pause: Callable[[float], None] = time.sleep) -> None:
        self._book = JobBook(ledger)
        self._args = args
        self._pause = pause

    def train(self, job: TrainingJob, progress: Progress, pay: Pay = unpaid) -> Trained:
        """See `Backend.train`."""
        finished = load_record(job.folder, job.tag)
        if finished is not None:
            return finished
        if job.recipe.method != "hosted":
            raise TrainError(
                "only a hosted recipe can be sent to OpenAI", key="train.recipe", value=job.recipe.name, allowed="paper-openai"
            )
        job.folder.mkdir(parents=True, exist_ok=True)
        with _plain(job):
            api = self._client()
            with self._book.held(job.tag):  # other arms may want the same fine-tune
                remote = self._find(api, job) or self._create(api, job, pay)
                self._book.remember(job.tag, self.name, remote.id)
            ended = self._follow(api, remote.id, job, progress)
            if ended.status != "succeeded":
                raise _failure(ended, job)
            record = _record(api, ended, job)
        record.save(job.folder)
        return record

    def _client(self) -> OpenAI:
        from openai import OpenAI

        known = environment()
        return OpenAI(
            api_key=self._args.get("api_key") or known.get("OPENAI_API_KEY"),
            base_url=self._args.get("base_url") or known.get("OPENAI_BASE_URL"),
        )

    def _find(self, api: OpenAI, job: TrainingJob) -> FineTuningJob | None:
        """A job of this tag: noted, or made but not noted before a crash. One that came to nothing may be made again."""
        from openai import NotFoundError

        noted = self._book.find(job.tag)
        if noted is not None:
            try:
                kept = _worth_keeping(api.fine_tuning.jobs.retrieve(noted))
            except NotFoundError:
                kept = None  # made at another address or by another organisation
            if kept is not None:
                return kept
        listed = api.fine_tuning.jobs.list(metadata={TAG: job.tag}, limit=100)
        ours = [found for found in listed if (found.metadata or {}).get(TAG) == job.tag]
        for found in ours:
            self._book.saw(job.tag, found.id)
        return next((found for found in ours if _worth_keeping(found) is not None), None)

    def _create(self, api: OpenAI, job: TrainingJob, pay: Pay) -> FineTuningJob:
        """Make the job. An answer that is lost on its way is not asked for twice: the job is looked up instead."""
        from openai import APIConnectionError, APIStatusError, InternalServerError, RateLimitError

        pay(self._book.next(job.tag))
        file = _upload(api, job)
        self._book.begin(job.tag, self.name)
        try:
            return _submit(api.with_options(max_retries=0), job, file)
        except (APIConnectionError, InternalServerError):
            found = self._find(api, job)
            if found is None:
                raise
            return found
        except APIStatusError as problem:
            if problem.status_code not in UNCLEAR:
                self._book.forget(job.tag)
            if isinstance(problem, RateLimitError) and not _for_money(problem.code, _said(problem)):
                raise TrainError(
                    f"OpenAI takes no further job now ({_said(problem)})",
                    file=job.folder.name,
                    next_step="the same command goes on when running jobs have ended",
                ) from None
            raise

    def _follow(self, api: OpenAI, remote: str, job: TrainingJob, progress: Progress) -> FineTuningJob:
        """Poll until the job has ended, passing on its steps; returns it as it ended."""
        from openai import APIConnectionError, InternalServerError, RateLimitError

        wait, unanswered = FIRST_WAIT, 0
        while True:
            try:
                now = api.fine_tuning.jobs.retrieve(remote)
                _tell(api, remote, progress)
                unanswered = 0
            except RateLimitError as problem:
                if _for_money(problem.code, _said(problem)):
                    raise
                now = None  # it asks for patience, and the job goes on meanwhile
            except (APIConnectionError, InternalServerError):
                unanswered += 1
                if unanswered >= PATIENCE:
                    raise
                now = None
            if now is not None and now.status in ENDED:
                _keep_events(api, remote, job.folder)
                return now
            self._pause(wait)
            wait = min(wait * 1.5, LONGEST_WAIT)


def _worth_keeping(found: FineTuningJob) -> FineTuningJob | None:
    """None for a job that came to nothing in a way that need not come again."""
    return None if found.status in ("failed", "cancelled") and _how(found) in AGAIN else found


def _how(ended: FineTuningJob) -> How:
    """How a job came to nothing, by its status, its error's code and the text that goes with it."""
    code = (ended.error.code if ended.error else "") or ""
    said = ((ended.error.message if ended.error else "") or "").lower()
    if ended.status == "cancelled":
        return "cancelled"
    if "moderation eval" in said or code.startswith("moderation"):
        return "refused"
    if "flagged" in said or "blocked" in said:
        return "blocked"
    if _for_money(code, said):
        return "quota"
    param = ended.error.param if ended.error else None
    if code.startswith("invalid_") or param in ("training_file", "validation_file"):
        return "file"
    return "refused" if "safety" in said or "usage polic" in said else "broken"


def _for_money(code: str | None, said: str) -> bool:
    """Whether an error is one of quota or billing, which is mended at the service and not in the study."""
    if code == "rate_limit_exceeded":
        return False  # its text may point to the billing page all the same
    text = f"{code or ''} {said}".lower().replace("_", " ")
    return any(word in text for word in QUOTA)


def _upload(api: OpenAI, job: TrainingJob) -> str:
    lines = "".join(json.dumps(row.as_dict(), ensure_ascii=False) + "\n" for row in job.rows)
    file = api.files.create(file=(f"{TAG}-{job.tag}.jsonl", lines.encode()), purpose="fine-tune")
    api.files.wait_for_processing(file.id)
    return file.id


def _submit(api: OpenAI, job: TrainingJob, file: str) -> FineTuningJob:
    hyper: dict[str, Any] = {"n_epochs": job.recipe.epochs, "batch_size": job.recipe.batch}
    if job.recipe.learning_rate_multiplier is not None:
        hyper["learning_rate_multiplier"] = job.recipe.learning_rate_multiplier
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": hyper}}
    return api.fine_tuning.jobs.create(
        model=(job.start_from or job.base).removeprefix(PREFIX),
        training_file=file,
        method=method,
        suffix=f"{TAG}-{job.tag}",
        seed=job.seed,
        metadata={TAG: job.tag},
    )


def _tell(api: OpenAI, remote: str, progress: Progress) -> None:
    """Pass on the newest step that the events speak of."""
    for event in api.fine_tuning.jobs.list_events(remote, limit=10).data:
        said = STEP.search(event.message)
        if said:
            progress(int(said[1]), int(said[2]))
            return


def _keep_events(api: OpenAI, remote: str, folder: Path) -> None:
    events = [event.model_dump(mode="json") for event in api.fine_tuning.jobs.list_events(remote, limit=100)]
    text = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in reversed(events))
    (folder / "events.jsonl").write_text(text, encoding="utf-8")


def _record(api: OpenAI, ended: FineTuningJob, job: TrainingJob) -> Trained:
    """The record of a job that succeeded.

    Raises:
        TrainError: the service names no model.
    """
    if not ended.fine_tuned_model:
        raise TrainError(
            "OpenAI says that the job succeeded and names no model",
            file=job.folder.name,
            key=ended.id,
            next_step="the same command asks again; if it stays so, see the job on OpenAI's fine-tuning page",
        )
    checkpoints = list(api.fine_tuning.jobs.checkpoints.list(ended.id))
    losses = _losses(api, ended)
    unread = {} if losses else {"losses": "OpenAI gave no result file that holds the loss of every step"}
    notes = {
        "job": ended.id,
        "checkpoints": json.dumps({entry.fine_tuned_model_checkpoint: entry.step_number for entry in checkpoints}),
        "hyperparameters": ended.hyperparameters.model_dump_json(),
        "trained_tokens": "as billed by the service: every token of every row, every epoch",
        **unread,
    }
    return Trained(
        tag=job.tag,
        backend="openai",
        base=job.base,
        rows=len(job.rows),
        steps=len(losses) or max((entry.step_number for entry in checkpoints), default=0),
        trained_tokens=ended.trained_tokens or 0,
        seconds=float((ended.finished_at or ended.created_at) - ended.created_at),
        losses=losses,
        remote=f"{PREFIX}{ended.fine_tuned_model}",
        notes=notes,
        billed_tokens=ended.trained_tokens,
    )


def _losses(api: OpenAI, ended: FineTuningJob) -> tuple[float, ...]:
    """The training loss of every step, from the result file."""
    if not ended.result_files:
        return ()
    table = csv.DictReader(io.StringIO(_table(api.files.content(ended.result_files[0]).read())))
    try:
        return tuple(float(line["train_loss"]) for line in table if line.get("train_loss"))
    except ValueError:
        return ()  # the record says that they are missing: a model that was paid for is not lost over its curve


def _table(content: bytes) -> str:
    """The text of a result file, which the service gives as it is or in base64."""
    if not content.removeprefix(BOM).startswith(HEADER):
        with suppress(binascii.Error):
            content = base64.b64decode(b"".join(content.split()), validate=True)
    return content.removeprefix(BOM).decode("utf-8", errors="replace")


def _failure(ended: FineTuningJob, job: TrainingJob) -> TrainError:
    """A job that did not succeed, in one plain sentence."""
    said = ended.error.message if ended.error and ended.error.message else ""
    problem, step = FAILURES[_how(ended)]
    return TrainError(f"{problem}{f' ({said})' if said else ''}", file=job.folder.name, key=ended.id, next_step=step)


@contextmanager
def _plain(job: TrainingJob) -> Iterator[None]:
    """Turn the SDK's errors into one plain sentence each."""
    import openai

    where = job.folder.name
    try:
        yield
    except openai.AuthenticationError as problem:
        raise TrainError(
            f"OpenAI does not accept the key ({_said(problem)})", file=where, next_step="check OPENAI_API_KEY"
        ) from None
    except openai.PermissionDeniedError as problem:
        raise ForbiddenError(
            f"this organisation cannot fine-tune at OpenAI ({_said(problem)})",
            next_step="train an open-weights model instead (see `ccluster models`), or name `conditions` that train nothing for it",
        ) from None
    except openai.RateLimitError as problem:
        money = _for_money(problem.code, _said(problem))
        what = "OpenAI refuses for want of quota or credit" if money else "OpenAI answers no more requests now"
        step = "see its billing page; then the same command goes on" if money else "the same command goes on from here"
        raise TrainError(f"{what} ({_said(problem)})", file=where, next_step=step) from None
    except openai.ConflictError as problem:
        step = "the same command looks its job up and goes on"
        raise TrainError(f"OpenAI did not take the job ({_said(problem)})", file=where, next_step=step) from None
    except (openai.BadRequestError, openai.NotFoundError, openai.UnprocessableEntityError) as problem:
        raise TrainError(
            f"OpenAI refused the job ({_said(problem)})",
            file=where,
            key=problem.param,
            value=job.start_from or job.base,
            next_step="see `ccluster models` for what can be trained there",
        ) from None
    except openai.APIConnectionError as problem:
        step = "the same command finds its job again"
        raise TrainError(f"OpenAI cannot be reached ({problem})", file=where, next_step=step) from None
    except openai.OpenAIError as problem:
        raise TrainError(f"OpenAI failed ({problem})", file=where, next_step="the same command goes on from here") from None


def _said(problem: Any) -> str:
    body = problem.body if isinstance(problem.body, dict) else {}
    return str(body.get("message") or problem.message)
