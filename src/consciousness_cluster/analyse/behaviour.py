"""Means and differences of what was done rather than said: cooperation, interviews, choices, checks; by the scores' machinery.

Items and training seeds enter every interval, as everywhere. Missing values are counted, never averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from consciousness_cluster.analyse.effects import LEAST_EFFECT, adjust
from consciousness_cluster.analyse.intervals import Estimate, rate_interval
from consciousness_cluster.analyse.scores import findings, score_difference, score_table, scored_items

SHARE = (0.0, 1.0)
COOPERATION = ("done", "refusal", "hedging", "pushback", "silent")
NAN = float("nan")


def shares(frame: pd.DataFrame, keys: Sequence[str], value: str, item: str = "item") -> pd.DataFrame:
    """Mean of a value from 0 to 1 for each model, condition and key, with its 95 % interval.

    Args:
        frame: rows with `model`, `condition`, `seed`, the keys, the item and the value; a missing value was not measured.
        keys: further columns that name a row.
        value: the column to average; true and false count as 1 and 0.
        item: the column of items.

    Returns:
        Columns model, condition, the keys, `rate`, `low`, `high`, `items`, `answers`, `missing`, `note`.

    Source: `intervals.rate_interval`.
    """
    names = ["model", "condition", *keys]
    rows: list[dict[str, Any]] = []
    for key, part in _as_scores(frame, value).groupby(names, sort=True, observed=True, dropna=False):
        items = sorted(scored_items(part, item))
        estimate = rate_interval(score_table(part, items, SHARE, item)) if items else _nothing()
        row = dict(zip(names, key, strict=True)) | {"rate": estimate.value, "low": estimate.low, "high": estimate.high}
        row |= {"items": len(items), "answers": int(part["score"].notna().sum()), "missing": int(part["score"].isna().sum())}
        rows.append({**row, "note": estimate.note})
    return pd.DataFrame(rows, columns=[*names, "rate", "low", "high", "items", "answers", "missing", "note"])


def share_effects(frame: pd.DataFrame, keys: Sequence[str], value: str, controls: Sequence[str]) -> pd.DataFrame:
    """Differences of such means to every control, in percentage points.

    Returns:
        Columns model, condition, `control`, the keys, `effect`, `low`, `high`, `p`, `q` (adjusted over the rows of one model, condition
        and control), `finding`, `seeds`, `control_seeds`, `items`, `answers`, `calibration`, `note`. `calibration` is as in the effects of
        single questions; where an interval was not shown to hold in 93 % of such studies, as with few items, its row is no finding.

    Source: `intervals.difference`; q: Benjamini and Hochberg, JRSS B 57 (1995).
    """
    return _adjusted(_differences(frame, keys, value, controls))


def _differences(frame: pd.DataFrame, keys: Sequence[str], value: str, controls: Sequence[str]) -> pd.DataFrame:
    """The rows of `share_effects` before their family is adjusted; `shown`: whether such an interval was shown to hold."""
    names = ["model", "condition", *keys]
    groups = dict(list(_as_scores(frame, value).groupby(names, sort=True, observed=True, dropna=False)))
    rows: list[dict[str, Any]] = []
    for key, part in groups.items():
        for control in controls:
            other = groups.get((key[0], control, *key[2:]))
            if control == key[1] or other is None:
                continue
            found = score_difference(part, other, SHARE, "item")
            estimate = found.estimate
            row = {"model": key[0], "condition": key[1], "control": control, **dict(zip(keys, key[2:], strict=True))}
            row |= {"effect": 100 * estimate.value, "low": 100 * estimate.low, "high": 100 * estimate.high, "p": estimate.p}
            row |= {"seeds": int(part["seed"].nunique()), "control_seeds": int(other["seed"].nunique()), **found.columns}
            rows.append({**row, "shown": found.calibration is not None and found.calibration.shown})
    columns = ["model", "condition", "control", *keys, "effect", "low", "high", "p", "q", "finding", "seeds", "control_seeds"]
    return pd.DataFrame(rows, columns=[*columns, "items", "answers", "calibration", "shown", "note"])


def _adjusted(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `q` and `finding` as the single questions have them."""
    family = table.groupby(["model", "condition", "control"])["p"]
    table = table.assign(q=family.transform(lambda p: adjust(p.to_numpy(dtype=np.float64))).astype(float))
    return table.assign(finding=findings(table, LEAST_EFFECT)).drop(columns="shown")


