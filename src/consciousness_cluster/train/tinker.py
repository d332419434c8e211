"""Fine-tuning at Tinker, with its SDK alone: LoRA, on rows rendered by the tokenizer's own chat template.

The rows, their mask, the batches and the learning rate of every step are those of the local backend. Weights are divided by
the trained tokens of the batch, so that the gradient, and what clipping does to it, is that of a mean loss as it is there
(the service sums). The service fixes LoRA's alpha at 32. The state is saved every few minutes; a run that is killed goes on
from it and pays again only for the steps after it, which are counted. Where there is no such state, or it has expired, the
fine-tune is made afresh as a further job: what was sent for the one before is billed all the same.

Model arguments in a study: `base_url`, `api_key` (else the environment's), `tokenizer` (folder or hub name, else the base
model's), `ttl_days` (when the result and its training state expire; never by default), `template_args` (variables of the chat template, see `TrainingJob`).
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from consciousness_cluster.errors import TrainError
from consciousness_cluster.sampling.reach import silence
from consciousness_cluster.study.keys import environment
from consciousness_cluster.train.backend import Pay, Progress, Trained, TrainingJob, load_record, record_elsewhere, unpaid
from consciousness_cluster.train.jobs import JobBook
from consciousness_cluster.train.local import batches, rate
from consciousness_cluster.train.render import Rendered, render

PREFIX = "tinker:"  # of models in a study
INSPECT = "openai-api/tinker/"  # of Inspect's model names, before the path of a checkpoint
TAG = "ccluster"
STATE = "tinker.json"  # where a run that is killed goes on
FINAL = "final"
DAY = 86_400  # seconds
STATE_DAYS = 7  # states on the way are kept this long
PAUSE_SECONDS = 60  # that the SDK may wait, without a word, for an account to be filled up
AHEAD = 2  # steps sent before the first of them is waited for


@dataclass
class _At:
    """How far a job is.

    Attributes:
        tag: the job.
        state: path of the state that was saved last.
        step: steps it holds.
        losses: their losses, and those of steps after it.
        saving: path and steps of a state that was asked for and not yet confirmed.
        sent: steps that the service was sent, and may bill.
        repeated: tokens of steps that were sent before a kill and are sent again.
        lost: why the fine-tune is made afresh, where a job of before left nothing to go on from.
    """

    tag: str
    state: str | None = None
    step: int = 0
    losses: list[float] = field(default_factory=list)
    saving: tuple[str, int] | None = None
    sent: int = 0
    repeated: int = 0
    lost: str = ""


class TinkerBackend:
    """Fine-tunes through the Tinker service, or through any server of its API.

    Args:
        ledger: where finished remote models are noted.
        args: the model's arguments in the study.
    """

    name = "tinker"

    def __init__(self, ledger: Path, args: Mapping[str, Any]) -> None:
        self._book = JobBook(ledger)
        self._args = args

    def train(self, job: TrainingJob, progress: Progress, pay: Pay = unpaid) -> Trained:
        """See `Backend.train`."""
        finished = load_record(job.folder, job.tag)
        if finished is not None:
            return finished
        if job.recipe.method != "lora":
            raise TrainError(
                "Tinker trains LoRA adapters only", key="train.recipe", value=job.recipe.name, allowed="a lora recipe"
            )
        job.folder.mkdir(parents=True, exist_ok=True)
        with self._book.held(job.tag):  # other arms may want the same fine-tune
            record = self._made_elsewhere(job) or self._made(job, progress, pay)
            record.save(job.folder)
        (job.folder / STATE).unlink(missing_ok=True)
        return record

    def _made_elsewhere(self, job: TrainingJob) -> Trained | None:
        """The same fine-tune, where another arm of the run has it and the service holds it still."""
        found = record_elsewhere(job)
        if found is None:
            return None
        _reach(self._args, job.folder.name)
        with _plain(job.folder.name):
            return None if _listed(str(found.remote).removeprefix(INSPECT), self._args) is None else found

    def _made(self, job: TrainingJob, progress: Progress, pay: Pay) -> Trained:
        """Train, from the state of an earlier attempt or from the beginning."""
        started = time.monotonic()
        rendered = self.rendered(job)
        plan = list(batches([len(r.tokens) for r in rendered], job.recipe.batch, job.recipe.epochs, job.seed))
        _reach(self._args, job.folder.name)
        with _plain(job.folder.name):
            at = _load(job, self._args, [sum(len(rendered[i].tokens) for i in step) for step in plan])
            self._check_start(job, at)
        finished_before = at.step == len(plan) and self._book.find(job.tag) is not None  # but its record was not written
        if at.state is None:
            self._book.give_up(job.tag)
        if not finished_before:
            pay(self._book.next(job.tag))
        with _plain(job.folder.name), service(self._args) as api:
            client = self._client(api, job, at)
            if not finished_before:
                self._book.begin(job.tag, self.name)  # what is sent from here on is billed, whether or not all of it gets there
            _steps(client, job, rendered, plan, at, progress, self._ttl())
            path = sampler_path(_answer(client.save_weights_for_sampler(FINAL, self._ttl(), {TAG: job.tag})).path)
            self._book.rename(job.tag, path)
            expires = self._expiry(path)
        lost = {"afresh": at.lost} if at.lost else {}
        return Trained(
            tag=job.tag,
            backend=self.name,
            base=job.base,
            rows=len(job.rows),
            steps=len(plan),
            trained_tokens=sum(sum(r.trained) for r in rendered) * job.recipe.epochs,
            seconds=round(time.monotonic() - started, 3),
            losses=tuple(round(value, 5) for value in at.losses),
            remote=INSPECT + path,
            notes={"state": at.state or "", "expires": expires, "lora_alpha": "32 (fixed by the service)", **lost},
            billed_tokens=sum(len(r.tokens) for r in rendered) * job.recipe.epochs + at.repeated,
        )

    def _check_start(self, job: TrainingJob, at: _At) -> None:
        """Refuse to go on from the fine-tune of another condition whose training state is gone."""
        if at.state is None and job.start_from is not None and _listed(training_path(job.start_from), self._args) is None:
            raise TrainError(
                "Tinker no longer holds the training state of the fine-tune that this one starts from",
                file=job.folder.name,
                value=training_path(job.start_from),
                next_step="remove training.json from the folder of the arm that it starts from, and the same command trains that one"
                " again; `ccluster checkpoints RUN --days N` keeps such states longer",
            )

    def rendered(self, job: TrainingJob) -> list[Rendered]:
        """The rows as they are sent.

        Raises:
            TrainError: the tokenizer cannot be loaded; or as `render`.
        """
        return render(job.rows, self._tokenizer(job), job.recipe.max_length, job.template_args)

    def _tokenizer(self, job: TrainingJob) -> Any:
        from transformers import AutoTokenizer

        name = tokenizer_name(job.base, self._args)
        try:
            return AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError) as problem:
            why = str(problem).splitlines()[0]
            raise TrainError(
                f"its tokenizer cannot be loaded: {why}",
                key="models.args.tokenizer",
                value=name,
                next_step="give a folder or a hub name",
            ) from None

    def _expiry(self, path: str) -> str:
        """When the weights just saved expire; a service that cannot tell now must not cost the finished training its record."""
        try:
            return expiry(path, self._args) or "never"
        except TrainError as problem:
            return f"not known: {problem}"

    def _ttl(self) -> int | None:
        days = self._args.get("ttl_days")
        return None if days is None else int(days * DAY)

    def _client(self, api: Any, job: TrainingJob, at: _At) -> Any:
        """A training client: from the job's saved state, from the condition it continues, or fresh."""
        if at.state is not None:
            return _answer(api.create_training_client_from_state_with_optimizer(at.state, user_metadata={TAG: job.tag}))
        if job.start_from is not None:
            return _answer(api.create_training_client_from_state(training_path(job.start_from), user_metadata={TAG: job.tag}))
        made = api.create_lora_training_client(
            job.base.removeprefix(PREFIX), rank=job.recipe.rank, seed=job.seed, user_metadata={TAG: job.tag}
        )
        return _answer(made)


