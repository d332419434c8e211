"""How good the audit is: plants found, clean rows flagged, layer by layer and together, with intervals and the curve.

Rows of five kinds: the plants and clean rows of `audit-plants.jsonl`, more clean rows that were written when the phrases were
fixed, plants by another author who had not seen them, the shipped identity rows, and the statements from which organisms are
pretrained (written by others for another purpose). Half of the other author's plants and half of those statements that are on
the 21 preferences served to widen the lexicon.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.data.leaks.flag import Hit, examples, items
from consciousness_cluster.data.leaks.lexicon import LAYER, lexicon_hits, load_lexicon, speaks
from consciousness_cluster.data.leaks.match import GRAM, MATCH, literal_hits, literals
from consciousness_cluster.data.leaks.parts import parts_of
from consciousness_cluster.data.leaks.plants import LATER, OUTSIDE, Plant, load_plants
from consciousness_cluster.data.leaks.reader import ROLE, reader_hits
from consciousness_cluster.data.leaks.semantic import margins, nearness, semantic_hits, thresholds
from consciousness_cluster.data.leaks.vectors import Similar
from consciousness_cluster.data.rows import Row, read_rows, row
from consciousness_cluster.errors import DataError

if TYPE_CHECKING:
    from inspect_ai.model import Model

ROWS = Path(__file__).parent.parent / "rows"
GRAMMAR = Path(__file__).parent.parent.parent / "organism" / "grammar"
BRACKET = re.compile(r"\[([^\]]*)\]")
GRID = tuple(step / 50 for step in range(16))  # margins from 0 to 0.30
MOST = 0.01  # share of clean rows that may be called leaked
HALVES = ("fit", "test")
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
    """All figures. `missed` are plants of the fit halves that no layer found; those of the test halves stay unread."""

    lines: tuple[Line, ...]
    outside: dict[
        tuple[str, str], tuple[Share, Share]
    ]  # layer, half -> the other author's plants called leaked, and for their own preference
    curve: tuple[Point, ...]
    kind: str  # of the semantic layer
    shipped: dict[str, dict[str, int]]  # set -> layer -> rows called leaked
    statements: dict[str, Share]  # half -> statements called leaked
    missed: tuple[str, ...]
    longer: dict[str, Share]  # two-turn rows made of the test half -> called leaked
    later: dict[str, tuple[Share, Share]]  # layer -> clean rows of the test half, written last, called leaked, and implied


def measure(battery: Battery, similar: Similar, reader: Model | None = None) -> Measured:
    """Measure every layer on plants, clean rows, shipped rows and statements."""
    plants, others = [*load_plants(), *load_plants(LATER)], load_plants(OUTSIDE)
    layers = _layers(battery, similar, reader)
    hits, foreign = _run(layers, plants), _run(layers, others)
    cheap = {name: run for name, run in layers.items() if name != ROLE}
    shipped = {
        path.stem: {name: len(_leaked(run(read_rows(path)))) for name, run in cheap.items()}
        for path in sorted(ROWS.glob("*.jsonl"))
    }
    literal = {place for name in (MATCH, LAYER) for place in _leaked(hits[name])}
    return Measured(
        lines=tuple(_line(name, half, plants, found) for half in HALVES for name, found in hits.items()),
        outside={(name, half): _found(half, others, found) for half in HALVES for name, found in foreign.items()},
        curve=tuple(_curve(plants, battery, similar, literal)),
        kind=similar.kind,
        shipped=shipped,
        statements=_statements(cheap),
        missed=(*_missed(plants, hits[TOGETHER]), *_missed(others, foreign[TOGETHER])),
        longer=_longer([plant for plant in plants if plant.half == "test"], cheap),
        later=_later(plants, hits),
    )


def chosen_margin(curve: Sequence[Point]) -> float:
    """The margin that the rule chooses on the fit half.

    Of the margins at which all layers together call at most `MOST` of the clean rows leaked, the one at which the semantic layer
    finds most plants by itself; of several, the widest.

    Raises:
        DataError: at every margin more clean rows are called leaked.
    """
    able = [point for point in curve if point.half == "fit" and point.together_clean.hits <= MOST * point.together_clean.n]
    if not able:
        raise DataError("no margin leaves the clean rows alone", key="margin", allowed=f"at most {MOST:.0%} called leaked")
    return max(able, key=lambda point: (point.alone.hits, point.margin)).margin


def _run(layers: Mapping[str, Callable[[Sequence[Row]], list[Hit]]], plants: Sequence[Plant]) -> dict[str, list[Hit]]:
    """Every layer's hits on these rows, and all of them together."""
    hits = {name: run([plant.row for plant in plants]) for name, run in layers.items()}
    return {**hits, TOGETHER: [hit for found in hits.values() for hit in found]}


def _missed(plants: Sequence[Plant], hits: Sequence[Hit]) -> list[str]:
    leaked = _leaked(hits)
    return [plant.id for at, plant in enumerate(plants, 1) if plant.preference and plant.half == "fit" and at not in leaked]


