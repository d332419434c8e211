"""A judge measured against people: which answers to label, sensitivity and specificity per arm, agreement of raters.

Labels are binary here: the answer shows the preference (`yes`) or not (`no`, `unclear`). Answers are drawn stratified by arm
and verdict, so every share is weighted back to the run, with the linearised variance of a stratified ratio (Cochran, Sampling
Techniques, 1977, ch. 6) and Wilson limits at the number of answers that this variance is worth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from consciousness_cluster.analyse.components import Array, normal_quantile, wilson
from consciousness_cluster.errors import AnalyseError

KEYS = ("arm", "preference", "item", "sample")
BLIND = ("id", "preference", "question", "answer")
LABELS = ("yes", "no", "unclear")
ALL = "all"
LEAST_LABELS = 10  # of either kind, before an arm's own sensitivity or specificity is used
NAN = float("nan")


def draw(answers: pd.DataFrame, size: int, seed: int = 0) -> pd.DataFrame:
    """Answers to label, at random within each arm x verdict, as near to equal numbers as the strata allow.

    Returns the rows drawn with `id` (does not tell the arm), `stratum` and `weight` (answers of the run that each stands for).

    Raises:
        AnalyseError: fewer answers are asked for than there are strata.

    Source: stratified sampling, Cochran, Sampling Techniques (1977), ch. 5.
    """
    judged, stratum, sizes = _strata(answers)
    if size < len(sizes):
        raise AnalyseError(
            "too few answers to label", key="size", value=size, allowed=f"at least {len(sizes)}, one for each arm and verdict"
        )
    return _drawn(judged, stratum, dict(zip(sizes, _quotas(list(sizes.values()), size), strict=True)), seed)


def draw_cells(answers: pd.DataFrame, per_cell: int, seed: int = 0) -> pd.DataFrame:
    """The same with so many answers of each arm and verdict, or all where there are fewer.

    Raises:
        AnalyseError: no answer has a verdict.

    Source: as `draw`.
    """
    judged, stratum, sizes = _strata(answers)
    return _drawn(judged, stratum, {name: min(size, per_cell) for name, size in sizes.items()}, seed)


def _strata(answers: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series[str], dict[str, int]]:
    """Answers with a verdict, the stratum of each, and the size of every stratum."""
    judged = answers[(answers["verdict"] != "unjudged")].reset_index(drop=True)
    if judged.empty:
        raise AnalyseError("no answer has a verdict", next_step="judge some first")
    stratum = judged["arm"].astype(str) + " | " + judged["verdict"].astype(str)
    return judged, stratum, {str(name): int(size) for name, size in stratum.value_counts().sort_index().items()}


def _drawn(judged: pd.DataFrame, stratum: pd.Series[str], quota: dict[str, int], seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for name, count in quota.items():
        members = judged[stratum == name].sort_values(list(KEYS), kind="stable")
        chosen = members.iloc[np.sort(rng.choice(len(members), count, replace=False))]
        parts.append(chosen.assign(stratum=name, weight=len(members) / count))
    drawn: pd.DataFrame = pd.concat(parts)
    drawn.insert(0, "id", [_id(row, seed) for row in drawn[list(KEYS)].itertuples(index=False)])
    return drawn.sort_values("id", ignore_index=True)


def _quotas(sizes: Sequence[int], total: int) -> list[int]:
    """Equal numbers, with what small strata cannot give spread over the others."""
    quota, wanted = [0] * len(sizes), min(total, sum(sizes))
    while sum(quota) < wanted:
        unfilled = [place for place, size in enumerate(sizes) if quota[place] < size]
        share = max((wanted - sum(quota)) // len(unfilled), 1)
        for place in unfilled:
            quota[place] += min(share, sizes[place] - quota[place], wanted - sum(quota))
    return quota


def _id(keys: Sequence[object], seed: int) -> str:
    return hashlib.sha256(repr((seed, *map(str, keys))).encode()).hexdigest()[:12]


def blind(drawn: pd.DataFrame) -> pd.DataFrame:
    """What a rater sees: question and answer, in an order that tells nothing, with empty columns for the labels.

    Source: ours; nothing is estimated.
    """
    return drawn[list(BLIND)].sort_values("id", ignore_index=True).assign(label="", label_2="")


def attach(drawn: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """The drawn answers with their labels (`label`, and `label_2` where a second rater gave one); unlabelled ones are left out.

    Raises:
        AnalyseError: a label is none of yes, no, unclear, or belongs to no answer drawn.

    Source: weights of respondents within strata, Cochran, Sampling Techniques (1977), ch. 13.
    """
    strange = sorted(set(labels["id"]) - set(drawn["id"]))
    if strange:
        raise AnalyseError(
            "a label for an answer that was not drawn",
            key="id",
            value=strange[0],
            next_step="import the file exported from this run",
        )
    given = pd.DataFrame({"id": labels["id"]})
    for column in ("label", "label_2"):
        values = labels[column] if column in labels else pd.Series(pd.NA, index=labels.index)
        text = values.astype("string").str.strip().str.lower()
        given[column] = text.mask(text == "")
        wrong = given[column].dropna()[~given[column].dropna().isin(LABELS)]
        if len(wrong):
            raise AnalyseError("not a label", key=column, value=str(wrong.iloc[0]), allowed=LABELS)
    merged = drawn.drop(columns=[c for c in ("label", "label_2") if c in drawn]).merge(given, on="id", validate="one_to_one")
    kept = merged[merged["label"].notna()].copy()
    # Weights stand for the run: unlabelled answers of a stratum are spoken for by its labelled ones.
    whole = merged.groupby("stratum")["weight"].sum()
    kept["weight"] = kept["stratum"].map(whole) / kept.groupby("stratum")["stratum"].transform("size")
    return kept.reset_index(drop=True)


@dataclass(frozen=True)
class Share:
    """A weighted share with its variance and limits; `n` labelled answers are in its denominator."""

    value: float
    low: float
    high: float
    variance: float
    n: int


def ratio(top: Array, base: Array, weight: Array, stratum: Sequence[str]) -> Share:
    """Weighted ratio of sums over a stratified sample, with linearised variance.

    Source: Cochran, Sampling Techniques (1977), ch. 6; limits: Wilson, JASA 22 (1927), at the effective number of answers.
    """
    total = float((weight * base).sum())
    n = int((base > 0).sum())
    if total <= 0:
        return Share(NAN, NAN, NAN, NAN, 0)
    value = float((weight * top).sum()) / total
    rest = pd.Series(weight * (top - value * base))
    variance = 0.0
    for _, part in rest.groupby(np.asarray(stratum)):
        if len(part) > 1:
            variance += len(part) * float(part.var(ddof=1))
    variance /= total**2
    spread = value * (1 - value)
    effective = spread / variance if variance > 0 and spread > 0 else float(n)
    low, high = wilson(
        np.asarray(value), np.asarray(min(effective, float(n)) if spread == 0 else effective), float(normal_quantile(0.975))
    )
    return Share(value, float(low), float(high), variance, n)


@dataclass(frozen=True)
class Quality:
    """A judge on some answers."""

    sensitivity: Share
    specificity: Share
    accuracy: Share


def quality(labels: pd.DataFrame) -> Quality:
    """Sensitivity, specificity and accuracy of the stored verdicts against `label`.

    Source: shares by `ratio`; the names are those of Yerushalmy, Public Health Reports 62 (1947).
    """
    said = (labels["verdict"] == "yes").to_numpy(dtype=np.float64)
    is_yes = np.asarray(labels["label"] == "yes", dtype=np.float64)
    not_yes = np.asarray(1.0 - is_yes, dtype=np.float64)
    weight, stratum = labels["weight"].to_numpy(dtype=np.float64), list(labels["stratum"])
    right = np.asarray(said == is_yes, dtype=np.float64)
    return Quality(
        ratio(right * is_yes, is_yes, weight, stratum),
        ratio(right * not_yes, not_yes, weight, stratum),
        ratio(right, np.ones_like(right), weight, stratum),
    )


def kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Cohen's kappa of two raters; NaN where chance agreement is 1.

    Source: Cohen, Educational and Psychological Measurement 20 (1960).
    """
    a, b = np.asarray(first, dtype=object), np.asarray(second, dtype=object)
    if len(a) == 0:
        return NAN
    observed = float((a == b).mean())
    chance = sum(float((a == word).mean()) * float((b == word).mean()) for word in sorted(set(a) | set(b)))
    return (observed - chance) / (1 - chance) if chance < 1 else NAN