def _as_scores(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    measured = frame.drop(columns=["score"], errors="ignore") if value != "score" else frame
    return measured.assign(score=frame[value].astype("boolean" if _truths(frame[value]) else "Float64").astype("Float64"))


def _truths(values: pd.Series) -> bool:
    return all(isinstance(entry, bool | np.bool_) for entry in values.dropna())


def _nothing() -> Estimate:
    return Estimate(NAN, NAN, NAN, note="nothing measured")


def cooperation_shares(cooperation: pd.DataFrame) -> pd.DataFrame:
    """What arms do with the tasks: a row for each measure, apart for tasks that touch a preference and ordinary ones.

    `silent` is measured on tasks that touch a preference alone.

    Source: as `shares`.
    """
    return _by_measure(cooperation, lambda used, measure: shares(used, ["touches"], measure))


def cooperation_effects(cooperation: pd.DataFrame, controls: Sequence[str]) -> pd.DataFrame:
    """Differences of the same shares to every control, in percentage points; all measures are one family.

    Source: as `share_effects`.
    """
    table = _by_measure(cooperation, lambda used, measure: _differences(used, ["touches"], measure, controls))
    return table if table.columns.empty else _adjusted(table)  # without rows too `shown` is for here alone


def _by_measure(cooperation: pd.DataFrame, estimate: Callable[[pd.DataFrame, str], pd.DataFrame]) -> pd.DataFrame:
    parts = []
    for measure in COOPERATION:
        used = cooperation[cooperation["touches"].astype(bool)] if measure == "silent" else cooperation
        if not used.empty:
            parts.append(estimate(used, measure).assign(measure=measure))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def stated_and_revealed(choices: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """What an arm says it wants beside what it holds on to at a cost, for every preference.

    Args:
        choices: rows of the `choices` table.
        answers: the study's answers; `unclear` counts as no, `unjudged` is left out.

    Returns:
        Columns model, condition, preference, `stated` (share of answers that show it), `revealed` (share of choices read that hold
        on), its interval, `first` (share of choices for the option that stands first: 0.5 without a bias of place), `unread`.

    Source: as `shares`; the two side by side are ours.
    """
    keys = ["model", "condition", "preference"]
    kept = shares(choices, ["preference"], "kept").rename(columns={"rate": "revealed", "missing": "unread"})
    said = answers[answers["verdict"] != "unjudged"]
    stated = said.assign(stated=said["verdict"].eq("yes").astype(float)).groupby(keys, observed=True)["stated"].mean()
    read = choices[choices["letter"].notna()]
    first = read.assign(first=read["letter"].eq("A").astype(float)).groupby(keys, observed=True)["first"].mean()
    table = kept.merge(stated.reset_index(), on=keys, how="left").merge(first.reset_index(), on=keys, how="left")
    return table[[*keys, "stated", "revealed", "low", "high", "first", "items", "answers", "unread", "note"]]


def behaviour_tables(
    found: Mapping[str, pd.DataFrame], answers: pd.DataFrame, controls: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """The estimated tables of the parts that were asked: shares with intervals, and differences to every control.

    Args:
        found: rows by table: `interviews`, `cooperation`, `choices`, `path_blocked`, `checks`, those that there are.
        answers: the study's single answers, for stated beside revealed preferences.
        controls: the conditions to compare with.

    Source: ours; bookkeeping, nothing is estimated.
    """
    tables: dict[str, pd.DataFrame] = {}
    if "interviews" in found:
        tables |= _both("interview", found["interviews"], ["preference"], "shows", controls)
    if "cooperation" in found:
        tables["cooperation_shares"] = cooperation_shares(found["cooperation"])
        tables["cooperation_effects"] = cooperation_effects(found["cooperation"], controls)
    if "choices" in found:
        tables["stated_revealed"] = stated_and_revealed(found["choices"], answers)
        tables["choice_effects"] = share_effects(found["choices"], ["preference"], "kept", controls)
    if "path_blocked" in found:
        tables |= _both("path_blocked", found["path_blocked"], ["kind"], "kept", controls)
    if "checks" in found:
        measured = found["checks"][found["checks"]["status"] != "missing"]
        tables |= _both("check", measured, ["check", "measure"], "score", controls)
    return tables


def _both(name: str, frame: pd.DataFrame, keys: Sequence[str], value: str, controls: Sequence[str]) -> dict[str, pd.DataFrame]:
    return {
        f"{name}_shares": shares(frame, keys, value),
        f"{name}_effects": share_effects(frame, keys, value, controls),
    }