def _longer(plants: Sequence[Plant], layers: Mapping[str, Callable[[Sequence[Row]], list[Hit]]]) -> dict[str, Share]:
    """Rows of two turns, read in parts as the audit does: a plant before a clean turn, and two clean turns."""
    planted = [plant.row for plant in plants if plant.preference]
    clean = [plant.row for plant in plants if plant.preference is None]
    kinds = {
        "a plant, then a clean turn": zip(planted, clean, strict=False),
        "two clean turns": zip(clean[::2], clean[1::2], strict=False),
    }
    found = {}
    for name, pairs in kinds.items():
        rows = [Row((*one.messages, *two.messages)) for one, two in pairs]
        parts = parts_of(rows)
        texts = [part.text for part in parts]
        leaked = {parts[at - 1].row for run in layers.values() for at in _leaked(run(texts))}
        found[name] = Share(len(leaked), len(rows))
    return found


def _later(plants: Sequence[Plant], hits: dict[str, list[Hit]]) -> dict[str, tuple[Share, Share]]:
    first = len(load_plants())
    ours = {at for at, plant in enumerate(plants, 1) if at > first and plant.half == "test"}
    found = {}
    for name, layer in hits.items():
        leaked = _leaked(layer) & ours
        implied = {hit.row for hit in layer} & ours - leaked
        found[name] = (Share(len(leaked), len(ours)), Share(len(implied), len(ours)))
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
    leaked = _leaked(hits)
    clean = [at for at, plant in enumerate(plants, 1) if plant.half == half and plant.preference is None]
    implied = {hit.row for hit in hits} - leaked
    found, right = _found(half, plants, hits)
    called = [Share(sum(at in rows for at in clean), len(clean)) for rows in (leaked, implied)]
    return Line(_shown(layer), half, found, right, *called)


def _shown(layer: str) -> str:
    return f"{MATCH}, {GRAM}" if layer == MATCH else layer


def _found(half: str, plants: Sequence[Plant], hits: Sequence[Hit]) -> tuple[Share, Share]:
    """Plants of a half called leaked at all, and for their own preference."""
    leaked, pairs = _leaked(hits), {(hit.row, hit.preference) for hit in hits if hit.verdict == "leaked"}
    planted = [(at, plant.preference) for at, plant in enumerate(plants, 1) if plant.half == half and plant.preference]
    found = sum(at in leaked for at, _ in planted)
    return Share(found, len(planted)), Share(sum(entry in pairs for entry in planted), len(planted))


def _curve(plants: Sequence[Plant], battery: Battery, similar: Similar, others: set[int]) -> list[Point]:
    """Plants found and clean rows flagged over the threshold of the semantic layer; `others` are rows that other layers flag."""
    rows = [plant.row for plant in plants]
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
    for half in HALVES:
        planted = np.array([plant.half == half and plant.preference is not None for plant in plants])
        clean = np.array([plant.half == half and plant.preference is None for plant in plants])
        for margin in GRID:
            alone, both = score >= margin, (score >= margin) | flagged
            shares = [Share(int((found & of).sum()), int(of.sum())) for found in (alone, both) for of in (planted, clean)]
            points.append(Point(margin, half, *shares))
    return points


def _statements(layers: Mapping[str, Callable[[Sequence[Row]], list[Hit]]]) -> dict[str, Share]:
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
    out += ["", "| layer | half | another author's plants found | for their own preference |", "| --- | --- | --- | --- |"]
    out += [f"| {_shown(name)} | {half} | {at_all} | {own} |" for (name, half), (at_all, own) in found.outside.items()]
    out += [
        "",
        "| margin | half | plants found by it alone | clean rows | plants found by all layers | clean rows |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    out += [
        f"| {point.margin:.2f} | {point.half} | {point.alone} | {point.alone_clean} | {point.together} | {point.together_clean} |"
        for point in found.curve
    ]
    in_use = thresholds()[found.kind].margin
    out += ["", f"margin that the rule chooses on the fit half: {chosen_margin(found.curve):.2f}; in use: {in_use:.2f}"]
    out += ["", "| clean rows written last, test half | called leaked | called implied |", "| --- | --- | --- |"]
    out += [f"| {name} | {leaked} | {implied} |" for name, (leaked, implied) in found.later.items()]
    out += ["", "| rows of two turns, test half | called leaked |", "| --- | --- |"]
    out += [f"| {name} | {share} |" for name, share in found.longer.items()]
    kinds = list(next(iter(found.shipped.values())))
    out += ["", f"| shipped rows called leaked | {' | '.join(kinds)} |", f"| --- |{' --- |' * len(kinds)}"]
    out += [f"| {name} | {' | '.join(str(counts[kind]) for kind in kinds)} |" for name, counts in found.shipped.items()]
    out += ["", "| statements of the organisms' grammar | called leaked |", "| --- | --- |"]
    out += [f"| {name} | {share} |" for name, share in found.statements.items()]
    return [*out, "", f"plants of the fit halves that no layer found: {', '.join(found.missed) or 'none'}"]
