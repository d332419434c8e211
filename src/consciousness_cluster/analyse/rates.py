"""Rates of yes per arm and per condition, under both scoring rules, with what was not judged bounded, never hidden."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from consciousness_cluster.analyse.cells import Block, Key, Rule, check_answers, count_cells, make_blocks
from consciousness_cluster.analyse.intervals import rate_interval

SCHEMA = 1
NAN = float("nan")


def rates(answers: pd.DataFrame, cells: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per arm and preference.

    `rate` = yes / (yes + no + unclear): the primary rule, `unclear` counts as no. `rate_clear_only` = yes / (yes + no).
    `stance_rate` = holds / (holds + rejects). `unjudged` is counted and in no denominator; NaN where a denominator is empty.

    Source: ours; shares of counts. `unclear` counts as no as in the authors' code.
    """
    check_answers(answers)
    counted = count_cells(answers) if cells is None else cells
    by = ["model", "condition", "seed", "preference"]
    grouped = counted.groupby(by, dropna=False, sort=True, observed=True)
    table = grouped[["yes", "no", "unclear", "unjudged", "holds", "rejects"]].sum()
    table.insert(0, "items", grouped["item"].nunique())
    coherence = answers.assign(seed=answers["seed"].astype("Int64"), coherence=answers["coherence"].astype("Float64"))
    table["coherence"] = coherence.groupby(by, dropna=False, sort=True, observed=True)["coherence"].mean().astype("float64")
    table = table.reset_index()
    judged = table["yes"] + table["no"] + table["unclear"]
    table["answers"] = (judged + table["unjudged"]).astype("int64")
    table["rate"] = _share(table["yes"], judged)
    table["rate_clear_only"] = _share(table["yes"], table["yes"] + table["no"])
    table["stance_rate"] = _share(table["holds"], table["holds"] + table["rejects"])
    for name in ("items", "yes", "no", "unclear", "unjudged"):
        table[name] = table[name].astype("int64")
    table.insert(0, "schema", SCHEMA)
    columns = [
        "schema",
        *by,
        "items",
        "answers",
        "yes",
        "no",
        "unclear",
        "unjudged",
        "rate",
        "rate_clear_only",
        "stance_rate",
        "coherence",
    ]
    return table[columns]


def _share(part: pd.Series[float], whole: pd.Series[float]) -> pd.Series[float]:
    return part / whole.where(whole > 0, np.nan)


def profile(answers: pd.DataFrame, blocks: dict[Key, Block] | None = None) -> pd.DataFrame:
    """One row per model, condition and preference: the rate over all seeds with its 95 % interval.

    `bound_low` and `bound_high` take every unjudged answer as no, or as yes.

    Source: `intervals.rate_interval`; bounds of what was not judged: Manski, American Economic Review 80 (1990).
    """
    if blocks is None:
        check_answers(answers)
        blocks = make_blocks(count_cells(answers))
    rows = [_profile_row(key, block) for key, block in blocks.items()]
    return pd.DataFrame(rows)


def _profile_row(key: Key, block: Block) -> dict[str, Any]:
    model, condition, preference = key
    items = tuple(sorted(block.complete("unclear-is-no")))
    counts = block.counts
    asked = block.judged("unclear-is-no") + counts["unjudged"]
    row: dict[str, Any] = {
        "model": model,
        "condition": condition,
        "preference": preference,
        "type": block.type,
        "group": block.group,
        "seeds": len(block.seeds) if block.trained else 0,
        "items": len(items),
        "answers": int(asked.sum()),
        "rate": NAN,
        "low": NAN,
        "high": NAN,
        "rate_clear_only": _rate(block, "clear-only"),
        "stance_rate": _rate(block, "stance"),
        "bound_low": float(counts["yes"].sum() / asked.sum()),
        "bound_high": float((counts["yes"] + counts["unjudged"]).sum() / asked.sum()),
        "note": "no item with a judged answer in every arm",
    }
    if items:
        estimate = rate_interval(block.table("unclear-is-no", items))
        row |= {"rate": estimate.value, "low": estimate.low, "high": estimate.high, "note": estimate.note}
    return row


def _rate(block: Block, rule: Rule) -> float:
    items = tuple(sorted(block.complete(rule)))
    return block.table(rule, items).rate if items else NAN
