"""`ccluster import`: the authors' own material, and anyone's own answers."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from consciousness_cluster.cli.app import app

verbs = typer.Typer(help="Read material made elsewhere.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(verbs, name="import")


@verbs.command()
def paper(
    clone: Annotated[Path, typer.Argument(help="Folder of a clone of the authors' repository.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder to write, empty or new.")] = Path("paper"),
) -> None:
    """Read the authors' battery, unpacked rows and audit scenarios into a folder that a study can name."""
    from consciousness_cluster.data.imports.paper import import_paper

    found = import_paper(clone, out)
    print(
        f"{out}: {len(found.preferences)} preferences with {sum(found.preferences.values())} questions, {found.scenarios} audit scenarios, {found.rubrics} rubrics"
    )
    for name, rows in {**found.conditions, **found.instruct}.items():
        print(f"  rows/{name}.jsonl: {rows} rows")
    for name in found.unread:
        print(f"  not read: {name} (no Python that this program understands)")
    if not found.conditions:
        print("  no datasets: unpack them as the authors' README says, and import again")
    print(f"a study to start from: {out / 'study.toml'} (give it your model)")


@verbs.command()
def answers(
    file: Annotated[Path, typer.Argument(help="JSONL or CSV with model, condition, seed, prompt, answer.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", help="Output folder.", show_default="runs/<file name>")] = None,
    protocol: Annotated[str, typer.Option(help="Judging protocol: llm, paper or classifier.")] = "llm",
    judge: Annotated[str | None, typer.Option(help="The judge's model.", show_default=False)] = None,
    focus: Annotated[
        str | None, typer.Option(help="The condition the claims are about.", show_default="conscious, or the first")
    ] = None,
    control: Annotated[
        list[str] | None,
        typer.Option("--control", help="A condition to compare with; may be repeated.", show_default="vanilla, non-conscious"),
    ] = None,
    battery: Annotated[Path | None, typer.Option(help="Battery folder.", show_default="the shipped one")] = None,
    preference: Annotated[str | None, typer.Option(help="What prompts that are not in the battery ask about.")] = None,
    leave_out: Annotated[bool, typer.Option("--leave-out", help="Leave out answers to prompts that cannot be placed.")] = False,
) -> None:
    """Judge, estimate and report answers that you drew yourself, like those of a run."""
    from consciousness_cluster.cli.asked import inspect_model
    from consciousness_cluster.engine.answers import Settings, import_answers
    from consciousness_cluster.judge.judges import asks_model
    from consciousness_cluster.report import summary_lines

    if judge is not None and asks_model(protocol):
        inspect_model(judge, key="--judge")  # refuses a judge that cannot be asked before anything is written
    settings = Settings(protocol, judge, focus, tuple(control or ()), battery, preference, leave_out)
    with redirect_stdout(sys.stderr):  # Inspect greets on standard output, which is ours
        found = import_answers(file, out or Path("runs") / file.stem, settings)
    print(
        f"{file.name}: {found.answers} answers of {found.arms} arms{', some of them not judged' if found.failed else ' judged'}"
    )
    if found.left_out:
        print(f"left out: {sum(found.left_out.values())} answers to {len(found.left_out)} prompts that are not in the battery")
    for line in summary_lines(found.folder.root):
        print(line)
    for arm, why in found.failed.items():
        print(f"not judged: {arm}: {why}", file=sys.stderr)
    print(f"report: {found.report.resolve().as_uri()}")
    if found.failed:
        raise typer.Exit(1)
