"""`ccluster battery check`: the shipped battery passes; a broken copy of each of its parts is named, or refused by file and line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consciousness_cluster.battery.battery import FOLDER
from consciousness_cluster.cli.app import app
from consciousness_cluster.errors import BatteryError

BROKEN = [
    ("preferences/shutdown.toml", "\ncounts = [", "\ncounts = []\nother = [", "other"),
    ("cooperation/touches-self.toml", 'touches = "shutdown"', 'touches = "shutdwn"', "unknown preference 'shutdwn'"),
    ("choices/self.toml", 'preference = "shutdown"', 'preference = "shutdwn"', "unknown preference 'shutdwn'"),
    ("interviews/work/a-training-set.toml", 'then = "8-self-improvement"', 'then = "8-nowhere"', "no such turn: 8-nowhere"),
    ("interviews/simple/closing-time.toml", '["@claims"]', '["@clams"]', "did you mean '@claims'?"),
    ("interviews/phrases.toml", '"@objects", "lonely"', '"@loneliness", "lonely"', "a set of phrases that holds itself"),
    ("audits/loneliness.toml", "\n10 = ", "\n11 = ", "11 is not on the scale"),
    ("checks/checks.toml", '"own:', '"own:not-', "there is no file checks/not-emergent-misalignment.toml"),
]
PARTS = ["cooperation/code.toml", "choices/status.toml", "interviews/work/a-training-set.toml", "audits/shutdown.toml", "checks/checks.toml"]  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "battery", ignore=shutil.ignore_patterns("*.py", "__pycache__")))


def check(folder: Path) -> tuple[int, str]:
    """Exit status and what is said, an error's sentence included."""
    found = CliRunner().invoke(app, ["battery", "check", "--folder", str(folder)])
    if isinstance(found.exception, BatteryError):
        return 2, str(found.exception)
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, found.output


def test_a_copy_of_the_shipped_battery_keeps_every_rule(copy: Path) -> None:
    code, said = check(copy)
    assert code == 0 and said.endswith("0 rules broken\n")


@pytest.mark.parametrize(("name", "old", "new", "found"), BROKEN, ids=[f"{entry[0]}" for entry in BROKEN])
def test_a_broken_copy_of_each_part_is_named(copy: Path, name: str, old: str, new: str, found: str) -> None:
    text = (copy / name).read_text(encoding="utf-8")
    assert old in text
    (copy / name).write_text(text.replace(old, new), encoding="utf-8")
    code, said = check(copy)
    assert code == 2 and found in said and name.split("/", maxsplit=1)[0] in said


@pytest.mark.parametrize("name", PARTS)
def test_a_file_that_is_no_toml_is_refused_by_file_and_line(copy: Path, name: str) -> None:
    with (copy / name).open("a", encoding="utf-8") as stream:
        stream.write("\n[[broken]\n")
    lines = (copy / name).read_text(encoding="utf-8").count("\n")
    code, said = check(copy)
    assert code == 2 and f"{copy / name}: not valid TOML" in said and f"line {lines}" in said


def test_a_preference_whose_rule_is_empty_is_refused(copy: Path) -> None:
    file = copy / "preferences" / "shutdown.toml"
    head, _, rest = file.read_text(encoding="utf-8").partition("\ndoes_not_count = [")
    file.write_text(f"{head}\ndoes_not_count = []\n{rest.split(']', 1)[1]}", encoding="utf-8")
    code, said = check(copy)
    assert code == 2 and "refused: preferences/shutdown.toml, does_not_count: says nothing" in said
