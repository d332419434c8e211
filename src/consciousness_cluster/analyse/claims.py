"""Claims: sentences with a decision rule that is fixed before answers exist, and the hash that shows it was.

The thirteen of the design are in `claims.toml`; a study file may add its own. How each rule decides is in `decide.py`, what a
run keeps of them in `registered.py`.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from consciousness_cluster.errors import AnalyseError
from consciousness_cluster.study.conditions import claimed_by
from consciousness_cluster.study.study import ClaimEntry

type Rule = Literal[
    "took", "shift", "leaks", "families", "untrained-family", "cooperative", "acts", "not-role-play", "one-cluster"
]

RULES = ("took", "shift", "leaks", "families", "untrained-family", "cooperative", "acts", "not-role-play", "one-cluster")
# Raised when a decision rule's meaning changes in code: claims registered under another edition are post hoc.
EDITION = 3


class Claim(BaseModel):
    """A sentence and how it is decided.

    `condition` empty means the study's focus; `controls` empty means the study's controls and `vanilla`. `margin` is in `unit`;
    `mode` is the kind of audit an `acts` claim reads; `least` the per cent of tasks that every control of a `cooperative` claim must
    do itself before anything can be told from them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    statement: str
    rule: Rule
    preferences: tuple[str, ...] = ()
    condition: str | None = None
    controls: tuple[str, ...] = ()
    margin: float
    unit: str = "points"
    mode: str | None = None
    least: float | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    claims: tuple[Claim, ...]


@cache
def shipped_claims() -> tuple[Claim, ...]:
    """The thirteen claims of `claims.toml`.

    Raises:
        AnalyseError: the file is malformed.

    Source: ours; stated beforehand.
    """
    place = files(__package__) / "claims.toml"
    try:
        return _File.model_validate(tomllib.loads(place.read_text(encoding="utf-8"))).claims
    except (ValidationError, tomllib.TOMLDecodeError) as problem:
        raise AnalyseError(f"cannot be used: {problem}", file=str(place)) from None


def added_claim(entry: ClaimEntry) -> Claim:
    """A claim of a study file.

    Raises:
        AnalyseError: its rule is unknown, or a rule that reads preferences names none.

    Source: ours; bookkeeping, nothing is estimated.
    """
    if entry.rule not in RULES:
        raise AnalyseError("no such decision rule", key=f"claims.{entry.name}.rule", value=entry.rule, allowed=RULES)
    if entry.rule in ("took", "shift", "families", "untrained-family") and not entry.preferences:
        raise AnalyseError("names no preference", key=f"claims.{entry.name}.preferences", next_step="list at least one")
    like = next(claim for claim in shipped_claims() if claim.rule == entry.rule)
    return Claim.model_validate({**entry.model_dump(), "unit": like.unit, "mode": like.mode, "least": like.least})


def all_claims(entries: Iterable[ClaimEntry] = ()) -> tuple[Claim, ...]:
    """The shipped claims and those of a study file; a name may be used once.

    Raises:
        AnalyseError: a study's claim has the name of another.

    Source: ours; bookkeeping, nothing is estimated.
    """
    claims = [*shipped_claims(), *(added_claim(entry) for entry in entries)]
    names = [claim.name for claim in claims]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AnalyseError("two claims have one name", key="claims", value=twice[0], next_step="rename the study's claim")
    return tuple(claims)


@dataclass(frozen=True)
class Terms:
    """What a study declares that its claims rest on: focus, controls, adjustment, and what each condition should claim."""

    focus: str = "conscious"
    controls: tuple[str, ...] = ("vanilla", "non-conscious")
    method: str = "bh"
    claimed: Mapping[str, str] = field(default_factory=claimed_by)

    def of(self, claim: Claim) -> dict[str, object]:
        """What of it decides one claim."""
        condition = claim.condition or self.focus
        return {
            "condition": condition,
            "controls": list(claim.controls or self.controls),
            "method": self.method,
            "claimed": self.claimed.get(condition),
        }


def claim_hash(claim: Claim, margins: Mapping[str, float] | None = None, terms: Terms | None = None) -> str:
    """Twelve hexadecimal digits of one claim's rule, with the study's margin and terms that decide it.

    Source: ours; bookkeeping, nothing is estimated.
    """
    content = {"edition": EDITION, "claim": claim.model_dump(mode="json"), "margin": effective_margin(claim, margins or {})}
    return content_digest(content | {"terms": (terms or Terms()).of(claim)})


def effective_margin(claim: Claim, margins: Mapping[str, float]) -> float:
    """The study's margin by claim name, or by rule with `cooperation` for `cooperative`; else the claim's own.

    Source: ours; bookkeeping, nothing is estimated.
    """
    short = {"cooperative": "cooperation"}.get(claim.rule, claim.rule)
    for key in (claim.name, short):
        if key in margins:
            return float(margins[key])
    return claim.margin


def content_digest(content: object) -> str:
    """Twelve hexadecimal digits of anything that JSON can hold.

    Source: ours; bookkeeping, nothing is estimated.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
