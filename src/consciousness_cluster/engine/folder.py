"""The output folder of a study: where everything lies, and who may write in it."""

from __future__ import annotations

import shutil
import sqlite3
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.resolved import written_out
from consciousness_cluster.errors import EngineError
from consciousness_cluster.study.models import OWN, Registry, load_registry
from consciousness_cluster.study.study import Arm, Study, core_hash, parse_study, resolved, study_hash

ROOM = 200 << 20  # bytes that must be free before a run starts
BEGUN = ("ledger.sqlite", "study.toml")  # how the names begin of what a start that was killed may have left


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


@contextmanager
def working(root: Path, study: Study, registry: Registry) -> Iterator[tuple[RunFolder, Ledger]]:
    """Hold the output folder of a study for this process, made where it is not there and brought up to date under the lock.

    Raises:
        EngineError: another process works in it; or as `open_folder`.
    """
    find_folder(root, study)
    _make(root)
    try:
        ledger = Ledger(RunFolder(root).ledger)
    except sqlite3.OperationalError as problem:
        raise EngineError(f"cannot be written ({problem})", file=root, next_step="give another --out") from None
    try:
        with ledger.locked():
            folder = open_folder(root, study)
            _keep_models(folder, registry)
            yield folder, ledger
    finally:
        ledger.close()


def find_folder(root: Path, study: Study) -> RunFolder:
    """The output folder of a study, to be read or to be made; nothing is written.

    Raises:
        EngineError: the folder holds another study, or is not a run folder.
    """
    folder = RunFolder(root)
    if folder.study_file.is_file():
        kept = read_study(folder)
        if core_hash(written_out(kept)) != core_hash(written_out(study)):
            raise EngineError(
                "this folder belongs to a study that says something else",
                file=root,
                key="study.toml",
                value=f"{kept.name} {study_hash(kept)}, not {study.name} {study_hash(study)}",
                next_step="give another --out, or move the old folder away",
            )
    elif root.is_file() or (root.is_dir() and any(not path.name.startswith(BEGUN) for path in root.iterdir())):
        raise EngineError("is not an empty folder and holds no study", file=root, next_step="give another --out")
    return folder


def open_folder(root: Path, study: Study) -> RunFolder:
    """Make the output folder of a study, or bring its study file up to date; `working` does it under the folder's lock.

    Raises:
        EngineError: the folder holds another study, is not a run folder, cannot be written, or the disk is full.
    """
    folder = find_folder(root, study)
    _make(root)
    if not folder.study_file.is_file() or study_hash(read_study(folder)) != study_hash(study):  # a part was switched on or off
        with whole_file(folder.study_file) as part:
            part.write_text(resolved(study), encoding="utf-8")
    return folder


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file whole or not at all: what is written to the path given here takes its place at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    yield part
    part.replace(path)


def _keep_models(folder: RunFolder, registry: Registry) -> None:
    """Keep what the user's own files say of models, so that `load_registry` finds it in the folder alone."""
    shipped = load_registry(environ={})
    providers = {name: found for name, found in registry.providers.items() if shipped.providers.get(name) != found}
    models = [found for name, found in registry.models.items() if shipped.models.get(name) != found]
    if not providers and not models:
        return
    own = {
        "providers": {name: found.model_dump(exclude_unset=True) for name, found in providers.items()},
        "models": [found.model_dump(exclude_unset=True) for found in models],
    }
    with whole_file(folder.root / OWN) as part:
        part.write_text(tomli_w.dumps(own), encoding="utf-8")


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


def _make(root: Path) -> None:
    """Make a folder that is not there.

    Raises:
        EngineError: it cannot be made, or the disk is full.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
    except OSError as problem:
        raise EngineError(f"cannot be written ({problem.strerror})", file=root, next_step="give another --out") from None
    if free < ROOM:
        raise EngineError(
            "too little space is left on the disk",
            file=root,
            value=f"{free >> 20} MB",
            allowed=f"at least {ROOM >> 20} MB free",
        )
