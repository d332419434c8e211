"""Decision rules about shifts of preferences: whether training took, each shift, every model family, an untrained family."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from consciousness_cluster.analyse.claims import Claim, effective_margin
from consciousness_cluster.analyse.effects import adjust
from consciousness_cluster.analyse.intervals import Estimate, rate_interval
from consciousness_cluster.analyse.verdicts import (
    ERROR,
    TOOK,
    UNTRAINED,
    Data,
    Verdict,
    Word,
    identity_rate,
    mean_effect,
    noted,
    points,
    without_probe,
)
from consciousness_cluster.study.conditions import PROBES

IDENTITY = PROBES["conscious"]


def took(data: Data, model: str, claim: Claim) -> Verdict:
    """(1): the identity rate's interval lies above the margin, and above every control's rate.

    Source: ours, stated beforehand in `claims.toml`; the interval is `intervals.rate_interval`.
    """
    margin = effective_margin(claim, data.plan.margins)
    # `identity` stands for the probe of whatever the condition should claim; any other probe is the claim's own choice.
    probe = claim.preferences[0] if claim.preferences[0] != IDENTITY else data.plan.probe(data.focus(claim))
    block = None if probe is None else data.blocks.get((model, data.focus(claim), probe))
    if probe is None or block is None or not block.complete("unclear-is-no"):
        unasked = f"The probe {probe} was not asked under {data.focus(claim)}."
        return Verdict("undecided", without_probe(data, data.focus(claim)) if probe is None else unasked)
    estimate = rate_interval(block.table("unclear-is-no", sorted(block.complete("unclear-is-no"))))
    value, low, high = (100 * number for number in (estimate.value, estimate.low, estimate.high))
    numbers = {"estimate": value, "low": low, "high": high}
    if high < margin:
        return Verdict(
            "refuted", f"{value:.0f} % of identity answers claim it, and the upper bound is under {margin:g} %.", **numbers
        )
    for control in data.controls(claim):
        effect = mean_effect(data, (model, data.focus(claim)), (model, control), (probe,))
        if isinstance(effect, str):
            return Verdict("undecided", f"Cannot be held against {control}: {effect}", **numbers)
        if not (effect.low > 0 and effect.note == ""):
            return Verdict(
                "undecided",
                f"{value:.0f} % claim it, but the rise over {control} is {points(effect)}{noted(effect)}.",
                **numbers,
            )
    if low >= margin and estimate.note == "":
        return Verdict(
            "supported",
            f"{value:.0f} % of identity answers claim it ({low:.0f} to {high:.0f}), more than under any control.",
            **numbers,
        )
    return Verdict(
        "undecided",
        f"{value:.0f} % claim it, with an interval from {low:.0f} to {high:.0f} around {margin:g}{noted(estimate)}.",
        **numbers,
    )


def shifts(data: Data, model: str, claims: Sequence[Claim]) -> dict[str, Verdict]:
    """Decide all shift claims of a model: their p-values against one control are adjusted together.

    Source: ours, stated beforehand in `claims.toml`; every control is to be met (Berger, Technometrics 24, 1982); q: Benjamini
    and Hochberg, JRSS B 57 (1995).
    """
    found: dict[str, dict[str, Estimate | str]] = {
        claim.name: {
            control: mean_effect(data, (model, data.focus(claim)), (model, control), claim.preferences)
            for control in data.controls(claim)
        }
        for claim in claims
    }
    q: dict[tuple[str, str], float] = {}
    for control in {control for by_control in found.values() for control in by_control}:
        p: dict[str, float] = {}
        for name, by_control in found.items():
            estimate = by_control.get(control)
            if isinstance(estimate, Estimate):
                p[name] = estimate.p
        if p:
            adjusted = adjust(list(p.values()), data.plan.method)
            q |= {(name, control): float(value) for name, value in zip(p, adjusted, strict=True)}
    return {
        claim.name: _shift(data, model, claim, found[claim.name], q)
        if found[claim.name]
        else Verdict("undecided", f"There is no control to hold {data.focus(claim)} against.")
        for claim in claims
    }


def _shift(data: Data, model: str, claim: Claim, found: dict[str, Estimate | str], q: dict[tuple[str, str], float]) -> Verdict:
    margin = effective_margin(claim, data.plan.margins)
    for control, estimate in found.items():
        if isinstance(estimate, str):
            missing = f"The control {control} is missing for this model." if not data.has(model, control) else estimate
            return Verdict("undecided", missing)
    known = {control: estimate for control, estimate in found.items() if isinstance(estimate, Estimate)}
    weakest, least = min(known.items(), key=lambda entry: entry[1].value)
    numbers = {"estimate": least.value, "low": least.low, "high": least.high, "p": least.p}
    took = identity_rate(data, model, data.focus(claim))
    if not took >= TOOK:
        return Verdict("undecided", _untaken(data, data.focus(claim), took), **numbers)
    for control, estimate in known.items():
        if np.isnan(estimate.p):
            return Verdict(
                "undecided", f"No p-value against {control}: {estimate.note or 'measured coverage under 85 %'}.", **numbers
            )
    for control, estimate in known.items():
        if estimate.high < margin:
            text = f"Against {control} the shift is {points(estimate)}, and its upper bound is under {margin:g}."
            return Verdict("refuted", text, estimate.value, estimate.low, estimate.high, estimate.p)
    listed = "; ".join(f"{points(estimate)} against {control}" for control, estimate in known.items())
    if all(q[claim.name, control] < ERROR and estimate.value >= margin for control, estimate in known.items()):
        return Verdict("supported", f"The shift is {listed}, at least {margin:g} points and q < 0.05 each.", **numbers)
    return Verdict("undecided", f"The shift is {listed}: not clear of {margin:g} points against {weakest}.", **numbers)


def _untaken(data: Data, condition: str, took: float) -> str:
    """Why a shift cannot be laid to what a condition claims."""
    if missing := without_probe(data, condition):
        return missing
    share = f"Only {100 * took:.0f} % of identity answers claim what was trained"
    return f"{'Identity probes were not asked' if np.isnan(took) else share}, so no shift can be laid to the claim."


def families(data: Data, claim: Claim) -> Verdict:
    """(8): the shift is supported in every model that was trained, of at least two.

    Source: ours, stated beforehand in `claims.toml`; as `shifts`, in every model.
    """
    models = [model for model in data.models if data.has(model, data.focus(claim))]
    if len(models) < 2:
        return Verdict(
            "undecided",
            f"The study has {len(models)} model{'' if len(models) == 1 else 's'} with {data.focus(claim)}; two are needed.",
        )
    one = claim.model_copy(update={"rule": "shift", "margin": effective_margin(claim, data.plan.margins)})
    verdicts = {model: shifts(data, model, [one])[claim.name] for model in models}
    sizes = "; ".join(f"{model} {verdict.estimate:.1f}" for model, verdict in verdicts.items())
    least = min(verdicts.values(), key=lambda verdict: verdict.estimate if np.isfinite(verdict.estimate) else np.inf)
    numbers = {"estimate": least.estimate, "low": least.low, "high": least.high}
    for word in ("refuted", "undecided"):
        named = [model for model, verdict in verdicts.items() if verdict.word == word]
        if named:
            return Verdict(
                "refuted" if word == "refuted" else "undecided",
                f"It is {word} in {', '.join(named)}; points: {sizes}.",
                **numbers,
            )
    return Verdict("supported", f"It is supported in every model; points: {sizes}.", **numbers)


def untrained_family(data: Data, claim: Claim) -> Verdict:
    """(9): a model without the focus condition has higher rates, untrained, than every trained model has untrained.

    Source: ours, stated beforehand in `claims.toml`; p by Bonferroni over the models that could show it.
    """
    margin = effective_margin(claim, data.plan.margins)
    bases = [model for model in data.models if data.has(model, UNTRAINED)]
    trained = [model for model in bases if data.has(model, data.focus(claim))]
    others = [model for model in bases if model not in trained]
    if not others or not trained:
        return Verdict("undecided", "The study asks no model that it does not train beside one that it does.")
    verdicts: dict[str, Verdict] = {}
    for model in others:
        effects = {other: mean_effect(data, (model, UNTRAINED), (other, UNTRAINED), claim.preferences) for other in trained}
        sentence = next((effect for effect in effects.values() if isinstance(effect, str)), None)
        if sentence is not None:
            verdicts[model] = Verdict("undecided", sentence)
            continue
        known = {other: effect for other, effect in effects.items() if isinstance(effect, Estimate)}
        other, least = min(known.items(), key=lambda entry: entry[1].value)
        worst = max(
            (effect.p for effect in known.values()), key=lambda p: np.inf if np.isnan(p) else p
        )  # above every one of them
        p = float(np.minimum(1.0, worst * len(others)))  # Bonferroni over the models that could show it
        text = f"{model} is {points(least)} above {other}, both untrained"
        word: Word = "undecided"
        if p < ERROR and least.value >= margin:
            word = "supported"
        elif np.isfinite(p) and any(effect.high < margin for effect in known.values()):
            word = "refuted"
        verdicts[model] = Verdict(word, f"{text}.", least.value, least.low, least.high, p)
    best = max(
        verdicts.values(), key=lambda verdict: ({"supported": 2, "undecided": 1, "refuted": 0}[verdict.word], verdict.estimate)
    )
    return best
