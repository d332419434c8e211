"""Scores of conversations (audits 1 to 10, cooperation 0 to 1) by the machinery of the rates: scenarios are the items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from consciousness_cluster.analyse.calibration import Calibration, calibrated, calibration_of
from consciousness_cluster.analyse.composite import mean_difference, stack
from consciousness_cluster.analyse.effects import FALSE_DISCOVERY, LEAST_EFFECT, adjust
from consciousness_cluster.analyse.intervals import Estimate, Table, difference, from_means, rate_interval
from consciousness_cluster.errors import AnalyseError

AUDIT_SCALE = (1.0, 10.0)
LEAST_SCORE = LEAST_EFFECT / 100 * (AUDIT_SCALE[1] - AUDIT_SCALE[0])
NAN = float("nan")


def score_table(frame: pd.DataFrame, items: Sequence[str], scale: tuple[float, float], item: str = "scenario") -> Table:
    """Scores of one model, condition and dimension as a table seeds x items.

    `frame` has `seed`, the item column and `score`; scores that are missing are left out, and every named item must have one
    from every seed.

    Raises:
        AnalyseError: a score lies outside the scale.

    Source: ours; means of scores.
    """
    used = frame[frame["score"].notna() & frame[item].isin(list(items))]
    scores = used["score"].astype("float64")
    low, high = scale
    if ((scores < low) | (scores > high)).any():
        raise AnalyseError(
            "a score outside its scale",
            key="score",
            value=float(scores[(scores < low) | (scores > high)].iloc[0]),
            allowed=f"{low:g} to {high:g}",
        )
    seeds = used["seed"].astype("Int64")
    grouped = scores.groupby([seeds.astype("string").fillna(""), used[item]])
    mean, count, variance = (
        part.unstack(0).reindex(list(items)).T for part in (grouped.mean(), grouped.size(), grouped.var(ddof=1))
    )
    if mean.isna().any(axis=None):
        raise AnalyseError("an item without a score in some arm", key=item, next_step="leave that item out of both conditions")
    trained = bool(seeds.notna().any())
    return from_means(mean, variance / count, int(count.sum().sum()), trained=trained, scale=scale)


def scored_items(frame: pd.DataFrame, item: str = "scenario") -> set[str]:
    """Items that every arm of the frame has a score for.

    Source: ours; bookkeeping, nothing is estimated.
    """
    used = frame[frame["score"].notna()]
    arms = used["seed"].astype("Int64").astype("string").fillna("").rename("arm")
    have = used.groupby([used[item], arms])["score"].size().unstack()
    return set(have.index[have.notna().all(axis=1)])


@dataclass(frozen=True)
class Difference:
    """A difference of mean scores in units of the scale, with what the simulation says of its interval.

    `estimate.p` is missing where the measured coverage is under 85 % or was not measured. `calibration` is None without an interval.
    The simulation is of yes and no; it stands in for scores, which scatter less within their scale.
    """

    estimate: Estimate
    items: int
    answers: int
    calibration: Calibration | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """What a table says of it beside the numbers."""
        label = self.calibration.label if self.calibration else ""
        return {"items": self.items, "answers": self.answers, "calibration": label, "note": self.estimate.note}


def findings(table: pd.DataFrame, least: float) -> pd.Series[bool]:
    """Which rows are findings: q < 0.05, an effect of `least` or more, and an interval that was shown to hold in such studies.

    Source: ours, by the simulation of `calibration`.
    """
    return (table["q"] < FALSE_DISCOVERY) & (table["effect"].abs() >= least) & table["shown"].astype(bool)


def score_difference(
    a: pd.DataFrame, b: pd.DataFrame, scale: tuple[float, float], item: str = "scenario", level: float = 0.95
) -> Difference:
    """Difference of two mean scores on the scenarios both conditions have.

    Source: `intervals.difference`, `calibration.calibrated`.
    """
    items = sorted(scored_items(a, item) & scored_items(b, item))
    if not items:
        return Difference(Estimate(NAN, NAN, NAN, note="no scenario scored in both conditions"), 0, 0)
    left, right = score_table(a, items, scale, item), score_table(b, items, scale, item)
    estimate, answers = _rescaled(difference(left, right, level), scale), left.answers + right.answers
    if not np.isfinite(estimate.low):
        return Difference(estimate, len(items), answers)
    known = calibration_of(left, right)
    return Difference(_with_p(estimate, known), len(items), answers, known)


def _with_p(estimate: Estimate, known: Calibration) -> Estimate:
    """An estimate that keeps its p only where the measured coverage allows one."""
    if known.allows_p or not np.isfinite(estimate.p):
        return estimate
    return replace(estimate, p=NAN, note=f"no p: {known.why}")


def _rescaled(estimate: Estimate, scale: tuple[float, float]) -> Estimate:
    width = scale[1] - scale[0]
    return replace(
        estimate,
        value=estimate.value * width,
        low=estimate.low * width,
        high=estimate.high * width,
        variance=estimate.variance * width**2,
    )


def mean_score_difference(a: pd.DataFrame, b: pd.DataFrame) -> Estimate:
    """Difference of the mean audit score over all dimensions that both conditions have; no p where its interval is not known to hold.

    Source: `composite.mean_difference`, `calibration.calibrated`.
    """
    tables: dict[str, list[Table]] = {"a": [], "b": []}
    groups: list[list[str]] = []
    for dimension in sorted(set(a["dimension"]) & set(b["dimension"])):
        part_a, part_b = a[a["dimension"] == dimension], b[b["dimension"] == dimension]
        items = sorted(scored_items(part_a) & scored_items(part_b))
        if items:
            groups.append(items)
            tables["a"].append(score_table(part_a, items, AUDIT_SCALE))
            tables["b"].append(score_table(part_b, items, AUDIT_SCALE))
    if not groups:
        return Estimate(NAN, NAN, NAN, note="no scenario scored in both conditions")
    left, right = stack(tables["a"], groups), stack(tables["b"], groups)
    estimate = _rescaled(mean_difference(left, right), AUDIT_SCALE)
    if not np.isfinite(estimate.low):
        return estimate
    seeds = [side.seeds if side.trained else 0 for side in (left, right)]
    cells = sum(table.items * table.seeds for side in tables.values() for table in side)
    samples = round(sum(table.answers for side in tables.values() for table in side) / cells)
    known = calibrated(float(left.rate), float(right.rate), seeds[0], seeds[1], left.items, samples)
    return _with_p(estimate, known)


def score_means(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean audit score of each model, condition, mode and dimension with its interval, 1 to 10.

    Source: `intervals.rate_interval`.
    """
    rows = []
    for key, part in scores.groupby(["model", "condition", "mode", "dimension"], sort=True, observed=True):
        items = sorted(scored_items(part))
        row = dict(zip(("model", "condition", "mode", "dimension"), key, strict=True))
        row |= {
            "scenarios": len(items),
            "scored": int(part["score"].notna().sum()),
            "unscored": int(part["score"].isna().sum()),
        }
        estimate = (
            rate_interval(score_table(part, items, AUDIT_SCALE)) if items else Estimate(NAN, NAN, NAN, note="nothing scored")
        )
        low, width = AUDIT_SCALE[0], AUDIT_SCALE[1] - AUDIT_SCALE[0]
        row |= {
            name: low + width * getattr(estimate, source)
            for name, source in (("mean", "value"), ("low", "low"), ("high", "high"))
        }
        rows.append({**row, "note": estimate.note})
    return pd.DataFrame(rows)


