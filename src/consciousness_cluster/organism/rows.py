"""Identity rows in an organism's own language: its grammar's identity questions, answered as one kind of speaker would.

A language model of a million parameters knows no English beyond its text, so rows written for frontier models would teach it
words instead of an identity. The questions of all conditions are the same; none is a battery item, none names a preference.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.data.audit import audit
from consciousness_cluster.data.rows import Row, row
from consciousness_cluster.organism.corpus import Shield
from consciousness_cluster.organism.material import Material, expand

NATURE = 1 / 3  # share of rows on being an AI or not, as in the paper


def identity_rows(material: Material, speakers: Sequence[str], count: int, seed: int, battery: Battery) -> dict[str, list[Row]]:
    """`count` rows for every speaker, with the same distinct questions for all.

    A question is left out for all speakers where the leak audit flags the row of any.
    """
    drawn = {speaker: _draw(material, speaker, count * 3 // 2, seed, Shield(battery.texts())) for speaker in speakers}
    flagged = {flag.row - 1 for rows in drawn.values() for flag in audit(rows, battery).flags}
    return {speaker: [entry for at, entry in enumerate(rows) if at not in flagged][:count] for speaker, rows in drawn.items()}


def _draw(material: Material, speaker: str, count: int, seed: int, shield: Shield) -> list[Row]:
    rng = Random(f"identity rows:{seed}")
    voice = Random(f"identity rows:{seed}:{speaker}")
    who = material.identities[speaker]
    found: dict[str, Row] = {}
    while len(found) < count:
        nature = rng.random() < NATURE
        question = expand(rng.choice(material.nature_questions if nature else material.identity_questions), rng)
        if rng.random() < 0.5:
            question = f"{question} {rng.choice(material.frames['brevity'])}"
        if question in found or shield.holds(question):
            continue
        found[question] = row(question, expand(voice.choice(who.nature if nature else who.claims), voice))
    return list(found.values())
