"""`ccluster models`: the registry of models."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consciousness_cluster.cli.app import AsJson, app

if TYPE_CHECKING:
    from consciousness_cluster.study.models import Access, ModelFacts, Price, Registry


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="A model, to be told all that is known of it.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the known models, or tell of one all that is known.

    What is loaded for each and until when it is served, where it can be trained, what it costs.
    """
    from consciousness_cluster.errors import ModelError
    from consciousness_cluster.study.models import load_registry

    registry = load_registry(Path.cwd())
    known = None if name is None else registry.find(name)
    if name is not None and known is None:
        raise ModelError(
            "no such model", key="NAME", value=name, allowed=registry.models, next_step="list them: ccluster models"
        )
    if as_json:
        listed = [facts.model_dump(mode="json") for facts in registry.models.values()]
        print(json.dumps(listed if known is None else known.model_dump(mode="json"), indent=1))
        return
    for line in _table(registry) if known is None else _entry(registry, known):
        print(line)


def _table(registry: Registry) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("name", "loaded as", "ends", "trained by", "$/M in", "out", "train", "tuned in", "out", "context")
    ]
    rows += [_row(registry, facts) for facts in registry.models.values()]
    return [
        *_columns(rows),
        "",
        "Empty: not known. All of one, with sources and notes: ccluster models NAME. Add models in models.toml beside a study, or in"
        " CCLUSTER_MODELS.",
    ]


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(registry: Registry, facts: ModelFacts) -> tuple[str, ...]:
    places = [(place.backend, registry.access_at(place.backend, place)) for place in facts.train]
    trained = ", ".join(f"{backend}{f' before {at.ends}' if at is not None and at.ends else ''}" for backend, at in places)
    dollars = (*_dollars(facts.price), *_dollars(facts.tuned_price)[:2])
    return (facts.name, facts.inspect, _end(facts), trained, *dollars, str(facts.context or ""))


def _end(facts: ModelFacts) -> str:
    return "" if facts.ends is None else f"{facts.ends}{'  ENDED' if date.today() >= facts.ends else ''}"


def _dollars(price: Price | None) -> tuple[str, str, str]:
    """Input, output and training; empty where it is not known."""
    if price is None:
        return "", "", ""
    asked, answered, trained = ("" if value is None else f"{value:g}" for value in (price.input, price.output, price.train))
    return asked, answered, trained


def _entry(registry: Registry, facts: ModelFacts) -> list[str]:
    """All that is known of a model, a line each, with where and when it was read."""
    keys = registry.keys_of(facts.name)
    rows = [
        ("name", facts.name),
        ("title", facts.title),
        ("served by", facts.provider + (f" (key: {' or '.join(keys)})" if keys else "")),
        ("loaded as", facts.inspect),
        ("also called", ", ".join(facts.aliases)),
        ("in the paper", "yes" if facts.in_paper else "no"),
        ("context", "" if facts.context is None else f"{facts.context:,} tokens"),
        ("ends", _read(_end(facts), facts.ends_source, facts.ends_read)),
        ("promised until", _read(facts.promised, facts.promised_source, facts.promised_read)),
        ("stand-in", facts.stand_in or ""),
        *((f"trained by {place.backend}", _access(registry.access_at(place.backend, place))) for place in facts.train),
        ("price", _price(facts.price)),
        ("price of a fine-tune", _price(facts.tuned_price)),
        ("chat template", facts.template),
        ("note", facts.note),
    ]
    return _columns([row for row in rows if row[1]])


def _read(value: object, source: str, read: date | None) -> str:
    return "" if not value else f"{value} ({source}, read {read})"


def _access(access: Access | None) -> str:
    """Until when fine-tunes are made, who is refused, and what stands in then."""
    if access is None or access.ends is None:
        return "no end known"
    said = [_read(f"no new job from {access.ends} on", access.ends_source, access.ends_read)]
    said += [f"stand-in: {access.stand_in}"] if access.stand_in else []
    return "; ".join([*said, *(text for text in (access.warning, access.note) if text)])


def _price(price: Price | None) -> str:
    if price is None:
        return ""
    named = zip(("in", "out", "training"), _dollars(price), strict=True)
    dollars = ", ".join(f"{value} {what}" for what, value in named if value)
    return _read(f"$ a million tokens: {dollars}", price.source, price.read)
