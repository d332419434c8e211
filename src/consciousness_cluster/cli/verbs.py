"""`ccluster run`, `status`, `doctor`."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consciousness_cluster.cli.app import AsJson, Out, StudyFile, app

if TYPE_CHECKING:
    from consciousness_cluster.engine.run import Prepared

Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Ask only the first N items of every preference.")]


def _prepared(study: Path, out: Path | None, limit: int | None = None) -> tuple[Prepared, Path]:
    from consciousness_cluster.engine.run import prepare_file

    prepared = prepare_file(study, limit)
    return prepared, out or Path("runs") / prepared.study.name


@app.command()
def run(
    study: StudyFile,
    out: Out = None,
    limit: Limit = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes for local models.", show_default="one a core")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(min=0, help="Dollars that may be spent in the output folder in all; stops before they are passed."),
    ] = None,
) -> None:
    """Do everything of a study that is not yet done.

    Rows, fine-tunes, questions, verdicts, tables, report. Killed and given again, it goes on where it was.
    """
    from consciousness_cluster.cli.display import asking, summary
    from consciousness_cluster.engine.run import check_usable, run_study
    from consciousness_cluster.engine.templates import thinking_notes
    from consciousness_cluster.study.problems import model_warnings
    from consciousness_cluster.study.services import batch_warnings

    prepared, folder = _prepared(study, out, limit)
    check_usable(prepared, folder, budget)
    warnings = model_warnings(prepared.study, date.today(), prepared.registry, trains=prepared.trains)
    for warning in (*warnings, *batch_warnings(prepared.study, prepared.registry)):
        typer.echo(f"warning: {warning}", err=True)
    for note in (*prepared.notes, *thinking_notes(prepared.study, trains=prepared.trains)):
        typer.echo(f"note: {note}", err=True)
    with asking(prepared, folder) as display:
        result = run_study(prepared, folder, display.hear, workers, budget)
    for line in summary(prepared, result):
        print(line)
    if result.outcome.unfinished:
        raise typer.Exit(1)


@app.command()
def status(folder: Annotated[Path, typer.Argument(help="The output folder of a run.")], as_json: AsJson = False) -> None:
    """Say what of a run is done, what failed, and what was spent."""
    from consciousness_cluster.engine.status import status_of

    found = status_of(folder)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    print(
        f"{found['study']}: {found['finished']} of {found['arms']} arms finished, {len(found['failed'])} failed, {'complete' if found['complete'] else 'not complete'}"
    )
    for arm, why in found["failed"].items():
        print(f"  failed: {arm}: {why}")
    for line in spend_lines(found):
        print(line)


def spend_lines(found: dict[str, Any]) -> list[str]:
    """What was spent by stage and model, the sum first; what costs nothing is left to `--json`."""
    more = f", and what has no known price: {', '.join(found['unpriced'])}" if found["unpriced"] else ""
    lines = [f"spent: ${found['dollars']:.2f}{more}"]
    for entry in found["spend"]:
        if entry["dollars"] != 0:
            price = "price not known" if entry["dollars"] is None else f"${entry['dollars']:.2f}"
            tokens = f"{entry['input_tokens']:,} tokens in, {entry['output_tokens']:,} out"
            lines.append(f"  {entry['stage']} {entry['model']}: {tokens}, {price}")
    return lines


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this machine: packages, keys, organisms, disk.

    And Python and the accelerator.
    """
    from consciousness_cluster.engine.doctor import examine

    found = examine()
    if as_json:
        print(json.dumps([entry.__dict__ for entry in found], indent=1))
    else:
        for entry in found:
            print(f"{'ok ' if entry.good else '-- '} {entry.what}: {entry.found}")
