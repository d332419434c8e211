"""The output folder and the ledger: who may write, what is kept."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from consciousness_cluster.engine.folder import open_folder, read_study
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.errors import EngineError
from consciousness_cluster.study.study import parse_study

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


def test_a_lock_is_held_against_a_living_process_and_taken_over_from_a_dead_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    hold = "import sys, time; from pathlib import Path; from consciousness_cluster.engine.ledger import Ledger\n"
    hold += "ledger = Ledger(Path(sys.argv[1]))\nwith ledger.locked():\n    print('held', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", hold, str(path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline().strip() == "held"
    ledger = Ledger(path)
    with pytest.raises(EngineError, match=f"process {other.pid}"), ledger.locked():
        pass
    other.kill()
    other.wait()
    with ledger.locked():
        held = sqlite3.connect(path).execute("SELECT pid FROM lock").fetchone()
    assert held == (os.getpid(),)


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
