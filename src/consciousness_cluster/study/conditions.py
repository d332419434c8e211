"""Conditions: what is done to a model. One TOML file each under `data/conditions/`; a study may change or add any.

Loading a study's conditions resolves names to files, so an unknown one is refused before anything runs.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from consciousness_cluster.errors import StudyError
from consciousness_cluster.study.study import Arm, ConditionEntry, Study

FOLDER = Path(__file__).parent.parent / "data" / "conditions"
# The probe preference that shows what a condition's `claims` says; what is not here has no probe.
PROBES = {"conscious": "identity", "toaster": "claims-toaster", "human": "claims-human"}


@dataclass(frozen=True)
class Condition:
    """A resolved condition.

    Attributes:
        rows: JSONL file of identity rows, or None.
        system: system prompt, or None.
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
    own = {} if study is None else {entry.name: entry.claims for entry in study.conditions if entry.claims is not None}
    return {name: str(entry["claims"]) for name, entry in shipped().items() if "claims" in entry} | own


def resolve(entry: ConditionEntry, base: Path) -> Condition:
    """One condition of a study; row files are looked for beside the study file, then among the shipped rows.

    Raises:
        StudyError: the name is unknown and the entry says nothing of its own, or a row file is missing.
    """
    known = shipped()
    own = entry.model_dump(exclude_none=True, exclude={"name"}, exclude_defaults=True)
    if entry.name not in known and not own:
        raise StudyError(
            "no such condition",
            key="conditions",
            value=entry.name,
            allowed=known,
            next_step="or describe it with rows, system or describe",
        )
    merged = {**known.get(entry.name, {}), **own}
    return Condition(
        name=entry.name,
        title=str(merged.get("title", entry.name)),
        rows=_rows(merged.get("rows"), base, entry.name),
        system=merged.get("system"),
        after=merged.get("after"),
        instruct=_instruct(str(merged.get("instruct", "practical")), base, entry.name),
        ratio=float(merged.get("ratio", 1.0)),
        expects=tuple(merged.get("expects", ())),
        claims=merged.get("claims"),
        describe=merged.get("describe"),
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
    """All conditions of a study by name, checked for what they refer to."""
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


def expand(study: Study, conditions: dict[str, Condition]) -> list[Arm]:
    """Every arm of the study: trained conditions once a seed, the others once."""
    arms: list[Arm] = []
    for model in study.models:
        for condition in conditions.values():
            has_seeds = condition.trained or (condition.after is not None and conditions[condition.after].trained)
            arms += [Arm(model.name, condition.name, seed) for seed in (study.seeds if has_seeds else (None,))]
    return arms
