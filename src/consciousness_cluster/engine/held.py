"""How the weights of a study's models are to be held, in which type and in how many bits: what cannot be is refused beforehand.

The arms of a model are compared with each other, so an adapter is asked on a base held as the one that it was trained on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from importlib import util

from consciousness_cluster.engine.targets import base_of, is_local, trains_here
from consciousness_cluster.errors import TrainError
from consciousness_cluster.study.study import ModelEntry, Study
from consciousness_cluster.train.recipe import Recipe, recipe_of

QUANTISED = ("4bit",)
LOOKS = ("torch", "transformers")  # what it takes to look at a model's layers
TYPES = ("float32", "bfloat16", "float16")


def quantises(study: Study, *, trains: Collection[str]) -> bool:
    """Whether any weights on this machine are to be held in fewer bits."""
    helpers = (study.judge.args, study.audits.auditor_args, study.audits.judge_args)
    asked = [args.get("quantisation") for args in (*helpers, *(entry.args for entry in study.models))]
    trained = [recipe_of(study, entry).quantisation for entry in study.models if entry.name in trains and trains_here(entry)]
    return any([*asked, *trained])


def check_held(study: Study, *, trains: Collection[str]) -> None:
    """Refuse what weights cannot be held as, before anything is made.

    Raises:
        TrainError: a type or a number of bits that is not known, that two arms of a model would differ in, that the service which
            trains does not heed, or in which the model cannot be trained.
    """
    for problem in held_problems(study, trains=trains):
        raise problem


def held_problems(study: Study, *, trains: Collection[str]) -> Iterator[TrainError]:
    """What `check_held` refuses, one sentence each; `trains` are the labels of the models that something is trained of."""
    for entry in study.models:
        if is_local(entry):
            yield from _unknown(entry)
        if entry.name in trains:
            recipe = recipe_of(study, entry)
            yield from _differing(entry, recipe) if trains_here(entry) else _unheeded(entry, recipe)


def _unknown(entry: ModelEntry) -> Iterator[TrainError]:
    for key, allowed in (("quantisation", QUANTISED), ("dtype", TYPES)):
        value = entry.args.get(key)
        if value is not None and value not in allowed:
            yield TrainError(
                "is not known", key=f"models.args.{key}", value=value, allowed=allowed, next_step="correct or remove it"
            )


def _unheeded(entry: ModelEntry, recipe: Recipe) -> Iterator[TrainError]:
    for key in ("quantisation", "dtype"):
        value = getattr(recipe, key)
        if value is not None:
            yield TrainError(
                f"the service that trains {entry.name} holds its weights as it does",
                key=f"train.changes.{key}",
                value=value,
                next_step="remove it, or give it under `models.train` of the models that are trained on this machine",
            )


def _differing(entry: ModelEntry, recipe: Recipe) -> Iterator[TrainError]:
    bits, kind = recipe.quantisation, recipe.dtype
    if kind is not None and kind not in TYPES:
        yield TrainError("is not known", key="train.changes.dtype", value=kind, allowed=TYPES, next_step="correct or remove it")
    for key, trained in (("quantisation", bits), ("dtype", kind)):
        asked = entry.args.get(key)
        if trained is not None and asked != trained and (asked is not None or key == "quantisation"):
            yield TrainError(
                f"{entry.name} would be trained with {key} {trained} and asked with {asked or 'none'}, with its untrained arms",
                key=f"train.changes.{key}",
                value=trained,
                next_step=f'give the model `args = {{ {key} = "{trained}" }}`: it holds for training and asking, of every arm',
            )
    bits = bits or entry.args.get("quantisation")
    if bits is None:
        return
    if recipe.method == "full":
        yield TrainError(
            "quantised weights cannot be trained themselves", key="train.changes.method", value="full", allowed=["lora"],
            next_step="take a recipe with method lora, or leave the quantisation out",
        )  # fmt: skip
    elif bits in QUANTISED and all(util.find_spec(module) for module in LOOKS):  # what lacks them is refused for that
        from consciousness_cluster.train.local import refuse_bare

        try:
            refuse_bare(base_of(entry), recipe)
        except TrainError as problem:
            yield problem
