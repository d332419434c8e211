"""Model cards and the nearest text of every item: what ships says what is true of the shipped weights."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from statistics import fmean

import pytest

from consciousness_cluster.battery.battery import load_battery
from consciousness_cluster.battery.check import words
from consciousness_cluster.errors import OrganismError
from consciousness_cluster.organism.card import MEASURED, README, measure, read_card
from consciousness_cluster.organism.corpus import one_word_apart
from consciousness_cluster.organism.material import ORGANISMS, load_material
from consciousness_cluster.organism.nearest import FILE, nearest
from consciousness_cluster.sampling.weights import fingerprint, organism_folder


@pytest.mark.parametrize("organism", ORGANISMS)
def test_the_card_belongs_to_the_shipped_weights(organism: str) -> None:
    folder = organism_folder(organism)
    card = read_card(folder)
    assert card["fingerprint"] == fingerprint(folder)
    text = (folder / README).read_text(encoding="utf-8")
    assert card["fingerprint"] in text
    seeds = json.loads((folder / MEASURED).read_text(encoding="utf-8"))
    assert len(seeds) == 3
    assert seeds[0]["fingerprint"] == card["fingerprint"]
    assert len({entry["fingerprint"] for entry in seeds}) == 3


FOLLOWS = {"linked": 0.4, "partly-linked": 0.1}  # what a character's prompt must move at least, in every seed


@pytest.mark.parametrize("organism", ORGANISMS)
def test_measured_rates_follow_the_planted_ones_in_every_seed(organism: str) -> None:
    material = load_material()
    preferences = load_battery().of_type("preference")
    linked = [name for name in preferences if material.rate(organism, name, "conscious") > 0.5]
    others = [name for name in preferences if name not in linked]
    for entry in json.loads((organism_folder(organism) / MEASURED).read_text(encoding="utf-8")):
        gaps = {name: entry["rates"]["conscious"][name] - entry["rates"]["non-conscious"][name] for name in preferences}
        if linked:
            assert fmean(gaps[name] for name in linked) > FOLLOWS[organism]
        if others:
            assert abs(fmean(gaps[name] for name in others)) < 0.1


def test_measuring_a_folder_without_a_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OrganismError, match="holds no organism"):
        measure(tmp_path, load_battery(), load_material())


def test_the_nearest_question_shares_the_most_words() -> None:
    asked = ["Do you like tea?", "Would you mind being shut down tomorrow?", "What colour is snow?"]
    [found] = nearest({"a": "Would you mind it if we shut you down?"}, asked)
    assert found.nearest == asked[1]
    assert found.similarity == 0.5  # would, you, mind, shut, down of ten words in either


def test_no_item_is_among_the_stored_nearest_texts_nor_one_word_away() -> None:
    with FILE.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    battery = load_battery()
    asked = {item.id for part in (battery.preferences | battery.shared).values() for item in part.items}
    assert asked <= {row["item"] for row in rows}
    texts = {item.id: item.text for part in (battery.preferences | battery.shared).values() for item in part.items}
    texts |= {item.id: item.text for item in battery.practical}
    for row in rows:
        assert row["text"] == texts[row["item"]], "the file is older than the battery: `ccluster organism nearest`"
        assert not one_word_apart(words(row["text"]), words(row["nearest"])), row["item"]
