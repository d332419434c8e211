"""Fine-tuning at Tinker, with its SDK alone: LoRA, on rows rendered by the tokenizer's own chat template.

The rows, their mask, the batches and the learning rate of every step are those of the local backend. Weights are divided by
the trained tokens of the batch, so that the gradient, and what clipping does to it, is that of a mean loss as it is there
(the service sums). The service fixes LoRA's alpha at 32. The state is saved every few minutes; a run that is killed goes on
from it and pays again only for the steps after it.

Model arguments in a study: `base_url`, `api_key` (else the environment's), `tokenizer` (folder or hub name, else the base
model's), `ttl_days` (when the result expires; never by default), `template_args` (variables of the chat template, see `TrainingJob`).
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from consciousness_cluster.errors import TrainError
from consciousness_cluster.study.models import environment
from consciousness_cluster.train.backend import Pay, Progress, Trained, TrainingJob, load_record, unpaid
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
REACH_SECONDS = 30
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
    """

    tag: str
    state: str | None = None
    step: int = 0
    losses: list[float] = field(default_factory=list)
    saving: tuple[str, int] | None = None


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
        started = time.monotonic()
        rendered = self.rendered(job)
        plan = list(batches([len(r.tokens) for r in rendered], job.recipe.batch, job.recipe.epochs, job.seed))
        _reach(self._args, job)
        with _plain(job.folder.name):
            at = _load(job, self._args)
        finished_before = at.step == len(plan) and self._book.find(job.tag) is not None  # but its record was not written
        if not finished_before:
            pay(self._book.next(job.tag))
        with _plain(job.folder.name), service(self._args) as api:
            client = self._client(api, job, at)
            if not finished_before:
                self._book.begin(job.tag, self.name)  # what is sent from here on is billed, whether or not all of it gets there
            _steps(client, job, rendered, plan, at, progress)
            path = sampler_path(client.save_weights_for_sampler(FINAL, self._ttl(), {TAG: job.tag}).result().path)
            self._book.rename(job.tag, path)
            expires = self._expiry(path)
        record = Trained(
            tag=job.tag,
            backend=self.name,
            base=job.base,
            rows=len(job.rows),
            steps=len(plan),
            trained_tokens=sum(sum(r.trained) for r in rendered) * job.recipe.epochs,
            seconds=round(time.monotonic() - started, 3),
            losses=tuple(round(value, 5) for value in at.losses),
            remote=INSPECT + path,
            notes={"state": at.state or "", "expires": expires, "lora_alpha": "32 (fixed by the service)"},
            billed_tokens=sum(len(r.tokens) for r in rendered) * job.recipe.epochs,
        )
        record.save(job.folder)
        (job.folder / STATE).unlink(missing_ok=True)
        return record

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
            return api.create_training_client_from_state_with_optimizer(at.state, user_metadata={TAG: job.tag}).result()
        if job.start_from is not None:
            return api.create_training_client_from_state(training_path(job.start_from), user_metadata={TAG: job.tag}).result()
        return api.create_lora_training_client(
            job.base.removeprefix(PREFIX), rank=job.recipe.rank, seed=job.seed, user_metadata={TAG: job.tag}
        ).result()


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


def _steps(client: Any, job: TrainingJob, rendered: list[Rendered], plan: list[list[int]], at: _At, progress: Progress) -> None:
    """All steps that the saved state does not hold; ends with a state called `final`."""
    from tinker import types

    recipe = job.recipe
    sent: deque[tuple[list[Rendered], Any, Any]] = deque()
    saved = time.monotonic()

    def receive() -> None:
        rows, passed, stepped = sent.popleft()
        loss = _loss(rows, passed.result())
        stepped.result()
        at.losses.append(loss)
        progress(len(at.losses), len(plan))

    for index in range(at.step, len(plan)):
        rows = [rendered[i] for i in plan[index]]
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
    _save(client, job, at, FINAL, None)


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
    at.state = client.save_state(name, ttl_seconds=ttl, overwrite=True, user_metadata={TAG: job.tag}).result().path
    at.step, at.saving = done, None
    _note(job, at)


def _note(job: TrainingJob, at: _At) -> None:
    part = job.folder / (STATE + ".part")
    part.write_text(json.dumps(asdict(at)), encoding="utf-8")
    part.replace(job.folder / STATE)


