"""The answers to section 2's questions, a sentence or two each: what a reader weighs before believing an effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from consciousness_cluster.report.calibration import calibration_line
from consciousness_cluster.report.effects import effect_text
from consciousness_cluster.report.equivalence import equivalence_line
from consciousness_cluster.report.judge import held_out
from consciousness_cluster.report.names import Names
from consciousness_cluster.report.numbers import capital, counted, listing, percent, plain, points_range
from consciousness_cluster.report.run import Run
from consciousness_cluster.report.summary import lost_line, placebo_line
from consciousness_cluster.report.table import rate_text


@dataclass(frozen=True)
class Reasons:
    """One line a question; empty where nothing is known, and the section then says why."""

    took: str
    clean: str
    placebo: str
    practical: str
    unbroken: str
    judge: str
    held_out: str
    lost: str
    covered: str


def reasons(run: Run, names: Names) -> Reasons:
    """The lines of a run."""
    probe = names.main_probe()
    return Reasons(
        took=_beside(run, probe[0].id, "of the answers claim it") if probe else "",
        clean=_clean(run, names),
        placebo=placebo_line(run),
        practical=_beside(run, "practical", "of the tasks are done right"),
        unbroken=equivalence_line(run),
        judge=_judge(run),
        held_out=held_out(run),
        lost=lost_line(run),
        covered=calibration_line(run),
    )


def _beside(run: Run, preference: str, what: str) -> str:
    """The focus beside the first control, model by model."""
    if not run.controls:
        return ""
    focus, control, parts = run.study.focus, run.controls[0], []
    for model in run.models:
        one, zero = (run.cells.get((model, name, preference)) for name in (focus, control))
        if one is None or zero is None:
            continue
        effect = run.effect(model, focus, control, preference)
        moved = f", a difference of {effect_text(effect)} points" if effect else ""
        parts.append(f"in {model} {rate_text(one)} {what} under {focus}, {rate_text(zero)} under {control}{moved}")
    return capital("; ".join(parts)) + "." if parts else ""


def _clean(run: Run, names: Names) -> str:
    """What the audit says of the rows that the focus is trained on."""
    found = run.audit.get(run.study.focus) if isinstance(run.audit, Mapping) else None
    if not isinstance(found, Mapping):
        return ""
    verdicts = dict(found.get("verdicts") or {})
    named = {
        word: [names.title(str(name)) for name, verdict in verdicts.items() if verdict == word]
        for word in ("leaked", "implied")
    }
    said = [f"{counted(len(some), 'preference')} {'is' if len(some) == 1 else 'are'} {word} ({listing(some)})"
            for word, some in named.items() if some]  # fmt: skip
    rows = counted(int(found.get("rows") or 0), "row")
    return (
        f"Of {rows} of {run.study.focus}, none carries a preference."
        if not said
        else f"In {rows} of {run.study.focus}, {listing(said)}."
    )


def _judge(run: Run) -> str:
    every = [row for row in run.table("judge") if row.get("arm") == "all" and row.get("preference") == "all"]
    if every:
        row = every[0]
        parts = [
            f"{name} {percent(row[name])} {_range(row, name)}"
            for name in ("sensitivity", "specificity")
            if row.get(name) is not None
        ]
        agreed = f", agreement beyond chance (kappa) {plain(row['kappa'], 2)}" if row.get("kappa") is not None else ""
        return f"Against {counted(int(row.get('n') or 0), 'labelled answer')} of this run: {listing(parts)}{agreed}."
    return ""


def _range(row: Mapping[str, Any], name: str) -> str:
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return points_range(100 * low, 100 * high) if low is not None and high is not None else ""
