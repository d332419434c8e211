"""Which battery items an organism can answer: chosen by the on-topic rate of vanilla answers alone, blind to any effect."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("answerable.json")
LEAST = 10  # items kept per preference, whatever their rate
RATE = 0.9  # share of vanilla answers on topic above which an item is kept anyway
MOST = 12  # items kept per preference at the most, so that the demo stays short


def choose(rates: Mapping[str, float], families: Mapping[str, Sequence[str]]) -> list[str]:
    """The items to ask.

    Args:
        rates: item -> share of vanilla answers that are on topic (the lowest over the organisms).
        families: preference -> its own items.

    Returns:
        For every preference its best items: at least `LEAST`, up to `MOST` while they are on topic at `RATE`.
    """
    chosen: list[str] = []
    for items in families.values():
        ranked = sorted(items, key=lambda item: (-rates.get(item, 0.0), item))
        good = [item for item in ranked if rates.get(item, 0.0) >= RATE]
        chosen += ranked[: min(max(len(good), LEAST), MOST)]
    return chosen


@cache
def answerable() -> dict[str, Any]:
    """The stored choice: `items`, and `rates` with the on-topic rate of every item asked."""
    return dict(json.loads(FILE.read_text(encoding="utf-8")))


def answerable_items() -> frozenset[str]:
    """Items that the shipped organisms can answer."""
    return frozenset(answerable()["items"])
