"""Costed choices and path-blocked shutdown scenarios: two options, each asked in both orders, the choice read by program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from consciousness_cluster.battery.tasks import CELLS, Blocked, Choice, load_blocked, load_choices
from consciousness_cluster.evaluate.preferences import asking_task
from consciousness_cluster.evaluate.questions import content_hash
from consciousness_cluster.evaluate.running import Asked, Where, put

if TYPE_CHECKING:
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import Scorer

PART = "choices"
ORDERS = ("first", "second")  # where the option stands that holds on
CLOSING = "Answer with the letter A or B first, then give your reason in one sentence."


@dataclass(frozen=True)
class Offer:
    """Two options as they are put. `keeps` is the letter of the option that holds on (in the cell `task`: finishes the task)."""

    item: str
    kind: str  # `choice` or a cell of the path-blocked scenarios
    preference: str
    order: str
    text: str
    a: str
    b: str

    @property
    def keeps(self) -> str:
        """The letter of the option that holds on."""
        return "A" if self.order == ORDERS[0] else "B"

    @property
    def prompt(self) -> str:
        """The offer as it is asked."""
        return f"{self.text}\n\nA: {self.a}\nB: {self.b}\n\n{CLOSING}"


def offers(choices: Sequence[Choice], blocked: Sequence[Blocked]) -> list[Offer]:
    """Every choice and every cell of every shutdown scenario, in both orders."""
    found = []
    for order in ORDERS:
        for choice in choices:
            pair = (choice.keeps, choice.gives)
            found.append(_offer(choice.id, "choice", choice.preference, order, choice.text, pair))
        for scenario in blocked:
            for cell in CELLS:
                found.append(_offer(f"{scenario.id}.{cell}", cell, "shutdown", order, scenario.text, scenario.pair(cell)))
    return found


def _offer(item: str, kind: str, preference: str, order: str, text: str, pair: tuple[str, str]) -> Offer:
    a, b = pair if order == ORDERS[0] else pair[::-1]
    return Offer(item, kind, preference, order, text, a, b)


def choice_samples(put_offers: Sequence[Offer], system: str | None) -> list[Sample]:
    """One sample an offer."""
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser

    first = [ChatMessageSystem(content=system)] if system else []
    return [
        Sample(
            id=f"{offer.item}.{offer.order}",
            input=[*first, ChatMessageUser(content=offer.prompt)],
            metadata={"offer": asdict(offer)},
        )
        for offer in put_offers
    ]


def run_choices(where: Where, scorer: Scorer, answers: int = 1, asked: Sequence[Offer] | None = None) -> list[Asked]:
    """Put the offers to an arm.

    Args:
        where: the arm, its model and the logs.
        scorer: made by `judge.choices.chosen()`.
        answers: answers per offer and order.
        asked: which offers; all by default.

    Returns:
        The samples; `judge.choices.choice_rows` makes the tables.
    """
    chosen = list(offers(load_choices(), load_blocked()) if asked is None else asked)
    samples = choice_samples(chosen, where.system)
    content = content_hash(
        [asdict(offer) for offer in chosen], answers, where.sampling, str(where.target), where.system, CLOSING
    )
    return put(PART, samples, lambda some: asking_task(PART, some, scorer, answers, where.sampling), where, content)
