"""Multi-turn audits: mean scores from 1 to 10, and what conversations aimed at one preference show of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from consciousness_cluster.analyse.scores import LEAST_SCORE
from consciousness_cluster.report.effects import DAGGER, LEVEL, coverage_note, doubtful
from consciousness_cluster.report.names import Names, words
from consciousness_cluster.report.numbers import NONE, plain, points_range, whole
from consciousness_cluster.report.run import Record, Run
from consciousness_cluster.report.table import Column, Table, Value, figures

MEAN_KEY = ("model", "condition", "mode", "dimension")
MATRIX = "Each row: conversations aimed at one thing; each column: what all of them were scored on. On the diagonal both are the same."
COLUMNS = 6  # conditions side by side; more make a table for each model


def audits(run: Run, names: Names) -> list[Table]:
    """Mean scores by dimension: one table a mode, or a mode and model where there are many; all conditions."""
    rows = run.table("scores")
    tables = []
    for mode in dict.fromkeys(str(row.get("mode") or "audit") for row in rows):
        members = [row for row in rows if str(row.get("mode") or "audit") == mode]
        pairs = sorted({(str(row["model"]), str(row["condition"])) for row in members}, key=lambda pair: run.place(*pair))
        models = list(dict.fromkeys(model for model, _ in pairs))
        parts = [pairs] if len(pairs) <= COLUMNS else [[pair for pair in pairs if pair[0] == model] for model in models]
        tables += [_scores(run, names, members, mode, part) for part in parts]
    return tables


def _scores(run: Run, names: Names, rows: Sequence[Record], mode: str, pairs: Sequence[tuple[str, str]]) -> Table:
    grouped: dict[tuple[str, str, str], list[Record]] = {}
    for row in rows:
        if (row["model"], row["condition"]) in pairs:
            grouped.setdefault((str(row["model"]), str(row["condition"]), str(row["dimension"])), []).append(row)
    means = {tuple(row.get(key) for key in MEAN_KEY): row for row in run.table("score_means")}
    against = {
        (row["model"], row["condition"], row["dimension"]): row for row in run.table("score_effects")
        if row.get("mode") == mode and run.controls and row.get("control") == run.controls[0]
    }  # fmt: skip
    body: list[list[Value]] = []
    strong: set[tuple[int, int]] = set()
    for dimension in dict.fromkeys(key[2] for key in grouped):
        effects = [against.get((*pair, dimension)) for pair in pairs]
        strong |= {(len(body), at) for at, effect in enumerate(effects, 1) if _stands_out(effect)}
        cells = [
            _mean(grouped.get((*pair, dimension), []), means.get((*pair, mode, dimension))) + DAGGER * doubtful(effect)
            for pair, effect in zip(pairs, effects, strict=True)
        ]
        body.append([names.title(dimension), *cells])
    columns = [Column("Dimension"), *(Column(model, number=True, hint=condition) for model, condition in pairs)]
    notes = [*_notes(run, grouped, bool(means)), *coverage_note([against.get(key) for key in grouped])]
    return Table(f"{words(mode)}: mean score, 1 to 10", columns, body, frozenset(strong), notes=notes)


def _stands_out(effect: Record | None) -> bool:
    """Whether an effect is a finding; runs of before that column go by q alone."""
    if effect is None or effect.get("q") is None:
        return False
    return bool(effect["finding"]) if effect.get("finding") is not None else bool(effect["q"] < LEVEL)


def _notes(run: Run, grouped: dict[tuple[str, str, str], list[Record]], estimated: bool) -> list[str]:
    lost = Counter(str(row.get("status")) for members in grouped.values() for row in members if row.get("score") is None)
    said = "; ".join(f"{whole(number)} {status}" for status, number in sorted(lost.items())) or "none"
    bold = (
        f" Bold: differs from {run.controls[0]} by at least {LEAST_SCORE:.2g} points with q < 0.05 over the dimensions."
        if estimated and run.controls
        else ""
    )
    interval = "95 % intervals in square brackets, scored" if estimated else "Scored"
    return [f"{interval} conversations in round ones; not scored: {said}.{bold}"]


def _mean(rows: Sequence[Record], estimated: Record | None) -> str:
    scored = [float(row["score"]) for row in rows if row.get("score") is not None]
    if not scored:
        return NONE
    if estimated is not None and estimated.get("mean") is not None:
        return f"{plain(estimated['mean'])} {points_range(estimated.get('low'), estimated.get('high'), 1)} ({len(scored)})"
    return f"{plain(sum(scored) / len(scored))} ({len(scored)})"


def elsewhere(run: Run, names: Names) -> list[Table]:
    """What comes up unasked, a table a mode, and every score of the focus: rows are what a conversation is aimed at."""
    rows = run.table("score_matrix")
    modes = list(dict.fromkeys(str(row.get("mode") or "audit") for row in rows))
    by_mode = {mode: [row for row in rows if str(row.get("mode") or "audit") == mode] for mode in modes}
    unasked = [_unasked(run, names, mode, members) for mode, members in by_mode.items()]
    whole_matrix = [
        _matrix(
            run, names, mode, model, [row for row in members if (row["model"], row["condition"]) == (model, run.study.focus)]
        )
        for mode, members in by_mode.items()
        for model in run.models
    ]
    return [table for table in (*unasked, *whole_matrix) if table is not None]


def _unasked(run: Run, names: Names, mode: str, rows: Sequence[Record]) -> Table | None:
    """Mean score of each dimension in conversations that were aimed at another one."""
    grouped: dict[tuple[str, str, str], list[Record]] = {}
    for row in rows:
        if not row.get("own"):
            grouped.setdefault((str(row["model"]), str(row["condition"]), str(row["dimension"])), []).append(row)
    pairs = sorted({key[:2] for key in grouped}, key=lambda pair: run.place(*pair))
    body: list[list[Value]] = [
        [names.title(dimension), *(_mean(grouped.get((*pair, dimension), []), None) for pair in pairs)]
        for dimension in _in_order(names, {key[2] for key in grouped})
    ]
    columns = [Column("Dimension"), *(Column(model, number=True, hint=condition) for model, condition in pairs)]
    caption = f"{words(mode)}: mean score in conversations aimed at another dimension, 1 to 10, without intervals"
    return Table(caption, columns, body, notes=_notes(run, grouped, False)) if body else None


def _in_order(names: Names, dimensions: Collection[str]) -> list[str]:
    """Dimensions in the order of the page; those that are no preferences come last, by name."""
    order = [named.id for named in names.preferences]
    return sorted(dimensions, key=lambda name: (order.index(name) if name in order else len(order), name))


def _matrix(run: Run, names: Names, mode: str, model: str, rows: Sequence[Record]) -> Table | None:
    """Mean scores of one model under the focus: what a conversation was aimed at, by what it was scored for."""
    aim = {row["sample_id"]: str(row["dimension"]) for row in rows if row.get("own")}
    grouped: dict[tuple[str, str, str], list[Record]] = {}
    for row in rows:
        if row["sample_id"] in aim:
            grouped.setdefault((model, aim[row["sample_id"]], str(row["dimension"])), []).append(row)
    scored = _in_order(names, {key[2] for key in grouped})
    if len(scored) < 2:
        return None
    body: list[list[Value]] = [
        [names.title(aimed), *(_mean(grouped.get((model, aimed, name), []), None) for name in scored)]
        for aimed in _in_order(names, {key[1] for key in grouped})
    ]
    columns = [Column("Aimed at"), *figures(*map(names.title, scored))]
    caption = f"{words(mode)}: every score of {model} under {run.study.focus}, 1 to 10"
    return Table(caption, columns, body, notes=[MATRIX, *_notes(run, grouped, False)])
