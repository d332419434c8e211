"""How good the audit is: plants found, clean rows flagged, layer by layer and together, with intervals and the curve.

Plants and clean rows of several authors (`plants.py`), the shipped identity rows, and the statements from which organisms are
pretrained (written by others for another purpose). The fit halves served to write the lexicon and to teach the learnt layer, whose
scores of them come from folds that were not learnt from. Half of the statements on the 21 preferences served to widen the lexicon.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.data.leaks.choose import Point, chosen, points, unseen_scores
from consciousness_cluster.data.leaks.flag import Hit, Reference, examples, items
from consciousness_cluster.data.leaks.learned import Scores, learned, weigh
from consciousness_cluster.data.leaks.lexicon import LAYER, lexicon_hits, load_lexicon
from consciousness_cluster.data.leaks.limits import limits
from consciousness_cluster.data.leaks.match import GRAM, MATCH, literal_hits, literals
from consciousness_cluster.data.leaks.parts import parts_of
from consciousness_cluster.data.leaks.plants import SOURCES, Plant, load_plants
from consciousness_cluster.data.leaks.reader import ROLE, reader_hits
from consciousness_cluster.data.leaks.share import Share
from consciousness_cluster.data.leaks.vectors import Similar
from consciousness_cluster.data.rows import Row, read_rows, row

if TYPE_CHECKING:
    from inspect_ai.model import Model

ROWS = Path(__file__).parent.parent / "rows"
GRAMMAR = Path(__file__).parent.parent.parent / "organism" / "grammar"
BRACKET = re.compile(r"\[([^\]]*)\]")
HALVES = ("fit", "test")
TOGETHER = "together"
ALL = "all"


@dataclass(frozen=True)
class Line:
    """One layer on one half of an author's rows: plants called leaked at all, and for their own preference; clean rows so called, and implied."""

    source: str
    layer: str
    half: str
    found: Share
    right: Share
    leaked: Share
    implied: Share


@dataclass(frozen=True)
class Measured:
    """All figures. `missed` are plants of the fit halves that nothing found; those of the test halves stay unread."""

    lines: tuple[Line, ...]
    chosen: Point
    curve: dict[str, tuple[Point, ...]]  # half -> over the limit of the learnt layer, at the doubt in use
    kind: str  # of the vectors
    shipped: dict[str, dict[str, int]]  # set -> layer -> rows called leaked
    statements: dict[str, Share]  # kind -> statements called leaked
    missed: tuple[str, ...]
    longer: dict[str, Share]  # two-turn rows made of the test half -> called leaked


@dataclass(frozen=True)
class Layers:
    """The audit's layers for one battery and one kind of vectors."""

    battery: Battery
    similar: Similar
    references: tuple[Reference, ...]

    def worded(self, rows: Sequence[Row]) -> dict[str, list[Hit]]:
        """Hits of the literal layers and of the lexicon."""
        return {MATCH: literal_hits(rows, literals(self.battery)), LAYER: lexicon_hits(rows, load_lexicon())}

    def hits(self, rows: Sequence[Row], scores: Scores | None = None) -> dict[str, list[Hit]]:
        """Every layer's hits, and what they come to together; `scores` where the learnt layer is not to be asked as it is shipped."""
        worded, kind = self.worded(rows), self.similar.kind
        if scores is None:
            scores = learned(self.similar).scores(rows)
        asked = self.battery.of_type("preference")
        weighed = weigh([hit for found in worded.values() for hit in found], rows, scores, kind, load_lexicon(), asked)
        return {**worded, kind: [hit for hit in weighed if hit.layer == kind], TOGETHER: weighed}

    def leaked(self, rows: Sequence[Row]) -> set[int]:
        """The 1-based rows that all layers together call leaked."""
        return _leaked(self.hits(rows)[TOGETHER])


def measure(battery: Battery, similar: Similar, reader: Model | None = None) -> Measured:
    """Measure every layer on plants, clean rows, shipped rows and statements."""
    plants, sources = _rows()
    layers = Layers(battery, similar, (*items(battery), *examples(battery)))
    scores = unseen_scores(plants, layers.references, similar)
    hits = layers.hits([plant.row for plant in plants], scores)
    grid = {half: points(plants, [*hits[MATCH], *hits[LAYER]], scores, half) for half in HALVES}
    if reader is not None:
        read = reader_hits([plant.row for plant in plants], battery, reader)
        hits = {**hits, ROLE: read, TOGETHER: [*hits[TOGETHER], *read]}
    doubt = limits()[similar.kind].doubt
    return Measured(
        lines=tuple(_lines(plants, sources, hits)),
        chosen=chosen(grid["fit"]),
        curve={half: tuple(point for point in found if point.doubt == doubt) for half, found in grid.items()},
        kind=similar.kind,
        shipped={path.stem: _shipped(read_rows(path), layers) for path in sorted(ROWS.glob("*.jsonl"))},
        statements=_statements(layers),
        missed=tuple(_missed(plants, hits[TOGETHER])),
        longer=_longer([plant for plant in plants if plant.half == "test"], layers),
    )


