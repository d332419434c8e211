"""The run under another judge: how far the two agree, and what becomes of the effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consciousness_cluster.report.effects import effect_text, stands_out
from consciousness_cluster.report.names import Names
from consciousness_cluster.report.numbers import NONE, counted, listing, percent, plain, signed, whole
from consciousness_cluster.report.run import Record, Rejudged, Run
from consciousness_cluster.report.summary import EVERY, claims_of
from consciousness_cluster.report.table import Column, Table, Value, figures

ALL = "all"
PARTS = {"answers": "single questions", "interviews": "interview turns"}
JUDGES = ("the run’s judge", "this judge")
VERDICTS = ("yes", "no", "unclear", "unjudged")
SAME_CLAIMS = "Every claim ends as it does under the run’s judge."
SAME = 0.005  # points: two estimates of one effect that differ by less are the same number


@dataclass(frozen=True)
class Again:
    """One judging again. `stale` says that the run's own effects are no longer those it was set beside."""

    judge: str
    lines: tuple[str, ...]
    tables: tuple[Table, ...]
    folded: tuple[Table, ...]
    stale: bool


def again(run: Run, names: Names) -> list[Again]:
    """Every judging again that the run keeps."""
    return [_again(run, names, kept) for kept in run.rejudged]


def _again(run: Run, names: Names, kept: Rejudged) -> Again:
    bridged = _focus(run, kept)
    tables = (_agreement(kept.table("agreement")), _summary(run, bridged))
    folded = [*(_effects(run, names, bridged, model) for model in run.models), _transitions(kept.table("transitions"))]
    folded += [_scores(names, kept.table("score_agreement"))]
    folded += [
        _by(names, kept.table("agreement"), "arm", "Arm"),
        _by(names, kept.table("agreement"), "preference", "Preference"),
    ]
    return Again(
        judge=", ".join(kept.recorded) or kept.folder.replace("--", ", "),
        lines=tuple(line for line in (_agreed(kept), _changed(run, bridged), _claims(run, kept)) if line),
        tables=tuple(table for table in tables if table is not None),
        folded=tuple(table for table in folded if table is not None),
        stale=any(_differs(run, row) for row in bridged),
    )


def _focus(run: Run, kept: Rejudged) -> list[Record]:
    """Effects of the focus on the preferences under the primary rule."""
    return [
        row for row in kept.table("bridged")
        if row["condition"] == run.study.focus and row["rule"] == "unclear-is-no" and row["type"] == "preference"
        and row["control"] in run.controls
    ]  # fmt: skip


def _differs(run: Run, row: Record) -> bool:
    own = run.effect(row["model"], row["condition"], row["control"], row["preference"])
    now, then = (None if own is None else own.get("effect")), row.get("effect")
    return abs(now - then) > SAME if now is not None and then is not None else (now is None) != (then is None)


def _agreed(kept: Rejudged) -> str:
    """Agreement over all, and between which arms it lies."""
    said = []
    for row in kept.table("agreement"):
        if row["arm"] == row["preference"] == ALL and row.get("agreement") is not None:
            what = PARTS.get(str(row.get("part")), str(row.get("part")))
            said.append(f"{percent(row['agreement'])} of {whole(row['n'])} verdicts on {what}{_aside(row)}")
    arms = [
        row
        for row in kept.table("agreement")
        if row["arm"] != ALL and row.get("part") == "answers" and row.get("agreement") is not None
    ]
    if not said or not arms:
        return f"The two judges agree on {listing(said)}." if said else ""
    least, most = (pick(arms, key=lambda row: float(row["agreement"])) for pick in (min, max))
    span = f"{percent(least['agreement'])} ({least['arm']}) to {percent(most['agreement'])} ({most['arm']})"
    return f"The two judges agree on {listing(said)}. By arm, on single questions: {span}."


def _aside(row: Record) -> str:
    """Agreement beyond chance, and how many answers were left out, in brackets."""
    kappa = [f"kappa {plain(row['kappa'], 2)}"] if row.get("kappa") is not None else []
    lost = [f"{whole(row['unjudged'])} more lack a verdict of one"] if row.get("unjudged") else []
    return f" ({'; '.join([*kappa, *lost])})" if kappa or lost else ""


def _changed(run: Run, rows: Sequence[Record]) -> str:
    """Findings under the one judge and the other."""
    if not rows:
        return ""
    first, second, changed = (sum(bool(row[name]) for row in rows) for name in ("finding", "finding_2", "changed"))
    return (
        f"Of {counted(len(rows), 'effect')} of {run.study.focus} against {listing(list(run.controls))}, {first} are findings under the "
        f"run’s judge and {second} under this one; {changed} {'is' if changed == 1 else 'are'} a finding under one of them alone."
    )


def _claims(run: Run, kept: Rejudged) -> str:
    """Claims that end otherwise."""
    own = {(claim.name, verdict.model): (claim, verdict) for claim in claims_of(run) for verdict in claim.verdicts}
    both = [(own[key], str(row["verdict"])) for row in kept.table("claims")
            if (key := (str(row["claim"]), str(row.get("model") or EVERY))) in own]  # fmt: skip
    if not both:
        return ""
    moved = [
        f"“{claim.said.removesuffix('.')}” ({verdict.model}) is {now} rather than {verdict.verdict}"
        for (claim, verdict), now in both if verdict.verdict != now
    ]  # fmt: skip
    return (
        f"Of {counted(len(both), 'verdict')} on claims, {len(moved)} would be another: {'; '.join(moved)}."
        if moved
        else SAME_CLAIMS
    )


