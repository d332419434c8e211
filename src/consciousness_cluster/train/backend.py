"""What every training backend does, and the record it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from consciousness_cluster.data.rows import Row
from consciousness_cluster.train.recipe import Recipe

RECORD = "training.json"

Progress = Callable[[int, int], None]  # step, steps
Pay = Callable[[int], None]  # called before the n-th job of a tag is asked for at a service; may refuse it


def unpaid(number: int) -> None:
    """Nobody keeps an account."""


@dataclass(frozen=True)
class TrainingJob:
    """One arm's fine-tune: what, on which rows, from where, into which folder.

    `template_args` are the variables of the chat template where this machine renders the rows; hosted services render them.
    """

    base: str
    rows: Sequence[Row]
    recipe: Recipe
    seed: int
    folder: Path
    tag: str  # identity of the job: base, rows, recipe, seed and what it starts from
    start_from: str | None = None  # adapter folder or remote model id of the condition it continues
    template_args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """The finished fine-tune: exactly one of `adapter`, `weights` (the folder of the record) or `remote` (a model id).

    `billed_tokens` are those that a service bills, where it or the rows as they were sent say; of a record of before, none.
    """

    tag: str
    backend: str
    base: str
    rows: int
    steps: int
    trained_tokens: int
    seconds: float
    losses: tuple[float, ...]
    adapter: str | None = None
    weights: str | None = None
    remote: str | None = None
    notes: dict[str, str] = field(default_factory=dict)
    billed_tokens: int | None = None

    def save(self, folder: Path) -> None:
        """Write the record; its presence means that the fine-tune is complete."""
        part = folder / (RECORD + ".part")
        part.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        part.replace(folder / RECORD)


def load_record(folder: Path, tag: str) -> Trained | None:
    """The record of a finished fine-tune in this folder, if it is of this very job; a folder that was moved keeps its adapter."""
    path = folder / RECORD
    if not path.is_file():
        return None
    raw = json.loads(path.read_text(encoding="utf-8"))
    raw["losses"] = tuple(raw["losses"])
    here = {kind: str(folder) for kind in ("adapter", "weights") if raw[kind] is not None}
    record = Trained(**raw | here)
    return record if record.tag == tag else None


def record_elsewhere(job: TrainingJob) -> Trained | None:
    """The record of this very job that another arm of the run left, where its fine-tune lies at a service."""
    for path in sorted(job.folder.parent.glob(f"*/{RECORD}")):
        record = load_record(path.parent, job.tag)
        if record is not None and record.remote is not None:
            return record
    return None


class Backend(Protocol):
    """A way to fine-tune. Killed and called again with the same job, it goes on and never pays twice."""

    name: str

    def train(self, job: TrainingJob, progress: Progress, pay: Pay = unpaid) -> Trained:
        """Fine-tune and return the record.

        Args:
            job: what to train.
            progress: told of every step.
            pay: told of every job that a service may bill, before anything is sent for it.

        Raises:
            TrainError: it cannot be done; the message says why and what to do.
        """
        ...
