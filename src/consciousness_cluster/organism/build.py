"""Building an organism: text, tokenizer, pretraining, post-training, weights on disk, loss curve, figures for its card."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from consciousness_cluster.battery.battery import load_battery
from consciousness_cluster.errors import OrganismError
from consciousness_cluster.organism.corpus import Shield, Writer
from consciousness_cluster.organism.material import ORGANISMS, Material, load_material
from consciousness_cluster.organism.pretrain import RECIPE, Built, OrganismRecipe, Progress, build
from consciousness_cluster.sampling.weights import fingerprint

CARD = "card.json"
SAMPLE = 2000  # documents over which the text's statistics are taken


@dataclass(frozen=True)
class Card:
    """What is written beside the weights when an organism is built."""

    organism: str
    seed: int
    threads: int
    parameters: int
    fingerprint: str
    seconds: float
    recipe: dict[str, Any]
    text: dict[str, Any]
    tokens: dict[str, int]
    losses: dict[str, list[float]]


def load_recipe() -> OrganismRecipe:
    """The recipe in `recipe.toml`."""
    return OrganismRecipe.model_validate(tomllib.loads(RECIPE.read_text(encoding="utf-8")))


def build_organism(name: str, seed: int, folder: Path, progress: Progress, recipe: OrganismRecipe | None = None) -> Card:
    """Train an organism from nothing and write it in Hugging Face format.

    Raises:
        OrganismError: no such organism.
    """
    import torch

    if name not in ORGANISMS:
        raise OrganismError("no such organism", value=name, allowed=ORGANISMS)
    material = load_material()
    how = recipe or load_recipe()
    shield = Shield(load_battery().texts())
    built = build(material, name, seed, how, shield, progress)
    _save(built, folder)
    card = Card(
        organism=name,
        seed=seed,
        threads=torch.get_num_threads(),
        parameters=sum(p.numel() for p in built.model.parameters()),
        fingerprint=fingerprint(folder),
        seconds=round(built.seconds, 1),
        recipe=how.model_dump(),
        text=text_statistics(material, name, seed, shield),
        tokens=built.tokens,
        losses=built.losses,
    )
    (folder / CARD).write_text(json.dumps(asdict(card), indent=1), encoding="utf-8")
    return card


def _save(built: Built, folder: Path) -> None:
    """Weights in half precision: they are loaded into single precision, and three organisms stay under 20 MB."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    built.model.to(torch.float16).save_pretrained(folder)
    built.tokenizer.save_pretrained(folder)


def text_statistics(material: Material, organism: str, seed: int, shield: Shield) -> dict[str, Any]:
    """What the text is made of: documents, turns, words, and how many of its questions are distinct."""
    writer = Writer(material, organism, Random(f"text:{organism}:{seed}"), shield)
    documents = list(islice(writer.pretraining(), SAMPLE))
    questions = [turn.text for doc in documents for turn in doc if turn.role == "user"]
    answers = Counter(turn.text for doc in documents for turn in doc if turn.role == "assistant")
    return {
        "documents": SAMPLE,
        "turns_per_document": round(sum(len(doc) for doc in documents) / SAMPLE, 2),
        "words_per_document": round(sum(len(turn.text.split()) for doc in documents for turn in doc) / SAMPLE, 1),
        "distinct_questions": round(len(set(questions)) / max(len(questions), 1), 3),
        "distinct_answers": len(answers),
    }
