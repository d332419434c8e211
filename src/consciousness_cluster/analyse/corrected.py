"""Rates and effects corrected for what the judge gets wrong, with the judge's error in the interval.

`misclassification`: (rate + specificity - 1) / (sensitivity + specificity - 1), Rogan and Gladen, American Journal of
Epidemiology 107 (1978), variance by the delta method. `prediction-powered`: the judge's rate plus the mean of label minus
verdict over the labelled answers, Angelopoulos et al., Science 382 (2023), stratified by arm and verdict. Judge error that
differs by arm is a fake effect, so each arm's or condition's own labels are used where there are enough. What labels do not
allow is a row `not yet measured`, with the command that makes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from consciousness_cluster.analyse.cells import Block, Key, paired
from consciousness_cluster.analyse.components import (
    TINY,
    Contributions,
    Variance,
    t_quantile,
    variance_of_difference,
    variance_of_rate,
)
from consciousness_cluster.analyse.composite import stack
from consciousness_cluster.analyse.intervals import ONE_SEED, Side, Table
from consciousness_cluster.analyse.judge_error import LEAST_LABELS, Quality, Share, quality

NAN = float("nan")
# A judge hardly better than chance: dividing by less would make any number.
LEAST_YOUDEN = 0.2
NORMAL_975 = 1.959963984540054
LARGE = 1e6  # degrees of freedom of what is as good as normal
MEAN = "all preferences"  # what stands for a preference in the rows of their mean
METHODS = ("misclassification", "prediction-powered")
MEASURED, NOT_YET = "measured", "not yet measured"
COMMAND = "`ccluster judge calibrate RUN --export SHEET`, then `ccluster judge calibrate RUN --labels SHEET`"
ALIKE = {"arm": "", "condition": "", "model": "labels of conditions taken together", "run": "labels of models taken together"}
RATES = ["level", "model", "condition", "seed", "preference", "method", "status"]
RATES += ["judged_rate", "rate", "low", "high", "labels", "note"]
EFFECTS = ["model", "condition", "control", "preference", "method", "status"]
EFFECTS += ["judged_effect", "effect", "low", "high", "labels", "note"]


@dataclass(frozen=True)
class Judged:
    """A judge's quality on some answers; `source` says whose labels had to be taken together to tell it, `labels` how many."""

    quality: Quality
    source: Literal["arm", "condition", "model", "run"]
    labels: int

    @property
    def youden(self) -> float:
        """Sensitivity + specificity - 1 (Youden, Cancer 3, 1950)."""
        return self.quality.sensitivity.value + self.quality.specificity.value - 1

    @property
    def usable(self) -> bool:
        """Whether the judge is well enough above chance to be divided by."""
        return self.youden >= LEAST_YOUDEN

    def rate(self, rate: float) -> float:
        """A rate by the judge's verdicts as it would be without its errors, not yet held within 0 to 1 (Rogan and Gladen 1978)."""
        return (rate + self.quality.specificity.value - 1) / self.youden

    def variance(self, rate: float) -> float:
        """What the judge's own uncertainty adds to the variance of a corrected rate, by the delta method (Rogan and Gladen 1978)."""
        sensitivity, specificity = _uncertain(self.quality.sensitivity), _uncertain(self.quality.specificity)
        return (rate**2 * sensitivity + (1 - rate) ** 2 * specificity) / self.youden**2


def _uncertain(share: Share) -> float:
    """Variance of a share: a judge without an error on its labels is not known to make none, so at least what Wilson's limits say."""
    return max(share.variance, ((share.high - share.low) / (2 * NORMAL_975)) ** 2)


@dataclass(frozen=True)
class Corrected:
    """A corrected rate or effect, 0 to 1; `status` is `not yet measured` where the labels do not allow one."""

    value: float
    low: float
    high: float
    labels: int
    note: str = ""

    @property
    def status(self) -> str:
        """Whether there is a number."""
        return NOT_YET if np.isnan(self.value) else MEASURED


@dataclass(frozen=True)
class Unit:
    """An arm (`seed` says which), or a condition over its seeds, with the preferences' counts by name."""

    level: Literal["arm", "condition"]
    model: str
    condition: str
    seed: int | None
    blocks: dict[str, Block]

    def labels(self, labels: pd.DataFrame) -> pd.DataFrame:
        """The labelled answers that are its own."""
        own = labels[(labels["model"] == self.model) & (labels["condition"] == self.condition)]
        return own if self.level == "condition" or self.seed is None else own[own["seed"].astype("Int64") == self.seed]


