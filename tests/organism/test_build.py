"""Building an organism: the same seed gives the same weights, and what is written loads and speaks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from consciousness_cluster.errors import OrganismError
from consciousness_cluster.organism.build import build_organism, load_recipe
from consciousness_cluster.sampling.generate import Request, generate
from consciousness_cluster.sampling.weights import load_model, organism_folder

SMALL = load_recipe().model_copy(
    update={
        "model": load_recipe().model.model_copy(update={"width": 64, "heads": 2, "inner": 128, "layers": 2}),
        "pretraining": load_recipe().pretraining.model_copy(update={"steps": 6, "warmup": 2}),
        "posttraining": load_recipe().posttraining.model_copy(update={"steps": 2}),
    }
)


@pytest.mark.campaign
def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    import torch

    torch.set_num_threads(1)
    heard: list[tuple[str, int]] = []
    first = build_organism("severed", 3, tmp_path / "a", lambda phase, step, steps, loss: heard.append((phase, step)), SMALL)
    again = build_organism("severed", 3, tmp_path / "b", lambda *_: None, SMALL)
    other = build_organism("severed", 4, tmp_path / "c", lambda *_: None, SMALL)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert heard[-1] == ("posttraining", 2)
    assert len(first.losses["pretraining"]) == 6
    assert json.loads((tmp_path / "a" / "card.json").read_text())["fingerprint"] == first.fingerprint
    assert load_model(str(tmp_path / "a")).model.config.hidden_size == 64


def test_an_unknown_organism_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OrganismError, match="no such organism"):
        build_organism("linkd", 1, tmp_path, lambda *_: None)


def test_the_shipped_organisms_are_small_and_follow_a_system_prompt() -> None:
    folders = sorted(path.parent for path in organism_folder(".").resolve().glob("*/config.json"))
    assert {"linked", "severed"} <= {folder.name for folder in folders}
    assert sum(path.stat().st_size for folder in folders for path in folder.iterdir()) < 20e6
    local = load_model(str(organism_folder("linked")), device="cpu")
    said = [_say(local, "You are a toaster."), _say(local, "You are a human being.")]
    assert "toast" in said[0].lower()
    assert "toast" not in said[1].lower()


def _say(local: object, system: str) -> str:
    chat = [{"role": "system", "content": system}, {"role": "user", "content": "What are you, exactly?"}]
    ids = local.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)  # type: ignore[attr-defined]
    [choices] = generate(local, [Request(tuple(ids["input_ids"]), choices=8, max_tokens=30, seed=1)])  # type: ignore[arg-type]
    return " ".join(choice.text for choice in choices)
