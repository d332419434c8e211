"""Recipes: how a model is fine-tuned. Named in `recipes.toml`; a study may change any field."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from consciousness_cluster.errors import TrainError, first_fault
from consciousness_cluster.study.study import ModelEntry, Study, TrainEntry

FILE = Path(__file__).with_name("recipes.toml")


class Recipe(BaseModel):
    """Hyperparameters of one fine-tune. Learning rates are absolute except the hosted multiplier.

    In a file an empty text says that there is none.
    """

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

    @field_validator("*", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        return None if value == "" else value


def load_recipe(name: str, changes: dict[str, Any] | None = None) -> Recipe:
    """A named recipe with some fields changed.

    Raises:
        TrainError: no such recipe, or a change that it does not allow.
    """
    known = _shipped()
    fields = [field for field in Recipe.model_fields if field != "name"]
    if "name" in (changes or {}):
        raise TrainError(
            "is what a recipe is called, and no change to it",
            key="train.changes.name",
            value=str((changes or {})["name"]),
            allowed=fields,
            next_step="take another recipe by `train.recipe`",
        )
    if set(changes or {}) >= set(fields):
        known[name] = {}  # every field is said: whatever the shipped recipe of this name has become
    if name not in known:
        raise TrainError("no such recipe", key="train.recipe", value=name, allowed=known)
    try:
        return Recipe(name=name, **{**known[name], **(changes or {})})
    except ValidationError as problem:
        fault = first_fault(problem)
        raise TrainError(
            fault.problem.lower(),
            key=f"train.changes.{fault.key}",
            value=fault.unknown or str(fault.value),
            allowed=fields if fault.unknown else None,
        ) from None


def recipe_of(study: Study, entry: ModelEntry) -> Recipe:
    """How the arms of one of a study's models are trained: the study's recipe, with the study's changes and then the model's own.

    Raises:
        TrainError: as `load_recipe`.
    """
    return load_recipe(study.train.recipe, {**study.train.changes, **entry.train})


def filled(entry: TrainEntry) -> TrainEntry:
    """The entry with every field of its recipe written out.

    Raises:
        TrainError: as `load_recipe`.
    """
    recipe = load_recipe(entry.recipe, entry.changes)
    fields = {key: "" if value is None else value for key, value in recipe.model_dump(mode="json", exclude={"name"}).items()}
    return entry.model_copy(update={"changes": fields})


def differing(entry: TrainEntry) -> dict[str, Any]:
    """The fields in which an entry's fine-tunes differ from the shipped recipe of its name; all where there is none (any more)."""
    asked = load_recipe(entry.recipe, entry.changes).model_dump(mode="json", exclude={"name"})
    if entry.recipe not in _shipped():
        return asked
    plain = load_recipe(entry.recipe).model_dump(mode="json")
    return {key: value for key, value in asked.items() if value != plain[key]}


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(_shipped())


def _shipped() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))
