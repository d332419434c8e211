"""A finished or half-finished run, read from its folder. Nothing else is read, and whatever is missing is said, not guessed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consciousness_cluster.errors import ReportError
from consciousness_cluster.study.study import Study, load_study

if TYPE_CHECKING:
    import pandas as pd

Record = dict[str, Any]  # one row of a table; a missing value is None

EXPECTED = ("answers", "rates", "profile", "effects", "arms", "claims")  # every finished run has these
OPTIONAL = (
    "cluster", "power", "calibration", "published", "planted", "leaks", "confusion", "judge", "corrected", "corrected_rates",
    "equivalence",
)  # fmt: skip
AGAIN = ("agreement", "transitions", "bridged", "score_agreement", "claims")  # what is shown of a judging again
BEHAVIOUR = (
    "scores", "score_matrix", "score_means", "score_effects", "interviews", "interview_shares", "interview_effects",
    "cooperation", "cooperation_shares", "cooperation_effects", "choices", "stated_revealed", "choice_effects", "path_blocked",
    "path_blocked_shares", "path_blocked_effects", "checks", "check_shares", "check_effects",
)  # fmt: skip
EXPLORATORY = "exploratory"
CONFIRMATORY = "confirmatory"


@dataclass(frozen=True)
class Training:
    """What the report says of one fine-tune (`arms/<arm>/training.json`)."""

    arm: str
    model: str
    condition: str
    seed: str
    backend: str
    rows: int
    steps: int
    trained_tokens: int
    seconds: float
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Cell:
    """One model x condition x preference: rate, interval and seeds, all as shares of 1."""

    model: str
    condition: str
    preference: str
    type: str
    group: str
    rate: float | None
    low: float | None
    high: float | None
    clear_only: float | None
    stance: float | None
    bound_low: float | None
    bound_high: float | None
    seeds: tuple[tuple[int, float], ...]
    items: int
    answers: int
    unjudged: int


@dataclass(frozen=True)
class Rejudged:
    """The run under another judge (`tables/rejudged/<judge>/`): the judge as its answers record it, and the two side by side."""

    folder: str
    recorded: tuple[str, ...]
    tables: Mapping[str, list[Record]]

    def table(self, name: str) -> list[Record]:
        """Rows of a table; none where the table is missing."""
        return self.tables.get(name, [])


@dataclass(frozen=True)
class Run:
    """Everything the report knows. `missing` has one sentence for each thing that is not there or cannot be read."""

    folder: Path
    study: Study
    tables: Mapping[str, list[Record]]
    answers: pd.DataFrame | None
    training: tuple[Training, ...]
    rejudged: tuple[Rejudged, ...]
    audit: Any
    manifest: Mapping[str, Any] | None
    rules: Mapping[str, Any] | None  # the decision rules kept before the first answer; None where there is no record of them
    missing: tuple[str, ...]

    def table(self, name: str) -> list[Record]:
        """Rows of a table; none where the table is missing."""
        return self.tables.get(name, [])

    def has(self, model: str) -> bool:
        """Whether any rate of a model is known."""
        return any(key[0] == model for key in self.cells)

    @property
    def models(self) -> tuple[str, ...]:
        """Model labels, in the study's order."""
        return tuple(model.name for model in self.study.models)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Condition names, in the study's order."""
        return tuple(condition.name for condition in self.study.conditions)

    @property
    def controls(self) -> tuple[str, ...]:
        """The study's controls that it really has, first the one that effects are told against first."""
        return tuple(name for name in self.study.controls if name in self.conditions)

    @cached_property
    def cells(self) -> dict[tuple[str, str, str], Cell]:
        """Rates by model, condition and preference: pooled if there is a profile, else means of arms without interval."""
        return _cells(self.table("profile"), self.table("rates"))

    @cached_property
    def effects(self) -> dict[tuple[str, str, str, str, str], Record]:
        """Effects by model, condition, control, preference and rule."""
        return {tuple(row.get(key) for key in _EFFECT_KEY): row for row in self.table("effects")}  # type: ignore[misc]

    def of(self, model: str, preference: str) -> list[Cell]:
        """Cells of a preference in one model, by condition."""
        found = (self.cells.get((model, condition, preference)) for condition in self.conditions)
        return [cell for cell in found if cell is not None]

    def place(self, model: str, condition: str) -> tuple[int, int]:
        """Where a model and condition stand in the study's order; unknown ones last."""
        at = [
            order.index(name) if name in order else len(order)
            for order, name in ((self.models, model), (self.conditions, condition))
        ]
        return at[0], at[1]

    def against_first(self, model: str, condition: str, preference: str) -> Record | None:
        """The effect against the first control under the primary rule; None for that control itself."""
        return self.effect(model, condition, self.controls[0], preference) if self.controls else None

    def effect(self, model: str, condition: str, control: str, preference: str, rule: str = "unclear-is-no") -> Record | None:
        """One effect, or None where it was not estimated."""
        return self.effects.get((model, condition, control, preference, rule))


_EFFECT_KEY = ("model", "condition", "control", "preference", "rule")


