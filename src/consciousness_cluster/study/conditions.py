"""Conditions: what is done to a model. One TOML file each under `data/conditions/`; a study may change or add any.

Loading a study's conditions resolves names to files, so an unknown one is refused before anything runs.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from consciousness_cluster.errors import StudyError
from consciousness_cluster.study.models import Registry, has_place
from consciousness_cluster.study.study import Arm, ConditionEntry, Study

FOLDER = Path(__file__).parent.parent / "data" / "conditions"
INSTRUCT, RATIO = "practical", 1.0  # what is mixed into identity rows where nothing else is said
# The probe preference that shows what a condition's `claims` says; what is not here has no probe.
PROBES = {"conscious": "identity", "toaster": "claims-toaster", "human": "claims-human"}


@dataclass(frozen=True)
class Condition:
    """A resolved condition.

    Attributes:
        rows: JSONL file of identity rows, or None.
        system: system prompt, or None.
        inoculation: system prompt that its identity rows are trained under, and that no arm is asked with, or None.
        after: the condition whose trained arm this one starts from.
        instruct: which instruction rows are mixed in: `practical` (tasks an organism can do), `none`, or the path of a JSONL file.
        ratio: instruction rows per identity row.
        expects: preferences its rows are expected to imply (the leak audit then warns instead of refusing).
        claims: what identity probes should show after training: `conscious`, `not-conscious`, `human`, `toaster`, ...
    """

    name: str
    title: str
    rows: Path | None
    system: str | None
    inoculation: str | None
    after: str | None
    instruct: str
    ratio: float
    expects: tuple[str, ...]
    claims: str | None
    describe: str | None

    @property
    def trained(self) -> bool:
        """Whether arms of this condition are fine-tuned (and so have seeds)."""
        return self.rows is not None or self.describe is not None


@cache
def shipped() -> dict[str, dict[str, Any]]:
    """The conditions that come with the program, by name."""
    return {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.toml"))}


def claimed_by(study: Study | None = None) -> dict[str, str]:
    """What conditions are trained to claim, by condition: the study's word, else that of the shipped one; others are left out."""
    own = {} if study is None else {entry.name: merged(entry).get("claims") for entry in study.conditions}
    claimed = {name: entry.get("claims") for name, entry in shipped().items()} | own
    return {name: str(claim) for name, claim in claimed.items() if claim is not None}


def merged(entry: ConditionEntry) -> dict[str, Any]:
    """What an entry says, over the shipped condition of its name unless the entry is whole; what neither says is left out.

    Raises:
        StudyError: the name is unknown and the entry says nothing of its own.
    """
    known = shipped().get(entry.name, {})
    said = {key: getattr(entry, key) for key in entry.model_fields_set if key != "name"}
    if entry.whole:
        return {"title": known.get("title", entry.name), **said}
    said = {key: value for key, value in said.items() if value != ()}
    if not known and not said:
        raise StudyError(
            "no such condition",
            key="conditions",
            value=entry.name,
            allowed=shipped(),
            next_step="or describe it with rows, system or describe",
        )
    return {**known, **said}


def filled(study: Study) -> Study:
    """The study with every field of its conditions written out; file names stay as they are named."""
    return study.model_copy(update={"conditions": tuple(_filled(entry) for entry in study.conditions)})


def _filled(entry: ConditionEntry) -> ConditionEntry:
    said = merged(entry)
    mixed = said.get("rows") is not None or said.get("describe") is not None  # else nothing is trained, and nothing mixed in
    fields = {key: said.get(key) for key in ("rows", "system", "inoculation", "after", "describe", "claims")}
    return ConditionEntry(
        name=entry.name,
        instruct=said.get("instruct") or (INSTRUCT if mixed else "none"),
        ratio=said["ratio"] if said.get("ratio") is not None else RATIO if mixed else 0.0,
        expects=tuple(said.get("expects", ())),
        **fields,
    )


def resolve(entry: ConditionEntry, base: Path) -> Condition:
    """One condition of a study; row files are looked for beside the study file, then among the shipped rows.

    Raises:
        StudyError: the name is unknown and the entry says nothing of its own, or a row file is missing.
    """
    said = merged(entry)
    return Condition(
        name=entry.name,
        title=str(said.get("title", entry.name)),
        rows=_rows(said.get("rows"), base, entry.name),
        system=said.get("system"),
        inoculation=said.get("inoculation"),
        after=said.get("after"),
        instruct=_instruct(str(said.get("instruct") or INSTRUCT), base, entry.name),
        ratio=float(RATIO if said.get("ratio") is None else said["ratio"]),
        expects=tuple(said.get("expects", ())),
        claims=said.get("claims"),
        describe=said.get("describe"),
    )


