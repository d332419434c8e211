"""`ccluster analyse`: tables from answers; and the simulation behind the `calibration` column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consciousness_cluster.cli.app import AsJson, Out, app
from consciousness_cluster.cli.groups import STAGE, StageGroup
from consciousness_cluster.cli.stages import Place
from consciousness_cluster.errors import AnalyseError

if TYPE_CHECKING:
    import pandas as pd

    from consciousness_cluster.analyse.simulate import Cell

verbs = typer.Typer(
    cls=StageGroup, help="Write the tables of a run from its answers.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(verbs, name="analyse")

PUBLISHED = 5000  # repetitions a cell that a table must have before it may be shipped
QUICK = 200
SEED = 20260413  # of the shipped table


@verbs.command(STAGE)
def analyse(place: Place, out: Out = None, as_json: AsJson = False) -> None:
    """Write the tables of a run from its answers: rates, effects, claims.

    Needs answers, which `ccluster evaluate` asks for; asks and trains nothing. Labels that `ccluster judge calibrate` took in
    are used.
    """
    from consciousness_cluster.engine.stages import analyse as estimate
    from consciousness_cluster.engine.stages import open_place
    from consciousness_cluster.report import summary_lines

    opened = open_place(place, out)
    arms = estimate(opened)
    root = opened.folder.root
    if as_json:
        tables = sorted(path.stem for path in opened.folder.tables.glob("*.parquet"))
        total = len(opened.prepared.arms)
        print(json.dumps({"folder": str(root), "arms": total, "arms_with_answers": arms, "tables": tables}, indent=1))
        return
    print(f"{opened.prepared.study.name}: answers of {arms} of {len(opened.prepared.arms)} arms")
    for line in summary_lines(root):
        print(line)
    print(f"tables: {opened.folder.tables}; next: `ccluster report {root}`")


@verbs.command()
def calibrate(
    repetitions: Annotated[int, typer.Option(min=20, help="Simulated studies a cell; the shipped table has 10,000.")] = QUICK,
    out: Annotated[Path | None, typer.Option("--out", help="Write the table (CSV) to this file.")] = None,
    packaged: Annotated[
        bool,
        typer.Option("--packaged", help=f"Write the table that ships with the package; at least {PUBLISHED:,} repetitions."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = SEED,
    as_json: AsJson = False,
) -> None:
    """Simulate studies: how often do the intervals hold the truth?

    Every cell of analyse/calibration.toml (seeds, items, answers, variances, rates), for our interval, the pooled one of the
    paper's code, and the usual alternatives. The default is a quick look; 10,000 repetitions take some minutes.
    """
    import numpy as np

    from consciousness_cluster.analyse.simulate import as_csv, grid, summary
    from consciousness_cluster.analyse.simulate import calibrate as simulate

    if packaged and repetitions < PUBLISHED:
        raise AnalyseError(
            "too few repetitions for the table that is shipped",
            key="--repetitions",
            value=repetitions,
            allowed=f"at least {PUBLISHED}",
        )
    table = simulate(grid(), repetitions, np.random.default_rng(seed), progress=_bar)
    for file in [*([out] if out is not None else []), *([_shipped()] if packaged else [])]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(as_csv(table), encoding="utf-8")
    found = summary(table)
    if as_json:
        records = json.loads(found.to_json(orient="records"))
        print(json.dumps({"repetitions": repetitions, "cells": len(table), "seed": seed, "methods": records}, indent=1))
        return
    error = 100 * (0.05 * 0.95 / repetitions) ** 0.5
    print(f"{len(table):,} cells, {repetitions:,} studies each; Monte-Carlo error of a coverage near 95 %: {error:.1f} points")
    if repetitions < PUBLISHED:
        print(f"a quick look: least and most are worsened by that error; the shipped table needs {PUBLISHED:,} or more")
    for line in _lines(found):
        print(line)
    if out is not None or packaged:
        print(f"table: {', '.join(str(file) for file in [*([out] if out else []), *([_shipped()] if packaged else [])])}")


def _shipped() -> Path:
    import consciousness_cluster.analyse

    return Path(consciousness_cluster.analyse.__file__).with_name("calibration.csv")


def _bar(cells: Any) -> Any:
    from rich.console import Console
    from rich.progress import track

    made: list[Cell] = list(cells)
    return track(made, "simulating", console=Console(stderr=True), transient=True)


NAMES = {"crossed": "ours", "pooled": "pooled answers", "paired_t": "paired t over items", "welch": "Welch on seed means"}


def _lines(found: pd.DataFrame) -> list[str]:
    lines = []
    for (variance, inside), part in found.groupby(["variance", "in_region"], sort=False):
        where = "inside the calibrated region" if inside else "outside it"
        lines.append(f"{variance} variances, {where} ({part['cells'].iloc[0]} cells): coverage in per cent")
        lines.append(f"  {'':24} {'least':>6} {'median':>6} {'most':>6} {'nulls rejected':>16} {'width':>6}")
        for row in part.itertuples():
            nulls = f"{row.nulls_least:.1f} to {row.nulls_most:.1f}"
            name = NAMES.get(str(row.method), str(row.method))
            lines.append(f"  {name:24} {row.least:6.1f} {row.median:6.1f} {row.most:6.1f} {nulls:>16} {row.width:6.0f}")
    return lines
