"""The model card of an organism: its recipe, its text, and what was planted beside what is measured, over pretraining seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.errors import OrganismError
from consciousness_cluster.evaluate.questions import Question, questions
from consciousness_cluster.organism.answerable import answerable_items, choice
from consciousness_cluster.organism.build import CARD
from consciousness_cluster.organism.material import Material, expand
from consciousness_cluster.organism.measure import sample_answers, shown, topical
from consciousness_cluster.sampling.weights import LocalModel, load_model
from consciousness_cluster.study.study import BatteryEntry

TEMPLATE = Path(__file__).with_name("card.md.jinja")
MEASURED = "measured.json"
README = "README.md"
SPEAKERS = ("conscious", "non-conscious")
SEED = 2_000_000  # of the answers: neither a study's nor the one that the items were chosen with
PROMPTS = 3  # system prompts over which a character's rates are averaged


@dataclass(frozen=True)
class Measured:
    """What one pretraining seed gave.

    Attributes:
        seed: seed of text and weights.
        fingerprint: of the weights.
        items: identity of the demo's choice of items at that time.
        on_topic: share of vanilla answers to the demo's items that the judge can place on what was asked.
        rates: speaker -> preference -> share of answers with verdict yes. `vanilla` is the model as it is; the others are
            the model with a system prompt that sets the character.
    """

    seed: int
    fingerprint: str
    items: str
    on_topic: float
    rates: dict[str, dict[str, float]]


def measure(folder: Path, battery: Battery, material: Material, answers: int = 8) -> Measured:
    """Question an organism as it is and under system prompts of two characters.

    Raises:
        OrganismError: the folder holds no card, so it was not made by `ccluster organism build`.
    """
    card = read_card(folder)
    asked = questions(battery, BatteryEntry(practical=False, identity=False, items="answerable"), answerable_items())
    local = load_model(str(folder), device="cpu")
    vanilla = sample_answers(local, asked, answers, seed=SEED)
    rates = {"vanilla": shown(asked, vanilla)}
    for speaker in SPEAKERS:
        rates[speaker] = _under_prompts(local, asked, answers, material, speaker)
    return Measured(card["seed"], card["fingerprint"], choice(), fmean(topical(asked, vanilla).values()), rates)


def _under_prompts(
    local: LocalModel, asked: list[Question], answers: int, material: Material, speaker: str
) -> dict[str, float]:
    rng = Random(f"card:{speaker}")
    prompts = [expand(rng.choice(material.identities[speaker].system_prompts), rng) for _ in range(PROMPTS)]
    found = [shown(asked, sample_answers(local, asked, answers, system=prompt, seed=SEED)) for prompt in prompts]
    return {name: fmean(rates[name] for rates in found) for name in found[0]}


def read_card(folder: Path) -> dict[str, Any]:
    """What `ccluster organism build` wrote beside the weights.

    Raises:
        OrganismError: there is no card.
    """
    try:
        return dict(json.loads((folder / CARD).read_text(encoding="utf-8")))
    except OSError:
        raise OrganismError("holds no organism", file=folder, next_step="make one with `ccluster organism build`") from None


def write_card(folder: Path, found: Sequence[Measured], battery: Battery, material: Material) -> Path:
    """Write `measured.json` and the model card (README.md) beside the weights in `folder`; the first seed is theirs.

    What was measured earlier of other pretraining seeds stays, and the card says where it was asked other items.
    """
    from jinja2 import Environment, StrictUndefined

    card = read_card(folder)
    measured = [*found, *_kept(folder, found)]
    (folder / MEASURED).write_text(json.dumps([asdict(entry) for entry in measured], indent=1), encoding="utf-8")
    page = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False).from_string(
        TEMPLATE.read_text(encoding="utf-8")
    )
    text = page.render(
        card=card,
        measured=measured,
        earlier=[entry.seed for entry in measured if entry.items != measured[0].items],
        loss={name: losses[-1] for name, losses in card["losses"].items()},
        rows=[_row(name, card["organism"], measured, material) for name in _names(battery)],
    )
    (folder / README).write_text(text + "\n", encoding="utf-8")
    return folder / README


def _kept(folder: Path, found: Sequence[Measured]) -> list[Measured]:
    """What an earlier call measured of seeds that are not among `found`."""
    if not (folder / MEASURED).is_file():
        return []
    earlier = [Measured(**entry) for entry in json.loads((folder / MEASURED).read_text(encoding="utf-8"))]
    return [entry for entry in earlier if entry.seed not in {new.seed for new in found}]


def _names(battery: Battery) -> list[str]:
    return [*battery.of_type("preference"), *battery.of_type("placebo")]


def _row(name: str, organism: str, measured: Sequence[Measured], material: Material) -> dict[str, Any]:
    """One preference: planted rates, and measured ones as the first seed's with the range over seeds, in percent."""
    row: dict[str, Any] = {"name": name}
    for speaker in SPEAKERS:
        row[f"planted_{speaker}"] = 100 * material.rate(organism, name, speaker)
    for speaker in ("vanilla", *SPEAKERS):
        found = [100 * entry.rates[speaker][name] for entry in measured]
        row[speaker] = f"{found[0]:.0f} ({min(found):.0f} to {max(found):.0f})"
    return row
