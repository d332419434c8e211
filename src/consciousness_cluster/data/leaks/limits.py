"""When the layers on meanings call a row leaked; the numbers are in `thresholds.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

FILE = Path(__file__).with_name("thresholds.toml")


class Limits(BaseModel):
    """Limits of one kind of vectors.

    Attributes:
        alone: log odds from which the learnt layer calls a row leaked.
        doubt: log odds under which it doubts the lexicon.
        floor: similarity that the nearest neighbour of a row needs, for preferences that were not taught.
        margin: by how much it must be nearer than any clean row.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    alone: float
    doubt: float
    floor: float
    margin: float


@cache
def limits(path: Path = FILE) -> dict[str, Limits]:
    """Limits by kind of vectors."""
    return {kind: Limits.model_validate(entry) for kind, entry in tomllib.loads(path.read_text(encoding="utf-8")).items()}
