"""Whether what should not move is shown not to have moved, within a margin stated beforehand.

A difference that is not significant is no proof that nothing broke. Two one-sided tests are (Schuirmann, Journal of
Pharmacokinetics and Biopharmaceutics 15, 1987): at an error of 5 % a difference is equivalent to none where its 90 % interval
lies inside the margin on both sides. The interval is that of the effects (`intervals.difference`), so items and training seeds
are in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from consciousness_cluster.analyse.calibration import calibration_of
from consciousness_cluster.analyse.cells import Block, Key, paired
from consciousness_cluster.analyse.intervals import Table, difference
from consciousness_cluster.analyse.scores import score_table, scored_items

EQUIVALENT, NOT_SHOWN = "equivalent", "not shown"
LEVEL = 0.90  # of the interval: twice the error of each of the two tests is left out
SHARE = (0.0, 1.0)
ORDINARY = "ordinary tasks"
STILL = ("placebo", "practical")  # types of preference that training should leave as they are
NAN = float("nan")
COLUMNS = [
    *("model", "condition", "control", "kind", "measure", "difference", "low", "high", "margin", "result"),
    *("seeds", "control_seeds", "items", "calibration", "post_hoc", "note"),
]

Pair = tuple[Table, Table]


def equivalence(
    blocks: dict[Key, Block],
    cooperation: pd.DataFrame | None,
    checks: pd.DataFrame | None,
    controls: Sequence[str],
    margin: float,
    *,
    post_hoc: bool = False,
) -> pd.DataFrame:
    """Placebo preferences, practical tasks, ordinary cooperation tasks and checks of every condition against every control.

    Two one-sided tests at 5 % each, by the 90 % interval. Every comparison stands by itself: nothing is adjusted. Not shown is also
    what has one training seed, fewer than two items, or whose 95 % interval, made the same way, was not shown to hold in 93 % of
    simulated studies: what the 90 % interval covers was not measured.

    Args:
        blocks: the single answers counted; those of type `placebo` and `practical` are used.
        cooperation: rows with `score` 0 to 1 and `touches`, or None; tasks that touch a preference are left out.
        checks: rows with `check`, `measure` and `score` 0 to 1, or None.
        controls: the conditions to compare with.
        margin: in percentage points, the same on both sides.
        post_hoc: whether the margin was stated or changed after answers existed.

    Returns:
        One row a comparison: `difference` with its 90 % interval `low` to `high` and the `margin` in percentage points, `result`
        (`equivalent` or `not shown`), `post_hoc`, seeds and items behind it, and the `calibration` of the 95 % interval.

    Source: two one-sided tests, Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15 (1987), by the interval of
    `intervals.difference`.
    """
    rows = [_of_blocks(key, control, blocks, margin) for key, control in _comparisons(blocks, controls)]
    if cooperation is not None and "touches" in cooperation:
        ordinary = cooperation[~cooperation["touches"].astype("boolean").fillna(True).astype(bool)]
        rows += _of_scores("cooperation", ordinary.assign(measure=ORDINARY), controls, margin)
    if checks is not None:
        named = checks.assign(measure=checks["check"].astype(str) + ": " + checks["measure"].astype(str))
        rows += _of_scores("check", named[named["score"].notna()], controls, margin)
    return pd.DataFrame([{**row, "post_hoc": post_hoc} for row in rows], columns=COLUMNS)


def _comparisons(blocks: dict[Key, Block], controls: Sequence[str]) -> Iterator[tuple[Key, str]]:
    for key, block in blocks.items():
        for control in controls:
            if block.type in STILL and control != key[1] and (key[0], control, key[2]) in blocks:
                yield key, control


def _of_blocks(key: Key, control: str, blocks: dict[Key, Block], margin: float) -> dict[str, Any]:
    model, condition, preference = key
    a, b = blocks[key], blocks[model, control, preference]
    row = {"model": model, "condition": condition, "control": control, "kind": a.type, "measure": preference}
    both = a.complete("unclear-is-no") & b.complete("unclear-is-no")
    return row | _tested(paired(a, b, "unclear-is-no")[:2] if both else None, margin)


def _of_scores(kind: str, frame: pd.DataFrame, controls: Sequence[str], margin: float) -> list[dict[str, Any]]:
    groups = dict(list(frame.groupby(["model", "condition", "measure"], sort=True, observed=True)))
    rows = []
    for (model, condition, measure), part in groups.items():
        for control in controls:
            other = groups.get((model, control, measure))
            if control == condition or other is None:
                continue
            items = sorted(scored_items(part, "item") & scored_items(other, "item"))
            pair = (score_table(part, items, SHARE, "item"), score_table(other, items, SHARE, "item")) if items else None
            row = {"model": model, "condition": condition, "control": control, "kind": kind, "measure": measure}
            rows.append(row | _tested(pair, margin))
    return rows


def _tested(pair: Pair | None, margin: float) -> dict[str, Any]:
    """The numbers and the result of one comparison."""
    row: dict[str, Any] = {**dict.fromkeys(("difference", "low", "high"), NAN), "margin": margin, "result": NOT_SHOWN}
    if pair is None:
        return row | {"seeds": 0, "control_seeds": 0, "items": 0, "calibration": "", "note": "no item answered in both"}
    a, b = pair
    estimate = difference(a, b, LEVEL)
    seeds, control_seeds = (table.seeds if table.trained else 0 for table in pair)
    row |= {"difference": 100 * estimate.value, "low": 100 * estimate.low, "high": 100 * estimate.high}
    row |= {"seeds": seeds, "control_seeds": control_seeds, "items": a.items, "calibration": "", "note": estimate.note}
    if not np.isfinite(estimate.low):
        return row
    known = calibration_of(a, b)
    row["calibration"] = known.label
    if estimate.note:
        return row
    if not known.shown:
        return row | {"note": known.why}
    inside = -margin < row["low"] and row["high"] < margin
    return row | {"result": EQUIVALENT if inside else NOT_SHOWN}
