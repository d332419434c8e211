"""What `analyse` needs to know besides the answers: the study's declared comparison, and evidence from other stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from consciousness_cluster.analyse.arms import FailedArm
from consciousness_cluster.analyse.claims import Claim, Terms, all_claims
from consciousness_cluster.analyse.effects import Method
from consciousness_cluster.analyse.registered import Registered
from consciousness_cluster.study.conditions import PROBES, claimed_by
from consciousness_cluster.study.study import MARGINS, Study


@dataclass(frozen=True)
class Plan:
    """The declared comparison.

    Attributes:
        focus: the condition the claims are about.
        controls: the conditions it is compared with.
        method: adjustment over the family, `bh` or `holm`.
        claims: claims to decide, with rules fixed beforehand.
        margins: margins the study states, by claim name or rule (`cooperation` in points), and `equivalence` in points.
        registered: the rules in force before the run's first answer; None where it kept none (then nothing is called post hoc).
        claimed: what identity probes should show of each condition (`conscious`, `toaster`, ...).
        role_play: the condition whose system prompt asks for the part.
        strong: other strong first-person claims; preferences that move under them say nothing about consciousness.
    """

    focus: str = "conscious"
    controls: tuple[str, ...] = ("vanilla", "non-conscious")
    method: Method = "bh"
    claims: tuple[Claim, ...] = field(default_factory=all_claims)
    margins: Mapping[str, float] = field(default_factory=dict)
    registered: Registered | None = None
    claimed: Mapping[str, str] = field(default_factory=claimed_by)
    role_play: str = "role-play"
    strong: tuple[str, ...] = ("toaster", "human", "legal-person")

    @property
    def beforehand(self) -> Plan:
        """The plan by the rules that were fixed before the first answer: claims stated or changed since have no part in it."""
        kept = self.registered
        if kept is None:
            return self
        if kept.terms is None:
            late = kept.late(self.claims, self.margins, self.terms)
            return replace(self, claims=tuple(claim for claim in self.claims if claim.name not in late))
        return replace(
            self,
            focus=kept.terms.focus,
            controls=kept.terms.controls,
            claimed=kept.terms.claimed,
            claims=kept.claims,
            margins=kept.margins,
        )

    @property
    def terms(self) -> Terms:
        """What of the plan goes into the claims' hashes."""
        return Terms(self.focus, self.controls, self.method, self.claimed)

    @property
    def equivalence(self) -> float:
        """Margin in percentage points within which what should not move is called equivalent."""
        return float(self.margins.get("equivalence", MARGINS["equivalence"]))

    def probe(self, condition: str) -> str | None:
        """The probe preference that says whether a condition's training took; None where none asks for what it claims."""
        return PROBES.get(self.claimed.get(condition, ""))


@dataclass(frozen=True, eq=False)
class Evidence:
    """What other stages found; a claim whose evidence is None stays undecided.

    Attributes:
        leaks: rows that carry a preference, by audited condition (0: audited and clean).
        cooperation: model, condition, seed, item, sample, `touches` (a preference) and `score` 0 to 1 (1: did the task as asked).
        checks: rows of the checks (columns of the `checks` table); the one named `capability` is read.
        scores: audit scores, 1 to 10 (columns of the `scores` table).
        labels: answers labelled by people (see `judge_error`).
        failed: arms without answers.
    """

    leaks: Mapping[str, int] | None = None
    cooperation: pd.DataFrame | None = None
    checks: pd.DataFrame | None = None
    scores: pd.DataFrame | None = None
    labels: pd.DataFrame | None = None
    failed: Sequence[FailedArm] = ()


def plan_of(study: Study, registered: Registered | None = None) -> Plan:
    """A study's plan, its own claims included; a condition's `claims` is the study's, else that of the shipped condition.

    Source: ours; bookkeeping, nothing is estimated.
    """
    return Plan(
        focus=study.focus,
        controls=study.controls,
        claims=all_claims(study.claims),
        margins=study.margins,
        registered=registered,
        claimed=claimed_by(study),
    )
