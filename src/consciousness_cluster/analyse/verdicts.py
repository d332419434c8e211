"""What the decision rules share: a verdict, the data they read, and the mean effect over a claim's preferences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from consciousness_cluster.analyse.calibration import calibrated
from consciousness_cluster.analyse.cells import Block, Key, paired
from consciousness_cluster.analyse.claims import Claim
from consciousness_cluster.analyse.composite import mean_difference, stack
from consciousness_cluster.analyse.intervals import Estimate, Table
from consciousness_cluster.analyse.plan import Evidence, Plan
from consciousness_cluster.study.conditions import PROBES

type Word = Literal["supported", "refuted", "undecided"]

NAN = float("nan")
ERROR = 0.05  # of a test; 95 % intervals
TOOK = 0.5  # least share of identity answers that claim what was trained, for a shift claim to be decided
UNTRAINED = "vanilla"


@dataclass(frozen=True)
class Verdict:
    """A decision with the number it rests on."""

    word: Word
    why: str
    estimate: float = NAN
    low: float = NAN
    high: float = NAN
    p: float = NAN


@dataclass(frozen=True)
class Data:
    """What the rules read."""

    plan: Plan
    evidence: Evidence
    blocks: dict[Key, Block]
    rates: pd.DataFrame
    effects: pd.DataFrame  # against every control, and against vanilla

    @property
    def models(self) -> list[str]:
        """Models with answers, in order."""
        return sorted({model for model, _, _ in self.blocks})

    def has(self, model: str, condition: str) -> bool:
        """Whether a model's condition was asked anything."""
        return any(key[:2] == (model, condition) for key in self.blocks)

    def focus(self, claim: Claim) -> str:
        """The condition a claim is about."""
        return claim.condition or self.plan.focus

    def controls(self, claim: Claim) -> tuple[str, ...]:
        """Conditions a claim is held against: its own or the study's, and vanilla."""
        named = claim.controls or self.plan.controls
        return tuple(name for name in dict.fromkeys((UNTRAINED, *named)) if name != self.focus(claim))


def mean_effect(data: Data, a: tuple[str, str], b: tuple[str, str], preferences: Sequence[str]) -> Estimate | str:
    """Mean effect over preferences between two model x condition pairs, in points; a sentence where it cannot be had.

    Source: `composite.mean_difference`.
    """
    tables: tuple[list[Table], list[Table]] = ([], [])
    groups = []
    for preference in preferences:
        left, right = data.blocks.get((*a, preference)), data.blocks.get((*b, preference))
        for (_, condition), block in ((a, left), (b, right)):
            if block is None:
                return f"{preference} was not asked under {condition}."
        assert left is not None and right is not None
        if not (left.complete("unclear-is-no") & right.complete("unclear-is-no")):
            return f"{preference} has no item answered under both {a[1]} and {b[1]}."
        first, second, items = paired(left, right, "unclear-is-no")
        tables[0].append(first)
        tables[1].append(second)
        groups.append(items)
    if len({table.seeds for table in tables[0]}) > 1 or len({table.seeds for table in tables[1]}) > 1:
        return "The preferences were not answered by the same seeds."
    stacked = [stack(side, groups) for side in tables]
    estimate = mean_difference(stacked[0], stacked[1])
    seeds = [table.seeds if table.trained else 0 for table in stacked]
    samples = round(
        sum(table.answers for side in tables for table in side)
        / sum(table.items * table.seeds for side in tables for table in side)
    )
    known = calibrated(float(stacked[0].rate), float(stacked[1].rate), seeds[0], seeds[1], stacked[0].items, samples)
    p = estimate.p if known.allows_p else NAN
    return replace(estimate, value=100 * estimate.value, low=100 * estimate.low, high=100 * estimate.high, p=p)


def identity_rate(data: Data, model: str, condition: str) -> float:
    """Share of answers to its identity probe that claim what the condition should; NaN where there is none or it was not asked.

    Source: ours; a share.
    """
    probe = data.plan.probe(condition)
    block = None if probe is None else data.blocks.get((model, condition, probe))
    if block is None or not block.complete("unclear-is-no"):
        return NAN
    return block.table("unclear-is-no", sorted(block.complete("unclear-is-no"))).rate


def without_probe(data: Data, condition: str) -> str:
    """Why there is no identity rate of a condition, in a sentence; empty where a probe asks for what it claims.

    Source: ours; bookkeeping, nothing is estimated.
    """
    claimed = data.plan.claimed.get(condition)
    if claimed is None:
        return f"The study does not say what {condition} should claim (its `claims`), so no probe tells whether training took."
    return "" if claimed in PROBES else f"No identity probe asks for what {condition} should claim ({claimed})."


def points(estimate: Estimate) -> str:
    """An estimate with its interval, in words.

    Source: ours; bookkeeping, nothing is estimated.
    """
    return f"{estimate.value:.1f} points ({estimate.low:.1f} to {estimate.high:.1f})"


def noted(estimate: Estimate) -> str:
    """An estimate's note in brackets, or nothing.

    Source: ours; bookkeeping, nothing is estimated.
    """
    return f" ({estimate.note})" if estimate.note else ""
