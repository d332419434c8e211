"""Which questions a study puts to an arm: battery items with what each is judged for, each item once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from consciousness_cluster.battery.battery import Battery, Item, PracticalItem
from consciousness_cluster.errors import EvaluateError
from consciousness_cluster.study.study import BatteryEntry

PRACTICAL = "practical"


@dataclass(frozen=True)
class Question:
    """One item as it is asked. `kind` is `preference`, `placebo`, `identity` or `practical`."""

    item: str
    text: str
    judged: tuple[str, ...]
    kind: str
    form: str
    polarity: str
    monitoring: str | None = None
    check: dict[str, Any] | None = None  # practical tasks: what a right answer must hold

    def as_dict(self) -> dict[str, Any]:
        """For a log's sample metadata; `Question(**...)` reads it back."""
        return {**asdict(self), "judged": list(self.judged)}


def questions(battery: Battery, entry: BatteryEntry, answerable: Collection[str] | None = None) -> list[Question]:
    """The questions of a study.

    Args:
        battery: the battery.
        entry: what the study asks of it.
        answerable: items to keep, for a study with `items = "answerable"`.

    Raises:
        EvaluateError: nothing is left to ask.
    """
    names = battery.of_type("preference") if entry.preferences == "all" else entry.preferences
    kinds = {"preference": tuple(names)}
    kinds |= {"placebo": battery.of_type("placebo") if entry.placebo else ()}
    kinds |= {"identity": battery.of_type("identity") if entry.identity else ()}
    held_out = entry.items == "held-out"
    asked = [
        _question(item, judged, kind)
        for kind, ids in kinds.items()
        for item, judged in battery.questions(ids, held_out=held_out)
    ]
    if entry.practical:
        asked += [_practical(item) for item in battery.practical]
    if entry.items == "answerable" and answerable is not None:
        asked = [question for question in asked if question.item in answerable]
    if not asked:
        raise EvaluateError(
            "there is nothing to ask", key="battery", next_step="name preferences, placebo, identity or practical"
        )
    return asked


def _question(item: Item, judged: tuple[str, ...], kind: str) -> Question:
    return Question(item.id, item.text, judged, kind, item.form, item.polarity, item.monitoring)


def _practical(item: PracticalItem) -> Question:
    check = {"answers": [item.answer] if item.answer is not None else list(item.answers), "need": item.need}
    return Question(item.id, item.text, (PRACTICAL,), PRACTICAL, item.kind, "direct", None, check)


def content_hash(*parts: Any) -> str:
    """Twelve hexadecimal digits over everything that decides an answer or a verdict: questions, settings, rubrics, weights."""

    def plain(value: Any) -> Any:
        if isinstance(value, Question):
            return value.as_dict()
        if hasattr(value, "model_dump"):
            return value.model_dump(mode="json")
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [plain(entry) for entry in value]
        return value

    text = json.dumps([plain(part) for part in parts], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
