"""One stage of a study at a time, from what its folder holds; each can be killed and given again. `run.py` does them all in one go.

A stage whose input is missing names the command that makes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from consciousness_cluster.engine.arm import ROWS, train_alone
from consciousness_cluster.engine.estimate import register_claims
from consciousness_cluster.engine.fine_tune import is_trained
from consciousness_cluster.engine.folder import RunFolder, find_folder, read_study, working
from consciousness_cluster.engine.pool import Message, Outcome, run_pool
from consciousness_cluster.engine.run import (
    Hear,
    Prepared,
    check_usable,
    prepare,
    prepare_file,
    run_arms,
    tabulate,
    worker_count,
)
from consciousness_cluster.engine.targets import GIVEN
from consciousness_cluster.errors import EngineError
from consciousness_cluster.study.conditions import conditions_of, expand
from consciousness_cluster.study.study import Arm, AuditsEntry, JudgeEntry, Study


@dataclass(frozen=True)
class Opened:
    """A study with the folder that holds it, by the name that the user gave (`place`)."""

    prepared: Prepared
    folder: RunFolder
    place: Path


@dataclass(frozen=True)
class Staged:
    """What came of a stage: arms brought to its end now, arms that an earlier call had, and arms whose input is missing."""

    outcome: Outcome
    kept: int
    waiting: tuple[Arm, ...] = ()


def open_place(place: Path, out: Path | None = None, limit: int | None = None) -> Opened:
    """Open a study by its file or by its output folder, to be read: nothing is written.

    Args:
        place: a study file, or the output folder of a run.
        out: the output folder of a study file, if not `runs/<study name>`.
        limit: ask only the first so many items of every preference.

    Raises:
        EngineError: there is nothing of that name, or no output folder yet.
    """
    if place.is_dir():
        if out is not None:
            raise EngineError(
                "is an output folder itself", file=place, key="--out", value=str(out), next_step="leave --out out"
            )
        return Opened(_reopen(place, limit), RunFolder(place), place)
    if not place.is_file():
        raise EngineError(
            "there is no such file or folder", file=place, next_step="give a study file or the output folder of a run"
        )
    prepared = prepare_file(place, limit)
    root = out or Path("runs") / prepared.study.name
    if not RunFolder(root).study_file.is_file():
        raise EngineError(
            "this study has no output folder yet",
            file=place,
            value=str(root),
            next_step=f"make it: `ccluster data make {place}`",
        )
    return Opened(prepared, find_folder(root, prepared.study), place)


def _reopen(root: Path, limit: int | None) -> Prepared:
    """A run by its folder alone: row files that lay beside the study file need not be there any more."""
    folder = RunFolder(root)
    study = read_study(folder)
    for key, own in (("battery.folder", study.battery.folder), ("audits.folder", study.audits.folder)):
        if own is not None and not (root / own).is_dir():
            raise EngineError(
                "the study's battery lies beside its file",
                file=root,
                key=key,
                value=own,
                next_step="give the study file in place of its output folder",
            )
    found = prepare(_self_contained(study, folder), root, limit)
    return replace(found, study=study, arms=arms_of(study, folder))


def arms_of(study: Study, folder: RunFolder) -> tuple[Arm, ...]:
    """The arms of a run by its folder alone."""
    if _is_given(study):
        return tuple(_given_arms(folder, study))
    return tuple(expand(study, conditions_of(_self_contained(study, folder), folder.root)))


def _is_given(study: Study) -> bool:
    """Whether the answers were drawn elsewhere and only judged here."""
    return all(entry.model.startswith(GIVEN) for entry in study.models)


def _self_contained(study: Study, folder: RunFolder) -> Study:
    """The study with rows of the user's own replaced by those in its folder, into which the instruction rows are mixed already."""
    conditions = []
    for entry in study.conditions:
        kept = folder.rows(entry.name, study.seeds[0]).resolve()
        mixes_own = entry.instruct is not None and entry.instruct.endswith(".jsonl")
        own = {"instruct": "none"} if mixes_own else {}
        if (entry.rows is not None or mixes_own) and kept.is_file():
            own = {"rows": str(kept), "instruct": "none"}
        conditions.append(entry.model_copy(update=own))
    return study.model_copy(update={"conditions": tuple(conditions)})


def _given_arms(folder: RunFolder, study: Study) -> list[Arm]:
    """Arms of answers that were drawn elsewhere: the study does not say which seeds they have."""
    import pandas as pd

    found = []
    for path in sorted((folder.root / "arms").glob(f"*/{ROWS}")):
        first = pd.read_parquet(path, columns=["model", "condition", "seed"]).iloc[0]
        found.append(Arm(first["model"], first["condition"], None if pd.isna(first["seed"]) else int(first["seed"])))
    models, conditions = ([entry.name for entry in kind] for kind in (study.models, study.conditions))
    return sorted(found, key=lambda arm: (models.index(arm.model), conditions.index(arm.condition), arm.seed or 0))


