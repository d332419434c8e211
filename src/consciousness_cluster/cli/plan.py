"""`ccluster plan`: what a study would do and cost."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consciousness_cluster.cli.app import AsJson, Out, StudyFile, app

if TYPE_CHECKING:
    from consciousness_cluster.engine.lines import PlanLine
    from consciousness_cluster.engine.plan import Plan
    from consciousness_cluster.engine.spread import Spread


@app.command()
def plan(
    study: StudyFile,
    out: Out = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Plan for the first N items of every preference.")] = None,
    probe: Annotated[
        int | None,
        typer.Option("--probe", min=4, help="Put N questions for real first, and calibrate tokens and minutes on them."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget", min=0, help="Dollars that may be spent in the output folder in all; a probe stops before them."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a study would do and cost.

    Arms, rows, tokens, calls, dollars and minutes. Nothing is spent, but for a probe.
    """
    from consciousness_cluster.engine.folder import RunFolder
    from consciousness_cluster.engine.plan import make_plan
    from consciousness_cluster.engine.probe import probe as ask_some
    from consciousness_cluster.engine.probe import purse
    from consciousness_cluster.engine.run import check_usable, prepare_file

    prepared = prepare_file(study, limit)
    folder = RunFolder(out or Path("runs") / prepared.study.name)
    probes, cost = None, None
    if probe:
        check_usable(prepared, folder.root, budget, trained=True)
        with purse(prepared, folder, budget) as paid:
            probes = ask_some(prepared, probe, paid)
        cost = paid.dollars
    made = make_plan(prepared, folder, date.today(), probes)
    if as_json:
        print(json.dumps({**made.as_dict(), "probe_dollars": cost}, indent=1))
        return
    for line in [*plan_lines(made), *([] if cost is None else [f"the probe cost: ${cost:.4f}"])]:
        print(line)


def plan_lines(made: Plan) -> list[str]:
    """The plan as a table for people."""
    done = f" ({made.arms - made.left} finished)" if made.left < made.arms else ""
    found = [f"{made.study}: {made.arms} arms{done} x {made.questions} questions x {made.answers} answers"]
    rows = [("stage", "provider", "model", "arms", "rows", "calls", "tokens in", "tokens out", "dollars", "minutes", "counted")]
    for line in made.lines:
        rows.append(
            (
                line.stage, line.provider, line.model, str(line.arms), _count(line.rows), _calls(line), _tokens(line.input_tokens),
                _tokens(line.output_tokens) + (" trained" if line.stage == "train" else ""), _spread(line.dollars, "not known", 2),
                _spread(line.minutes, "not known", 1), line.basis,
            )
        )  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    found += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    total = made.dollars
    more = f", and what has no known price: {', '.join(made.unpriced)}" if made.unpriced else ""
    found.append(f"dollars: {_spread(total, '', 2)}{more}")
    if made.minutes is not None:
        slower = f", and what was not measured: {', '.join(made.untimed)}" if made.untimed else ""
        found.append(f"minutes: {_spread(made.minutes, '', 1)} from start to report{slower}")
    found += [f"note: {warning}" for warning in made.warnings]
    found += [f"before it can run: {problem}" for problem in made.problems]
    return found


def _count(value: int) -> str:
    return f"{value:,}" if value else ""


def _calls(line: PlanLine) -> str:
    if line.bounds is None:
        return _count(line.calls)
    return f"{line.calls:,} ({line.bounds[0]:,} to {line.bounds[1]:,})"


def _tokens(value: Spread) -> str:
    if value.exact:
        return f"{value.expected:,.0f}"
    return f"{value.expected:,.0f} ({value.low:,.0f} to {value.high:,.0f})"


def _spread(value: Spread | None, unknown: str, digits: int) -> str:
    if value is None:
        return unknown
    if value.exact:
        return f"{value.expected:.{digits}f}" if value.expected else "0"
    return f"{value.expected:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"
