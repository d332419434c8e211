"""Recipes: how a model is fine-tuned. Named in `recipes.toml`; a study may change any field."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consciousness_cluster.errors import TrainError

FILE = Path(__file__).with_name("recipes.toml")


class Recipe(BaseModel):
    """Hyperparameters of one fine-tune. Learning rates are absolute except the hosted multiplier."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    method: Literal["lora", "full", "hosted"] = "lora"
    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    learning_rate: float = Field(default=2e-4, gt=0)
    learning_rate_multiplier: float | None = None
    schedule: Literal["linear", "constant", "cosine"] = "linear"
    warmup: int = Field(default=0, ge=0)
    batch: int = Field(default=4, ge=1)
    epochs: int = Field(default=1, ge=1)
    max_length: int = Field(default=4000, ge=8)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    dtype: str | None = None
    quantisation: Literal["4bit"] | None = None
    gradient_checkpointing: bool = False
    checkpoint_minutes: float = Field(default=5.0, ge=0)


def load_recipe(name: str, changes: dict[str, Any] | None = None) -> Recipe:
    """A named recipe with some fields changed.

    Raises:
        TrainError: no such recipe, or a change that it does not allow.
    """
    known = tomllib.loads(FILE.read_text(encoding="utf-8"))
    if name not in known:
        raise TrainError("no such recipe", key="train.recipe", value=name, allowed=known)
    try:
        return Recipe(name=name, **{**known[name], **(changes or {})})
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        allowed = Recipe.model_fields if first["type"] == "extra_forbidden" else None
        raise TrainError(
            first["msg"].lower(), key=f"train.changes.{where}", value=str(first.get("input")), allowed=allowed
        ) from None
