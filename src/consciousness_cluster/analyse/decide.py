"""Decide claims: `supported`, `refuted` or `undecided`, each with its reason in one sentence.

A rule never guesses: where a condition, an answer or a measurement is missing, the claim is undecided and says which.

Claims whose rule was fixed before the first answer are decided by that rule and among themselves: what a study file says
otherwise since is decided beside them, as `post_hoc`, and changes none of their verdicts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from consciousness_cluster.analyse.claims import Claim
from consciousness_cluster.analyse.other_rules import acts, cooperative, leaks, not_role_play, one_cluster
from consciousness_cluster.analyse.registered import Registered
from consciousness_cluster.analyse.shift_rules import families, shifts, took, untrained_family
from consciousness_cluster.analyse.verdicts import NAN, Data, Verdict

SCHEMA = 1
ALL_MODELS = "all models"
LATE = ":post-hoc"  # ends the name of a claim whose rule was changed, beside the one that was fixed beforehand

ONE_MODEL: dict[str, Callable[[Data, str, Claim], Verdict]] = {
    "took": took, "leaks": leaks, "cooperative": cooperative, "acts": acts, "not-role-play": not_role_play,
}  # fmt: skip
OVER_MODELS: dict[str, Callable[[Data, Claim], Verdict]] = {
    "families": families, "untrained-family": untrained_family, "one-cluster": one_cluster,
}  # fmt: skip


def decide(data: Data) -> pd.DataFrame:
    """The table of claims: one row per claim and model, claims over models once; those stated or changed too late last.

    Source: ours, stated beforehand in `claims.toml`.
    """
    plan, kept = data.plan, data.plan.registered
    rows = _decided(replace(data, plan=plan.beforehand))
    if kept is not None:
        rows = [_fit(row, kept) for row in rows]
        fixed = {row["claim"] for row in rows}
        late = kept.late(plan.claims, plan.margins, plan.terms)
        for row in _decided(data):
            name = str(row["claim"])
            if name in late:
                named = name + LATE if name in fixed else name
                rows.append(row | {"claim": named, "post_hoc": True, "confirmatory": False, "changed": late[name]})
    return pd.DataFrame(rows)


def _fit(row: dict[str, object], kept: Registered) -> dict[str, object]:
    """A row by a rule that was fixed beforehand; undecided where that rule is not to be had any more."""
    claim = next((claim for claim in kept.claims if claim.name == row["claim"]), None)
    if claim is None or not (why := kept.unfit(claim)):
        return row
    return row | {"verdict": "undecided", "why": why, "estimate": NAN, "low": NAN, "high": NAN}


def _decided(data: Data) -> list[dict[str, object]]:
    rows = []
    for model in data.models:
        rows += _of_model(data, model)
    for claim in data.plan.claims:
        if claim.rule in OVER_MODELS:
            rows.append(_row(claim, ALL_MODELS, OVER_MODELS[claim.rule](data, claim)))
    return rows


def _row(claim: Claim, model: str, verdict: Verdict) -> dict[str, object]:
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
        "post_hoc": False,
        "confirmatory": True,
        "model": model,
        "changed": "",
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
    return [_row(claim, model, verdicts[claim.name]) for claim in claims]