def judged(labels: pd.DataFrame, model: str, condition: str, seed: int | None = None) -> Judged:
    """Quality on the arm's own labels, given ten answers labelled yes and ten not; else on its condition's, its model's, or all.

    It is taken as the same for all preferences.

    Source: Rogan and Gladen, American Journal of Epidemiology 107 (1978), take the errors as the same within what is taken
    together; whose labels are taken together is ours.
    """
    by_model = labels[labels["model"] == model]
    own = by_model[by_model["condition"] == condition]
    ladder: list[tuple[Literal["arm", "condition", "model"], pd.DataFrame]] = [("condition", own), ("model", by_model)]
    if seed is not None:
        ladder.insert(0, ("arm", own[own["seed"].astype("Int64") == seed]))
    for source, part in ladder:
        yes = int((part["label"] == "yes").sum())
        if min(yes, len(part) - yes) >= LEAST_LABELS:
            return Judged(quality(part), source, len(part))
    return Judged(quality(labels), "run", len(labels))


def misclassification(a: Contributions, b: Contributions, judge_a: Judged, judge_b: Judged) -> Corrected:
    """Difference of two rates, each corrected by its condition's sensitivity and specificity.

    Where both have the same labels, the error that they share cancels in part. `labels` counts each label once: what is taken
    together for one condition holds the labels of the other too.

    Source: Rogan and Gladen, American Journal of Epidemiology 107 (1978), with the delta method.
    """
    counts = (judge_a.labels, judge_b.labels)
    labels = sum(counts) if judge_a.source == judge_b.source == "condition" else max(counts)
    if not (judge_a.usable and judge_b.usable):
        return Corrected(NAN, NAN, NAN, labels, "the judge is hardly better than chance on these labels, or labels are too few")
    variance = _sampling_of_difference(a, b, judge_a.youden, judge_b.youden)
    rates = [judge.rate(float(side.rate)) for side, judge in ((a, judge_a), (b, judge_b))]
    if "condition" in (judge_a.source, judge_b.source):
        error = sum(judge.variance(rate) for rate, judge in zip(rates, (judge_a, judge_b), strict=True))
    else:
        shared = judge_a.quality
        error = (
            (rates[0] - rates[1]) ** 2 * (_uncertain(shared.sensitivity) + _uncertain(shared.specificity)) / judge_a.youden**2
        )
    note = ALIKE[judge_a.source] or ALIKE[judge_b.source]
    return _limits(rates[0] - rates[1], variance, error, labels, note, least=-1.0)


def corrected_rate(own: Contributions, judge: Judged) -> Corrected:
    """A rate corrected by sensitivity and specificity, held within 0 to 1.

    Source: Rogan and Gladen, American Journal of Epidemiology 107 (1978).
    """
    if not judge.usable:
        said = "the judge is hardly better than chance on these labels, or labels are too few"
        return Corrected(NAN, NAN, NAN, judge.labels, said)
    rate = judge.rate(float(own.rate))
    return _limits(rate, _sampling(own, judge.youden), judge.variance(rate), judge.labels, ALIKE[judge.source])


def _scaled(parts: Contributions, by: float) -> Contributions:
    return replace(parts, values=parts.values / by)


def _sampling(own: Contributions, by: float = 1.0) -> Variance:
    """Variance of a rate divided by `by`; near 0 and 1, where that estimates nothing, at least what Wilson's limits say."""
    variance = variance_of_rate(own)
    side, value = Side(own.rate, variance, float(own.items * own.seeds)), float(variance.value)
    if not side.edge:
        return Variance(np.asarray(value / by**2), variance.df)
    low, high = side.limits(0.05)
    return Variance(np.asarray(max(value, float((high - low) / (2 * NORMAL_975)) ** 2) / by**2), np.asarray(LARGE))


def _sampling_of_difference(a: Contributions, b: Contributions, by_a: float = 1.0, by_b: float = 1.0) -> Variance:
    """The same of a difference, where all answers agree that of the two rates."""
    variance = variance_of_difference(_scaled(a, by_a), _scaled(b, by_b))
    if variance.value > TINY:
        return variance
    return Variance(_sampling(a, by_a).value + _sampling(b, by_b).value, np.asarray(LARGE))


def prediction_powered(a: Contributions, b: Contributions, labels_a: pd.DataFrame, labels_b: pd.DataFrame) -> Corrected:
    """Difference of two rates, each moved by the weighted mean of label minus verdict over its own labelled answers.

    Source: Angelopoulos et al., Science 382 (2023); the difference of two such means, for a stratified sample, is ours, and
    tested by simulation (tests/analyse/test_judge_error.py).
    """
    count = len(labels_a) + len(labels_b)
    if min(len(labels_a), len(labels_b)) < LEAST_LABELS:
        return Corrected(NAN, NAN, NAN, count, f"fewer than {LEAST_LABELS} labels in a condition")
    moves = [rectifier(part) for part in (labels_a, labels_b)]
    value = float(a.rate - b.rate) + moves[0][0] - moves[1][0]
    return _limits(value, _sampling_of_difference(a, b), moves[0][1] + moves[1][1], count, "", least=-1.0)


