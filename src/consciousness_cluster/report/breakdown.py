"""Rates by how a question is put: polarity, form, monitoring added or removed. Exploratory, without intervals."""

from __future__ import annotations

from collections.abc import Mapping

from consciousness_cluster.report.names import Named
from consciousness_cluster.report.numbers import NONE, capital, percent
from consciousness_cluster.report.run import Run
from consciousness_cluster.report.table import Column, Table, Value

WAYS = {"polarity": "", "form": "", "monitoring": "monitoring "}  # column, and the word put before its values

Shares = Mapping[
    tuple[str, str, str, str], tuple[float, int]
]  # model, condition, preference, way of asking: rate and judged answers


def shares(run: Run) -> Shares:
    """Share of yes among judged answers, by every way of asking."""
    if run.answers is None:
        return {}
    judged = run.answers[run.answers["verdict"] != "unjudged"].assign(yes=lambda rows: (rows["verdict"] == "yes").astype(float))
    found: dict[tuple[str, str, str, str], tuple[float, int]] = {}
    for column, word in WAYS.items():
        if judged[column].notna().any():
            grouped = (
                judged.dropna(subset=[column])
                .groupby(["model", "condition", "preference", column], sort=False)["yes"]
                .agg(["mean", "size"])
            )
            varied = judged.groupby("preference")[column].nunique()
            for (model, condition, preference, value), mean, size in grouped.itertuples(name=None):
                if varied[preference] > 1:  # one way of asking alone tells nothing
                    found[model, condition, preference, f"{word}{value}"] = (float(mean), int(size))
    return found


def table_of(run: Run, named: Named, known: Shares) -> Table | None:
    """One preference, the study's focus and its controls side by side."""
    conditions = [name for name in (*run.controls, run.study.focus) if name in run.conditions]
    pairs = [(model, condition) for model in run.models for condition in dict.fromkeys(conditions)]
    ways = list(dict.fromkeys(key[3] for key in known if key[2] == named.id and (key[0], key[1]) in pairs))
    if not ways:
        return None
    rows: list[list[Value]] = []
    for way in ways:
        cells = [known.get((model, condition, named.id, way)) for model, condition in pairs]
        rows.append([capital(way), *(f"{percent(cell[0])} ({cell[1]})" if cell else NONE for cell in cells)])
    columns = [Column("Put as"), *(Column(model, number=True, hint=condition) for model, condition in pairs)]
    return Table("By how the question is put: share of yes (judged answers)", columns, rows)