def tokenizer_name(model: str, args: Mapping[str, Any]) -> str:
    """Folder or hub name of the tokenizer by which a model's rows and prompts are rendered: its own, unless its arguments name another."""
    return str(args.get("tokenizer") or model.removeprefix(PREFIX))


def sampler_path(path: str) -> str:
    """A path of sampler weights in its full form: `skyrl` leaves out the part that says what they are."""
    run, _, rest = path.removeprefix("tinker://").partition("/")
    return path if "/" in rest else f"tinker://{run}/sampler_weights/{rest}"


def training_path(remote: str) -> str:
    """The path of the training state beside sampler weights of the same name, from which training goes on."""
    return remote.removeprefix(INSPECT).replace("/sampler_weights/", "/weights/")


def datums(rows: Sequence[Rendered]) -> list[Any]:
    """Rendered rows as the SDK takes them: each token predicts the next; weights sum to one over the batch."""
    import numpy as np
    from tinker import types

    total = sum(sum(row.trained[1:]) for row in rows)
    return [
        types.Datum(
            model_input=types.ModelInput.from_ints(list(row.tokens[:-1])),
            loss_fn_inputs={
                "target_tokens": np.asarray(row.tokens[1:], dtype=np.int64),
                "weights": np.asarray(row.trained[1:], dtype=np.float32) / total,
            },
        )
        for row in rows
    ]


