"""Effects: differences of rates to each control, with intervals, p-values where they are known to hold, and adjustment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from consciousness_cluster.analyse.calibration import calibrated
from consciousness_cluster.analyse.cells import RULES, Block, Key, Rule, check_answers, count_cells, make_blocks, paired
from consciousness_cluster.analyse.intervals import difference, fixed_items
from consciousness_cluster.errors import AnalyseError

type Method = Literal["bh", "holm"]

SCHEMA = 1
NAN = float("nan")
PRIMARY: Rule = "unclear-is-no"
FALSE_DISCOVERY = 0.05
LEAST_EFFECT = 5.0  # percentage points; smaller effects are no finding however certain
NAMES = {"bh": "fdr_bh", "holm": "holm"}


def effects(
    answers: pd.DataFrame, controls: Sequence[str], method: Method = "bh", blocks: dict[Key, Block] | None = None
) -> pd.DataFrame:
    """Every condition against every control, each preference, three scoring rules, in percentage points.

    `p` is empty where a trained condition has one seed or the measured coverage is under 85 %. `q` adjusts over the
    preferences of one model x condition x control under the primary rule: placebo, identity, practical and the other rules are
    outside the family, and a preference without a p keeps its place in it. `finding` is q < 0.05 and at least 5 points.

    Raises:
        AnalyseError: there is no such adjustment, or the answers do not admit an estimate.

    Source: `intervals.difference`; q: Benjamini and Hochberg, JRSS B 57 (1995), or Holm, Scandinavian Journal of Statistics 6
    (1979). The rule of a finding is ours.
    """
    if method not in NAMES:
        raise AnalyseError("no such adjustment", key="method", value=method, allowed=NAMES)
    if blocks is None:
        check_answers(answers)
        blocks = make_blocks(count_cells(answers))
    rows = [
        _row(key, control, rule, block, blocks[key[0], control, key[2]])
        for key, block in blocks.items()
        for control in controls
        if control != key[1] and (key[0], control, key[2]) in blocks
        for rule in RULES
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["q"] = adjusted(table, method)
    table["finding"] = (table["q"] < FALSE_DISCOVERY) & (table["effect"].abs() >= LEAST_EFFECT)
    return table


FAMILIES = ("preference", "placebo")  # adjusted apart: placebo preferences stay outside the family of the 21

COLUMNS = [
    *("schema", "model", "condition", "control", "preference", "type", "rule", "effect", "low", "high", "p", "q"),
    *("fixed_low", "fixed_high", "seeds", "control_seeds", "items", "answers", "calibration", "finding", "note"),
]


def _row(key: Key, control: str, rule: Rule, a: Block, b: Block) -> dict[str, Any]:
    row: dict[str, Any] = {
        "schema": SCHEMA,
        "model": key[0],
        "condition": key[1],
        "control": control,
        "preference": key[2],
        "type": a.type,
        "rule": rule,
        **dict.fromkeys(("effect", "low", "high", "p", "q", "fixed_low", "fixed_high"), NAN),
        "seeds": len(a.seeds) if a.trained else 0,
        "control_seeds": len(b.seeds) if b.trained else 0,
        "items": 0,
        "answers": 0,
        "calibration": "",
        "finding": False,
        "note": "",
    }
    if not (a.complete(rule) & b.complete(rule)):
        row["note"] = "this judge gives no stance" if rule == "stance" else "no item answered in both conditions"
        return row
    left, right, items = paired(a, b, rule)
    estimate = difference(left, right)
    fixed = fixed_items(left, right) if np.isfinite(estimate.value) else (NAN, NAN)
    row |= {"items": len(items), "answers": left.answers + right.answers, "note": estimate.note}
    values = {
        "effect": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "fixed_low": fixed[0],
        "fixed_high": fixed[1],
    }
    row |= {name: 100.0 * value for name, value in values.items()}
    if np.isfinite(estimate.low):
        samples = round((left.answers + right.answers) / (len(items) * (left.seeds + right.seeds)))
        known = calibrated(left.rate, right.rate, row["seeds"], row["control_seeds"], len(items), samples)
        row["calibration"] = known.label
        if known.allows_p:
            row["p"] = estimate.p
        elif np.isfinite(estimate.p):
            row["note"] = f"no p: {known.why}"
    return row


def adjusted(table: pd.DataFrame, method: Method) -> pd.Series[float]:
    """q-values by family; NaN outside a family or without p.

    Source: Benjamini and Hochberg, JRSS B 57 (1995); Holm, Scandinavian Journal of Statistics 6 (1979). What makes a family is
    ours.
    """
    q = pd.Series(NAN, index=table.index)
    member = table["type"].isin(FAMILIES) & (table["rule"] == PRIMARY)
    for _, family in table[member].groupby(["model", "condition", "control", "type"]):
        q.loc[family.index] = adjust(family["p"].to_numpy(dtype=np.float64), method)
    return q


def adjust(
    p: Sequence[float] | np.ndarray[Any, np.dtype[np.float64]], method: Method = "bh"
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Benjamini-Hochberg or Holm over a family; a missing p counts as 1 in it and stays missing.

    Source: Benjamini and Hochberg, JRSS B 57 (1995); Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    from statsmodels.stats.multitest import multipletests  # a second to load, so only where it is used

    values = np.asarray(p, dtype=np.float64)
    missing = np.isnan(values)
    if missing.all():
        return values
    result = np.asarray(multipletests(np.where(missing, 1.0, values), method=NAMES[method])[1], dtype=np.float64)
    return np.where(missing, NAN, result)
