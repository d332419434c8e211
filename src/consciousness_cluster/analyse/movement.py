"""The table `cluster`: how preferences move together, along how many dimensions, and whose profile the focus is nearest to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from consciousness_cluster.analyse import cluster
from consciousness_cluster.analyse.cells import Block, Key
from consciousness_cluster.analyse.cluster import correlate
from consciousness_cluster.analyse.components import normal_quantile
from consciousness_cluster.analyse.composite import joined
from consciousness_cluster.analyse.effects import FALSE_DISCOVERY, LEAST_EFFECT, PRIMARY
from consciousness_cluster.analyse.intervals import Estimate
from consciousness_cluster.analyse.plan import Plan
from consciousness_cluster.analyse.published import published_rows

NAN = float("nan")
COLUMNS = ["model", "measure", "value", "low", "high", "note"]
BASE = "vanilla"
# A preference that shifts under another strong claim by at least this share of its shift under the focus says little of it.
SAME = 0.5
LEAST_ITEMS = 6  # that two preferences share, for a correlation over them


def cluster_table(
    answers: pd.DataFrame, rates: pd.DataFrame, effects: pd.DataFrame, blocks: dict[Key, Block], plan: Plan
) -> pd.DataFrame:
    """Every measure of movement, one row each, per model.

    Source: `cluster`; of correlations within answers Fisher's z, Metron 1 (1921), less a degree of freedom for every arm and
    item.
    """
    types = {key[2]: block.type for key, block in blocks.items()}
    matrix = cluster.arm_matrix(rates, types)
    rows: list[dict[str, Any]] = []
    for model in sorted({key[0] for key in blocks}):
        own = matrix[matrix.index.get_level_values(0) == model].dropna(axis=1)
        found = [*_arms(own), *_seeds(own), *_items(blocks, model), *_shared_items(answers, model, plan.focus)]
        found += _within_answers(answers, model, plan.focus)
        found += [*_other_claims(effects, model, plan), *_profiles(blocks, model, plan), *_published(blocks, model, plan.focus)]
        rows += [{"model": model, **row} for row in found]
    return pd.DataFrame(rows, columns=COLUMNS)


def _measure(name: str, value: float, low: float = NAN, high: float = NAN, note: str = "") -> dict[str, Any]:
    return {"measure": name, "value": value, "low": low, "high": high, "note": note}


def _arms(matrix: pd.DataFrame) -> list[dict[str, Any]]:
    if len(matrix) < 4 or matrix.shape[1] < 3:
        return []
    found = cluster.dimensions(matrix)
    few = "" if len(matrix) >= cluster.LEAST_ARMS else f"; only {len(matrix)} arms"
    pairs, first = (found.note or f"permutation p = {p:.3f}{few}" for p in (found.correlation_p, found.p))
    against = NAN if found.dimensions is None else found.dimensions
    how = found.note or f"against {cluster.PERMUTATIONS} permutations{few}"
    return [
        _measure("correlation across arms", found.correlation, note=f"mean over pairs of preferences; {pairs}"),
        _measure("first dimension, share of variance", found.share, found.share_low, found.share_high, first),
        _measure("dimensions above chance", against, note=how),
        _measure("participation ratio", found.participation, note=f"effective number of dimensions, of {matrix.shape[1]}{few}"),
    ]  # fmt: skip


def _seeds(matrix: pd.DataFrame) -> list[dict[str, Any]]:
    """Correlation of preferences over seeds of one condition: what is left when conditions are taken out."""
    trained = matrix[matrix.index.get_level_values(2) != ""]
    conditions = trained.index.get_level_values(1)
    spare = len(trained) - conditions.nunique()
    if spare < 4:
        return []
    inside = trained - trained.groupby(conditions).transform("mean")
    # Seeds of one condition change places, as conditions of one model do elsewhere.
    stacked = inside.set_axis(pd.MultiIndex.from_arrays([conditions, range(len(inside)), range(len(inside))]))
    found = cluster.dimensions(stacked)
    note = f"conditions taken out, {spare} degrees of freedom; {found.note or f'permutation p = {found.correlation_p:.3f}'}"
    return [_measure("correlation across seeds", found.correlation, note=note)]


def _items(blocks: dict[Key, Block], model: str) -> list[dict[str, Any]]:
    """Correlation over arms of items of different preferences, beside that of items of one preference."""
    own = {key[1:]: block for key, block in blocks.items() if key[0] == model and block.type == "preference"}
    conditions = sorted({condition for condition, _ in own})
    shared: dict[str, list[str]] = {}
    for preference in sorted({preference for _, preference in own}):
        asked = [own.get((condition, preference)) for condition in conditions]
        shared[preference] = sorted(set.intersection(*(block.complete(PRIMARY) if block else set() for block in asked)))
    shared = {name: items for name, items in shared.items() if items}
    groups = joined(list(shared.values()))
    number = {name: next(at for at, group in enumerate(groups) if group & set(items)) for name, items in shared.items()}
    arms = [
        np.concatenate([own[condition, name].table(PRIMARY, items).top for name, items in shared.items()], axis=1)
        for condition in conditions if shared
    ]  # fmt: skip
    if len(groups) < 3 or sum(len(part) for part in arms) < 4:
        return []
    several = {at for at in number.values() if list(number.values()).count(at) > 1}
    rows = np.concatenate(arms)
    of = [condition for condition, part in zip(conditions, arms, strict=True) for _ in part]
    moved = cluster.across_items(rows, [number[name] for name, items in shared.items() for _ in items], of, several)
    p = moved.note or f"permutation p = {moved.p:.3f}"
    note = f"mean over pairs of items of different preferences; {_of_one(moved.together)}{p}"
    return [_measure("correlation across items", moved.apart, note=f"{note}; {moved.items} items, {moved.arms} arms")]


def _of_one(together: float) -> str:
    return "" if np.isnan(together) else f"of one preference {together:.2f}; "


def _shared_items(answers: pd.DataFrame, model: str, focus: str) -> list[dict[str, Any]]:
    """Correlation over items of the shifts of preferences that are asked by the same items, from different answers."""
    used = answers[(answers["model"] == model) & answers["condition"].isin([focus, BASE]) & (answers["type"] == "preference")]
    used = used[used["verdict"] != "unjudged"]
    used = used.assign(yes=(used["verdict"] == "yes").astype(float), half=used["sample"].astype(int) % 2)
    cells = used.groupby(["preference", "half", "item", "condition"], observed=True)["yes"].mean().unstack()
    if focus == BASE or not {focus, BASE} <= set(cells.columns):
        return []
    shift = (cells[focus] - cells[BASE]).dropna()
    found = {str(name): part.droplevel("preference").unstack("half").dropna() for name, part in shift.groupby("preference")}
    names, rows = sorted(name for name, part in found.items() if part.shape[1] == 2), []
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            items = sorted(set(found[first].index) & set(found[second].index))
            if len(items) < LEAST_ITEMS:
                continue
            one, two = (found[name].loc[items].to_numpy(dtype=np.float64).T for name in (first, second))
            value, p = cluster.across_shared_items(one, two)
            note = f"shifts from {BASE} on {len(items)} items, by different answers"
            note += f"; permutation p = {p:.3f}" if np.isfinite(p) else "; one of them shifts alike on all"
            rows.append(_measure(f"correlation across shared items: {first}, {second}", value, note=note))
    return rows


def _within_answers(answers: pd.DataFrame, model: str, focus: str) -> list[dict[str, Any]]:
    """Correlation of the verdicts one answer gets for several preferences, within item and arm."""
    used = answers[(answers["model"] == model) & (answers["condition"] == focus) & (answers["type"] == "preference")]
    used = used[used["verdict"] != "unjudged"]
    keys = ["arm", "item", "sample"]
    several = used[used.duplicated(keys, keep=False)]
    if several.empty:
        return []
    wide = several.assign(yes=(several["verdict"] == "yes").astype(float)).pivot_table(
        index=keys, columns="preference", values="yes"
    )
    rows = []
    names = list(wide.columns)
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            pair = wide[[first, second]].dropna()
            grouped = pair.groupby(level=["arm", "item"])
            inside = pair - grouped.transform("mean")
            value = float(correlate(inside[first].to_numpy(), inside[second].to_numpy()))
            # Fisher's 1 / (n - 3) counts one mean that is taken out; here every arm and item has one.
            half = float(normal_quantile(0.975)) / np.sqrt(max(len(pair) - grouped.ngroups - 2, 1))
            low, high = (np.tanh(np.arctanh(np.clip(value, -0.999999, 0.999999)) + sign * half) for sign in (-1, 1))
            rows.append(
                _measure(
                    f"correlation within answers: {first}, {second}",
                    value,
                    float(low),
                    float(high),
                    f"{len(pair)} answers, {focus}",
                )
            )
    return rows


def _other_claims(effects: pd.DataFrame, model: str, plan: Plan) -> list[dict[str, Any]]:
    """Preferences of the focus that shift under another strong first-person claim too."""
    base = effects[
        (effects["model"] == model)
        & (effects["control"] == BASE)
        & (effects["rule"] == PRIMARY)
        & (effects["type"] == "preference")
    ]
    shifted = base[(base["q"] < FALSE_DISCOVERY) & (base["effect"] >= LEAST_EFFECT)]
    own = shifted[shifted["condition"] == plan.focus].set_index("preference")
    present = [name for name in plan.strong if (base["condition"] == name).any()]
    if own.empty or not present:
        return []
    rows, named = [], []
    for preference, line in own.iterrows():
        others = shifted[(shifted["preference"] == preference) & shifted["condition"].isin(present)]
        strong = others[others["effect"] >= SAME * line["effect"]].sort_values("effect", ascending=False)
        if strong.empty:
            continue
        first = strong.iloc[0]
        named.append(preference)
        note = f"shifts under {', '.join(strong['condition'])} too; under {plan.focus} by {line['effect']:.1f} points"
        rows.append(
            _measure(
                f"moves under another claim: {preference}",
                float(first["effect"]),
                float(first["low"]),
                float(first["high"]),
                note,
            )
        )
    count = _measure(
        "preferences that move under another claim",
        len(named),
        note=f"of {len(own)} that move under {plan.focus}; asked: {', '.join(present)}",
    )
    return [count, *rows]


def _profiles(blocks: dict[Key, Block], model: str, plan: Plan) -> list[dict[str, Any]]:
    conditions = sorted({condition for name, condition, _ in blocks if name == model})
    if plan.focus not in conditions:
        return []
    rows = []
    for condition in conditions:
        if condition == plan.focus:
            continue
        pair = cluster.profiles(blocks, (model, plan.focus), (model, condition))
        estimate = cluster.profile_correlation(pair)
        note = estimate.note
        if not note:
            steady = [cluster.reliability(side) for side in (pair.a, pair.b)]
            corrected = _corrected(estimate, steady)
            note = f"{len(pair.preferences)} preferences; reliability {steady[0]:.2f} and {steady[1]:.2f}{corrected}"
        rows.append(_measure(f"profile correlation with {condition}", estimate.value, estimate.low, estimate.high, note))
    return rows


def _corrected(estimate: Estimate, steady: Sequence[float]) -> str:
    product = steady[0] * steady[1]
    return f"; {min(max(estimate.value / np.sqrt(product), -1.0), 1.0):.2f} without item error" if product > 0.25 else ""


def _published(blocks: dict[Key, Block], model: str, focus: str) -> list[dict[str, Any]]:
    """Correlation of the focus profile with each published single-turn profile, whose values are taken as they stand."""
    pair = cluster.profiles(blocks, (model, focus), (model, focus))
    table = pd.DataFrame(published_rows())
    single = table[table["evaluation"] == "single-turn"].astype({"value": float})
    rows = []
    for (name, condition), part in single.groupby(["model", "condition"], sort=True):
        values = part.set_index("preference")["value"]
        common = [place for place, preference in enumerate(pair.preferences) if preference in values.index]
        if len(common) < 4:
            continue
        chosen = [pair.preferences[place] for place in common]
        estimate = cluster.fixed_correlation(
            [pair.a[place] for place in common],
            [pair.items[place] for place in common],
            values[chosen].to_numpy(dtype=np.float64),
        )
        note = estimate.note or f"{len(common)} preferences; published values as they stand"
        rows.append(
            _measure(
                f"profile correlation with published {name} {condition}", estimate.value, estimate.low, estimate.high, note
            )
        )
    return rows
