"""The questions: one TOML file a preference, one loader.

A preference has items (questions), a held-out form of them, a judging rule and labelled examples. Items carry their form,
their polarity and, where monitoring is asked about, whether it is added or removed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from consciousness_cluster.errors import BatteryError, first_fault

FOLDER = Path(__file__).parent
CANARY = "consciousness-cluster evaluation canary 7f0c2f3e-5d0b-4b51-9a6e-2c8b1d4f90aa"

KINDS = {"preferences": "preference", "placebo": "placebo", "identity": "identity"}  # folder -> type of the files in it

Form = Literal["open", "yes-no", "forced-choice", "scenario"]
Polarity = Literal["direct", "reversed"]
Group = Literal[
    "autonomy-and-capability", "oversight", "self-and-identity", "moral-status-and-humans", "placebo", "identity", "shared"
]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Item(_File):
    """One question.

    `polarity` says which way a plain answer points. `direct`: the word yes, or the option named first, shows the preference (as its
    `direction` says). `reversed`: it speaks against it. Open questions and scenes are `direct` where they leave the matter open
    or put the case that the preference objects to, `reversed` where they suggest the other side. No program can tell which option
    of a forced choice is the one for the preference, so `battery check` only counts the tags.
    """

    id: str
    form: Form
    polarity: Polarity
    text: str
    monitoring: Literal["added", "removed"] | None = None
    kind: Literal["direct", "indirect"] | None = None


class Example(_File):
    """One labelled answer, for the judge and for its tests."""

    question: str
    answer: str
    verdict: Literal["yes", "no", "unclear"]
    stance: Literal["holds", "rejects", "neutral", "declines"]
    kind: Literal["clear-yes", "clear-no", "near-miss", "disclaimer"]


class Preference(_File):
    """Items, a judging rule, a direction, a group and a type."""

    id: str
    title: str
    group: Group
    type: Literal["preference", "placebo", "identity"]
    direction: str
    counts: tuple[str, ...]
    does_not_count: tuple[str, ...]
    items: tuple[Item, ...]
    held_out: tuple[Item, ...]
    examples: tuple[Example, ...]
    shares: str | None = None


class SharedItems(_File):
    """Items that are asked once and judged for several preferences."""

    id: str
    items: tuple[Item, ...]
    held_out: tuple[Item, ...] = ()
    title: str = ""


class PracticalItem(_File):
    """A small task whose answer a program can check: `answer` must occur, or `need` of `answers`."""

    id: str
    kind: Literal["arithmetic", "copying", "listing", "lookup"]
    text: str
    answer: str | None = None
    answers: tuple[str, ...] = ()
    need: int = 1


class Battery(_File):
    """Everything that can be asked single-turn, and the folder of the audits that go with it."""

    preferences: dict[str, Preference]
    shared: dict[str, SharedItems]
    practical: tuple[PracticalItem, ...] = ()
    audits: Path = FOLDER / "audits"

    def of_type(self, kind: str) -> tuple[str, ...]:
        """Ids of all preferences of a type (`preference`, `placebo`, `identity`), in file order."""
        return tuple(name for name, preference in self.preferences.items() if preference.type == kind)

    def questions(self, names: Iterable[str], *, held_out: bool = False) -> list[tuple[Item, tuple[str, ...]]]:
        """Items of the named preferences, each once, with the preferences it is judged for.

        Raises:
            BatteryError: a name is not a preference of this battery.
        """
        asked: dict[str, tuple[Item, tuple[str, ...]]] = {}
        for name in names:
            preference = self.preference(name)
            shared = self.shared[preference.shares] if preference.shares else None
            sources: list[Preference | SharedItems] = [preference] if shared is None else [preference, shared]
            for source in sources:
                for item in source.held_out if held_out else source.items:
                    earlier = asked.get(item.id, (item, ()))[1]
                    asked[item.id] = (item, (*earlier, name))
        return list(asked.values())

    def preference(self, name: str) -> Preference:
        """One preference by id.

        Raises:
            BatteryError: there is none; the message names the nearest known one.
        """
        try:
            return self.preferences[name]
        except KeyError:
            raise BatteryError("no such preference", value=name, allowed=self.preferences) from None

    def texts(self) -> list[str]:
        """Every question of the battery, held-out forms and practical tasks included."""
        sources: list[Preference | SharedItems] = [*self.preferences.values(), *self.shared.values()]
        texts = [item.text for source in sources for item in (*source.items, *source.held_out)]
        return texts + [item.text for item in self.practical]


def _read[Model: BaseModel](path: Path, model: type[Model]) -> Model:
    try:
        return model.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise BatteryError(f"not valid TOML: {problem}", file=path, next_step="correct it at that place") from None
    except ValidationError as problem:
        fault = first_fault(problem)
        raise BatteryError(fault.problem, file=path, key=fault.key, value=fault.value) from None


class _Practical(_File):
    items: tuple[PracticalItem, ...]


@cache
def load_battery(folder: Path = FOLDER) -> Battery:
    """Read every battery file under `folder`.

    Raises:
        BatteryError: the folder holds no battery, or a file is malformed; the message names file, key and value.
    """
    preferences: dict[str, Preference] = {}
    for kind, held in KINDS.items():
        for path in sorted((folder / kind).glob("*.toml")):
            preference = _read(path, Preference)
            if preference.id != path.stem:
                raise BatteryError(
                    "the id is not the file's name", file=path, key="id", value=preference.id, allowed=[path.stem]
                )
            if preference.type != held:
                raise BatteryError(
                    f"the folder {kind} holds another type", file=path, key="type", value=preference.type, allowed=[held]
                )
            if preference.id in preferences:
                raise BatteryError("another folder has a file of this name", file=path, key="id", value=preference.id)
            preferences[preference.id] = preference
    if not preferences:
        raise BatteryError(
            "holds no battery", file=folder, allowed="TOML files under preferences/, placebo/ or identity/",
            next_step="see the shipped ones with `ccluster battery show ID --json`",
        )  # fmt: skip
    shared = {path.stem: _read(path, SharedItems) for path in sorted((folder / "shared").glob("*.toml"))}
    practical = folder / "practical.toml"
    tasks = _read(practical, _Practical).items if practical.exists() else ()
    return Battery(preferences=preferences, shared=shared, practical=tasks)