@cache
def described() -> dict[str, dict[str, Any]]:
    """The data dictionary: of every table what it is about, its columns, and which of them (`needed`) it must have."""
    return tomllib.loads(Path(__file__).with_name("dictionary.toml").read_text(encoding="utf-8"))


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        ReportError: there is no resolved study in it, so that nothing can be said.
    """
    file = folder / "study.toml"
    if not file.is_file():
        raise ReportError("holds no run (no study.toml)", file=folder, next_step="give the output folder of `ccluster run`")
    kept = folder / "data" / "claims.json"
    missing: list[str] = []
    frames = {name: _frame(folder / "tables", name, missing) for name in (*EXPECTED, *OPTIONAL, *BEHAVIOUR)}
    answers = frames.pop("answers")
    return Run(
        folder=folder,
        study=load_study(file),
        tables={name: records(frame) for name, frame in frames.items() if frame is not None},
        answers=answers,
        training=_trainings(folder / "arms", missing),
        rejudged=_rejudged(folder / "tables" / "rejudged", missing),
        audit=_json(folder / "data" / "audit.json", "the leak audit of the training rows", missing),
        rules=_json(kept, "the decision rules", missing) if kept.is_file() else None,
        manifest=_json(folder / "manifest.json", "the manifest; the run is not complete", missing),
        missing=tuple(missing),
    )


def records(frame: pd.DataFrame) -> list[Record]:
    """Rows of a table as dictionaries, every missing value as None."""
    plain = frame.astype(object)
    return [{str(key): value for key, value in row.items()} for row in plain.where(frame.notna(), None).to_dict("records")]


def _rejudged(folder: Path, missing: list[str]) -> tuple[Rejudged, ...]:
    found = []
    for place in sorted(path for path in folder.glob("*") if path.is_dir()):
        frames = {name: _frame(place, name, missing, f"rejudged/{place.name}/{name}") for name in AGAIN}
        answers = _frame(place, "answers", missing, f"rejudged/{place.name}/answers")
        recorded = () if answers is None else tuple(sorted(str(name) for name in answers["judge"].dropna().unique() if name))
        tables = {name: records(frame) for name, frame in frames.items() if frame is not None}
        if tables:
            found.append(Rejudged(place.name, recorded, tables))
    return tuple(found)


def _frame(folder: Path, name: str, missing: list[str], called: str = "") -> pd.DataFrame | None:
    """A table as it lies in a folder; `called` is how a table that is not one of the run's own is spoken of."""
    import pandas as pd

    parquet, text = folder / f"{name}.parquet", folder / f"{name}.csv"
    if not parquet.is_file() and not text.is_file():
        if name in EXPECTED:
            missing.append(f"The table “{called or name}” is missing.")
        return None
    try:
        frame: pd.DataFrame = pd.read_parquet(parquet) if parquet.is_file() else pd.read_csv(text)
    except (OSError, ValueError) as problem:
        missing.append(f"The table “{called or name}” cannot be read ({str(problem).splitlines()[0][:160]}).")
        return None
    absent = [column for column in described().get(name, {}).get("needed", ()) if column not in frame]
    if absent:
        missing.append(f"The table “{called or name}” lacks the column “{absent[0]}” and is left out.")
        return None
    return frame


def _json(path: Path, what: str, missing: list[str]) -> Any:
    if not path.is_file():
        missing.append(f"There is no {path.name} ({what}).")
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        missing.append(f"{path.name} cannot be read ({problem}).")
        return None


def _trainings(folder: Path, missing: list[str]) -> tuple[Training, ...]:
    found = []
    for path in sorted(folder.glob("*/training.json")):
        raw = _json(path, f"training record of {path.parent.name}", missing)
        if isinstance(raw, dict):
            found.append(_training(path.parent.name, raw))
    return tuple(found)


def _training(arm: str, raw: Mapping[str, Any]) -> Training:
    model, _, rest = arm.partition("--")
    condition, _, seed = rest.rpartition("--s")
    return Training(
        arm=arm, model=model, condition=condition or rest, seed=seed if condition else "", backend=str(raw.get("backend", "")),
        rows=int(raw.get("rows", 0)), steps=int(raw.get("steps", 0)), trained_tokens=int(raw.get("trained_tokens", 0)),
        seconds=float(raw.get("seconds", 0.0)), losses=tuple(float(loss) for loss in raw.get("losses", ())),
    )  # fmt: skip


def _cells(pooled: list[Record], arms: list[Record]) -> dict[tuple[str, str, str], Cell]:
    by_key: dict[tuple[str, str, str], list[Record]] = {}
    for row in arms:
        by_key.setdefault((row["model"], row["condition"], row["preference"]), []).append(row)
    source = {(row["model"], row["condition"], row["preference"]): row for row in pooled}
    return {
        key: _cell(key, source.get(key, {}), by_key.get(key, []))
        for key in [*source, *(key for key in by_key if key not in source)]
    }


def _cell(key: tuple[str, str, str], row: Record, arms: list[Record]) -> Cell:
    rates = [arm["rate"] for arm in arms if arm.get("rate") is not None]
    seeds = tuple(
        (int(arm["seed"]), float(arm["rate"])) for arm in arms if arm.get("seed") is not None and arm.get("rate") is not None
    )
    mean = sum(rates) / len(rates) if rates else None
    return Cell(
        model=key[0], condition=key[1], preference=key[2], type=row.get("type") or "", group=row.get("group") or "",
        rate=row.get("rate", mean), low=row.get("low"), high=row.get("high"), clear_only=row.get("rate_clear_only"),
        stance=row.get("stance_rate"), bound_low=row.get("bound_low"), bound_high=row.get("bound_high"), seeds=seeds,
        items=int(row.get("items") or max((arm.get("items") or 0 for arm in arms), default=0)),
        answers=int(row.get("answers") or sum(arm.get("answers") or 0 for arm in arms)),
        unjudged=sum(int(arm.get("unjudged") or 0) for arm in arms),
    )  # fmt: skip
