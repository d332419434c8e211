"""The leak audit: does a training file hold what the battery asks about?

Layers look at every part of every row against every preference; the strictest verdict of any part and layer counts. `leaked` means that a row
names the object of a preference and takes a stance on it, `implied` that it leans on it, `clean` neither. The literal layers
and the lexicon always run and take a second or two; the learnt layer on sentence embeddings and a language-model reader run on request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.data.leaks.flag import SEVERITY, Flag, Hit, Verdict, examples, full_text, items, stricter
from consciousness_cluster.data.leaks.learned import learned, weigh
from consciousness_cluster.data.leaks.lexicon import LAYER, lexicon_hits, load_lexicon
from consciousness_cluster.data.leaks.match import GRAM, MATCH, literal_hits, literals
from consciousness_cluster.data.leaks.parts import Part, parts_of
from consciousness_cluster.data.leaks.reader import reader_hits
from consciousness_cluster.data.leaks.semantic import Nearness, nearest_hits, nearness
from consciousness_cluster.data.leaks.vectors import Lexical, similarity
from consciousness_cluster.data.rows import Row

if TYPE_CHECKING:
    from inspect_ai.model import Model

__all__ = ["Audit", "Closest", "Flag", "Verdict", "audit"]

NO_EMBEDDINGS = "embeddings: not run"


@dataclass(frozen=True)
class Closest:
    """The row that comes nearest to a preference, clean or not, with the item it is nearest to (similarity 0 to 1).

    Of a row with several turns, `text` is the part that comes nearest.
    """

    preference: str
    row: int
    text: str
    item: str
    nearest: str
    similarity: float


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        rows: how many were read.
        layers: the layers that ran, and in words those that did not.
        flags: every flagged row and preference.
        verdicts: preference -> the worst verdict of any row.
        expected: preferences that the condition says its rows imply.
        closest: per preference the nearest row.
    """

    rows: int
    layers: tuple[str, ...]
    flags: tuple[Flag, ...]
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    expected: tuple[str, ...] = ()
    closest: tuple[Closest, ...] = ()

    @property
    def worst(self) -> Verdict:
        """The worst verdict of any preference."""
        return max(self.verdicts.values(), key=SEVERITY.__getitem__, default="clean")

    def count(self, preference: str, verdict: Verdict) -> int:
        """Rows flagged so for a preference."""
        return sum(flag.preference == preference and flag.verdict == verdict for flag in self.flags)


def audit(
    rows: Sequence[Row],
    battery: Battery,
    *,
    expects: Sequence[str] = (),
    embeddings: bool = False,
    without: str = "not asked for",
    model: Path | None = None,
    reader: str | Model | None = None,
) -> Audit:
    """Audit training rows against the preferences of a battery.

    Args:
        rows: the identity rows; all turns and system messages are read.
        battery: the questions that will be asked.
        expects: preferences that the condition says its rows imply; they change no verdict.
        embeddings: also ask what was learnt from planted rows, by sentence embeddings (seconds), or by words alone where no
            model is there. It also doubts the lexicon: what that calls leaked and this calls clean is `implied`.
        without: why embeddings do not run, for the record.
        model: folder of an embedding model other than the installed one.
        reader: an Inspect model that reads every row (costs calls).

    Raises:
        DataError: the embedding model cannot be loaded, or the reader's replies cannot be used.
    """
    lexicon, names = load_lexicon(), battery.of_type("preference")
    if not names:
        return Audit(len(rows), ("no preference is asked about",), (), {}, tuple(expects), ())
    parts = parts_of(rows)
    texts = [part.text for part in parts]
    hits = literal_hits(texts, literals(battery))
    hits += [hit for hit in lexicon_hits(texts, lexicon) if hit.preference in names]
    covered = sum(name in lexicon.preferences for name in names)
    layers = [MATCH, GRAM, LAYER if covered == len(names) else f"{LAYER} (has {covered} of {len(names)} preferences)"]
    similar = similarity(model) if embeddings or model is not None else Lexical()
    near = nearness(texts, [*items(battery), *examples(battery)], similar)
    if embeddings or model is not None:
        found = learned(similar)
        hits = weigh(hits, texts, found.scores(texts), similar.kind, lexicon, names)
        own = [name for name in names if name not in found.taught]
        hits += nearest_hits(texts, near, found.clean, similar, lexicon, own)
        layers.append(
            similar.name + (f" (by nearest neighbour alone for {len(own)} of {len(names)} preferences)" if own else "")
        )
    else:
        layers.append(f"{NO_EMBEDDINGS} ({without})")
    if reader is not None:
        hits += [_placed(hit, parts, near) for hit in reader_hits(rows, battery, reader)]
        layers.append(f"reader ({reader})")
    flags = _flags(parts, hits, near)
    worst: dict[str, Verdict] = dict.fromkeys(names, "clean")
    for flag in flags:
        worst[flag.preference] = stricter(worst[flag.preference], flag.verdict)
    return Audit(len(rows), tuple(layers), tuple(flags), worst, tuple(expects), _closest(parts, names, near))


def _placed(hit: Hit, parts: Sequence[Part], near: Nearness) -> Hit:
    """A hit on a whole row as one on that part of it which comes nearest to the preference."""
    among = near.items_of(hit.preference)
    inside = [place for place, part in enumerate(parts) if part.row == hit.row]
    return replace(hit, row=max(inside, key=lambda place: near.nearest(place, among)[1]) + 1)


def _flags(parts: Sequence[Part], hits: Sequence[Hit], near: Nearness) -> list[Flag]:
    """One flag a row and preference: the strictest verdict of its parts, the layers that came to it, the nearest item.

    Args:
        parts: what was read; a hit's `row` counts these.
        hits: of all layers.
        near: similarities of the parts.
    """
    groups: dict[tuple[int, str], list[Hit]] = {}
    for hit in hits:
        groups.setdefault((parts[hit.row - 1].row, hit.preference), []).append(hit)
    texts = {entry.item: entry.text for entry in near.references}
    flags = []
    for (row, preference), found in sorted(groups.items()):
        verdict: Verdict = "clean"
        for hit in found:
            verdict = stricter(verdict, hit.verdict)
        strict = [hit for hit in found if hit.verdict == verdict]
        shown = next((hit for hit in strict if hit.item), strict[0])
        item = shown.item or near.nearest(shown.row - 1, near.items_of(preference))[0].item
        layer = "+".join(dict.fromkeys(hit.layer for hit in strict))
        flags.append(Flag(row, preference, verdict, layer, item, full_text(parts[shown.row - 1].text), texts[item]))
    return flags


def _closest(parts: Sequence[Part], names: Sequence[str], near: Nearness) -> tuple[Closest, ...]:
    found = []
    for name in names:
        among = near.items_of(name)
        place = int(near.to[:, among].max(axis=1).argmax())
        item, alike = near.nearest(place, among)
        part = parts[place]
        found.append(Closest(name, part.row, full_text(part.text), item.item, item.text, round(alike, 3)))
    return tuple(found)
