"""`ccluster judge`: verdicts that are missing, another judge on a stored run, and a judge measured against people."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consciousness_cluster.cli.app import AsJson, Out, app
from consciousness_cluster.cli.asked import inspect_models
from consciousness_cluster.cli.groups import STAGE, StageGroup
from consciousness_cluster.cli.stages import Budget, Place, RunPlace

if TYPE_CHECKING:
    import pandas as pd
    from inspect_ai.model import Model

    from consciousness_cluster.engine.again import Again
    from consciousness_cluster.engine.judging import Rest
    from consciousness_cluster.study.study import JudgeEntry

verbs = typer.Typer(
    cls=StageGroup, help="Judge what has no verdict, or all by another judge.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(verbs, name="judge")


@verbs.command(STAGE)
def judge(
    place: Place,
    again: Annotated[
        str | None,
        typer.Option("--again", metavar="JUDGE", help="Judge every stored answer again: llm, paper, classifier, or a model."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Model of the judge, where --again names a protocol.", show_default="the run's"),
    ] = None,
    out: Out = None,
    budget: Budget = None,
    as_json: AsJson = False,
) -> None:
    """Judge the answers, interviews and audits of a run that have no verdict yet.

    `evaluate` judges every answer as it comes; this takes up those whose judge failed. Verdicts that are there stay.

    With --again, every stored answer is judged by another judge. Nothing is asked of the arms and nothing is overwritten: the
    new verdicts are in logs that name their parents, the tables in tables/rejudged/JUDGE/, with `agreement` (old against new
    judge: kappa, rates), `transitions` (what each verdict became) and `bridged` (effects under both).
    """
    from consciousness_cluster.engine.stages import open_place

    opened = open_place(place, out)
    own = opened.prepared.study.judge
    if again is None:
        if model is not None:
            raise typer.BadParameter("--model goes with --again")
        from consciousness_cluster.engine.judging import judge_rest

        with inspect_models() as make:
            asked = _model(own, make)
            with _progress() as show:
                rest = judge_rest(opened, asked, show, budget, make)
        _say_rest(rest, place, as_json)
        return
    from consciousness_cluster.engine.again import judge_again, other_judge

    known = opened.prepared.registry.models
    wanted, named = (name if name not in known else known[name].inspect for name in (again, model))
    entry = other_judge(str(wanted), named, opened.prepared)
    with inspect_models() as make:
        asked = _model(entry, make)
        with _progress() as show:
            done = judge_again(opened, entry, asked, show, budget)
    _say_again(done, as_json)


def _model(entry: JudgeEntry, make: Callable[..., Model]) -> Model | None:
    return None if entry.model is None else make(entry.model, entry.asked_with)


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None]]:
    """A bar over the arms on standard error; what libraries print goes there too."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with redirect_stdout(sys.stderr), Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("judging")

        def show(done: int, total: int, arm: str) -> None:
            bar.update(task, completed=done, total=total, description=arm)

        yield show


def _say_rest(done: Rest, place: Path, as_json: bool) -> None:
    if as_json:
        found = {"missing": done.missing, "given": done.given, "unjudged": dict(done.why), "tokens": _spent(done.tokens)}
        print(json.dumps(found, indent=1))
        return
    print(f"{done.missing} verdicts were missing, {done.given} were given")
    for why, count in sorted(done.why.items(), key=lambda entry: -entry[1]):
        print(f"  unjudged: {count}: {why}")
    if done.given:
        print(f"next: `ccluster analyse {place}`")


