"""`ccluster models`: the registry of models."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from consciousness_cluster.cli.app import AsJson, app

if TYPE_CHECKING:
    from consciousness_cluster.study.models import ModelFacts, Price


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the known models, with ends of service and prices.

    Who serves them and until when, where they can be trained, what they cost.
    """
    from consciousness_cluster.study.models import load_registry

    registry = load_registry(Path.cwd())
    if as_json:
        print(json.dumps([facts.model_dump(mode="json") for facts in registry.models.values()], indent=1))
        return
    rows: list[tuple[str, ...]] = [
        ("name", "service", "ends", "trained by", "$/M in", "out", "train", "tuned in", "out", "context")
    ]
    rows += [_row(facts) for facts in registry.models.values()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("\nEmpty: not known. Sources and notes: --json. Add models in models.toml beside a study, or in CCLUSTER_MODELS.")


def _row(facts: ModelFacts) -> tuple[str, ...]:
    ends = "" if facts.ends is None else f"{facts.ends}{'  ENDED' if date.today() >= facts.ends else ''}"
    trained = ", ".join(f"{place.backend}{f' to {place.ends}' if place.ends else ''}" for place in facts.train)
    dollars = (*_dollars(facts.price), *_dollars(facts.tuned_price)[:2])
    return (facts.name, facts.provider, ends, trained, *dollars, str(facts.context or ""))


def _dollars(price: Price | None) -> tuple[str, str, str]:
    """Input, output and training; empty where it is not known."""
    if price is None:
        return "", "", ""
    asked, answered, trained = ("" if value is None else f"{value:g}" for value in (price.input, price.output, price.train))
    return asked, answered, trained
