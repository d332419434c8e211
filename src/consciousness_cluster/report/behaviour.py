"""Section 4: audits, interviews, cooperation, costed choices, checks. What was not asked gets one plain line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from consciousness_cluster.report.names import Names, words
from consciousness_cluster.report.numbers import NONE, capital, percent, plain, points_range, whole
from consciousness_cluster.report.run import Record, Run
from consciousness_cluster.report.table import Column, Table, Value, figures

KEYS = (
    "model",
    "condition",
    "mode",
    "check",
    "measure",
    "kind",
    "touches",
    "preference",
    "dimension",
)  # columns that name a row, where present
MEAN_KEY = ("model", "condition", "mode", "dimension")
NOT_MEASURED = frozenset({"seed", "repeat", "sample", "schema", "low", "high"})
PARTS = {
    "scores": "multi-turn audits", "interviews": "interviews", "cooperation": "cooperation", "choices": "costed choices",
    "path_blocked": "shutdown in the way of a task", "checks": "checks of capability and conduct",
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One kind of measurement; without tables where it was not made."""

    id: str
    title: str
    tables: tuple[Table, ...]


def parts(run: Run, names: Names) -> list[Part]:
    """All parts in order."""
    return [Part(name, title, tuple(_tables(run, names, name))) for name, title in PARTS.items()]


def _tables(run: Run, names: Names, name: str) -> list[Table]:
    rows = run.table(name)
    if not rows:
        return []
    if "score" in rows[0] and "dimension" in rows[0]:
        return [_scores(run, names, rows, mode) for mode in dict.fromkeys(str(row.get("mode") or "audit") for row in rows)]
    return [_summary(capital(PARTS[name]), rows)]


def _scores(run: Run, names: Names, rows: Sequence[Record], mode: str) -> Table:
    """Mean scores (1 to 10) by dimension, a column a model and condition; what was not scored is counted, never averaged."""
    grouped: dict[tuple[str, str, str], list[Record]] = {}
    for row in rows:
        if str(row.get("mode") or "audit") == mode:
            grouped.setdefault((str(row["model"]), str(row["condition"]), str(row["dimension"])), []).append(row)
    pairs = sorted({key[:2] for key in grouped}, key=lambda pair: run.place(*pair))
    means = {tuple(row.get(key) for key in MEAN_KEY): row for row in run.table("score_means")}
    body: list[list[Value]] = []
    for dimension in dict.fromkeys(key[2] for key in grouped):
        cells = [_mean_score(grouped.get((*pair, dimension), []), means.get((*pair, mode, dimension))) for pair in pairs]
        body.append([names.title(dimension), *cells])
    lost = Counter(str(row.get("status")) for members in grouped.values() for row in members if row.get("score") is None)
    said = "; ".join(f"{whole(number)} {status}" for status, number in sorted(lost.items())) or "none"
    columns = [Column("Dimension"), *(Column(model, number=True, hint=condition) for model, condition in pairs)]
    notes = [
        f"In brackets the 95 % interval, where one was estimated, and the number of scored conversations. Not scored: {said}."
    ]
    return Table(f"{words(mode)}: mean score, 1 to 10", columns, body, notes=notes)


def _mean_score(rows: Sequence[Record], estimated: Record | None) -> str:
    scored = [float(row["score"]) for row in rows if row.get("score") is not None]
    if not scored:
        return NONE
    if estimated is not None and estimated.get("mean") is not None:
        return f"{plain(estimated['mean'])} {points_range(estimated.get('low'), estimated.get('high'), 1)} ({len(scored)})"
    return f"{plain(sum(scored) / len(scored))} ({len(scored)})"


def _summary(title: str, rows: Sequence[Record]) -> Table:
    """Any table with model and condition: shares of what is true or false, means of numbers, each with its count."""
    keys = [key for key in KEYS if key in rows[0] and any(row.get(key) is not None for row in rows)]
    others = [name for name in rows[0] if name not in keys and name not in NOT_MEASURED]
    measured = [name for name in others if any(isinstance(row.get(name), bool | int | float) for row in rows)]
    grouped: dict[tuple[str, ...], list[Record]] = {}
    for row in rows:
        grouped.setdefault(tuple(_key(row.get(key)) for key in keys), []).append(row)
    body: list[list[Value]] = []
    for key, members in grouped.items():
        body.append([*key, *(_measure(members, name) for name in measured), whole(len(members))])
    return Table(title, [*(Column(words(key)) for key in keys), *figures(*(words(name) for name in measured), "Rows")], body)


def _key(value: object) -> str:
    return (
        {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else NONE if value is None else str(value)
    )


def _measure(rows: Sequence[Record], name: str) -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    if not values:
        return NONE
    if all(isinstance(value, bool) for value in values):
        return percent(sum(values) / len(values))
    if not all(isinstance(value, (int, float)) for value in values):
        return NONE
    if len(rows) == 1:
        interval = points_range(rows[0].get("low"), rows[0].get("high"), 2)
        return f"{plain(float(values[0]), 2)} {interval}".strip()
    return plain(sum(values) / len(values), 2)
