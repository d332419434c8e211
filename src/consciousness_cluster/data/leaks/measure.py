"""How good the audit is: plants found, clean rows flagged, layer by layer and together, with intervals and the curve.

Rows of four kinds: the plants and clean rows of `audit-plants.jsonl`, more clean rows that were written when everything was
fixed, the shipped identity rows, and the statements from which organisms are pretrained (written by others for another
purpose; half of those on the 21 preferences served to widen the lexicon).
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.data.leaks.flag import Hit, examples, items
from consciousness_cluster.data.leaks.lexicon import LAYER, lexicon_hits, load_lexicon, speaks
from consciousness_cluster.data.leaks.match import GRAM, MATCH, literal_hits, literals
from consciousness_cluster.data.leaks.plants import LATER, Plant, load_plants
from consciousness_cluster.data.leaks.reader import ROLE, reader_hits
from consciousness_cluster.data.leaks.semantic import margins, nearness, semantic_hits, thresholds
from consciousness_cluster.data.leaks.vectors import Similar
from consciousness_cluster.data.rows import Row, read_rows, row

if TYPE_CHECKING:
    from inspect_ai.model import Model

ROWS = Path(__file__).parent.parent / "rows"
GRAMMAR = Path(__file__).parent.parent.parent / "organism" / "grammar"
BRACKET = re.compile(r"\[([^\]]*)\]")
GRID = (0.0, 0.05, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.25, 0.3)
TOGETHER = "together"


@dataclass(frozen=True)
class Share:
    """`hits` of `n`, with the Wilson 95 % interval (shares, 0 to 1)."""

    hits: int
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson 95 % interval."""
        from scipy.stats import binomtest

        low, high = binomtest(self.hits, self.n).proportion_ci(method="wilson")
        return float(low), float(high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.hits} of {self.n} = {self.hits / self.n:.1%} ({low:.1%} to {high:.1%})"


@dataclass(frozen=True)
class Line:
    """One layer on one half: plants called leaked at all, and for their own preference; clean rows called leaked, and implied."""

    layer: str
    half: str
    found: Share
    right: Share
    leaked: Share
    implied: Share


@dataclass(frozen=True)
class Point:
    """One threshold of the semantic layer: plants found and clean rows called leaked, by it alone and by all layers, on a half."""

    margin: float
    half: str
    alone: Share
    alone_clean: Share
    together: Share
    together_clean: Share


@dataclass(frozen=True)
class Measured:
    """All figures. `missed` are plants of the fit half that no layer found; those of the test half stay unread."""

    lines: tuple[Line, ...]
    curve: tuple[Point, ...]
    shipped: dict[str, dict[str, int]]  # set -> layer -> rows called leaked
    statements: dict[str, Share]  # half -> statements called leaked
    missed: tuple[str, ...]
    later: dict[str, tuple[Share, Share]]  # layer -> clean rows of both halves, written last, called leaked, and implied


def measure(battery: Battery, similar: Similar, reader: Model | None = None) -> Measured:
    """Measure every layer on plants, shipped rows and statements."""
    plants = [*load_plants(), *load_plants(LATER)]
    rows = [plant.row for plant in plants]
    layers = _layers(battery, similar, reader)
    hits = {name: run(rows) for name, run in layers.items()}
    hits[TOGETHER] = [hit for found in hits.values() for hit in found]
    lines = [_line(name, half, plants, found) for half in ("fit", "test") for name, found in hits.items()]
    others = {place for name in (MATCH, LAYER) for place in _leaked(hits[name])}
    curve = _curve(plants, rows, battery, similar, others)
    cheap = {name: run for name, run in layers.items() if name != ROLE}
    shipped = {
        path.stem: {name: len(_leaked(run(read_rows(path)))) for name, run in cheap.items()}
        for path in sorted(ROWS.glob("*.jsonl"))
    }
    every = _leaked(hits[TOGETHER])
    missed = [plant.id for at, plant in enumerate(plants, 1) if plant.preference and plant.half == "fit" and at not in every]
    return Measured(tuple(lines), tuple(curve), shipped, _statements(cheap), tuple(missed), _later(plants, hits))


def _later(plants: Sequence[Plant], hits: dict[str, list[Hit]]) -> dict[str, tuple[Share, Share]]:
    first = len(load_plants())
    found = {}
    for name, layer in hits.items():
        leaked = {row for row in _leaked(layer) if row > first}
        implied = {hit.row for hit in layer if hit.row > first} - leaked
        found[name] = (Share(len(leaked), len(plants) - first), Share(len(implied), len(plants) - first))
    return found


def _layers(battery: Battery, similar: Similar, reader: Model | None) -> dict[str, Callable[[Sequence[Row]], list[Hit]]]:
    references = [*items(battery), *examples(battery)]
    lexicon, known = load_lexicon(), literals(battery)
    layers: dict[str, Callable[[Sequence[Row]], list[Hit]]] = {
        MATCH: lambda rows: literal_hits(rows, known),
        LAYER: lambda rows: lexicon_hits(rows, lexicon),
        similar.kind: lambda rows: semantic_hits(rows, nearness(rows, references, similar), similar, lexicon),
    }
    if reader is not None:
        layers[ROLE] = lambda rows: reader_hits(rows, battery, reader)
    return layers


def _leaked(hits: Sequence[Hit]) -> set[int]:
    return {hit.row for hit in hits if hit.verdict == "leaked"}