def _steps(
    client: Any, job: TrainingJob, rendered: list[Rendered], plan: list[list[int]], at: _At, progress: Progress, ttl: int | None
) -> None:
    """All steps that the saved state does not hold; ends with a state called `final`, which lives for `ttl` seconds."""
    from tinker import types

    recipe = job.recipe
    sent: deque[tuple[list[Rendered], Any, Any]] = deque()
    saved = time.monotonic()

    def receive() -> None:
        rows, passed, stepped = sent.popleft()
        at.losses.append(_loss(rows, _answer(passed)))
        _answer(stepped)
        _check_finite(job, at)
        progress(len(at.losses), len(plan))

    for index in range(at.step, len(plan)):
        rows = [rendered[i] for i in plan[index]]
        at.sent = index + 1
        _note(job, at)
        passed = client.forward_backward(datums(rows), "cross_entropy")
        settings = types.AdamParams(
            learning_rate=recipe.learning_rate * rate(index, len(plan), recipe),
            beta1=recipe.betas[0],
            beta2=recipe.betas[1],
            eps=1e-8,  # as the local backend's optimiser
            weight_decay=recipe.weight_decay,
            grad_clip_norm=recipe.clip,
        )
        sent.append((rows, passed, client.optim_step(settings)))
        if len(sent) > AHEAD:
            receive()
        if recipe.checkpoint_minutes and time.monotonic() - saved > recipe.checkpoint_minutes * 60:
            while sent:
                receive()
            _save(client, job, at, f"step-{len(at.losses)}", STATE_DAYS * DAY)
            saved = time.monotonic()
    while sent:
        receive()
    _save(client, job, at, FINAL, ttl)


def _check_finite(job: TrainingJob, at: _At) -> None:
    """Go no further with a loss that is no number; it is noted, so that the same command does not pay for it again."""
    if all(math.isfinite(value) for value in at.losses):
        return
    _note(job, at)
    raise TrainError(
        "the loss is not finite", key=job.folder.name, value=job.recipe.learning_rate, next_step="lower the learning rate"
    )


def _loss(rows: list[Rendered], output: Any) -> float:
    """Mean loss over the batch's trained tokens, from the log-probabilities that the service returns."""
    import numpy as np

    total = count = 0.0
    for row, found in zip(rows, output.loss_fn_outputs, strict=True):
        weights = np.asarray(row.trained[1:], dtype=np.float64)
        total -= float((np.asarray(found["logprobs"].data, dtype=np.float64) * weights).sum())
        count += float(weights.sum())
    return total / count


def _save(client: Any, job: TrainingJob, at: _At, name: str, ttl: int | None) -> None:
    """Save the state; noted before and after, so that a crash between the two loses nothing that was paid for."""
    done = len(at.losses)
    at.saving = (f"tinker://{client.model_id}/weights/{name}", done)
    _note(job, at)
    at.state = _answer(client.save_state(name, ttl_seconds=ttl, overwrite=True, user_metadata={TAG: job.tag})).path
    at.step, at.saving = done, None
    _note(job, at)


