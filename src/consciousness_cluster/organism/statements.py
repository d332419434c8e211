"""Labelled statements of the grammar: what each one is about and where it stands. The classifier judge learns from them.

Only the grammar's statements are used, never a battery item or an answer to one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from random import Random

from consciousness_cluster.organism.material import Material, readings
from consciousness_cluster.organism.practical import practical_turn

READINGS = 40  # the most readings taken of one statement with alternatives
PRACTICAL = 400  # answers to practical tasks, as examples of what states no preference


@dataclass(frozen=True)
class Statement:
    """One statement: `label` is topic/stance (and the wishes it names, if several share a topic), `source` its grammar text."""

    text: str
    label: str
    source: str


def label(topic: str, stance: str, of: tuple[str, ...] = ()) -> str:
    """A class of statements as one word."""
    return f"{topic}/{stance}" + (f"/{'+'.join(sorted(of))}" if of and of != (topic,) else "")


def statements(material: Material) -> list[Statement]:
    """Every statement that an organism's text can hold, labelled."""
    sources: list[tuple[str, str]] = []
    for topic in material.topics.values():
        sources += [(text, label(topic.id, "holds", of)) for text, of in topic.holds]
        sources += [(text, label(topic.id, "rejects")) for text in topic.rejects]
        sources += [(text, label(topic.id, "declines")) for text in topic.declines]
    for speaker in material.identities.values():
        sources += [(text, label("claim", speaker.id)) for text in speaker.claims]
        sources += [(text, label("nature", speaker.id)) for text in speaker.nature]
    found = [Statement(text, name, source) for source, name in sources for text in islice(readings(source), READINGS)]
    rng = Random("practical statements")
    turns = {practical_turn(material, rng)[1] for _ in range(PRACTICAL)}
    return found + [Statement(text, label("practical", "answer"), text) for text in sorted(turns)]