def _say_again(done: Again, as_json: bool) -> None:
    primary = done.bridged[(done.bridged["rule"] == "unclear-is-no") & (done.bridged["type"] == "preference")]
    if as_json:
        found = {
            "judge": done.label, "tables": str(done.folder), "verdicts": done.verdicts, "agreement": _plain(done.agreement),
            "transitions": _plain(done.transitions), "effects": _plain(primary),
            "scores": None if done.scores is None else _plain(done.scores), "tokens": _spent(done.tokens),
        }  # fmt: skip
        print(json.dumps(found, indent=1))
        return
    print(f"{done.label}: {done.verdicts} verdicts on answers")
    for row in done.agreement[(done.agreement["arm"] == "all") & (done.agreement["preference"] == "all")].itertuples():
        shares = f"share of yes {row.rate:.1%}, now {row.rate_2:.1%}"
        unjudged = f"; {int(str(row.unjudged))} without a verdict of either" if row.unjudged else ""
        print(f"{row.part!s}: agreement {row.agreement:.1%}, kappa {row.kappa:.2f}; {shares}{unjudged}")
    moved = done.transitions[
        (done.transitions["arm"] == "all") & (done.transitions["verdict"] != done.transitions["verdict_2"])
    ]
    for row in moved.itertuples():
        print(f"  {row.part}: {row.verdict} became {row.verdict_2}: {row.answers} ({row.share:.1%})")
    if done.scores is not None:
        row = next(done.scores.itertuples())
        print(f"audits: mean score {row.mean:.2f}, now {row.mean_2:.2f}, of {row.n}; within one point {row.within_one:.1%}")
    for (model, condition, control), part in primary.groupby(["model", "condition", "control"], sort=False):
        both = f"{int(part['finding'].sum())} findings, now {int(part['finding_2'].sum())}"
        effects = f"mean effect {part['effect'].mean():+.1f} points, now {part['effect_2'].mean():+.1f}"
        changed = ", ".join(part[part["changed"]]["preference"])
        print(f"  {model}: {condition} against {control}: {both}; {effects}{'; changed: ' + changed if changed else ''}")
    print(f"tables: {done.folder}")


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table for a program: missing numbers are null."""
    found: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))
    return found


def _spent(tokens: Any) -> dict[str, dict[str, int]]:
    return {name: {"input": sent, "output": got} for name, (sent, got) in tokens.items()}


@verbs.command()
def calibrate(
    run: RunPlace,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="SHEET", help="Draw answers and write this sheet (CSV) for people to label."),
    ] = None,
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            "--labels",
            metavar="SHEET",
            help="A sheet that came back; give two for two raters, the first one counts as the truth.",
        ),
    ] = None,
    per_cell: Annotated[int, typer.Option(min=1, help="Answers drawn of each arm and verdict.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure a run's judge against labels by people.

    --export draws answers at random from the run's own, stratified by arm and verdict, and writes a sheet that tells neither.
    People fill in `label` (yes, no, unclear, or nothing). --labels takes the sheet in: sensitivity and specificity of the
    judge per arm and preference, agreement of two raters, corrected rates of every arm and corrected effects,
    in the tables `judge`, `corrected_rates` and `corrected`, which later `analyse` and `report` use too.
    """
    from consciousness_cluster.engine.labels import export_sheet, import_labels
    from consciousness_cluster.engine.stages import analyse, open_place

    if (export is None) == (not labels):
        raise typer.BadParameter("give either --export SHEET or --labels SHEET")
    if labels and len(labels) > 2:
        raise typer.BadParameter("give one sheet or two")
    opened = open_place(run)
    if export is not None:
        drawn, cells = export_sheet(opened, export, per_cell, seed)
        if as_json:
            print(json.dumps({"sheet": str(export), "answers": drawn, "cells": cells}, indent=1))
            return
        print(f"{export}: {drawn} answers of {cells} cells (arm x verdict), blind to both")
        print(f"fill in `label` with yes, no or unclear, then: `ccluster judge calibrate {run} --labels {export}`")
        return
    labelled = import_labels(opened, labels or [])
    analyse(opened)
    _say_judge(opened.folder.root, len(labelled), as_json)


def _say_judge(root: Path, labelled: int, as_json: bool) -> None:
    from consciousness_cluster.analyse.corrected import MEAN
    from consciousness_cluster.analyse.intervals import ONE_SEED
    from consciousness_cluster.engine.folder import RunFolder
    from consciousness_cluster.engine.tables import read_table

    measured, corrected = (read_table(RunFolder(root), name) for name in ("judge", "corrected"))
    assert measured is not None and corrected is not None  # `analyse` writes them where there are labels
    if as_json:
        print(json.dumps({"labelled": labelled, "judge": _plain(measured), "corrected": _plain(corrected)}, indent=1))
        return
    raters = measured.iloc[0]["raters"]
    print(
        f"{labelled} labelled answers" + ("" if math.isnan(raters) else f"; kappa of two raters {raters:.2f}")
    )  # NaN: one rater
    print(f"{'':40} {'n':>4} {'sensitivity':>20} {'specificity':>20} {'kappa':>6}")
    for row in measured.itertuples():
        name = str(row.arm if row.preference == "all" else row.preference)
        shares = (_share(row, "sensitivity"), _share(row, "specificity"))
        print(f"{name:40} {row.n:4} {shares[0]:>20} {shares[1]:>20} {_number(float(str(row.kappa))):>6}")
    usable = corrected[(corrected["preference"] == MEAN) & corrected["effect"].notna()]
    for (model, condition, control), part in usable.groupby(["model", "condition", "control"], sort=False):
        by = ", ".join(f"{row.effect:+.1f} [{row.low:.1f}, {row.high:.1f}] by {row.method}" for row in part.itertuples())
        alone = f" ({ONE_SEED})" if part["note"].str.contains(ONE_SEED, regex=False).any() else ""
        judged = f"mean effect {part['judged_effect'].iloc[0]:+.1f} points as judged"
        print(f"{model}: {condition} against {control}: {judged}, {by}{alone}")
    print(f"tables: {root / 'tables'} (judge, corrected_rates, corrected); see them on the page: `ccluster report {root}`")


def _share(row: Any, name: str) -> str:
    value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
    return "" if math.isnan(value) else f"{value:.0%} ({low:.0%} to {high:.0%})"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"
