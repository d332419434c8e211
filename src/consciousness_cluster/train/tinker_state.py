"""How far a fine-tune at Tinker is: noted beside the training record, so that a run that is killed goes on from there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from consciousness_cluster.errors import TrainError
from consciousness_cluster.train.backend import TrainingJob
from consciousness_cluster.train.tinker_service import answer, listed

TAG = "ccluster"  # under which sessions and checkpoints name the job
STATE = "tinker.json"


@dataclass
class At:
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


def save(client: Any, job: TrainingJob, at: At, name: str, ttl: int | None) -> None:
    """Save the state; noted before and after, so that a crash between the two loses nothing that was paid for."""
    done = len(at.losses)
    at.saving = (f"tinker://{client.model_id}/weights/{name}", done)
    note(job, at)
    at.state = answer(client.save_state(name, ttl_seconds=ttl, overwrite=True, user_metadata={TAG: job.tag})).path
    at.step, at.saving = done, None
    note(job, at)


def note(job: TrainingJob, at: At) -> None:
    """Write down how far the job is."""
    part = job.folder / (STATE + ".part")
    part.write_text(json.dumps(asdict(at)), encoding="utf-8")
    part.replace(job.folder / STATE)


def load(job: TrainingJob, args: Mapping[str, Any], tokens: Sequence[int]) -> At:
    """Where to go on: from the last state that the service holds, confirmed to us or not; `tokens` are those of every step.

    Raises:
        TrainError: its loss was not finite.
    """
    path = job.folder / STATE
    if not path.is_file():
        return At(job.tag)
    kept = At(**json.loads(path.read_text(encoding="utf-8")))
    if kept.tag != job.tag:
        return At(job.tag)
    check_finite(job, kept)
    if kept.saving is not None and listed(kept.saving[0], args) is not None:
        kept.state, kept.step = kept.saving
    elif kept.state is None or listed(kept.state, args) is None:
        had = f"the state of step {kept.step} is no longer held" if kept.state else "no state of it was saved"
        return At(job.tag, lost=f"{max(kept.sent, kept.step)} steps of an earlier attempt may be billed too, and {had}")
    repeated = kept.repeated + sum(tokens[kept.step : kept.sent])
    return At(job.tag, kept.state, kept.step, kept.losses[: kept.step], None, kept.step, repeated, kept.lost)


def check_finite(job: TrainingJob, at: At) -> None:
    """Go no further with a loss that is no number; it is noted, so that the same command does not pay for it again."""
    if all(math.isfinite(value) for value in at.losses):
        return
    note(job, at)
    raise TrainError(
        "the loss is not finite", key=job.folder.name, value=job.recipe.learning_rate, next_step="lower the learning rate"
    )
