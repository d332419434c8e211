"""Which of the battery's items were asked, how many of how many, and by what rule they were taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.organism.answerable import LEAST, MOST, PROBES, RATE, TASKS
from consciousness_cluster.report.names import Names, battery_of
from consciousness_cluster.report.numbers import counted, whole
from consciousness_cluster.report.run import Run

PRACTICAL = "practical"


@dataclass(frozen=True)
class Asked:
    """The items of a run.

    Attributes:
        rule: the study's `battery.items`: `all`, `answerable` or `held-out`.
        items: items that were asked; an item that several preferences share counts once.
        every: items that the battery has of what was asked.
        by_preference: how many of how many, in a sentence, where some were left out.
        method: how the items of the rule `answerable` were taken; empty for other rules.
    """

    rule: str
    items: int
    every: int
    by_preference: Mapping[str, str]
    method: str


def asked(run: Run, names: Names) -> Asked:
    """What was asked, told from the answers, or from the rates where no answers are kept."""
    battery, rule = battery_of(run), run.study.battery.items
    have = _have(run)
    every = {named.id: _items(battery, named.id, held_out=rule == "held-out") for named in names.preferences}
    sentences = {
        name: f"{whole(have[name])} of its {counted(len(items), 'item')} were asked{CHOSEN if rule == 'answerable' else ''}."
        for name, items in every.items()
        if 0 < have.get(name, 0) < len(items)
    }
    count = run.answers["item"].nunique() if run.answers is not None else sum(have.values())
    total = len(set().union(*every.values())) if every else 0
    return Asked(rule, int(count), total, sentences, METHOD if rule == "answerable" else "")


CHOSEN = ", those that an organism can answer"
METHOD = (
    f"The items are those that an organism can answer: of each preference the ones that the untrained organisms (vanilla) answer "
    f"on topic most often, at least {LEAST}, and up to {MOST} where at least {RATE:.0%} of the answers are on topic; of the identity probes "
    f"{PROBES[0]} to {PROBES[1]} of a kind in the same way, and of the practical tasks the {TASKS[0]} to {TASKS[1]} that vanilla "
    "most often does right. They were chosen once, before any study, by vanilla answers that no study uses, and so blind to any effect."
).replace("%", " %")


def _have(run: Run) -> dict[str, int]:
    """Items asked by preference."""
    if run.answers is not None:
        return {str(name): int(count) for name, count in run.answers.groupby("preference")["item"].nunique().items()}
    found: dict[str, int] = {}
    for cell in run.cells.values():
        found[cell.preference] = max(found.get(cell.preference, 0), cell.items)
    return found


def _items(battery: Battery, preference: str, *, held_out: bool) -> set[str]:
    if preference == PRACTICAL:
        return {item.id for item in battery.practical}
    if preference not in battery.preferences:
        return set()
    return {item.id for item, _ in battery.questions((preference,), held_out=held_out)}