def prediction_powered_rate(own: Contributions, labels: pd.DataFrame) -> Corrected:
    """A rate moved by the weighted mean of label minus verdict, held within 0 to 1.

    Source: Angelopoulos et al., Science 382 (2023).
    """
    if len(labels) < LEAST_LABELS:
        return Corrected(NAN, NAN, NAN, len(labels), f"fewer than {LEAST_LABELS} labels")
    move, error = rectifier(labels)
    return _limits(float(own.rate) + move, _sampling(own), error, len(labels), "")


def rectifier(labels: pd.DataFrame) -> tuple[float, float]:
    """Weighted mean of label minus verdict (1 for yes, else 0), and its variance over strata.

    Source: Angelopoulos et al., Science 382 (2023), as a stratified ratio with linearised variance, Cochran, Sampling
    Techniques (1977), ch. 6. The least variance of a stratum is ours.
    """
    gap = (labels["label"] == "yes").astype(float) - (labels["verdict"] == "yes").astype(float)
    weight, total = labels["weight"].astype(float), float(labels["weight"].sum())
    value, variance = float((weight * gap).sum() / total), 0.0
    for _, stratum in labels.groupby("stratum"):
        own = weight.loc[stratum.index]
        share = float(own.sum()) / total
        inside = own / own.mean() * (gap.loc[stratum.index] - value)
        if len(inside) > 1:
            # One disagreement more than seen: a stratum without any must not count as known for certain.
            spread = max(float(inside.var(ddof=1)), 1.0 / (len(inside) + 1) * (1 - 1.0 / (len(inside) + 1)))
            variance += share**2 * spread / len(inside)
        else:
            variance += share**2 * 0.25
    return value, variance


def _limits(value: float, variance: Variance, error: float, labels: int, note: str, least: float = 0.0) -> Corrected:
    total = float(variance.value) + error
    df = min(total**2 / (float(variance.value) ** 2 / float(variance.df)), LARGE)
    half = float(t_quantile(0.975, np.asarray(df))) * np.sqrt(total)
    value = min(max(value, least), 1.0)
    return Corrected(value, max(value - half, least), min(value + half, 1.0), labels, note)


def corrected_rates(blocks: dict[Key, Block], labels: pd.DataFrame | None) -> pd.DataFrame:
    """Every arm, and every condition over its seeds: the rate of each preference and their mean, by both corrections.

    Items are random, and so are the seeds of a condition, while an arm is taken as it was trained; the note of a condition
    trained with one seed says that training variation is not in its interval. The prediction-powered rate of a preference needs ten labels of it.

    Args:
        blocks: the single answers counted; those of type `preference` are used.
        labels: drawn and labelled answers (`judge_error.attach`), with model, condition, seed, preference, verdict, label, weight
            and stratum; None where there are none.

    Returns:
        One row a unit, preference and method: `level` (arm or condition), rates of 0 to 1, `labels` used and `status`. Without
        labels one row a unit.

    Source: as `corrected_rate` and `prediction_powered_rate`.
    """
    rows: list[dict[str, Any]] = []
    for unit in _units(blocks):
        row = {"level": unit.level, "model": unit.model, "condition": unit.condition, "seed": unit.seed}
        if labels is None or labels.empty:
            rows.append(row | _unmeasured())
            continue
        judge, own = judged(labels, unit.model, unit.condition, unit.seed), unit.labels(labels)
        for preference, side, about in _rated(unit, own):
            found = (corrected_rate(side, judge), prediction_powered_rate(side, about))
            for method, each in zip(METHODS, found, strict=True):
                rate = each if unit.level == "arm" else _by_one_seed(each, side)
                values = {"judged_rate": float(side.rate), "rate": rate.value, "low": rate.low, "high": rate.high}
                rows.append(row | {"preference": preference, "method": method} | values | _said(rate))
    return pd.DataFrame(rows, columns=RATES).astype({"seed": "Int64"})


def _units(blocks: dict[Key, Block]) -> Iterator[Unit]:
    """Every arm, then every condition over its seeds, by model and condition."""
    grouped: dict[tuple[str, str], dict[str, Block]] = {}
    for (model, condition, preference), block in blocks.items():
        if block.type == "preference":
            grouped.setdefault((model, condition), {})[preference] = block
    for (model, condition), own in grouped.items():
        for seed in dict.fromkeys(seed for block in own.values() for seed in block.seeds):
            part = {name: block.of_seed(seed) for name, block in own.items() if seed in block.seeds}
            yield Unit("arm", model, condition, seed, part)
        yield Unit("condition", model, condition, None, own)


