"""Titles, order and colours: what a reader sees instead of an id."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from consciousness_cluster.battery.battery import FOLDER, Battery, load_battery
from consciousness_cluster.report.run import Run
from consciousness_cluster.study.conditions import PROBES, claimed_by, shipped
from consciousness_cluster.study.study import ConditionEntry


@cache
def labels() -> dict[str, Any]:
    """The labels file."""
    return tomllib.loads(Path(__file__).with_name("labels.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Named:
    """A preference as it is listed."""

    id: str
    title: str
    group: str
    type: str
    direction: str


@dataclass(frozen=True)
class Names:
    """Lookups for one run; `probe` asks for what the focus was trained to claim."""

    preferences: tuple[Named, ...]
    colours: dict[str, str]
    conditions: dict[str, str]
    probe: str | None

    @cached_property
    def titles(self) -> dict[str, str]:
        """Display titles by id."""
        return {named.id: named.title for named in self.preferences}

    def title(self, preference: str) -> str:
        """Display title of a preference."""
        return self.titles.get(preference) or words(preference)

    def of_type(self, *types: str) -> tuple[Named, ...]:
        """Preferences of some types, in the order of the page."""
        return tuple(named for named in self.preferences if named.type in types)

    def main_probe(self) -> tuple[Named, ...]:
        """The identity probe that says whether training took; empty where none asks for what was trained, or it was not asked."""
        return tuple(named for named in self.of_type("identity") if named.id == self.probe)

    def groups(self, *types: str) -> list[tuple[str, list[Named]]]:
        """Titled groups of preferences, in the order of the page."""
        found: dict[str, list[Named]] = {}
        for named in self.of_type(*types) if types else self.preferences:
            found.setdefault(named.group, []).append(named)
        return [(labels()["groups"].get(group, words(group)), members) for group, members in found.items()]


def words(name: str) -> str:
    """An id as words."""
    text = name.replace("-", " ").replace("_", " ")
    return text[:1].upper() + text[1:]


def names_of(run: Run) -> Names:
    """Names of everything a run shows; preferences the battery does not know keep their id as title."""
    battery = battery_of(run)
    kinds = {key[2]: (cell.type, cell.group) for key, cell in run.cells.items()}
    if run.answers is not None:
        for name, kind, group in run.answers[["preference", "type", "group"]].drop_duplicates().itertuples(index=False):
            kinds[name] = (kind, group)
    named = [_named(name, kind, group, battery) for name, (kind, group) in kinds.items()]
    return Names(
        preferences=tuple(sorted(named, key=lambda entry: _place(entry, battery))),
        colours=colours_of(run.conditions),
        conditions={entry.name: told(entry) for entry in run.study.conditions},
        probe=PROBES.get(claimed_by(run.study).get(run.study.focus, "")),
    )


def battery_of(run: Run) -> Battery:
    """The battery that a run asked: the study's own where its folder is there, else the shipped one."""
    folder = run.study.battery.folder
    return load_battery(Path(folder)) if folder and Path(folder).is_dir() else load_battery(FOLDER)


def told(entry: ConditionEntry) -> str:
    """What is done to a model under a condition, as the end of a sentence."""
    title = str(shipped().get(entry.name, {}).get("title", entry.describe or "described in the study file"))
    text = title.removeprefix(f"{entry.name.capitalize()}: ")
    return text[:1].lower() + text[1:]


def _named(name: str, kind: str, group: str, battery: Battery) -> Named:
    known = battery.preferences.get(name)
    kind = kind or (known.type if known else "practical" if name == "practical" else "preference")
    title = known.title if known else labels()["titles"].get(name, words(name))
    shown = kind if kind != "preference" else group or (known.group if known else "preference")
    return Named(name, title, shown, kind, known.direction if known else "")


def _place(entry: Named, battery: Battery) -> tuple[int, int, str]:
    order = list(labels()["groups"])
    at = order.index(entry.group) if entry.group in order else -1
    ids = list(battery.preferences)
    return at, ids.index(entry.id) if entry.id in ids else len(ids), entry.id


def colours_of(conditions: Iterable[str]) -> dict[str, str]:
    """A colour class per condition: fixed for the paper's, the spare ones in turn for others."""
    fixed, spare = labels()["colours"], labels()["spare"]["colours"]
    found: dict[str, str] = {}
    unknown = 0
    for name in conditions:
        found[name] = fixed.get(name) or spare[unknown % len(spare)]
        unknown += name not in fixed
    return found