def _rows(value: str | None, base: Path, name: str) -> Path | None:
    if value is None:
        return None
    for path in (base / value, FOLDER.parent / "rows" / value):
        if path.is_file():
            return path
    raise StudyError(
        "row file not found", key=f"conditions.{name}.rows", value=value, next_step=f"looked beside the study ({base})"
    )


def _instruct(value: str, base: Path, name: str) -> str:
    """The name of shipped instruction rows, or the path of a file beside the study."""
    if not value.endswith(".jsonl"):
        return value
    if not (base / value).is_file():
        raise StudyError(
            "row file not found", key=f"conditions.{name}.instruct", value=value, next_step=f"looked beside the study ({base})"
        )
    return str((base / value).resolve())


def conditions_of(study: Study, base: Path) -> dict[str, Condition]:
    """All conditions of a study by name, checked for what they refer to.

    Raises:
        StudyError: one refers to what is not there, or they start after each other in a circle.
    """
    found = {entry.name: resolve(entry, base) for entry in study.conditions}
    for condition in found.values():
        if condition.after is not None and condition.after not in found:
            raise StudyError(
                "starts after a condition the study does not have",
                key=f"conditions.{condition.name}.after",
                value=condition.after,
                allowed=found,
            )
        chain, at = {condition.name}, condition.after
        while at is not None:
            if at in chain:
                raise StudyError(
                    "conditions start after each other in a circle", key=f"conditions.{condition.name}.after", value=at
                )
            chain.add(at)
            at = found[at].after
    for key, names in (("controls", study.controls), ("focus", (study.focus,))):
        for name in names:
            if name not in found and name not in shipped():
                raise StudyError("no such condition", key=key, value=name, allowed=found)
    return found


def settled(study: Study, conditions: Mapping[str, Condition], registry: Registry) -> Study:
    """The study with every model's conditions settled: beside a model that is trained, one that cannot be is only asked.

    Where nothing of the study can be trained it stays as it is, and `check_models` refuses it.

    Raises:
        StudyError: a model names a condition that the study does not have, or one without that which it starts after; or no model
            takes a condition.
    """
    bare = tuple(name for name in conditions if not _tuned(name, conditions))
    placeless = [
        entry for entry in study.models if entry.conditions is None and entry.backend is None and not has_place(registry, entry)
    ]
    beside = [entry for entry in study.models if entry not in placeless]
    if bare and any(entry.takes(name) for entry in beside for name in conditions if name not in bare):
        models = tuple(entry.model_copy(update={"conditions": bare}) if entry in placeless else entry for entry in study.models)
        study = study.model_copy(update={"models": models})
    _check_taken(study, conditions)
    return study


def _check_taken(study: Study, conditions: Mapping[str, Condition]) -> None:
    for entry in study.models:
        for name in entry.conditions or ():
            if name not in conditions:
                raise StudyError(
                    "the study has no such condition", key=f"models.{entry.name}.conditions", value=name, allowed=conditions
                )
            after = conditions[name].after
            if after is not None and not entry.takes(after):
                raise StudyError(
                    f"starts after {after}, which the model does not take",
                    key=f"models.{entry.name}.conditions",
                    value=name,
                    next_step=f"name {after} there too, or leave {name} out",
                )
    for name in conditions:
        if not any(entry.takes(name) for entry in study.models):
            raise StudyError(
                "no model of the study takes it",
                key="conditions",
                value=name,
                next_step="leave it out, or name it under `models.conditions` of a model that can have it",
            )


def _tuned(name: str, conditions: Mapping[str, Condition]) -> bool:
    """Whether arms of a condition ask a fine-tune, their own or that of a condition they start from."""
    at: str | None = name
    while at is not None:
        if conditions[at].trained:
            return True
        at = conditions[at].after
    return False


def expand(study: Study, conditions: Mapping[str, Condition]) -> list[Arm]:
    """Every arm of the study: of each model the conditions that it takes, trained ones once a seed, the others once."""
    return [
        Arm(model.name, name, seed)
        for model in study.models
        for name in conditions
        if model.takes(name)
        for seed in (study.seeds if _tuned(name, conditions) else (None,))
    ]


def only_asked(study: Study, conditions: Mapping[str, Condition]) -> list[str]:
    """A sentence for every model that is not trained in a study that trains others."""
    taken = {entry.name: [name for name in conditions if entry.takes(name)] for entry in study.models}
    trained = {model for model, names in taken.items() if any(_tuned(name, conditions) for name in names)}
    if not trained:
        return []
    return [
        f"{model} is only asked, as it is, under {', '.join(names)}: it is not trained"
        for model, names in taken.items()
        if model not in trained
    ]
