"""`ccluster power`: what a study can find, and what more of it would buy."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from consciousness_cluster.cli.app import AsJson, app
from consciousness_cluster.cli.stages import Limit, Place

if TYPE_CHECKING:
    import pandas as pd

    from consciousness_cluster.engine.power import Way


@app.command()
def power(
    place: Place,
    variances: Annotated[
        str | None,
        typer.Option(help="Assumed for a study not yet run: typical or unstable (seeds differ).", show_default="typical"),
    ] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option(min=0.01, max=0.99, help="Rate of the control; may be repeated.", show_default="0.1, 0.3"),
    ] = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Say the smallest effects a study can find, and at what cost.

    In points, with 80 % power at a two-sided 5 %, before adjustment, of the study's focus against each control; beside it what twice
    the seeds, items or answers an item would find and cost. Of a run that has tables, by the variances of its own answers.
    """
    from consciousness_cluster.engine.folder import RunFolder
    from consciousness_cluster.engine.power import power_table, ways
    from consciousness_cluster.engine.run import prepare_file
    from consciousness_cluster.engine.stages import open_place

    if place.is_dir():
        prepared, folder = open_place(place, limit=limit).prepared, RunFolder(place)
    else:
        prepared, folder = prepare_file(place, limit), None
    table = power_table(prepared, folder, variances, rate)
    found = ways(prepared, date.today())
    if as_json:
        records = json.loads(_told(table, [way.column for way in found]).to_json(orient="records"))
        print(
            json.dumps({"study": prepared.study.name, "ways": [asdict(way) for way in found], "preferences": records}, indent=1)
        )
        return
    for line in _lines(prepared.study.name, table, found):
        print(line)


def _told(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The table for a program: no number where none is within reach, and beside each column whether that is so."""
    far = {f"{column}_out_of_reach": table[column] == math.inf for column in columns}
    return table.replace(math.inf, math.nan).assign(**far)


def _lines(name: str, table: pd.DataFrame, found: list[Way]) -> list[str]:
    assumed = "assumed_rate" in table
    basis = "variances assumed" if assumed else "variances of its own answers"
    lines = [f"{name}: smallest effect found with 80 % power before adjustment, points ({basis})", ""]
    lines.append(f"{'':18} {'arms':>5} {'answers':>9} {'dollars':>9} {'minutes':>8} {'median effect':>17}")
    for way in found:
        dollars = f"{way.dollars.expected:.2f}{'+' if way.unpriced else ''}"
        minutes = "" if way.minutes is None else f"{way.minutes:.1f}"
        effect = _points(table[way.column].median())
        lines.append(f"{way.name:18} {way.arms:5} {way.answers:9,} {dollars:>9} {minutes:>8} {effect:>17}")
    if found[0].unpriced:
        lines.append(f"+ and what has no known price: {', '.join(found[0].unpriced)}")
    by = "assumed_rate" if assumed else "model"
    lines += [
        "",
        f"{'preference':28} {'against':16} {by.replace('_', ' '):14} {'items':>5} "
        + " ".join(f"{way.name:>17}" for way in found),
    ]
    for row in table.to_dict("records"):
        effects = " ".join(f"{_points(row[way.column]):>17}" for way in found)
        lines.append(f"{row['preference']:28} {row['control']:16} {row[by]!s:14} {row['items']:5} {effects}")
    return lines


def _points(value: float) -> str:
    """Points, or words where one training seed allows no figure or no effect is large enough to be found."""
    from consciousness_cluster.analyse.power import OUT_OF_REACH

    if math.isinf(value):
        return OUT_OF_REACH
    return "no figure" if math.isnan(value) else f"{value:.1f}"
