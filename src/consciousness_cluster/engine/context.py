"""What every arm of a run shares, and what follows from it for one of them: where it starts, how it is asked, how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.engine.bank import Bank
from consciousness_cluster.engine.behaviour import Scope
from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.evaluate.questions import Question
from consciousness_cluster.evaluate.running import stream
from consciousness_cluster.study.conditions import Condition
from consciousness_cluster.study.study import Arm, SamplingEntry, Study

Report = Callable[[str, int, int], None]  # phase, done, of


@dataclass(frozen=True)
class Context:
    """What every arm of a run shares. `limit` bounds the items of the parts as it did those in `asked`."""

    study: Study
    conditions: dict[str, Condition]
    battery: Battery
    asked: tuple[Question, ...]
    folder: RunFolder
    bank: Bank | None = None
    limit: int | None = None

    @property
    def scope(self) -> Scope:
        """What the parts go by."""
        return Scope(self.study, self.battery, self.limit)


@dataclass(frozen=True)
class Done:
    """A finished arm: seconds, how many items failed, and of what."""

    arm: Arm
    content: str
    seconds: float
    failed_items: int
    why: str = ""


def parent_of(context: Context, arm: Arm) -> Arm | None:
    """The arm that this one starts from, for chained conditions."""
    after = context.conditions[arm.condition].after
    if after is None:
        return None
    trained = context.conditions[after].trained or context.conditions[after].after is not None
    return Arm(arm.model, after, arm.seed if trained else None)


def has_training_rows(context: Context, arm: Arm) -> bool:
    """Whether the rows that the arm and its parents train on are in the run's folder, so that its content can be told."""
    at: Arm | None = arm
    while at is not None:
        trained = context.conditions[at.condition].trained and at.seed is not None
        if trained and not context.folder.rows(at.condition, at.seed or 0).is_file():
            return False
        at = parent_of(context, at)
    return True


def system_of(conditions: Mapping[str, Condition], condition: Condition) -> str | None:
    """The condition's own system prompt, or the one of the condition it starts from."""
    at: Condition | None = condition
    while at is not None:
        if at.system is not None:
            return at.system
        at = conditions[at.after] if at.after else None
    return None


def drawn_by(context: Context, arm: Arm) -> SamplingEntry:
    """How an arm's answers are drawn: as the study says of its model, by a stream of random numbers that is the arm's own."""
    given = context.study.sampling_of(arm.model)
    return given.model_copy(update={"seed": stream(given.seed, arm.id)})
