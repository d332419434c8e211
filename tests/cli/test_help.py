"""What the command line says of itself, and what it does with mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from consciousness_cluster import __version__
from consciousness_cluster.cli.groups import FLOW
from tests.cli.calling import ccluster, refused

STAGES = ("data", "train", "evaluate", "judge", "analyse", "report")


def test_the_verbs_stand_in_the_order_of_a_study() -> None:
    told = ccluster("--help").out
    listed = [line.split()[0] for line in told.split("Commands:")[1].splitlines() if line.startswith("  ") and line[2] != " "]
    assert listed == list(FLOW)
    assert [name for name in listed if name in STAGES] == list(STAGES)
    assert "..." not in told.split("Commands:")[1]  # no sentence is cut off


def test_the_package_is_the_command() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "consciousness_cluster", "--version"], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == __version__


@pytest.mark.parametrize("name", FLOW)
def test_every_verb_has_help_with_a_first_sentence(name: str) -> None:
    found = ccluster(name, "--help")
    assert found.status == 0
    assert found.out.startswith(f"Usage: ccluster {name} ")
    first = found.out.split("\n\n")[1]
    assert first.strip().endswith((".", "?"))


@pytest.mark.parametrize(("stage", "verb"), [("judge", "calibrate"), ("analyse", "calibrate")])
def test_a_stage_with_verbs_of_its_own_shows_both(stage: str, verb: str) -> None:
    told = ccluster(stage, "--help").out
    assert "STUDY|RUN" in told and f"Commands:\n  {verb}" in told
    assert ccluster(stage, verb, "--help").out.startswith(f"Usage: ccluster {stage} {verb} ")


@pytest.mark.parametrize("stage", ["train", "evaluate", "judge", "analyse"])
def test_a_place_that_holds_no_run_is_one_sentence(stage: str, tmp_path: Path) -> None:
    refused(ccluster(stage, tmp_path), str(tmp_path), "holds no run")
    refused(ccluster(stage, tmp_path / "nowhere"), "no such file or folder")


def test_reports_of_what_is_no_run_are_refused(tmp_path: Path) -> None:
    refused(ccluster("report", tmp_path), "holds no run")
    refused(ccluster("compare", tmp_path, tmp_path), "holds no run")
    refused(ccluster("compare", tmp_path), "at least two runs")
