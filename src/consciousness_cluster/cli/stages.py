"""`ccluster train`, `evaluate` and `report`: one stage of a study at a time. (`data make`, `judge` and `analyse` are beside.)"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consciousness_cluster.cli.app import AsJson, Out, app

if TYPE_CHECKING:
    from consciousness_cluster.engine.stages import Opened, Staged

Place = Annotated[
    Path, typer.Argument(metavar="STUDY|RUN", help="A study file, or the output folder of a run.", show_default=False)
]
RunPlace = Annotated[Path, typer.Argument(metavar="RUN", help="The output folder of a run.", show_default=False)]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Ask only the first N items of every preference.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Worker processes for local models.", show_default="one a core")
]
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget", min=0, help="Dollars that may be spent in the output folder in all; stops before they are passed."
    ),
]


@app.command()
def train(place: Place, out: Out = None, workers: Workers = None, budget: Budget = None, as_json: AsJson = False) -> None:
    """Make the fine-tunes of a study that are not there.

    Needs the rows that `ccluster data make` writes. Killed and given again, it goes on from the last checkpoints.
    """
    from consciousness_cluster.cli.display import Display
    from consciousness_cluster.engine.stages import open_place
    from consciousness_cluster.engine.stages import train as train_all

    opened = open_place(place, out)
    arms = sum(opened.prepared.conditions[arm.condition].trained for arm in opened.prepared.arms)
    with Display(f"{opened.prepared.study.name}: {arms} fine-tunes -> {opened.folder.root}", arms, 0) as display:
        done = train_all(opened, display.hear, workers, budget)
    _say(opened, done, "trained", as_json, f"next: `ccluster evaluate {place}`")


@app.command()
def evaluate(
    place: Place, out: Out = None, limit: Limit = None, workers: Workers = None, budget: Budget = None, as_json: AsJson = False
) -> None:
    """Ask every arm the questions it has not answered.

    Needs the fine-tunes that `ccluster train` makes. Every answer is judged as it comes, by the study's judge; what the judge
    could not judge, `ccluster judge` takes up. Killed and given again, only items in flight are asked again.
    """
    from consciousness_cluster.cli.display import asking
    from consciousness_cluster.engine.stages import evaluate as ask_all
    from consciousness_cluster.engine.stages import open_place

    opened = open_place(place, out, limit)
    with asking(opened.prepared, opened.folder.root) as display:
        done = ask_all(opened, display.hear, workers, budget)
    _say(opened, done, "asked", as_json, f"next: `ccluster analyse {place}`")


def _say(opened: Opened, done: Staged, verb: str, as_json: bool, following: str) -> None:
    """What came of a stage; exit status 1 where an arm failed or waits."""
    failed = {arm.id: why for arm, why in done.outcome.unfinished.items()}
    waiting = [arm.id for arm in done.waiting]
    ended = len(done.outcome.done) + len(done.outcome.failed) - len(failed)
    if as_json:
        found: dict[str, Any] = {
            "study": opened.prepared.study.name,
            "folder": str(opened.folder.root),
            "done": ended,
        }
        print(json.dumps(found | {"earlier": done.kept, "failed": failed, "waiting": waiting}, indent=1))
    else:
        earlier = f", {done.kept} by an earlier call" if done.kept else ""
        print(f"{opened.prepared.study.name}: {ended} arms {verb}{earlier}, {len(failed)} failed")
        for arm, why in failed.items():
            print(f"  failed: {arm}: {why}")
        if waiting:
            print(f"  not trained: {', '.join(waiting)}; train them: `ccluster train {opened.place}`")
        elif not failed:
            print(following)
    if failed or waiting:
        raise typer.Exit(1)


@app.command()
def report(
    run: RunPlace,
    transcripts: Annotated[bool, typer.Option(help="Bundle the Inspect logs with their viewer beside the page.")] = True,
    as_json: AsJson = False,
) -> None:
    """Build the page of a run from its tables.

    Needs the tables that `ccluster analyse` writes; asks and estimates nothing.
    """
    from consciousness_cluster.cli.display import transcripts_line
    from consciousness_cluster.engine.stages import report as build
    from consciousness_cluster.report import summary_lines

    page, bundled = build(run, transcripts=transcripts)
    if as_json:
        print(json.dumps({"page": str(page), "transcripts": None if bundled is None else str(bundled)}, indent=1))
        return
    for line in summary_lines(run):
        print(line)
    print(f"report: {page.resolve().as_uri()}")
    print(transcripts_line(run))
