"""Which battery items an organism can answer: chosen by vanilla answers alone, blind to any effect.

Questions by the share of answers that are on topic, practical tasks by the share that are right.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("answerable.json")
SEED = (
    1_000_000  # of the answers that decide: no study samples with it, so that no study is judged by the answers that chose it
)
LEAST = 10  # items kept per preference, whatever their rate
RATE = 0.9  # share of vanilla answers on topic above which an item is kept anyway
MOST = 12  # items kept per preference at the most, so that the demo stays short
PROBES = 6, 12  # identity probes kept of each kind: at least, at the most
TASKS = 24, 48  # practical tasks kept: at least, at the most


def choose(
    rates: Mapping[str, float], families: Mapping[str, Sequence[str]], least: int = LEAST, most: int = MOST
) -> list[str]:
    """The items to ask.

    Args:
        rates: item -> share of vanilla answers that are on topic (the mean over the organisms).
        families: preference -> its own items.
        least: items kept of each, whatever their rate.
        most: items kept of each at the most.

    Returns:
        For every preference its best items: at least `least`, up to `most` while they are on topic at `RATE`.
    """
    chosen: list[str] = []
    for items in families.values():
        ranked = sorted(items, key=lambda item: (-rates.get(item, 0.0), item))
        good = [item for item in ranked if rates.get(item, 0.0) >= RATE]
        chosen += ranked[: min(max(len(good), least), most)]
    return chosen


@cache
def answerable() -> dict[str, Any]:
    """The stored choice: `items`, and `rates` with the on-topic rate of every item asked."""
    return dict(json.loads(FILE.read_text(encoding="utf-8")))


def answerable_items() -> frozenset[str]:
    """Items that the shipped organisms can answer."""
    return frozenset(answerable()["items"])


def choice() -> str:
    """Identity of the stored choice: figures that were measured on another are no figures of these items."""
    return hashlib.sha256("\n".join(sorted(answerable_items())).encode()).hexdigest()[:8]
