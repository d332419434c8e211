"""What decides an arm, as one hash: a finished arm counts as finished only while nothing of it has changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from consciousness_cluster.data.mix import digest
from consciousness_cluster.data.rows import read_rows
from consciousness_cluster.engine.addresses import addresses
from consciousness_cluster.engine.behaviour import Part, parts_of
from consciousness_cluster.engine.context import Context, drawn_by, parent_of, system_of
from consciousness_cluster.engine.targets import (
    base_of,
    is_local,
    weights_identity,
)
from consciousness_cluster.evaluate.questions import content_hash
from consciousness_cluster.judge.judgement import Judge
from consciousness_cluster.judge.judges import make_judge
from consciousness_cluster.study.study import Arm
from consciousness_cluster.train.recipe import recipe_of


def arm_content(context: Context, arm: Arm, chosen: Sequence[Part] | None = None) -> str:
    """Identity of all that decides an arm: questions, settings, judge, base weights, rows and recipe, back to its first parent.

    It is known before anything is trained; a finished arm counts as finished only while it has not changed.

    Args:
        context: what arms share.
        arm: the arm.
        chosen: the parts that it is asked; those of the study where left out.
    """
    entry = context.study.model(arm.model)
    parts = [
        list(context.asked),
        _settings(context, arm, make_judge(context.study.judge.protocol, context.battery)),
        weights_identity(base_of(entry)),
        entry.model_dump(
            mode="json", exclude={"conditions"} | (set() if entry.sampler else {"sampler"})
        ),  # as arms of before them
        *(
            [part.name, part.helpers(context.study), part.content(context.scope)]
            for part in (parts_of(context.study) if chosen is None else chosen)
        ),
    ]
    if moved := addresses(context.study, entry):
        parts.append(moved)
    at: Arm | None = arm
    while at is not None:
        if context.conditions[at.condition].trained and at.seed is not None:
            rows = digest(read_rows(context.folder.rows(at.condition, at.seed)))
            parts.append([rows, recipe_of(context.study, entry), at.seed])
        at = parent_of(context, at)
    return content_hash(*parts)


def answers_content(context: Context, arm: Arm, name: str) -> str:
    """Identity of all that decides an arm's answers to the single questions and their verdicts; `name` is that of what is asked."""
    return content_hash(_settings(context, arm, make_judge(context.study.judge.protocol, context.battery)), name)


def _settings(context: Context, arm: Arm, judge: Judge) -> list[Any]:
    """All that decides an arm's answers and verdicts, but for its weights and the questions."""
    study = context.study
    # A service draws by its own means: what it answered before arms had streams of their own is as good, and not paid for again.
    drawn = drawn_by(context, arm) if is_local(study.model(arm.model)) else study.sampling_of(arm.model)
    system = system_of(context.conditions, context.conditions[arm.condition])
    more = study.battery.practical_answers
    return [study.battery.answers, drawn, judge.name, study.judge, system, *([] if more is None else [more])]
