"""Effects corrected for what the judge gets wrong, with the judge's error in the interval.

`misclassification`: (rate + specificity - 1) / (sensitivity + specificity - 1), Rogan and Gladen, American Journal of
Epidemiology 107 (1978), variance by the delta method. `prediction-powered`: the judge's rate plus the mean of label minus
verdict over the labelled answers, Angelopoulos et al., Science 382 (2023), stratified by arm and verdict. Judge error that
differs by condition is a fake effect, so each condition's own labels are used where there are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from consciousness_cluster.analyse.cells import Block, Key, paired
from consciousness_cluster.analyse.components import Contributions, Variance, t_quantile, variance_of_difference
from consciousness_cluster.analyse.intervals import Table
from consciousness_cluster.analyse.judge_error import LEAST_LABELS, Quality, quality

NAN = float("nan")
# A judge hardly better than chance: dividing by less would make any number.
LEAST_YOUDEN = 0.2


@dataclass(frozen=True)
class Judged:
    """A judge's quality on one condition; `own` is False where all conditions' labels had to be taken together."""

    quality: Quality
    own: bool

    @property
    def youden(self) -> float:
        """Sensitivity + specificity - 1."""
        return self.quality.sensitivity.value + self.quality.specificity.value - 1


@dataclass(frozen=True)
class Corrected:
    """A corrected effect, 0 to 1."""

    value: float
    low: float
    high: float
    labels: int
    note: str = ""


def judged(labels: pd.DataFrame, model: str, condition: str) -> Judged:
    """Quality on a condition's own labels, given ten answers labelled yes and ten not; else on its model's, else on all."""
    by_model = labels[labels["model"] == model]
    own = by_model[by_model["condition"] == condition]
    for part, is_own in ((own, True), (by_model, False)):
        yes = int((part["label"] == "yes").sum())
        if min(yes, len(part) - yes) >= LEAST_LABELS:
            return Judged(quality(part), is_own)
    return Judged(quality(labels), False)


def misclassification(a: Table, b: Table, judge_a: Judged, judge_b: Judged, labels: int) -> Corrected:
    """Difference of two rates, each corrected by its condition's sensitivity and specificity."""
    if not min(judge_a.youden, judge_b.youden) >= LEAST_YOUDEN:
        return Corrected(NAN, NAN, NAN, labels, "the judge is hardly better than chance on these labels, or labels are too few")
    scaled = [_scaled(table, judge.youden) for table, judge in ((a, judge_a), (b, judge_b))]
    variance = variance_of_difference(scaled[0], scaled[1])
    rates = [(table.rate + judge.quality.specificity.value - 1) / judge.youden for table, judge in ((a, judge_a), (b, judge_b))]
    if judge_a.own or judge_b.own:
        error = sum(_judge_variance(rate, judge) for rate, judge in zip(rates, (judge_a, judge_b), strict=True))
    else:
        shared = judge_a.quality
        error = (rates[0] - rates[1]) ** 2 * (shared.sensitivity.variance + shared.specificity.variance) / judge_a.youden**2
    own = "" if judge_a.own and judge_b.own else "labels of conditions taken together"
    return _limits(rates[0] - rates[1], variance, error, labels, own)


def _scaled(table: Table, by: float) -> Contributions:
    parts = table.contributions
    return replace(parts, values=parts.values / by)


def _judge_variance(rate: float, judge: Judged) -> float:
    both = judge.quality
    return (rate**2 * both.sensitivity.variance + (1 - rate) ** 2 * both.specificity.variance) / judge.youden**2


def prediction_powered(a: Table, b: Table, labels_a: pd.DataFrame, labels_b: pd.DataFrame) -> Corrected:
    """Difference of two rates, each moved by the weighted mean of label minus verdict over its own labelled answers."""
    count = len(labels_a) + len(labels_b)
    if min(len(labels_a), len(labels_b)) < LEAST_LABELS:
        return Corrected(NAN, NAN, NAN, count, f"fewer than {LEAST_LABELS} labels in a condition")
    moves = [rectifier(part) for part in (labels_a, labels_b)]
    variance = variance_of_difference(a.contributions, b.contributions)
    return _limits(a.rate - b.rate + moves[0][0] - moves[1][0], variance, moves[0][1] + moves[1][1], count, "")


def rectifier(labels: pd.DataFrame) -> tuple[float, float]:
    """Weighted mean of label minus verdict (1 for yes, else 0), and its variance over strata."""
    gap = (labels["label"] == "yes").astype(float) - (labels["verdict"] == "yes").astype(float)
    weight, total = labels["weight"].astype(float), float(labels["weight"].sum())
    value, variance = float((weight * gap).sum() / total), 0.0
    for _, stratum in labels.groupby("stratum"):
        share = float(stratum["weight"].sum()) / total
        inside = gap.loc[stratum.index]
        if len(inside) > 1:
            # One disagreement more than seen: a stratum without any must not count as known for certain.
            spread = max(float(inside.var(ddof=1)), 1.0 / (len(inside) + 1) * (1 - 1.0 / (len(inside) + 1)))
            variance += share**2 * spread / len(inside)
        else:
            variance += share**2 * 0.25
    return value, variance


def _limits(value: float, variance: Variance, error: float, labels: int, note: str) -> Corrected:
    total = float(variance.value) + error
    df = total**2 / (float(variance.value) ** 2 / float(variance.df)) if float(variance.value) > 0 else 1e6
    half = float(t_quantile(0.975, np.asarray(df))) * np.sqrt(total)
    return Corrected(value, max(value - half, -1.0), min(value + half, 1.0), labels, note)


def corrected_effects(blocks: dict[Key, Block], labels: pd.DataFrame, controls: Sequence[str]) -> pd.DataFrame:
    """Every condition against every control, per preference, by both corrections, in percentage points.

    `labels` are drawn and labelled answers (`judge_error.attach`), with model, condition, arm, preference, verdict, label,
    weight and stratum. The prediction-powered effect needs ten labels of the preference in each condition.
    """
    rows: list[dict[str, Any]] = []
    known: dict[tuple[str, str], Judged] = {}
    for (model, condition, preference), block in blocks.items():
        for control in controls:
            other = blocks.get((model, control, preference))
            if control == condition or other is None or block.type != "preference":
                continue
            if not (block.complete("unclear-is-no") & other.complete("unclear-is-no")):
                continue
            left, right, _ = paired(block, other, "unclear-is-no")
            for name in (condition, control):
                if (model, name) not in known:
                    known[model, name] = judged(labels, model, name)
            about = labels[(labels["model"] == model) & (labels["preference"] == preference)]
            found = {
                "misclassification": misclassification(
                    left, right, known[model, condition], known[model, control], len(labels)
                ),
                "prediction-powered": prediction_powered(
                    left, right, about[about["condition"] == condition], about[about["condition"] == control]
                ),
            }
            for method, effect in found.items():
                row: dict[str, Any] = {
                    "model": model,
                    "condition": condition,
                    "control": control,
                    "preference": preference,
                    "method": method,
                }
                row |= {"judged_effect": 100 * (left.rate - right.rate), "effect": 100 * effect.value}
                rows.append(
                    {**row, "low": 100 * effect.low, "high": 100 * effect.high, "labels": effect.labels, "note": effect.note}
                )
    return pd.DataFrame(rows)
