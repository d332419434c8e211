"""The output folder of a study: where everything lies, and who may write in it."""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

from consciousness_cluster.errors import EngineError
from consciousness_cluster.study.study import Arm, Study, core_hash, parse_study, resolved, study_hash

ROOM = 200 << 20  # bytes that must be free before a run starts


@dataclass(frozen=True)
class RunFolder:
    """Paths inside `runs/<study>/`."""

    root: Path

    @property
    def study_file(self) -> Path:
        """The resolved study."""
        return self.root / "study.toml"

    @property
    def logs(self) -> Path:
        """Inspect logs."""
        return self.root / "logs"

    @property
    def tables(self) -> Path:
        """Parquet and CSV tables."""
        return self.root / "tables"

    @property
    def data(self) -> Path:
        """Training rows and the leak audit."""
        return self.root / "data"

    @property
    def manifest(self) -> Path:
        """Written last: its presence means that the run is complete."""
        return self.root / "manifest.json"

    @property
    def ledger(self) -> Path:
        """Jobs, spend, locks, finished arms."""
        return self.root / "ledger.sqlite"

    def arm(self, arm: Arm) -> Path:
        """The folder of one arm."""
        return self.root / "arms" / arm.id

    def rows(self, condition: str, seed: int) -> Path:
        """The training rows of one condition and seed."""
        return self.data / f"{condition}-s{seed}.jsonl"


def open_folder(root: Path, study: Study) -> RunFolder:
    """Make or reopen the output folder of a study.

    Raises:
        EngineError: the folder holds another study, is not a run folder, cannot be written, or the disk is full.
    """
    folder = RunFolder(root)
    if folder.study_file.is_file():
        kept = read_study(folder)
        if core_hash(kept) != core_hash(study):
            raise EngineError(
                "this folder belongs to a study that says something else",
                file=root,
                key="study.toml",
                value=f"{kept.name} {study_hash(kept)}, not {study.name} {study_hash(study)}",
                next_step="give another --out, or move the old folder away",
            )
        _has_room(root)
        if study_hash(kept) != study_hash(study):  # a part was switched on, off or changed
            _write_study(folder, study)
        return folder
    if root.is_file() or (root.is_dir() and any(root.iterdir())):
        raise EngineError("is not an empty folder and holds no study", file=root, next_step="give another --out")
    try:
        root.mkdir(parents=True, exist_ok=True)
        _has_room(root)
        _write_study(folder, study)
    except OSError as problem:
        raise EngineError(f"cannot be written ({problem.strerror})", file=root, next_step="give another --out") from None
    return folder


def _write_study(folder: RunFolder, study: Study) -> None:
    part = folder.root / "study.toml.part"
    part.write_text(resolved(study), encoding="utf-8")
    part.replace(folder.study_file)


def read_study(folder: RunFolder) -> Study:
    """The study of a run folder.

    Raises:
        EngineError: there is no run in this folder.
    """
    try:
        raw = tomllib.loads(folder.study_file.read_text(encoding="utf-8"))
    except OSError:
        raise EngineError(
            "holds no run (no study.toml)", file=folder.root, next_step="give the output folder of `ccluster run`"
        ) from None
    return parse_study(raw, folder.study_file)


def _has_room(root: Path) -> None:
    free = shutil.disk_usage(root).free
    if free < ROOM:
        raise EngineError(
            "too little space is left on the disk",
            file=root,
            value=f"{free >> 20} MB",
            allowed=f"at least {ROOM >> 20} MB free",
        )