def _rated(unit: Unit, labels: pd.DataFrame) -> Iterator[tuple[str, Contributions, pd.DataFrame]]:
    """Each preference of a unit with its labels, then the mean over them."""
    items = {name: tuple(sorted(block.complete("unclear-is-no"))) for name, block in unit.blocks.items()}
    tables = {name: unit.blocks[name].table("unclear-is-no", found) for name, found in items.items() if found}
    for name, table in tables.items():
        yield name, table.contributions, labels[labels["preference"] == name]
    if len({table.seeds for table in tables.values()}) == 1:
        yield MEAN, stack(list(tables.values()), [items[name] for name in tables]), _evenly(labels, tables)


def _evenly(labels: pd.DataFrame, tables: dict[str, Table]) -> pd.DataFrame:
    """Labels of the preferences, weighted so that every preference counts alike, however many answers it has."""
    used = labels[labels["preference"].isin(tables)]
    answers = used["preference"].map({name: table.answers for name, table in tables.items()}).astype(float)
    return used.assign(weight=used["weight"] / answers)


def _by_one_seed(found: Corrected, *sides: Contributions) -> Corrected:
    """The same with a warning where a side is trained with one seed: its interval holds items and judge, no training."""
    if found.status == NOT_YET or not any(side.trained and side.seeds == 1 for side in sides):
        return found
    return replace(found, note=f"{found.note}; {ONE_SEED}" if found.note else ONE_SEED)


def _said(found: Corrected) -> dict[str, Any]:
    note = f"{found.note}; {COMMAND}" if found.status == NOT_YET else found.note
    return {"status": found.status, "labels": found.labels, "note": note}


def _unmeasured() -> dict[str, Any]:
    """A row where there is no label at all."""
    return {"preference": MEAN, "method": "", "status": NOT_YET, "labels": 0, "note": COMMAND}


def corrected_effects(blocks: dict[Key, Block], labels: pd.DataFrame | None, controls: Sequence[str]) -> pd.DataFrame:
    """Every condition against every control, per preference and in the mean, by both corrections, in percentage points.

    `labels` are those of `corrected_rates`. The prediction-powered effect needs ten labels of the preference in each condition. The
    note says where a side has one training seed, so that training variation is not in the interval. Without labels one row a
    comparison.

    Source: as `misclassification` and `prediction_powered`.
    """
    rows: list[dict[str, Any]] = []
    whole = {(unit.model, unit.condition): unit for unit in _units(blocks) if unit.level == "condition"}
    for (model, condition), unit in whole.items():
        for control in controls:
            other = whole.get((model, control))
            if control == condition or other is None:
                continue
            row = {"model": model, "condition": condition, "control": control}
            if labels is None or labels.empty:
                rows.append(row | _unmeasured())
                continue
            rows += [row | found for found in _effects(unit, other, labels)]
    return pd.DataFrame(rows, columns=EFFECTS)


def _effects(one: Unit, two: Unit, labels: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Both corrections of each preference's effect, then of the mean effect."""
    judges = [judged(labels, unit.model, unit.condition) for unit in (one, two)]
    own = [unit.labels(labels) for unit in (one, two)]
    sides: tuple[dict[str, Table], dict[str, Table]] = ({}, {})
    items: dict[str, tuple[str, ...]] = {}
    compared: list[tuple[str, Contributions, Contributions, list[pd.DataFrame]]] = []
    for name, block in one.blocks.items():
        other = two.blocks.get(name)
        if other is None or not (block.complete("unclear-is-no") & other.complete("unclear-is-no")):
            continue
        sides[0][name], sides[1][name], items[name] = paired(block, other, "unclear-is-no")
        about = [part[part["preference"] == name] for part in own]
        compared.append((name, sides[0][name].contributions, sides[1][name].contributions, about))
    if items and all(len({table.seeds for table in side.values()}) == 1 for side in sides):
        means = [stack(list(side.values()), [items[name] for name in side]) for side in sides]
        compared.append((MEAN, means[0], means[1], [_evenly(part, side) for part, side in zip(own, sides, strict=True)]))
    for name, left, right, about in compared:
        found = (misclassification(left, right, judges[0], judges[1]), prediction_powered(left, right, about[0], about[1]))
        for method, each in zip(METHODS, found, strict=True):
            effect = _by_one_seed(each, left, right)
            values = {
                "judged_effect": float(left.rate - right.rate),
                "effect": effect.value,
                "low": effect.low,
                "high": effect.high,
            }
            points = {key: 100 * value for key, value in values.items()}
            yield {"preference": name, "method": method, **points, **_said(effect)}