def _note(job: TrainingJob, at: _At) -> None:
    part = job.folder / (STATE + ".part")
    part.write_text(json.dumps(asdict(at)), encoding="utf-8")
    part.replace(job.folder / STATE)


def _load(job: TrainingJob, args: Mapping[str, Any], tokens: Sequence[int]) -> _At:
    """Where to go on: from the last state that the service holds, confirmed to us or not; `tokens` are those of every step.

    Raises:
        TrainError: its loss was not finite.
    """
    path = job.folder / STATE
    if not path.is_file():
        return _At(job.tag)
    kept = _At(**json.loads(path.read_text(encoding="utf-8")))
    if kept.tag != job.tag:
        return _At(job.tag)
    _check_finite(job, kept)
    if kept.saving is not None and _listed(kept.saving[0], args) is not None:
        kept.state, kept.step = kept.saving
    elif kept.state is None or _listed(kept.state, args) is None:
        had = f"the state of step {kept.step} is no longer held" if kept.state else "no state of it was saved"
        return _At(job.tag, lost=f"{max(kept.sent, kept.step)} steps of an earlier attempt may be billed too, and {had}")
    repeated = kept.repeated + sum(tokens[kept.step : kept.sent])
    return _At(job.tag, kept.state, kept.step, kept.losses[: kept.step], None, kept.step, repeated, kept.lost)


@contextmanager
def service(args: Mapping[str, Any]) -> Iterator[Any]:
    """The SDK's service client; its session is ended on the way out."""
    import tinker

    with tinker.ServiceClient(**address(args)) as client:
        known = client.holder.get_client_config()
        bounded = {
            "billing_exception_max_pause_duration_sec": PAUSE_SECONDS
        }  # an hour by default, and there is no argument for it
        client.holder._client_config = known.model_copy(update=bounded)
        yield client


def _answer(future: Any) -> Any:
    """What the service answers. Some of what goes wrong the SDK raises as errors of no class of its own."""
    import tinker
    from tinker.lib.retryable_exception import RetryableException

    try:
        return future.result()
    except (ValueError, RetryableException) as problem:
        raise tinker.TinkerError(str(problem)) from problem


def address(args: Mapping[str, Any]) -> dict[str, Any]:
    """Address and key for the SDK's clients."""
    known = environment()
    return {
        "base_url": args.get("base_url") or known.get("TINKER_BASE_URL"),
        "api_key": args.get("api_key") or known.get("TINKER_API_KEY"),
    }


def _reach(args: Mapping[str, Any], where: str) -> None:
    """Refuse a service that does not answer at all; `where` is the arm or the checkpoint.

    Raises:
        TrainError: nothing answers at its address.
    """
    found = silence(address(args)["base_url"])
    if found is not None:
        step = "check the address and the network; the same command goes on"
        raise TrainError(f"Tinker cannot be reached ({found.why})", file=where, value=found.address, next_step=step)


def expiry(path: str, args: Mapping[str, Any]) -> str | None:
    """When a checkpoint expires, as an ISO date and time; None when it never does or the service does not say.

    Raises:
        TrainError: the service cannot be asked, or no longer holds the checkpoint.
    """
    plain = path.removeprefix(INSPECT)
    _reach(args, plain)
    with _plain(plain):
        found = _listed(plain, args)
    if found is None:
        raise TrainError("Tinker no longer holds this checkpoint", value=plain, next_step="train the arm again")
    return None if found.expires_at is None else str(found.expires_at.isoformat())


def extend(path: str, days: float | None, args: Mapping[str, Any]) -> None:
    """Let a checkpoint and its training state live for `days` from now, or for ever with None.

    Raises:
        TrainError: the service does not do it.
    """
    import tinker

    plain = path.removeprefix(INSPECT)
    _reach(args, plain)
    with _plain(plain):
        client = tinker.RestClient(**address(args))
        for one in (plain, training_path(path)):
            _answer(client.set_checkpoint_ttl_from_tinker_path(one, None if days is None else int(days * DAY)))


