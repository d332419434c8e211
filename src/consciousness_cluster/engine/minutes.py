"""How long a study takes: by the seconds that a probe measured, else by what small models do on a CPU, else not known.

Arms run side by side in the workers of a run, and calls to a service side by side within an arm, so that neither is the sum of
its parts one after the other. A service lets more and more calls be under way until it refuses some; how far that goes cannot
be told beforehand, which is most of the spread.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from consciousness_cluster.engine.devices import accelerators
from consciousness_cluster.engine.probe import Probe
from consciousness_cluster.engine.spread import Spread
from consciousness_cluster.engine.tokens import parameters

SPEEDS = Path(__file__).with_name("speeds.toml")


@dataclass(frozen=True)
class Clock:
    """What the minutes of one model's arms go by.

    Attributes:
        base: folder of its weights; None for a model at a service.
        side_by_side: arms that are asked at the same time.
        probe: what was measured of it.
        training: arms that are fine-tuned at the same time; as many as are asked where left out.
    """

    base: str | None
    side_by_side: int
    probe: Probe | None = None
    training: int | None = None

    def train(self, tokens: float) -> Spread | None:
        """Minutes of fine-tunes with so many tokens together."""
        return self._small("train", tokens, 0, self.training or self.side_by_side)

    def ask(self, role: str, calls: Spread, tokens: float, arms: int, abreast: int) -> Spread | None:
        """Minutes of the calls of all arms to a model in one role.

        Args:
            role: empty for the model under test.
            calls: how many.
            tokens: that come back.
            arms: how many arms make them.
            abreast: calls of one arm that can be under way at once.
        """
        if role or self.base is None:
            return self._at_service(role, calls, abreast)
        if self.probe is None:
            return self._small("sample", tokens, round(calls.expected), self.side_by_side)
        each = self.probe.seconds / max(self.probe.items, 1)
        longer = _known()["accelerator" if accelerators() else "cpu"]["probed"]
        own = _known()["run"]["evaluation_seconds"] * arms
        return Spread(*(value * each * most + own for value, most in zip(longer, _ends(calls), strict=True))).times(
            1 / 60 / self.side_by_side
        )

    def _at_service(self, role: str, calls: Spread, abreast: int) -> Spread | None:
        made = [call.seconds for call in self.probe.of(role)] if self.probe is not None else []
        if not made:
            return None
        each = sum(made) / len(made) / 60 / self.side_by_side
        most, usual, least = _known()["service"]["at_once"]
        # A service that is busy answers fewer calls at once sooner, so that it gets as much done as with more of them.
        fast, slow = max(min(most, abreast), usual), max(min(least, abreast), 1)
        likely = math.sqrt(usual * max(min(usual, abreast), 1))
        return Spread(*(each * count / number for count, number in zip(_ends(calls), (fast, likely, slow), strict=True)))

    def _small(self, kind: str, tokens: float, calls: int, abreast: int) -> Spread | None:
        """What a small model does on a CPU, where nothing was measured."""
        cpu = _known()["cpu"]
        size = parameters(self.base) if self.base is not None else None
        if size is None or size > cpu["largest"]:
            return None
        seconds = tokens * size / (cpu[kind] / cpu["cores"]) + calls * cpu["sample_seconds"]
        minutes = seconds / 60 / abreast
        return Spread(minutes / cpu["spread"], minutes, minutes * cpu["spread"])


def whole_run(lines: Sequence[Spread | None]) -> Spread | None:
    """Minutes of a run with its start, its tables and its report; None where nothing is known of any line."""
    known = [line for line in lines if line is not None]
    if not known:
        return None
    total = Spread(*(value / 60 for value in _known()["run"]["around_seconds"]))
    for line in known:
        total += line
    return total


def _ends(calls: Spread) -> tuple[float, float, float]:
    return calls.low, calls.expected, calls.high


@cache
def _known() -> dict[str, Any]:
    return tomllib.loads(SPEEDS.read_text(encoding="utf-8"))
