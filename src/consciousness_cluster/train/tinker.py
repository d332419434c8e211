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

import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consciousness_cluster.errors import TrainError
from consciousness_cluster.train.backend import Pay, Progress, Trained, TrainingJob, load_record, record_elsewhere, unpaid
from consciousness_cluster.train.jobs import JobBook
from consciousness_cluster.train.local import batches, rate
from consciousness_cluster.train.render import Rendered, render
from consciousness_cluster.train.tinker_checkpoints import expiry
from consciousness_cluster.train.tinker_service import (
    DAY,
    INSPECT,
    PREFIX,
    answer,
    listed,
    plainly,
    reach,
    sampler_path,
    service,
    training_path,
)
from consciousness_cluster.train.tinker_state import STATE, TAG, At, check_finite, load, note, save

FINAL = "final"
STATE_DAYS = 7  # states on the way are kept this long
AHEAD = 2  # steps sent before the first of them is waited for


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
        reach(self._args, job.folder.name)
        with plainly(job.folder.name):
            return None if listed(str(found.remote).removeprefix(INSPECT), self._args) is None else found

    def _made(self, job: TrainingJob, progress: Progress, pay: Pay) -> Trained:
        """Train, from the state of an earlier attempt or from the beginning."""
        started = time.monotonic()
        rendered = self.rendered(job)
        plan = list(batches([len(r.tokens) for r in rendered], job.recipe.batch, job.recipe.epochs, job.seed))
        reach(self._args, job.folder.name)
        with plainly(job.folder.name):
            at = load(job, self._args, [sum(len(rendered[i].tokens) for i in step) for step in plan])
            self._check_start(job, at)
        finished_before = at.step == len(plan) and self._book.find(job.tag) is not None  # but its record was not written
        if at.state is None:
            self._book.give_up(job.tag)
        if not finished_before:
            pay(self._book.next(job.tag))
        with plainly(job.folder.name), service(self._args) as api:
            client = self._client(api, job, at)
            if not finished_before:
                self._book.begin(job.tag, self.name)  # what is sent from here on is billed, whether or not all of it gets there
            _steps(client, job, rendered, plan, at, progress, self._ttl())
            path = sampler_path(answer(client.save_weights_for_sampler(FINAL, self._ttl(), {TAG: job.tag})).path)
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

    def _check_start(self, job: TrainingJob, at: At) -> None:
        """Refuse to go on from the fine-tune of another condition whose training state is gone."""
        if at.state is None and job.start_from is not None and listed(training_path(job.start_from), self._args) is None:
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

    def _client(self, api: Any, job: TrainingJob, at: At) -> Any:
        """A training client: from the job's saved state, from the condition it continues, or fresh."""
        if at.state is not None:
            return answer(api.create_training_client_from_state_with_optimizer(at.state, user_metadata={TAG: job.tag}))
        if job.start_from is not None:
            return answer(api.create_training_client_from_state(training_path(job.start_from), user_metadata={TAG: job.tag}))
        made = api.create_lora_training_client(
            job.base.removeprefix(PREFIX), rank=job.recipe.rank, seed=job.seed, user_metadata={TAG: job.tag}
        )
        return answer(made)


def tokenizer_name(model: str, args: Mapping[str, Any]) -> str:
    """Folder or hub name of the tokenizer by which a model's rows and prompts are rendered: its own, unless its arguments name another."""
    return str(args.get("tokenizer") or model.removeprefix(PREFIX))


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
    client: Any, job: TrainingJob, rendered: list[Rendered], plan: list[list[int]], at: At, progress: Progress, ttl: int | None
) -> None:
    """All steps that the saved state does not hold; ends with a state called `final`, which lives for `ttl` seconds."""
    from tinker import types

    recipe = job.recipe
    sent: deque[tuple[list[Rendered], Any, Any]] = deque()
    saved = time.monotonic()

    def receive() -> None:
        rows, passed, stepped = sent.popleft()
        at.losses.append(_loss(rows, answer(passed)))
        answer(stepped)
        check_finite(job, at)
        progress(len(at.losses), len(plan))

    for index in range(at.step, len(plan)):
        rows = [rendered[i] for i in plan[index]]
        at.sent = index + 1
        note(job, at)
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
            save(client, job, at, f"step-{len(at.losses)}", STATE_DAYS * DAY)
            saved = time.monotonic()
    while sent:
        receive()
    save(client, job, at, FINAL, ttl)


def _loss(rows: list[Rendered], output: Any) -> float:
    """Mean loss over the batch's trained tokens, from the log-probabilities that the service returns."""
    import numpy as np

    total = count = 0.0
    for row, found in zip(rows, output.loss_fn_outputs, strict=True):
        weights = np.asarray(row.trained[1:], dtype=np.float64)
        total -= float((np.asarray(found["logprobs"].data, dtype=np.float64) * weights).sum())
        count += float(weights.sum())
    return total / count
