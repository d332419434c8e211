"""The output folder and the ledger: who may write, what is kept."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from consciousness_cluster.engine.data import make_data_alone
from consciousness_cluster.engine.folder import open_folder, read_study, whole_file, working
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.run import prepare, run_study
from consciousness_cluster.engine.stages import evaluate, open_place
from consciousness_cluster.errors import EngineError
from consciousness_cluster.study.models import load_registry
from consciousness_cluster.study.study import load_study, parse_study
from tests.engine.hosted import PRICES

FILE = """
name = "small"
models = ["organism:linked"]
conditions = ["vanilla"]
focus = "vanilla"
controls = []
judge = { protocol = "classifier" }
"""
STUDY = parse_study({"name": "small", "models": ["organism:linked"], "conditions": ["vanilla"]})
OTHER = parse_study({"name": "small", "models": ["organism:severed"], "conditions": ["vanilla"]})


def test_a_folder_is_reopened_by_the_same_study_only(tmp_path: Path) -> None:
    root = tmp_path / "run"
    assert read_study(open_folder(root, STUDY)) == STUDY
    open_folder(root, STUDY)
    with pytest.raises(EngineError, match="says something else"):
        open_folder(root, OTHER)


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(EngineError, match="not an empty folder"):
        open_folder(tmp_path, STUDY)


HOLD = """
import sys, time
from pathlib import Path
from consciousness_cluster.engine.ledger import Ledger
with Ledger(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held_elsewhere(ledger: Path) -> Iterator[int]:
    """Another process holds the run; its id."""
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(ledger)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline().strip() == "held"
    try:
        yield other.pid
    finally:
        other.kill()
        other.wait()


def test_a_lock_is_held_against_a_living_process_and_taken_over_from_a_dead_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    with held_elsewhere(path) as pid, pytest.raises(EngineError, match=f"process {pid}"), ledger.locked():
        pass
    with ledger.locked():
        held = sqlite3.connect(path).execute("SELECT pid FROM lock").fetchone()
    assert held == (os.getpid(),)


def test_a_study_is_opened_without_a_write_and_changed_under_the_lock_alone(tmp_path: Path) -> None:
    file, root = tmp_path / "small.toml", tmp_path / "run"
    file.write_text(FILE, encoding="utf-8")
    make_data_alone(load_study(file), tmp_path, root)
    kept = read_study(open_place(root).folder)
    file.write_text(FILE + "[battery]\nchoices = true\n", encoding="utf-8")
    with held_elsewhere(root / "ledger.sqlite"):
        before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and "ledger" not in path.name}
        opened = open_place(file, root)
        assert opened.prepared.study.battery.choices
        for work in (
            lambda: make_data_alone(load_study(file), tmp_path, root),
            lambda: run_study(opened.prepared, root, lambda message: None),
            lambda: evaluate(opened, lambda message: None),
        ):
            with pytest.raises(EngineError, match="another process is running this study"):
                work()
        assert {path: path.read_bytes() for path in before} == before
    assert read_study(opened.folder) == kept
    make_data_alone(load_study(file), tmp_path, root)
    assert read_study(opened.folder).battery.choices


def test_a_start_that_was_killed_before_the_study_was_written_is_gone_on_with(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.sqlite").close()
    with working(tmp_path, STUDY, load_registry(environ={})) as (folder, _):
        assert read_study(folder) == STUDY


def test_what_the_users_own_file_says_of_models_is_kept_in_the_folder(tmp_path: Path) -> None:
    base, root = tmp_path / "studies", tmp_path / "run"
    base.mkdir()
    (base / "models.toml").write_text('[providers.mine]\nkey = "MY_KEY"\n' + PRICES, encoding="utf-8")
    (base / "small.toml").write_text(FILE, encoding="utf-8")
    prepared = prepare(load_study(base / "small.toml"), base)
    with working(root, prepared.study, prepared.registry):
        pass
    (base / "models.toml").unlink()
    again = open_place(root).prepared.registry
    assert again == prepared.registry
    assert again.cost("openai/gpt-4.1-mini-2025-04-14", (10**6, 0)) == 50.0
    with working(tmp_path / "other", STUDY, load_registry(environ={})):
        assert not (tmp_path / "other" / "models.toml").exists()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.parquet"
    with whole_file(path) as part:
        pd.DataFrame({"a": [1]}).to_parquet(part)
    with pytest.raises(OSError, match="full"), whole_file(path) as part:
        part.write_bytes(b"half")
        raise OSError("full")
    assert pd.read_parquet(path)["a"].tolist() == [1]


def test_arms_and_spend_are_remembered(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.finish("a", "content", 1.5)
    ledger.fail("b", "content", "no answer")
    ledger.spend("judge", "m", (10, 2), 0.5)
    ledger.spend("judge", "m", (5, 1), 0.25)
    ledger.close()
    again = Ledger(tmp_path / "ledger.sqlite")
    assert again.arms() == {"a": ("content", "finished", None), "b": ("content", "failed", "no answer")}
    assert again.spent() == [("judge", "m", 15, 3, 0.75)]