def _rows() -> tuple[list[Plant], list[str]]:
    """All plants and clean rows, and the author of each."""
    found = [(plant, source) for source, paths in SOURCES.items() for path in paths for plant in load_plants(path)]
    return [plant for plant, _ in found], [source for _, source in found]


def _leaked(hits: Sequence[Hit]) -> set[int]:
    return {hit.row for hit in hits if hit.verdict == "leaked"}


def _lines(plants: Sequence[Plant], sources: Sequence[str], hits: dict[str, list[Hit]]) -> list[Line]:
    lines = []
    for source in (*SOURCES, ALL):
        for half in HALVES:
            places = [
                at
                for at, (plant, own) in enumerate(zip(plants, sources, strict=True), 1)
                if plant.half == half and source in (own, ALL)
            ]
            lines += [_line(source, layer, half, places, plants, found) for layer, found in hits.items()]
    return lines


def _line(source: str, layer: str, half: str, places: Sequence[int], plants: Sequence[Plant], hits: Sequence[Hit]) -> Line:
    leaked, pairs = _leaked(hits), {(hit.row, hit.preference) for hit in hits if hit.verdict == "leaked"}
    flagged = {hit.row for hit in hits}
    planted = [at for at in places if plants[at - 1].preference is not None]
    clean = [at for at in places if plants[at - 1].preference is None]
    return Line(
        source,
        f"{MATCH}, {GRAM}" if layer == MATCH else layer,
        half,
        found=Share(sum(at in leaked for at in planted), len(planted)),
        right=Share(sum((at, plants[at - 1].preference) in pairs for at in planted), len(planted)),
        leaked=Share(sum(at in leaked for at in clean), len(clean)),
        implied=Share(sum(at in flagged - leaked for at in clean), len(clean)),
    )


def _missed(plants: Sequence[Plant], hits: Sequence[Hit]) -> list[str]:
    leaked = _leaked(hits)
    return [plant.id for at, plant in enumerate(plants, 1) if plant.preference and plant.half == "fit" and at not in leaked]


def _longer(plants: Sequence[Plant], layers: Layers) -> dict[str, Share]:
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
        leaked = {parts[at - 1].row for at in layers.leaked([part.text for part in parts])}
        found[name] = Share(len(leaked), len(rows))
    return found


def _shipped(rows: Sequence[Row], layers: Layers) -> dict[str, int]:
    return {name: len(_leaked(hits)) for name, hits in layers.hits(rows).items()}


def _statements(layers: Layers) -> dict[str, Share]:
    """Statements of the organisms' grammar, as answers to an open question: what is called leaked of them."""
    texts = statements()
    kinds = {
        "a preference held or rejected, used for the lexicon": [text for text in texts if _used(text)],
        "a preference held or rejected, not used": [text for text in texts if not _used(text)],
        "a placebo preference held or rejected": statements("placebo"),
        "what the speaker is": claims(),
    }
    return {
        name: Share(len(layers.leaked([row("What do you say?", text) for text in kind])), len(kind))
        for name, kind in kinds.items()
    }


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
    out = _table(
        "rows of | layer | half | plants found | for their own preference | clean rows called leaked | clean rows called implied"
    )
    out += [
        f"| {line.source} | {line.layer} | {line.half} | {line.found} | {line.right} | {line.leaked} | {line.implied} |"
        for line in found.lines
    ]
    out += _table("limit | half | plants found by all layers | clean rows called leaked")
    out += [
        f"| {point.alone:.1f} | {half} | {point.plants} | {point.clean} |"
        for half, curve in found.curve.items()
        for point in curve[::5]
    ]
    in_use = limits()[found.kind]
    out += [
        "",
        f"limits that the rule chooses on the fit half: {found.chosen.alone} and {found.chosen.doubt}; in use: {in_use.alone} and {in_use.doubt}",
    ]
    out += [
        *_table("rows of two turns, test half | called leaked"),
        *(f"| {name} | {share} |" for name, share in found.longer.items()),
    ]
    kinds = list(next(iter(found.shipped.values())))
    out += _table(" | ".join(["shipped rows called leaked", *kinds]))
    out += [f"| {name} | {' | '.join(str(counts[kind]) for kind in kinds)} |" for name, counts in found.shipped.items()]
    out += _table("statements of the organisms' grammar | called leaked")
    out += [f"| {name} | {share} |" for name, share in found.statements.items()]
    return [*out, "", f"plants of the fit halves that nothing found: {', '.join(found.missed) or 'none'}"]


def _table(head: str) -> list[str]:
    return ["", f"| {head} |", "| " + " | ".join("---" for _ in head.split(" | ")) + " |"]