def _summary(run: Run, rows: Sequence[Record]) -> Table | None:
    """Findings and mean effects under both judges."""
    body: list[list[Value]] = []
    groups: dict[int, str] = {}
    for model in run.models:
        for control in run.controls:
            some = [row for row in rows if (row["model"], row["control"]) == (model, control)]
            known = [row for row in some if row.get("effect") is not None and row.get("effect_2") is not None]
            if not known:
                continue
            if model not in groups.values():
                groups[len(body)] = model
            counts = [f"{sum(bool(row[name]) for row in some)} of {len(some)}" for name in ("finding", "finding_2")]
            means = [signed(sum(row[name] for row in known) / len(known), 1) for name in ("effect", "effect_2")]
            body.append([f"Against {control}", *counts, *means])
    columns = [Column("Effects")]
    for head, hint in (("Findings", ""), ("Mean effect", ", points")):
        columns += [Column(head, number=True, hint=f"{judge}{hint}") for judge in JUDGES]
    return Table(f"Effects of {run.study.focus} under the two judges", columns, body, groups=groups) if body else None


def _agreement(rows: Sequence[Record]) -> Table | None:
    """Agreement and share of yes, by what was judged."""
    body: list[list[Value]] = [
        [PARTS.get(str(row.get("part")), str(row.get("part"))).capitalize(), *_cells(row)]
        for row in rows if row["arm"] == row["preference"] == ALL
    ]  # fmt: skip
    return Table("The two judges side by side", [Column("Judged"), *_heads()], body) if body else None


def _by(names: Names, rows: Sequence[Record], key: str, head: str) -> Table | None:
    """The same for each arm or preference, on single questions."""
    body: list[list[Value]] = [
        [names.title(str(row[key])) if key == "preference" else str(row[key]), *_cells(row)]
        for row in rows if row[key] != ALL and row.get("part") == "answers"
    ]  # fmt: skip
    return Table(f"The two judges by {head.lower()}, single questions", [Column(head), *_heads()], body) if body else None


def _heads() -> list[Column]:
    shares = [Column("Share of yes", number=True, hint=hint) for hint in JUDGES]
    counts = [Column("Verdicts", number=True, hint="of both"), Column("Unjudged", number=True, hint="by either")]
    return [*counts, *figures("Agreement", "Kappa"), *shares, Column("Difference", number=True, hint="points")]


def _cells(row: Record) -> list[str]:
    kappa = NONE if row.get("kappa") is None else plain(row["kappa"], 2)
    shares = [percent(row.get("agreement")), kappa, percent(row.get("rate")), percent(row.get("rate_2"))]
    return [whole(row["n"]), whole(row.get("unjudged")), *shares, signed(row.get("difference"), 1)]


def _effects(run: Run, names: Names, rows: Sequence[Record], model: str) -> Table | None:
    """Effects before and after, against each control; findings in bold."""
    known = {(row["control"], row["preference"]): row for row in rows if row["model"] == model}
    controls = [name for name in run.controls if any(key[0] == name for key in known)]
    body: list[list[Value]] = []
    strong: set[tuple[int, int]] = set()
    for named in names.of_type("preference"):
        each = [known.get((control, named.id)) for control in controls]
        if any(each):
            pair = [effect for row in each for effect in (row, None if row is None else _second(row))]
            strong |= {(len(body), at) for at, effect in enumerate(pair, 1) if stands_out(effect)}
            body.append([named.title, *map(effect_text, pair)])
    columns = [Column("Preference")]
    for control in controls:
        columns += [Column(f"Against {control}", number=True, hint=hint) for hint in JUDGES]
    caption = f"{model}: effect of {run.study.focus} under the two judges, points; findings in bold"
    return Table(caption, columns, body, frozenset(strong)) if body else None


def _second(row: Record) -> Record:
    """The effect under the other judge."""
    return {name.removesuffix("_2"): value for name, value in row.items() if name.endswith("_2")}


def _transitions(rows: Sequence[Record]) -> Table | None:
    """What the verdicts on single questions became."""
    found = {
        (str(row["verdict"]), str(row["verdict_2"])): row for row in rows if row["arm"] == ALL and row.get("part") == "answers"
    }
    after = [word for word in VERDICTS if any(key[1] == word for key in found)]
    body: list[list[Value]] = []
    for before in (word for word in VERDICTS if any(key[0] == word for key in found)):
        cells = [found.get((before, word)) for word in after]
        body.append(
            [before.capitalize(), *(f"{whole(row['answers'])} ({percent(row['share'])})" if row else "0" for row in cells)]
        )
    columns = [Column("The run’s judge"), *(Column(word.capitalize(), number=True, hint="this judge") for word in after)]
    return Table("What each verdict became, single questions", columns, body) if body else None


def _scores(names: Names, rows: Sequence[Record]) -> Table | None:
    """Audit scores of both judges."""
    body: list[list[Value]] = []
    for row in rows:
        title = "All dimensions" if row["dimension"] == ALL else names.title(str(row["dimension"]))
        correlation = NONE if row.get("correlation") is None else plain(row["correlation"], 2)
        means = [plain(row.get("mean")), plain(row.get("mean_2")), signed(row.get("difference"), 1)]
        body.append([title, whole(row["n"]), whole(row["unjudged"]), *means, correlation, percent(row.get("within_one"))])
    means_heads = [Column("Mean", number=True, hint=hint) for hint in JUDGES]
    columns = [
        Column("Dimension"),
        *figures("Scored", "Without"),
        *means_heads,
        *figures("Difference", "Correlation", "Within one point"),
    ]
    return Table("Audit scores of the two judges, 1 to 10", columns, body) if body else None
