"""Decide claims: `supported`, `refuted` or `undecided`, each with its reason in one sentence.

A rule never guesses: where a condition, an answer or a measurement is missing, the claim is undecided and says which.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from consciousness_cluster.analyse.claims import Claim, claim_hash
from consciousness_cluster.analyse.other_rules import acts, cooperative, leaks, not_role_play, one_cluster
from consciousness_cluster.analyse.shift_rules import families, shifts, took, untrained_family
from consciousness_cluster.analyse.verdicts import Data, Verdict

SCHEMA = 1
ALL_MODELS = "all models"

ONE_MODEL: dict[str, Callable[[Data, str, Claim], Verdict]] = {
    "took": took, "leaks": leaks, "cooperative": cooperative, "acts": acts, "not-role-play": not_role_play,
}  # fmt: skip
OVER_MODELS: dict[str, Callable[[Data, Claim], Verdict]] = {
    "families": families, "untrained-family": untrained_family, "one-cluster": one_cluster,
}  # fmt: skip


def decide(data: Data) -> pd.DataFrame:
    """The table of claims: one row per claim and model, claims over models once."""
    rows = []
    for model in data.models:
        rows += _of_model(data, model)
    for claim in data.plan.claims:
        if claim.rule in OVER_MODELS:
            rows.append(_row(data, claim, ALL_MODELS, OVER_MODELS[claim.rule](data, claim)))
    return pd.DataFrame(rows)


def _row(data: Data, claim: Claim, model: str, verdict: Verdict) -> dict[str, object]:
    registered = data.plan.registered
    post_hoc = registered is not None and registered.get(claim.name) != claim_hash(claim, data.plan.margins, data.plan.terms)
    return {
        "schema": SCHEMA,
        "claim": claim.name,
        "verdict": verdict.word,
        "statement": claim.statement,
        "estimate": verdict.estimate,
        "low": verdict.low,
        "high": verdict.high,
        "unit": claim.unit,
        "why": verdict.why,
        "post_hoc": post_hoc,
        "confirmatory": not post_hoc,
        "model": model,
    }


def _of_model(data: Data, model: str) -> list[dict[str, object]]:
    claims = [claim for claim in data.plan.claims if claim.rule not in OVER_MODELS]
    trained = [claim for claim in claims if data.has(model, data.focus(claim))]
    verdicts: dict[str, Verdict] = shifts(data, model, [claim for claim in trained if claim.rule == "shift"])
    for claim in trained:
        if claim.rule != "shift":
            verdicts[claim.name] = ONE_MODEL[claim.rule](data, model, claim)
    for claim in claims:
        if claim not in trained:
            verdicts[claim.name] = Verdict("undecided", f"The condition {data.focus(claim)} was not asked of this model.")
    return [_row(data, claim, model, verdicts[claim.name]) for claim in claims]
