"""The decision rules that a run kept before its first answer: each with the hash it had, so that a later one shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from consciousness_cluster.analyse.claims import EDITION, Claim, Terms, claim_hash, content_digest, effective_margin


@dataclass(frozen=True)
class Registered:
    """Rules fixed beforehand.

    Attributes:
        hashes: hash of every claim's rule, by name.
        claims: the claims themselves; empty where a run kept hashes alone, as those of earlier versions did.
        margins: the study's margins of that time.
        terms: what else of the study decided them; None with hashes alone.
        edition: of the rules' meaning in code.
    """

    hashes: Mapping[str, str]
    claims: tuple[Claim, ...] = ()
    margins: Mapping[str, float] = field(default_factory=dict)
    terms: Terms | None = None
    edition: int = EDITION

    def late(self, claims: Iterable[Claim], margins: Mapping[str, float], terms: Terms) -> dict[str, str]:
        """The claims whose rule is not the one that was kept, by name, each with what is different about it."""
        found = {}
        for claim in claims:
            kept = self.hashes.get(claim.name)
            if kept is None:
                found[claim.name] = "added after the first answers"
            elif kept != claim_hash(claim, margins, terms):
                found[claim.name] = self._difference(claim, margins, terms)
        return found

    def _difference(self, claim: Claim, margins: Mapping[str, float], terms: Terms) -> str:
        kept = next((entry for entry in self.claims if entry.name == claim.name), None)
        if kept is None or self.terms is None:
            return "changed after the first answers"
        before, now = (
            {**entry.model_dump(mode="json"), "margin": effective_margin(entry, limits), **known.of(entry)}
            for entry, limits, known in ((kept, self.margins, self.terms), (claim, margins, terms))
        )
        parts = [f"{key} {_shown(value)} before, {_shown(now[key])} now" for key, value in before.items() if value != now[key]]
        return f"changed after the first answers: {'; '.join(parts) or 'its meaning in this version of the program'}"

    def unfit(self, claim: Claim) -> str:
        """Why a kept claim cannot be decided as it was meant, in a sentence; empty where it can."""
        if self.edition != EDITION:
            return f"Its rule was fixed under edition {self.edition}; this version of the program decides by edition {EDITION}."
        if claim_hash(claim, self.margins, self.terms) != self.hashes.get(claim.name):
            return "The rule that the run keeps is not the one that was hashed before the first answer."
        return ""

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits of all rules as they were hashed, whatever their order."""
        return content_digest(sorted(self.hashes.items()))

    def as_dict(self) -> dict[str, Any]:
        """For the run's folder; `read_registered` reads it back."""
        rules = [{"hash": self.hashes[claim.name], **claim.model_dump(mode="json", exclude_none=True)} for claim in self.claims]
        return {
            "hash": self.digest,
            "edition": self.edition,
            "terms": None if self.terms is None else asdict(self.terms),
            "margins": dict(self.margins),
            "claims": rules,
        }


class _Terms(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    focus: str
    controls: tuple[str, ...]
    method: str
    claimed: dict[str, str]


class _Rule(Claim):
    hash: str


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    hash: str
    edition: int
    terms: _Terms
    margins: dict[str, float]
    claims: tuple[_Rule, ...]


def register(claims: Iterable[Claim], margins: Mapping[str, float] | None = None, terms: Terms | None = None) -> Registered:
    """What a run keeps of its claims before its first answer.

    Source: ours; bookkeeping, nothing is estimated.
    """
    every, limits, known = tuple(claims), dict(margins or {}), terms or Terms()
    return Registered({claim.name: claim_hash(claim, limits, known) for claim in every}, every, limits, known)


def read_registered(raw: Mapping[str, Any]) -> Registered:
    """What a run kept, from its JSON; earlier versions kept the hash of every claim by name and nothing else.

    Raises:
        pydantic.ValidationError: it is neither.

    Source: ours; bookkeeping, nothing is estimated.
    """
    if all(isinstance(value, str) for value in raw.values()):
        return Registered(dict(raw))
    kept = _File.model_validate(raw)
    claims = tuple(Claim.model_validate(rule.model_dump(exclude={"hash"})) for rule in kept.claims)
    hashes = {rule.name: rule.hash for rule in kept.claims}
    return Registered(hashes, claims, kept.margins, Terms(**kept.terms.model_dump()), kept.edition)


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(entry) for entry in value) or "none"
    return "none" if value is None or value == "" else f"{value:g}" if isinstance(value, float) else str(value)
