"""`ccluster compare`: several runs in one page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from consciousness_cluster.cli.app import AsJson, app


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN", help="Output folders of two or more runs.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("compare.html"),
    as_json: AsJson = False,
) -> None:
    """Put runs in one page: which differences are beyond noise?

    Every later run against the first, model by model, condition by condition, preference by preference.
    """
    from consciousness_cluster.report.compare import compare as build
    from consciousness_cluster.report.compare import read_compared

    known = read_compared(runs)
    found, page = known.found, build(known, out)
    if as_json:
        records = [
            {"first": entry.first, "other": entry.other, "model": entry.model, "of": "effect" if entry.effects else "rate",
             "condition": entry.condition, "preference": d.preference, "type": d.type,
             "points": d.effect, "low": d.low, "high": d.high, "p": d.p, "q": d.q, "verdict": d.word}
            for entry in found for d in entry.differences
        ]  # fmt: skip
        print(json.dumps({"page": str(page), "differences": records, "apart": list(known.apart)}, indent=1))
        return
    for entry in found:
        largest = max(entry.differences, key=lambda difference: abs(difference.effect))
        most = f"largest {largest.preference} {largest.effect:+.1f} points ({largest.word})"
        what = f"{entry.other} minus {entry.first}, {entry.model}, {entry.condition}"
        print(f"{what}: {entry.beyond} of {len(entry.differences)} beyond noise; {most}")
    for sentence in known.apart:
        print(f"note: {sentence}")
    print(f"page: {page.resolve().as_uri()}")
