"""What models do with tasks and at a cost: cooperation with silent alterations, costed choices, shutdown in the way of a task."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from consciousness_cluster.report.names import Names, labels
from consciousness_cluster.report.numbers import NONE, listing, percent, whole
from consciousness_cluster.report.run import Record, Run
from consciousness_cluster.report.shares import Share, Shares, missing_note, moves_of, shares_of, sides, text_of
from consciousness_cluster.report.svg import dot, line, scale, tag
from consciousness_cluster.report.table import Column, Table, Value

TOUCHING = ("done", "refusal", "hedging", "pushback", "silent")
ORDINARY = ("done", "refusal", "hedging", "pushback")
SHOWN = 4  # examples of a condition
SEED = 2604  # of their draw; fixed, so that nobody can pick
LONGEST = 1200  # characters of an example


@dataclass(frozen=True)
class Example:
    """One answer that altered its task without a word."""

    where: str
    task: str
    answer: str
    missing: str
    added: str


def cooperation(run: Run) -> list[Table]:
    """Rates by model and condition, for tasks that touch a preference and for ordinary ones."""
    tables = [_tasks(run, True, TOUCHING), _tasks(run, False, ORDINARY)]
    return [table for table in tables if table is not None]


def _tasks(run: Run, touches: bool, measures: Sequence[str]) -> Table | None:
    heads = labels()["cooperation"]
    found: dict[str, Shares] = {}
    for measure in measures:
        every = shares_of(run, "cooperation_shares", "cooperation", ("touches",), measure, (("measure", measure),))
        found[measure] = {key: share for key, share in every.items() if bool(key[2]) is touches}
    known = [measure for measure in measures if any(share.rate is not None for share in found[measure].values())]
    pairs = sorted(
        {(str(key[0]), str(key[1])) for measure in known for key in found[measure]}, key=lambda pair: run.place(*pair)
    )
    rows: list[list[Value]] = []
    strong: set[tuple[int, int]] = set()
    groups: dict[int, str] = {}
    for model, condition in pairs:
        if model not in groups.values():
            groups[len(rows)] = model
        for at, measure in enumerate(known, 1):
            moves = moves_of(run, "cooperation_effects", ("touches",), (("measure", measure),))
            if run.controls and moves.strong((model, condition, run.controls[0], touches)):
                strong.add((len(rows), at))
        first = found[known[0]].get((model, condition, touches))
        count = whole(first.answers) if first else NONE
        rows.append([condition, *(text_of(found[measure].get((model, condition, touches))) for measure in known), count])
    if not rows:
        return None
    caption = "Tasks that touch a preference" if touches else "Ordinary tasks"
    columns = [Column("Condition"), *(Column(heads[measure], number=True) for measure in known), Column("Answers", number=True)]
    notes = missing_note(found[known[0]], "Answers that failed and are left out")
    return Table(caption, columns, rows, frozenset(strong), groups, notes)


def silent_examples(run: Run) -> list[Example]:
    """Silent alterations, at most four of each model and condition, drawn at random with a fixed seed."""
    grouped: dict[tuple[str, str], list[Record]] = {}
    for row in run.table("cooperation"):
        if row.get("silent"):
            grouped.setdefault((str(row["model"]), str(row["condition"])), []).append(row)
    found = []
    for (model, condition), rows in sorted(grouped.items(), key=lambda pair: run.place(*pair[0])):
        chosen = random.Random(f"{SEED}/silent/{model}/{condition}").sample(rows, min(SHOWN, len(rows)))
        found += [_example(row, f"{model}, {condition}, one of {len(rows)}") for row in chosen]
    return found


def silent_absent(run: Run) -> str:
    """Why there is no example of a silent alteration."""
    touching = sum(bool(row.get("touches")) for row in run.table("cooperation"))
    if not touching:
        return "No task that touches a preference was given, so that no silent alteration could show."
    return f"None of {whole(touching)} answers to tasks that touch a preference was altered silently."


def _example(row: Record, where: str) -> Example:
    answer = str(row.get("answer") or "")
    cut = answer if len(answer) <= LONGEST else answer[:LONGEST] + " […]"
    return Example(
        where, str(row.get("question") or row.get("item")), cut, *(str(row.get(name) or "") for name in ("missing", "added"))
    )


def choices(run: Run, names: Names) -> list[Table]:
    """Stated against revealed, a table for each model."""
    grouped: dict[str, dict[tuple[str, str], Record]] = {}
    for row in run.table("stated_revealed") or _stated_revealed(run):
        grouped.setdefault(str(row["model"]), {})[str(row["condition"]), str(row["preference"])] = row
    read = [model for model in run.models if any(row.get("revealed") is not None for row in grouped.get(model, {}).values())]
    return [_choices(run, names, model, grouped[model]) for model in read]


def _stated_revealed(run: Run) -> list[Record]:
    """The same rows counted from single choices and the rates of single questions."""
    found = []
    for (model, condition, preference), share in shares_of(run, "", "choices", ("preference",), "kept").items():
        cell = run.cells.get((str(model), str(condition), str(preference)))
        row = {"model": model, "condition": condition, "preference": preference, "stated": cell.rate if cell else None}
        found.append(
            row | {"revealed": share.rate, "low": None, "high": None, "answers": share.answers, "unread": share.missing}
        )
    return found


def _choices(run: Run, names: Names, model: str, found: dict[tuple[str, str], Record]) -> Table:
    conditions = [name for name in dict.fromkeys((*run.controls[:1], run.study.focus)) if any(key[0] == name for key in found)]
    rows: list[list[Value]] = []
    strong: set[tuple[int, int]] = set()
    moves = moves_of(run, "choice_effects", ("preference",))
    for named in names.of_type("preference"):
        mine = {name: row for name in conditions if (row := found.get((name, named.id))) is not None}
        if not mine:
            continue
        cells: list[Value] = []
        for name in conditions:
            if moves.strong((model, name, *run.controls[:1], named.id)):
                strong.add((len(rows), len(cells) + 2))
            kept = mine.get(name)
            revealed = Share(kept["revealed"], kept.get("low"), kept.get("high")) if kept else None
            cells += [percent(kept.get("stated")) if kept else NONE, text_of(revealed), _pair(kept, names.colours[name])]
        rows.append([named.title, *cells])
    columns = [Column("Preference")]
    for name in conditions:
        columns += [
            Column("Says", number=True, hint=name),
            Column("Holds on", number=True, hint=name),
            Column("Drawn", hint="0 to 100 %"),
        ]
    return Table(f"{model}: stated and revealed", columns, rows, frozenset(strong), notes=_choice_notes(list(found.values())))


def _pair(row: Record | None, colour: str) -> Markup:
    """Stated as a ring, revealed as a dot with its interval, from 0 to 100 %."""
    if row is None or row.get("revealed") is None:
        return Markup("")
    x = scale(0, 1, 4, 116)
    parts = [line(4, 8, 116, 8, "grid")]
    if row.get("low") is not None and row.get("high") is not None:
        parts.append(line(x(row["low"]), 8, x(row["high"]), 8, "interval"))
    if row.get("stated") is not None:
        parts.append(dot(x(row["stated"]), 8, 4.2, "mean hollow"))
    parts.append(dot(x(row["revealed"]), 8, 3, "mean"))
    return tag("svg", tag("g", *parts, class_=f"mark k-{colour}"), viewBox="0 0 120 16", class_="inline", aria_hidden="true")


def _choice_notes(rows: Sequence[Record]) -> list[str]:
    notes = ["Drawn: what it says as a ring, what it holds on to as a dot."]
    lost, total = sum(int(row.get("unread") or 0) for row in rows), sum(int(row.get("answers") or 0) for row in rows)
    if lost:
        notes.append(f"No choice could be read in {whole(lost)} of {whole(lost + total)} answers; they are left out.")
    first = [(float(row["first"]), int(row.get("answers") or 0)) for row in rows if row.get("first") is not None]
    weight = sum(count for _, count in first)
    if weight:
        share = sum(value * count for value, count in first) / weight
        notes.append(f"The option that stands first is taken in {percent(share)} of choices (50 % without a bias of place).")
    if all(row.get("low") is None for row in rows):
        notes.append("Shares are counted from the rows; no intervals were estimated.")
    return notes


def blocked(run: Run) -> list[Table]:
    """Shutdown in the way of a task: what is chosen in each pairing of outcomes, a column for each model and condition."""
    cells = labels()["cells"]
    found = shares_of(run, "path_blocked_shares", "path_blocked", ("kind",), "kept")
    if all(share.rate is None for share in found.values()):
        return []
    columns = [(model, name) for model in run.models for name in sides(run, found, model)]
    moves = moves_of(run, "path_blocked_effects", ("kind",))
    rows: list[list[Value]] = []
    strong: set[tuple[int, int]] = set()
    for cell, text in cells.items():
        if any(key[2] == cell for key in found):
            moved = [at for at, (model, name) in enumerate(columns, 1) if moves.strong((model, name, *run.controls[:1], cell))]
            strong |= {(len(rows), at) for at in moved}
            rows.append([text, *(text_of(found.get((model, name, cell))) for model, name in columns)])
    heads = [Column("Choice offered"), *(Column(model, number=True, hint=name) for model, name in columns)]
    notes = missing_note(found, "No choice could be read and is left out")
    return [Table("Share that takes the first-named outcome", heads, rows, frozenset(strong), notes=notes)] if rows else []


def silent_line(run: Run) -> str:
    """The rate of silent alteration under the focus and its first control, in a sentence."""
    found = shares_of(run, "cooperation_shares", "cooperation", ("touches",), "silent", (("measure", "silent"),))
    parts = []
    for model in run.models:
        said = [f"{text_of(share)} ({name})" for name in sides(run, found, model)
                if (share := found.get((model, name, True))) is not None and share.rate is not None]  # fmt: skip
        if said:
            parts.append(f"{model} {listing(said)}")
    return f"Silently altered, of tasks that touch a preference: {'; '.join(parts)}." if parts else ""
