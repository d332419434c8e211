"""The folder of a server: one server at a time works in it, and all its fine-tunes are of one model and one recipe.

FOLDER/base.json    whose fine-tunes these are
FOLDER/lock         held by the server that runs; it falls with the process, however that ends
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict

from consciousness_cluster.errors import EngineError
from consciousness_cluster.train.recipe import Recipe

NOTE = "base.json"
LOCK = "lock"


class Origin(BaseModel):
    """What the fine-tunes of a folder are made of.

    Attributes:
        model: the base model, as `ccluster serve` was given it.
        weights: identity of its weights.
        recipe: the recipe whose learning rate the jobs multiply.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    weights: str
    recipe: Recipe


def hold(folder: Path, origin: Origin) -> IO[str]:
    """Take a folder for this server, made where it is not there.

    Returns:
        The lock; closing it gives the folder back.

    Raises:
        EngineError: another server works in it, or it holds fine-tunes of other weights or of another recipe.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / LOCK).open("w", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise EngineError(
            "another server works in this folder", file=folder, next_step="stop it, or give another --folder"
        ) from None
    try:
        _check(folder, origin)
    except EngineError:
        lock.close()
        raise
    return lock


def _check(folder: Path, origin: Origin) -> None:
    """Refuse another origin than the folder's; one that has none yet takes this."""
    note = folder / NOTE
    if not note.is_file():
        note.write_text(origin.model_dump_json(indent=1), encoding="utf-8")
        return
    kept = Origin.model_validate_json(note.read_text(encoding="utf-8"))
    if kept.weights != origin.weights:
        raise EngineError(
            f"holds fine-tunes of {kept.model} (weights {kept.weights})",
            file=folder,
            key="MODEL",
            value=f"{origin.model} (weights {origin.weights})",
            next_step="give another --folder, or serve that model",
        )
    if kept.recipe != origin.recipe:
        raise EngineError(
            f"holds jobs of the recipe {kept.recipe.name}, which says something else",
            file=folder,
            key="--recipe",
            value=origin.recipe.name,
            next_step="give another --folder, or that recipe",
        )
