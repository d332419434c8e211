"""A study as a run keeps it: every value that it goes by written out, so that a reader needs no version of this program."""

from __future__ import annotations

from consciousness_cluster.study.conditions import filled as filled_conditions
from consciousness_cluster.study.study import ClaimEntry, Study
from consciousness_cluster.train.recipe import filled as filled_recipe


def written_out(study: Study) -> Study:
    """The study with every field of its conditions, of its recipe and of its own claims; done twice it stays as it is.

    Raises:
        TrainError: there is no such recipe, or a change that it does not allow.
    """
    claims = tuple(_filled(entry, study.focus) for entry in study.claims)
    return filled_conditions(study).model_copy(update={"train": filled_recipe(study.train), "claims": claims})


def _filled(entry: ClaimEntry, focus: str) -> ClaimEntry:
    return entry if entry.condition is not None else entry.model_copy(update={"condition": focus})