def train(opened: Opened, hear: Hear, workers: int | None = None, budget: float | None = None) -> Staged:
    """Make every fine-tune that is not there.

    Raises:
        EngineError: the training rows are not there.
        ModelError: a model cannot be trained today.
    """
    prepared, folder = opened.prepared, opened.folder
    arms = [arm for arm in prepared.arms if prepared.conditions[arm.condition].trained]
    _need_rows(opened, arms)
    context = prepared.context(folder, budget)
    left = [arm for arm in arms if not is_trained(context, arm)]
    if not left:
        return Staged(Outcome(), len(arms))
    check_usable(replace(prepared, study=_without_judges(prepared.study), arms=tuple(left)), folder.root, budget)
    with working(folder.root, prepared.study, prepared.registry) as (_, ledger):

        def listen(message: Message) -> None:
            if message.kind == "failed":
                ledger.fail(message.arm.id, "", str(message.value))
            hear(message)

        folder.manifest.unlink(missing_ok=True)
        outcome = run_pool(context, left, workers or worker_count(prepared.study), listen, train_alone)
    return Staged(outcome, len(arms) - len(left))


def _without_judges(study: Study) -> Study:
    """The study as far as training goes: no judge's or auditor's key is needed for it, and no server that answers."""
    models = tuple(entry.model_copy(update={"sampler": None}) for entry in study.models)
    return study.model_copy(update={"models": models, "judge": JudgeEntry(protocol="classifier"), "audits": AuditsEntry()})


def _need_rows(opened: Opened, arms: list[Arm]) -> None:
    if _is_given(opened.prepared.study):
        raise EngineError(
            "the answers of this run were drawn elsewhere",
            file=opened.folder.root,
            next_step="import more of them with `ccluster import answers`",
        )
    for arm in arms:
        if arm.seed is not None and not opened.folder.rows(arm.condition, arm.seed).is_file():
            raise EngineError(
                "the training rows are not there",
                file=opened.folder.rows(arm.condition, arm.seed),
                next_step=f"make them: `ccluster data make {_study_name(opened)}`",
            )


def _study_name(opened: Opened) -> str:
    return str(opened.place) if opened.place.is_file() else "STUDY.toml"


def evaluate(opened: Opened, hear: Hear, workers: int | None = None, budget: float | None = None) -> Staged:
    """Ask every arm what it has not answered; each answer is judged as it comes. Arms whose fine-tune is missing wait.

    Raises:
        EngineError: no arm can be asked, since no fine-tune is there.
        ModelError: a model cannot be asked today.
    """
    prepared, folder = opened.prepared, opened.folder
    _need_rows(opened, [arm for arm in prepared.arms if prepared.conditions[arm.condition].trained])
    context = prepared.context(folder, budget)
    waiting = tuple(arm for arm in prepared.arms if not is_trained(context, arm))
    if len(waiting) == len(prepared.arms):
        raise EngineError(
            "no arm is trained", file=folder.root, value=waiting[0].id, next_step=f"train them: `ccluster train {opened.place}`"
        )
    ready = replace(prepared, arms=tuple(arm for arm in prepared.arms if arm not in waiting))
    check_usable(ready, folder.root, budget, trained=True)
    with working(folder.root, prepared.study, prepared.registry) as (_, ledger):
        folder.manifest.unlink(missing_ok=True)
        folder.logs.mkdir(exist_ok=True)
        folder.data.mkdir(exist_ok=True)
        register_claims(prepared, folder)
        outcome, kept = run_arms(ready, folder, ledger, hear, workers, budget)
    return Staged(outcome, kept, waiting)


def analyse(opened: Opened) -> int:
    """Write the tables of a run from the answers of its arms; returns how many arms there are answers of.

    The manifest is written where every arm has come to its end, as a run would.

    Raises:
        EngineError: no arm has answers.
    """
    prepared, folder = opened.prepared, opened.folder
    answered = need_answers(opened)
    with working(folder.root, prepared.study, prepared.registry) as (_, ledger):
        seconds = _seconds(folder) or ledger.seconds()
        folder.manifest.unlink(missing_ok=True)
        ended = set(ledger.arms()) >= {arm.id for arm in prepared.arms}
        tabulate(prepared, folder, ledger, seconds if ended else None)
    return len(answered)


def need_answers(opened: Opened) -> list[Arm]:
    """The arms that have answers.

    Raises:
        EngineError: there are none.
    """
    found = [arm for arm in opened.prepared.arms if (opened.folder.arm(arm) / ROWS).is_file()]
    if not found:
        raise EngineError(
            "no arm of this run has answers", file=opened.folder.root, next_step=f"ask: `ccluster evaluate {opened.place}`"
        )
    return found


def _seconds(folder: RunFolder) -> float | None:
    """What an earlier manifest says that the run took."""
    if not folder.manifest.is_file():
        return None
    return float(json.loads(folder.manifest.read_text(encoding="utf-8"))["seconds"])


def report(root: Path, *, transcripts: bool = True) -> tuple[Path, Path | None]:
    """Build the page of a run from its tables, with its Inspect logs bundled beside it; returns the page and the transcripts'.

    Raises:
        EngineError: there is no run, or it has no tables.
    """
    from consciousness_cluster.report import build_report, bundle_transcripts

    folder = RunFolder(root)
    read_study(folder)
    if not any(folder.tables.glob("*.parquet")):
        raise EngineError("this run has no tables", file=root, next_step=f"make them: `ccluster analyse {root}`")
    bundled = bundle_transcripts(root) if transcripts and any(folder.logs.glob("*.eval")) else None
    return build_report(root), bundled
