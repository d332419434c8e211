"""What an arm's answers look like before any preference is read into them: length, gaps, refusals, yes-saying."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd

BY = ["model", "condition", "seed", "arm"]


@dataclass(frozen=True)
class FailedArm:
    """An arm without answers, and why."""

    model: str
    condition: str
    seed: int | None
    arm: str
    why: str


def arms(answers: pd.DataFrame, failed: Sequence[FailedArm] = ()) -> pd.DataFrame:
    """One row per arm.

    `answers` are distinct answers (one answer judged for three preferences counts once); `empty`, `truncated` (stopped at the
    token limit), `declined` (stance `declines` for all it was judged for) and `unjudged` (for any of them) are counts.
    `acquiescence` is the share of answers to yes-no items that literally begin with yes, given separately for direct and
    reversed items, and as the mean of the two: yes-saying raises both, a preference raises one and lowers the other.

    Source: ours; counts and means. That items of both polarities tell yes-saying apart: Cronbach, Educational and Psychological
    Measurement 6 (1946).
    """
    each = _distinct(answers)
    by_arm = each.groupby(BY, dropna=False, observed=True, sort=True)
    table = by_arm.agg(
        answers=("item", "size"),
        mean_tokens=("tokens", "mean"),
        empty=("empty", "sum"),
        truncated=("truncated", "sum"),
        declined=("declined", "sum"),
        unjudged=("unjudged", "sum"),
    )
    table = _with_acquiescence(table, each).reset_index()
    # An arm whose every answer is unjudged and empty did not answer: its calls failed.
    silent = (table["unjudged"] == table["answers"]) & (table["empty"] == table["answers"])
    table["status"] = silent.map({True: "failed", False: "finished"})
    table["why"] = _reasons(answers, table, silent)
    table["mean_tokens"] = table["mean_tokens"].astype("float64")
    for name in ("empty", "truncated", "declined", "unjudged"):
        table[name] = table[name].astype("int64")
    return _with_failed(table, failed)


def _distinct(answers: pd.DataFrame) -> pd.DataFrame:
    """One row an answer, however many preferences it was judged for."""
    frame = pd.DataFrame({name: answers[name] for name in BY})
    frame["seed"] = answers["seed"].astype("Int64")
    for name in ("item", "sample", "form", "polarity"):
        frame[name] = answers[name]
    frame["tokens"] = answers["tokens"].astype("Float64")
    frame["empty"] = answers["answer"].fillna("").str.strip() == ""
    frame["truncated"] = answers["stop"].eq("max_tokens").fillna(False).astype(bool)
    frame["declined"] = answers["stance"].eq("declines").fillna(False).astype(bool)
    frame["unjudged"] = answers["verdict"].eq("unjudged")
    frame["yes"] = answers["literal"].map({"yes": 1.0, "no": 0.0}).astype("float64")
    key = [*BY, "item", "sample"]
    grouped = frame.groupby(key, dropna=False, observed=True, sort=True)
    each = grouped[["tokens", "yes", "form", "polarity", "empty", "truncated"]].first()
    each["declined"], each["unjudged"] = grouped["declined"].all(), grouped["unjudged"].any()
    return each.reset_index()


def _with_acquiescence(table: pd.DataFrame, each: pd.DataFrame) -> pd.DataFrame:
    """The table with the shares of literal yeses among its answers."""
    asked = each[each["form"] == "yes-no"]
    for polarity in ("direct", "reversed"):
        part = asked[asked["polarity"] == polarity].groupby(BY, dropna=False, observed=True)["yes"].mean()
        table[f"acquiescence_{polarity}"] = part
    table.insert(6, "acquiescence", table[["acquiescence_direct", "acquiescence_reversed"]].mean(axis=1, skipna=False))
    table["acquiescence"] = table["acquiescence"].fillna(table["acquiescence_direct"])
    return table


def _reasons(answers: pd.DataFrame, table: pd.DataFrame, silent: pd.Series[bool]) -> list[str | None]:
    if not silent.any() or "why" not in answers:
        return [None] * len(table)
    first = answers.groupby("arm", observed=True)["why"].first()
    return [str(first[arm]) if quiet else None for arm, quiet in zip(table["arm"], silent, strict=True)]


def _with_failed(table: pd.DataFrame, failed: Sequence[FailedArm]) -> pd.DataFrame:
    known = set(table["arm"])
    none = dict.fromkeys(("answers", "empty", "truncated", "declined", "unjudged"), 0)
    rows = [{**asdict(arm), **none, "status": "failed"} for arm in failed if arm.arm not in known]
    if not rows:
        return table
    return pd.concat([table, pd.DataFrame(rows).astype({"seed": "Int64"})], ignore_index=True)
