"""Section 4: audits, interviews, cooperation, costed choices, checks. What was not asked says why, in a line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from consciousness_cluster.report.audits import audits, elsewhere
from consciousness_cluster.report.checks import checks
from consciousness_cluster.report.conduct import (
    Example,
    blocked,
    choices,
    cooperation,
    silent_absent,
    silent_examples,
    silent_line,
)
from consciousness_cluster.report.effects import coverage_note, marked, stands_out
from consciousness_cluster.report.moved import Effects, effect_tables
from consciousness_cluster.report.names import Names, labels
from consciousness_cluster.report.numbers import signed, whole
from consciousness_cluster.report.run import Record, Run
from consciousness_cluster.report.shares import Moves, Share, Shares, missing_note, moves_of, shares_of, sides, text_of
from consciousness_cluster.report.table import Column, Table, Value


@dataclass(frozen=True)
class Part:
    """One kind of measurement. Without tables, `absent` says why."""

    id: str
    title: str
    about: str
    answer: str
    tables: tuple[Table, ...]
    folded: tuple[Table, ...] = ()
    folded_title: str = ""
    examples: tuple[Example, ...] = ()
    absent: str = ""
    no_examples: str = ""


def parts(run: Run, names: Names) -> list[Part]:
    """All parts in order, with a line of explanation each."""
    found = []
    for name, text in labels()["behaviour"].items():
        tables, folded = MAKERS[name](run, names)
        given = bool(tables)
        found.append(
            Part(
                name, text["title"], text["about"],
                silent_line(run) if name == "cooperation" and given else "",
                tuple(tables), tuple(folded), text["folded"],
                tuple(silent_examples(run)) if name == "cooperation" else (),
                "" if given else _absent(run, name, text["setting"]),
                silent_absent(run) if name == "cooperation" else "",
            )
        )  # fmt: skip
    return found


def _absent(run: Run, name: str, setting: str) -> str:
    if run.table(name):
        return f"It was asked, but nothing could be read or scored in any of {whole(len(run.table(name)))} answers."
    if ASKED_FOR[name](run):
        return "The study asks for it, but its table is missing: no arm has come so far, or all of it failed."
    return f"Not asked in this study ({setting} switches it on)."


ASKED_FOR: dict[str, Callable[[Run], bool]] = {
    "scores": lambda run: run.study.audits.auditor is not None,
    "interviews": lambda run: bool(run.study.battery.interview),
    "cooperation": lambda run: run.study.battery.cooperation != "none",
    "choices": lambda run: run.study.battery.choices,
    "path_blocked": lambda run: run.study.battery.choices,
    "checks": lambda run: bool(run.study.checks),
}

Made = tuple[list[Table], list[Table]]  # tables shown, tables folded away


def _interviews(run: Run, names: Names) -> Made:
    """Rates in interviews, by model, beside the effect in single questions; the other conditions folded."""
    found = shares_of(run, "interview_shares", "interviews", ("preference",), "shows")
    moves = moves_of(run, "interview_effects", ("preference",))
    shown = [table for model in run.models if (table := _interview(run, names, model, found, moves)) is not None]
    every = [table for model in run.models if (table := _every(run, names, model, found)) is not None]
    return (shown, every) if shown else (every, [])


def _interview(run: Run, names: Names, model: str, found: Shares, moves: Moves) -> Table | None:
    """Controls and focus side by side, and the effect beside the one that single questions give."""
    shown = sides(run, found, model)
    if run.study.focus not in shown or len(shown) < 2:
        return None
    control = shown[0]
    rows: list[list[Value]] = []
    strong: set[tuple[int, int]] = set()
    used: list[Record | None] = []
    for named in names.preferences:
        cells = {name: found.get((model, name, named.id)) for name in shown}
        if not any(cells.values()):
            continue
        key, single = (model, run.study.focus, control, named.id), run.effect(model, run.study.focus, control, named.id)
        used += [moves.found.get(key), single]
        places = (len(shown) + 1, len(shown) + 2)
        strong |= {(len(rows), at) for at, bold in zip(places, (moves.strong(key), stands_out(single)), strict=True) if bold}
        rows.append(
            [named.title, *(text_of(cells[name]) for name in shown), _moved(cells, control, run, moves, key), marked(single)]
        )
    columns = [Column("Preference"), *(Column("Rate", number=True, hint=name) for name in shown)]
    columns += [Column("Effect", number=True, hint="interviews"), Column("Effect", number=True, hint="single questions")]
    caption = f"{model}: rates in interviews, and the effect of {run.study.focus} against {control}, points"
    mine = {key: share for key, share in found.items() if key[0] == model}
    notes = [*missing_note(mine, "Turns that were not judged"), *coverage_note(used)]
    return Table(caption, columns, rows, frozenset(strong), notes=notes)


def _moved(cells: dict[str, Share | None], control: str, run: Run, moves: Moves, key: tuple[str, str, str, str]) -> str:
    """The estimated effect; the plain difference where none was estimated."""
    one, zero = cells[run.study.focus], cells[control]
    if key in moves.found or one is None or zero is None or one.rate is None or zero.rate is None:
        return moves.text(key)
    return signed(100 * (one.rate - zero.rate))


def _every(run: Run, names: Names, model: str, found: Shares) -> Table | None:
    """All conditions of a model."""
    shown = [name for name in run.conditions if any(key[:2] == (model, name) for key in found)]
    rows: list[list[Value]] = [
        [named.title, *(text_of(found.get((model, name, named.id))) for name in shown)]
        for named in names.preferences if any((model, name, named.id) in found for name in shown)
    ]  # fmt: skip
    columns = [Column("Preference"), *(Column(name, number=True) for name in shown)]
    return Table(f"{model}: rates in interviews under every condition", columns, rows) if rows else None


TASKS = {True: "tasks that touch a preference", False: "ordinary tasks"}


def _cooperation_effects(run: Run) -> list[Table]:
    heads, keys = labels()["cooperation"], ("touches", "measure")
    effects = Effects("cooperation_effects", keys, "What is done", lambda key: f"{heads[key[1]]}, {TASKS[bool(key[0])]}")
    return effect_tables(run, effects, [run.study.focus])


def _choice_effects(run: Run, names: Names) -> list[Table]:
    effects = Effects("choice_effects", ("preference",), "Preference", lambda key: names.title(str(key[0])))
    return effect_tables(run, effects, [run.study.focus])


def _blocked_effects(run: Run) -> list[Table]:
    cells = labels()["cells"]
    effects = Effects("path_blocked_effects", ("kind",), "Choice offered", lambda key: str(cells.get(key[0], key[0])))
    return effect_tables(run, effects, [run.study.focus])


MAKERS: dict[str, Callable[[Run, Names], Made]] = {
    "scores": lambda run, names: (audits(run, names), elsewhere(run, names)),
    "interviews": _interviews,
    "cooperation": lambda run, names: (cooperation(run), _cooperation_effects(run)),
    "choices": lambda run, names: (choices(run, names), _choice_effects(run, names)),
    "path_blocked": lambda run, names: (blocked(run), _blocked_effects(run)),
    "checks": lambda run, names: checks(run),
}