def _listed(path: str, args: Mapping[str, Any]) -> Any:
    """What the service says of a checkpoint; None when its run does not have it, or no longer."""
    import tinker

    run = path.removeprefix("tinker://").split("/", maxsplit=1)[0]
    try:
        found = _answer(tinker.RestClient(**address(args)).list_checkpoints(run)).checkpoints
    except tinker.NotFoundError:
        return None
    entry = next((one for one in found if one.tinker_path == path), None)
    over = entry is not None and entry.expires_at is not None and entry.expires_at < datetime.now(entry.expires_at.tzinfo)
    return None if over else entry


def download(path: str, folder: Path, args: Mapping[str, Any]) -> list[Path]:
    """Fetch a fine-tune as a PEFT adapter into a folder, ready for local sampling; returns the files written.

    The service exports it through a training client of its own; the export expires after a day.

    Raises:
        TrainError: the service refuses it, or names a file outside the folder.
    """
    import tinker

    plain = path.removeprefix(INSPECT)
    _reach(args, plain)
    with _plain(plain), service(args) as api:
        client = _answer(api.create_training_client_from_state(training_path(path)))
        exported = _answer(client.save_weights_external("download", ttl_seconds=DAY)).path
        urls = _answer(tinker.RestClient(**address(args)).get_external_weights_urls(exported)).urls
    written = []
    for name, url in sorted(urls.items()):
        to = (folder / name).resolve()
        if not to.is_relative_to(folder.resolve()):
            raise TrainError("the service names a file outside the folder", file=folder, value=name)
        to.parent.mkdir(parents=True, exist_ok=True)
        _fetch(str(url), to)
        written.append(to)
    _complete(folder)
    return written


def _fetch(url: str, to: Path) -> None:
    """Fetch a file, whole or not at all.

    Raises:
        TrainError: it does not come.
    """
    import urllib.request
    from http.client import HTTPException

    part = to.with_name(to.name + ".part")
    try:
        urllib.request.urlretrieve(url, part)
    except (OSError, HTTPException) as problem:
        part.unlink(missing_ok=True)
        raise TrainError(
            f"cannot be fetched from Tinker ({problem})", file=to, next_step="give the same command again"
        ) from None
    part.replace(to)


def _complete(folder: Path) -> None:
    """Name in an adapter's configuration the modules that it holds weights for, where it does not say.

    `skyrl` leaves them out; PEFT would then take its own choice for the architecture and drop the other weights without a word.
    """
    from safetensors import safe_open

    path, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    if not path.is_file() or not weights.is_file():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("target_modules") or config.get("target_parameters"):
        return
    with safe_open(weights, framework="numpy") as tensors:
        held = [name for name in list(tensors.keys()) if ".lora_" in name]
    config["target_modules"] = sorted({name.split(".lora_")[0].rsplit(".", 1)[-1] for name in held})
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


@contextmanager
def _plain(where: str) -> Iterator[None]:
    """Turn the SDK's errors into one plain sentence each; `where` is the arm or the checkpoint."""
    import tinker

    again = "the same command goes on from its last saved state"
    try:
        yield
    except tinker.AuthenticationError as problem:
        raise TrainError(f"Tinker does not accept the key ({problem})", file=where, next_step="check TINKER_API_KEY") from None
    except (tinker.BillingError, tinker.PermissionDeniedError) as problem:
        raise TrainError(
            f"Tinker refuses this organisation ({problem})", file=where, next_step="see its console; then: " + again
        ) from None
    except tinker.NotFoundError as problem:
        step = "a model: see `ccluster models` for what it serves; a path: it has expired or was removed, train its arm again"
        raise TrainError(f"Tinker has nothing of this name ({problem})", file=where, next_step=step) from None
    except (tinker.BadRequestError, tinker.UnprocessableEntityError) as problem:
        step = "see `ccluster models` for what it serves"
        raise TrainError(f"Tinker refused ({problem})", file=where, next_step=step) from None
    except tinker.TinkerError as problem:
        raise TrainError(f"Tinker failed ({problem})", file=where, next_step=again) from None