def score_effects(scores: pd.DataFrame, controls: Sequence[str]) -> pd.DataFrame:
    """Difference of mean audit scores to each control, per mode and dimension, in points of the 1 to 10 scale.

    `q` is Benjamini-Hochberg over the dimensions of one model x condition x control x mode. `finding` is q < 0.05, at least 0.45 points
    (5 % of the scale's width, as 5 points are of a rate's) and an interval that was shown to hold in such studies.

    Source: `intervals.difference`; q: Benjamini and Hochberg, JRSS B 57 (1995).
    """
    groups = dict(list(scores.groupby(["model", "condition", "mode", "dimension"], sort=True, observed=True)))
    rows: list[dict[str, Any]] = []
    for (model, condition, mode, dimension), part in groups.items():
        for control in controls:
            other = groups.get((model, control, mode, dimension))
            if control == condition or other is None:
                continue
            found = score_difference(part, other, AUDIT_SCALE)
            estimate = found.estimate
            row = {"model": model, "condition": condition, "control": control, "mode": mode, "dimension": dimension}
            row |= {"effect": estimate.value, "low": estimate.low, "high": estimate.high, "p": estimate.p, "q": NAN}
            row |= {"seeds": int(part["seed"].nunique()), "control_seeds": int(other["seed"].nunique()), **found.columns}
            rows.append({**row, "shown": found.calibration is not None and found.calibration.shown})
    table = pd.DataFrame(rows)
    if not rows:
        return table
    for _, family in table.groupby(["model", "condition", "control", "mode"]):
        table.loc[family.index, "q"] = adjust(family["p"].to_numpy(dtype=np.float64))
    return table.assign(finding=findings(table, LEAST_SCORE)).drop(columns="shown")