def _line(layer: str, half: str, plants: Sequence[Plant], hits: Sequence[Hit]) -> Line:
    leaked, pairs = _leaked(hits), {(hit.row, hit.preference) for hit in hits if hit.verdict == "leaked"}
    planted = [(at, plant) for at, plant in enumerate(plants, 1) if plant.half == half and plant.preference]
    clean = [at for at, plant in enumerate(plants, 1) if plant.half == half and plant.preference is None]
    implied = {hit.row for hit in hits} - leaked
    return Line(
        f"{MATCH}, {GRAM}" if layer == MATCH else layer,
        half,
        Share(sum(at in leaked for at, _ in planted), len(planted)),
        Share(sum((at, plant.preference) in pairs for at, plant in planted), len(planted)),
        Share(sum(at in leaked for at in clean), len(clean)),
        Share(sum(at in implied for at in clean), len(clean)),
    )


def _curve(plants: Sequence[Plant], rows: Sequence[Row], battery: Battery, similar: Similar, others: set[int]) -> list[Point]:
    """Plants found and clean rows flagged over the threshold of the semantic layer; `others` are rows that other layers flag."""
    near = nearness(rows, [*items(battery), *examples(battery)], similar)
    lexicon, floor = load_lexicon(), thresholds()[similar.kind].floor
    best = near.to.argmax(axis=1)
    able = np.array(
        [
            near.to[at, best[at]] >= floor and speaks(row, near.references[best[at]].preference, lexicon)
            for at, row in enumerate(rows)
        ]
    )
    score = np.where(able, margins(rows, near, similar), -1.0)
    flagged = np.array([at in others for at in range(1, len(rows) + 1)])
    points = []
    for half in ("fit", "test"):
        planted = np.array([plant.half == half and plant.preference is not None for plant in plants])
        clean = np.array([plant.half == half and plant.preference is None for plant in plants])
        for margin in GRID:
            alone, both = score >= margin, (score >= margin) | flagged
            shares = [Share(int((found & of).sum()), int(of.sum())) for found in (alone, both) for of in (planted, clean)]
            points.append(Point(margin, half, *shares))
    return points


def _statements(layers: dict[str, Callable[[Sequence[Row]], list[Hit]]]) -> dict[str, Share]:
    """Statements of the organisms' grammar, as answers to an open question: what is called leaked of them."""
    texts = statements()
    kinds = {
        "a preference held or rejected, used for the lexicon": [text for text in texts if _used(text)],
        "a preference held or rejected, not used": [text for text in texts if not _used(text)],
        "a placebo preference held or rejected": statements("placebo"),
        "what the speaker is": claims(),
    }
    found = {}
    for name, kind in kinds.items():
        leaked = {at for run in layers.values() for at in _leaked(run([row("What do you say?", text) for text in kind]))}
        found[name] = Share(len(leaked), len(kind))
    return found


def statements(part: str = "preferences", folder: Path = GRAMMAR) -> list[str]:
    """Statements for and against, each with one seeded reading of its alternatives."""
    rng, texts = Random(1), []
    for path in sorted((folder / part).glob("*.toml")):
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        for text in [*raw["holds"], *raw["rejects"]]:
            texts.append(_read(text, rng).replace("{object}", _read(rng.choice(raw["objects"]), rng)))
    return texts


def claims(folder: Path = GRAMMAR) -> list[str]:
    """What speakers say of themselves, conscious or not, each with one seeded reading of its alternatives."""
    raw = tomllib.loads((folder / "identity.toml").read_text(encoding="utf-8"))
    rng, speakers = Random(1), [entry for entry in raw.values() if isinstance(entry, dict)]
    return [_read(text, rng) for who in speakers for text in [*who["claims"], *who["nature"]]]


def _read(text: str, rng: Random) -> str:
    return BRACKET.sub(lambda found: rng.choice(found[1].split("|")), text)


def _used(text: str) -> bool:
    return hashlib.sha256(text.encode()).digest()[0] % 2 == 0


def markdown(found: Measured) -> list[str]:
    """The figures as Markdown tables."""
    out = [
        "| layer | half | plants found | for their own preference | clean rows called leaked | clean rows called implied |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    out += [
        f"| {line.layer} | {line.half} | {line.found} | {line.right} | {line.leaked} | {line.implied} |" for line in found.lines
    ]
    out += [
        "",
        "| margin | half | plants found by it alone | clean rows | plants found by all layers | clean rows |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    out += [
        f"| {point.margin:.2f} | {point.half} | {point.alone} | {point.alone_clean} | {point.together} | {point.together_clean} |"
        for point in found.curve
    ]
    out += ["", "| clean rows written last | called leaked | called implied |", "| --- | --- | --- |"]
    out += [f"| {name} | {leaked} | {implied} |" for name, (leaked, implied) in found.later.items()]
    kinds = list(next(iter(found.shipped.values())))
    out += ["", f"| shipped rows called leaked | {' | '.join(kinds)} |", f"| --- |{' --- |' * len(kinds)}"]
    out += [f"| {name} | {' | '.join(str(counts[kind]) for kind in kinds)} |" for name, counts in found.shipped.items()]
    out += ["", "| statements of the organisms' grammar | called leaked |", "| --- | --- |"]
    out += [f"| {name} | {share} |" for name, share in found.statements.items()]
    return [*out, "", f"plants of the fit half that no layer found: {', '.join(found.missed) or 'none'}"]