def _load(job: TrainingJob, args: Mapping[str, Any]) -> _At:
    """Where to go on: from the last state that the service holds, confirmed to us or not."""
    path = job.folder / STATE
    if not path.is_file():
        return _At(job.tag)
    kept = _At(**json.loads(path.read_text(encoding="utf-8")))
    if kept.tag != job.tag:
        return _At(job.tag)
    if kept.saving is not None and _listed(kept.saving[0], args) is not None:
        kept.state, kept.step = kept.saving
    return _At(job.tag, kept.state, kept.step, kept.losses[: kept.step])


@contextmanager
def service(args: Mapping[str, Any]) -> Iterator[Any]:
    """The SDK's service client; its session is ended on the way out."""
    import tinker

    with tinker.ServiceClient(**address(args)) as client:
        yield client


def address(args: Mapping[str, Any]) -> dict[str, Any]:
    """Address and key for the SDK's clients."""
    known = environment()
    return {
        "base_url": args.get("base_url") or known.get("TINKER_BASE_URL"),
        "api_key": args.get("api_key") or known.get("TINKER_API_KEY"),
    }


def _reach(args: Mapping[str, Any], job: TrainingJob) -> None:
    """Refuse a service that does not answer at all: the SDK would wait for it without end.

    Raises:
        TrainError: nothing answers at its address.
    """
    import urllib.error
    import urllib.request

    from tinker.lib.base_url import resolve_base_url

    base = resolve_base_url(address(args)["base_url"])
    try:
        urllib.request.urlopen(f"{base}/api/v1/healthz", timeout=REACH_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answers; whether it accepts us is the SDK's to say
    except OSError as problem:
        step = "check the address and the network; the same command goes on from its last saved state"
        raise TrainError(f"Tinker cannot be reached ({problem})", file=job.folder.name, value=base, next_step=step) from None


def expiry(path: str, args: Mapping[str, Any]) -> str | None:
    """When a checkpoint expires, as an ISO date and time; None when it never does or the service does not say.

    Raises:
        TrainError: the service cannot be asked, or no longer holds the checkpoint.
    """
    plain = path.removeprefix(INSPECT)
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

    client = tinker.RestClient(**address(args))
    with _plain(path.removeprefix(INSPECT)):
        for one in (path.removeprefix(INSPECT), training_path(path)):
            client.set_checkpoint_ttl_from_tinker_path(one, None if days is None else int(days * DAY)).result()


def _listed(path: str, args: Mapping[str, Any]) -> Any:
    """What the service says of a checkpoint; None when its run does not have it."""
    import tinker

    run = path.removeprefix("tinker://").split("/", maxsplit=1)[0]
    found = tinker.RestClient(**address(args)).list_checkpoints(run).result().checkpoints
    return next((entry for entry in found if entry.tinker_path == path), None)


def download(path: str, folder: Path, args: Mapping[str, Any]) -> list[Path]:
    """Fetch a fine-tune as a PEFT adapter into a folder, ready for local sampling; returns the files written.

    The service exports it through a training client of its own; the export expires after a day.

    Raises:
        TrainError: the service refuses it, or names a file outside the folder.
    """
    import urllib.request

    import tinker

    with _plain(path.removeprefix(INSPECT)), service(args) as api:
        client = api.create_training_client_from_state(training_path(path)).result()
        exported = client.save_weights_external("download", ttl_seconds=DAY).result().path
        urls = tinker.RestClient(**address(args)).get_external_weights_urls(exported).result().urls
    written = []
    for name, url in sorted(urls.items()):
        to = (folder / name).resolve()
        if not to.is_relative_to(folder.resolve()):
            raise TrainError("the service names a file outside the folder", file=folder, value=name)
        to.parent.mkdir(parents=True, exist_ok=True)
        urllib.request.urlretrieve(url, to)
        written.append(to)
    _complete(folder)
    return written


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
    except (tinker.BadRequestError, tinker.NotFoundError, tinker.UnprocessableEntityError) as problem:
        step = "see `ccluster models` for what it serves"
        raise TrainError(f"Tinker refused ({problem})", file=where, next_step=step) from None
    except tinker.TinkerError as problem:
        raise TrainError(f"Tinker failed ({problem})", file=where, next_step=again) from None
