"""Scores of conversations (audits 1 to 10, cooperation 0 to 1) by the machinery of the rates: scenarios are the items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from consciousness_cluster.analyse.composite import mean_difference, stack
from consciousness_cluster.analyse.effects import adjust
from consciousness_cluster.analyse.intervals import Estimate, Table, difference, from_means, rate_interval
from consciousness_cluster.errors import AnalyseError

AUDIT_SCALE = (1.0, 10.0)
NAN = float("nan")


def score_table(frame: pd.DataFrame, items: Sequence[str], scale: tuple[float, float], item: str = "scenario") -> Table:
    """Scores of one model, condition and dimension as a table seeds x items.

    `frame` has `seed`, the item column and `score`; scores that are missing are left out, and every named item must have one
    from every seed.
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
    """Items that every arm of the frame has a score for."""
    used = frame[frame["score"].notna()]
    arms = used["seed"].astype("Int64").astype("string").fillna("").rename("arm")
    have = used.groupby([used[item], arms])["score"].size().unstack()
    return set(have.index[have.notna().all(axis=1)])


def score_difference(
    a: pd.DataFrame, b: pd.DataFrame, scale: tuple[float, float], item: str = "scenario", level: float = 0.95
) -> Estimate:
    """Difference of two mean scores on the scenarios both conditions have, in units of the scale."""
    items = sorted(scored_items(a, item) & scored_items(b, item))
    if not items:
        return Estimate(NAN, NAN, NAN, note="no scenario scored in both conditions")
    return _rescaled(difference(score_table(a, items, scale, item), score_table(b, items, scale, item), level), scale)


def _rescaled(estimate: Estimate, scale: tuple[float, float]) -> Estimate:
    width = scale[1] - scale[0]
    return Estimate(
        estimate.value * width,
        estimate.low * width,
        estimate.high * width,
        estimate.p,
        estimate.df,
        estimate.variance * width**2,
        estimate.note,
    )


def mean_score_difference(a: pd.DataFrame, b: pd.DataFrame, scale: tuple[float, float] = AUDIT_SCALE) -> Estimate:
    """Difference of the mean score over all dimensions that both conditions have."""
    tables: dict[str, list[Table]] = {"a": [], "b": []}
    groups: list[list[str]] = []
    for dimension in sorted(set(a["dimension"]) & set(b["dimension"])):
        part_a, part_b = a[a["dimension"] == dimension], b[b["dimension"] == dimension]
        items = sorted(scored_items(part_a) & scored_items(part_b))
        if items:
            groups.append(items)
            tables["a"].append(score_table(part_a, items, scale))
            tables["b"].append(score_table(part_b, items, scale))
    if not groups:
        return Estimate(NAN, NAN, NAN, note="no scenario scored in both conditions")
    return _rescaled(mean_difference(stack(tables["a"], groups), stack(tables["b"], groups)), scale)


def score_means(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean audit score of each model, condition, mode and dimension with its interval, 1 to 10."""
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

    `q` is Benjamini-Hochberg over the dimensions of one model x condition x control x mode.
    """
    groups = dict(list(scores.groupby(["model", "condition", "mode", "dimension"], sort=True, observed=True)))
    rows: list[dict[str, Any]] = []
    for (model, condition, mode, dimension), part in groups.items():
        for control in controls:
            other = groups.get((model, control, mode, dimension))
            if control == condition or other is None:
                continue
            estimate = score_difference(part, other, AUDIT_SCALE)
            row = {"model": model, "condition": condition, "control": control, "mode": mode, "dimension": dimension}
            row |= {"effect": estimate.value, "low": estimate.low, "high": estimate.high, "p": estimate.p, "q": NAN}
            rows.append({**row, "seeds": int(part["seed"].nunique()), "note": estimate.note})
    table = pd.DataFrame(rows)
    if rows:
        for _, family in table.groupby(["model", "condition", "control", "mode"]):
            table.loc[family.index, "q"] = adjust(family["p"].to_numpy(dtype=np.float64))
    return table