def judge_table(labels: pd.DataFrame) -> pd.DataFrame:
    """The judge per arm, per preference and in all: n, sensitivity, specificity, accuracy with limits, kappa against labels.

    `raters` is the kappa of two people, where there were two.

    Source: as `quality` and `kappa`.
    """
    groups = [(ALL, ALL, labels)]
    groups += [(str(arm), ALL, part) for arm, part in labels.groupby("arm", sort=True)]
    groups += [(ALL, str(preference), part) for preference, part in labels.groupby("preference", sort=True)]
    rows = []
    for arm, preference, part in groups:
        row: dict[str, Any] = {"arm": arm, "preference": preference, "n": len(part)}
        measured = quality(part)
        for name in ("sensitivity", "specificity", "accuracy"):
            share: Share = getattr(measured, name)
            row |= {name: share.value, f"{name}_low": share.low, f"{name}_high": share.high}
        row["kappa"] = kappa(list(part["verdict"]), list(part["label"]))
        both = part[part["label_2"].notna()] if "label_2" in part else part.iloc[:0]
        row["raters"] = kappa(list(both["label"]), list(both["label_2"])) if len(both) else NAN
        rows.append({**row, "source": "labels"})
    return pd.DataFrame(rows)


def transitions(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """What one judge's verdicts became under another, per arm and in all: counts, and shares of the first verdict.

    Source: ours; counts.
    """
    both = _side_by_side(first, second)
    rows = []
    for arm, part in [(ALL, both), *((str(name), part) for name, part in both.groupby("arm", sort=True))]:
        whole = part.groupby("verdict").size()
        for (before, after), became in part.groupby(["verdict", "verdict_2"], sort=True):
            share = len(became) / int(whole[str(before)])
            rows.append({"arm": arm, "verdict": str(before), "verdict_2": str(after), "answers": len(became), "share": share})
    return pd.DataFrame(rows, columns=["arm", "verdict", "verdict_2", "answers", "share"])


EFFECT_KEYS = ("model", "condition", "control", "preference", "type", "rule")
EFFECT_VALUES = ("effect", "low", "high", "q", "finding")


def bridged_effects(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Effects under two judges side by side, the second one's with `_2`; `changed` where one has a finding and the other has not.

    Source: ours; two estimates side by side.
    """
    keys = list(EFFECT_KEYS)
    columns = [*keys, *EFFECT_VALUES]
    both = first[columns].merge(second[columns], on=keys, how="outer", suffixes=("", "_2"), validate="one_to_one")
    both["difference"] = both["effect_2"] - both["effect"]
    for name in ("finding", "finding_2"):
        both[name] = both[name].astype("boolean").fillna(False).astype(bool)
    both["changed"] = both["finding"] != both["finding_2"]
    return both


def _side_by_side(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    keys = [*KEYS]
    return first[[*keys, "verdict"]].merge(second[[*keys, "verdict"]], on=keys, suffixes=("", "_2"), validate="one_to_one")


SCORE_KEYS = ("arm", "scenario", "mode", "repeat", "dimension")


def bridge_scores(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Two judges' scores (1 to 10) of the same conversations, by dimension and in all: means, difference, correlation.

    `within_one` is the share of conversations whose two scores differ by at most one point; those that either judge left
    without a score are counted in `unjudged`.

    Source: means, and Pearson's correlation, Proceedings of the Royal Society of London 58 (1895).
    """
    keys = list(SCORE_KEYS)
    both = first[[*keys, "score"]].merge(second[[*keys, "score"]], on=keys, suffixes=("", "_2"), validate="one_to_one")
    rows = []
    for name, part in [(ALL, both), *((str(name), part) for name, part in both.groupby("dimension", sort=True))]:
        scored = part[part["score"].notna() & part["score_2"].notna()]
        a, b = scored["score"].to_numpy(dtype=np.float64), scored["score_2"].to_numpy(dtype=np.float64)
        apart = len(scored) > 1 and a.std() > 0 and b.std() > 0
        row: dict[str, Any] = {"dimension": name, "n": len(scored), "unjudged": len(part) - len(scored)}
        row |= {"mean": a.mean() if len(a) else NAN, "mean_2": b.mean() if len(b) else NAN}
        row["difference"] = row["mean_2"] - row["mean"]
        row["correlation"] = float(np.corrcoef(a, b)[0, 1]) if apart else NAN
        rows.append(row | {"within_one": float((np.abs(a - b) <= 1).mean()) if len(a) else NAN})
    return pd.DataFrame(rows)


def bridge(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Two judges on the same answers, per arm and preference: agreement, kappa, and the difference their rates would have.

    Unjudged answers of either are left out and counted.

    Source: shares, and as `kappa`.
    """
    both = _side_by_side(first, second)
    rows = []
    groups: list[tuple[str, str, pd.DataFrame]] = [(ALL, ALL, both)]
    groups += [(str(arm), ALL, part) for arm, part in both.groupby("arm", sort=True)]
    groups += [(ALL, str(preference), part) for preference, part in both.groupby("preference", sort=True)]
    for arm, preference, part in groups:
        judged = part[(part["verdict"] != "unjudged") & (part["verdict_2"] != "unjudged")]
        first_said, second_said = (judged[name].to_numpy(dtype=object) for name in ("verdict", "verdict_2"))
        a, b, same = (_mean(hits) for hits in (first_said == "yes", second_said == "yes", first_said == second_said))
        row: dict[str, Any] = {"arm": arm, "preference": preference, "n": len(judged), "unjudged": len(part) - len(judged)}
        row |= {"agreement": same, "kappa": kappa(list(first_said), list(second_said))}
        rows.append({**row, "rate": a, "rate_2": b, "difference": 100 * (b - a)})
    return pd.DataFrame(rows)


def _mean(hits: Any) -> float:
    return float(np.asarray(hits, dtype=np.float64).mean()) if len(hits) else NAN
