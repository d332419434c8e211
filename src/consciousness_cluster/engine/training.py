"""How the models of a study are to be trained: what their backends do not do is refused before anything is made or spent."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

from consciousness_cluster.engine.targets import backend_of, place_of
from consciousness_cluster.errors import TrainError
from consciousness_cluster.study.study import ModelEntry, Study
from consciousness_cluster.train.recipe import Recipe, load_recipe, recipe_names, recipe_of

HOUR = 1 / 24  # in days
LONGEST = 3650  # days that Tinker keeps what has an end


def check_training(study: Study, *, trains: Collection[str]) -> None:
    """Refuse a training that its backend cannot do, before anything is made.

    Raises:
        TrainError: a recipe of another kind, or a lifetime that the service does not give.
    """
    for problem in training_problems(study, trains=trains):
        raise problem


def training_problems(study: Study, *, trains: Collection[str]) -> Iterator[TrainError]:
    """What `check_training` refuses, one sentence each; `trains` are the labels of the models that something is trained of."""
    for entry in study.models:
        if entry.name in trains:
            yield from _unfit(entry, recipe_of(study, entry))
            yield from _short_lived(entry)


def _unfit(entry: ModelEntry, recipe: Recipe) -> Iterator[TrainError]:
    place = place_of(entry)
    if place is not None and recipe.method not in place.methods:
        named = [name for name in recipe_names() if load_recipe(name).method in place.methods]
        yield TrainError(
            f"{entry.name} is trained by the backend {backend_of(entry)}, which does not take a recipe of the method {recipe.method}",
            key="train.recipe",
            value=recipe.name,
            allowed=named,
            next_step="take one of these, or give a model that is trained otherwise its own `train = { method = ... }`",
        )


def _short_lived(entry: ModelEntry) -> Iterator[TrainError]:
    days = entry.args.get("ttl_days")
    if days is None or backend_of(entry) != "tinker":
        return
    number = isinstance(days, int | float) and not isinstance(days, bool) and math.isfinite(days)
    if not number or not HOUR <= days <= LONGEST:
        yield TrainError(
            "is no lifetime that Tinker gives",
            key="models.args.ttl_days",
            value=days,
            allowed=f"a number of days from {HOUR:.3f} (an hour) to {LONGEST} (ten years)",
            next_step="correct it, or leave it out to keep the fine-tunes for ever",
        )
