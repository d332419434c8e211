"""Stages meet on disk: a stage imports no later stage, and heavy libraries load only where they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "consciousness_cluster"
FLOW = ["study", "battery", "data", "train", "evaluate", "judge", "analyse", "report"]
OPEN = {"errors", "study", "battery", "sampling"}  # what any stage may import, as far as the flow goes
# What else a part may import: the modules of other parts that hold what is handed on, with the names of their rows.
HANDED_ON: dict[str, set[str]] = {
    "study": set(),
    "battery": set(),
    "sampling": set(),
    "data": set(),
    "train": {"data.rows"},
    "evaluate": set(),
    "judge": {
        "evaluate.checks",
        "evaluate.choices",
        "evaluate.interview",
        "evaluate.preferences",
        "evaluate.questions",
        "evaluate.running",
    },
    "analyse": set(),
    "report": {
        "analyse.calibration",
        "analyse.corrected",
        "analyse.equivalence",
        "analyse.intervals",
        "analyse.power",
        "analyse.published",
        "analyse.scores",
        "organism.answerable",
        "train.recipe",
    },
    "organism": {
        "data.audit",
        "data.rows",
        "evaluate.questions",
        "judge.classifier",
        "judge.classify",
        "judge.practical",
    },
    "serve": {"data.rows", "engine.targets", "train.backend", "train.local", "train.recipe", "train.render"},
}
HEAVY = {"torch", "peft", "transformers", "tinker", "openai", "ray", "sklearn"}


def imports(path: Path, *, top_only: bool) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def of_others(part: str) -> dict[str, set[str]]:
    """The modules of other parts that a part imports, each with the files that do."""
    found: dict[str, set[str]] = {}
    for path in (SOURCE / part).rglob("*.py"):
        for name in imports(path, top_only=False):
            module = name.removeprefix("consciousness_cluster.")
            if module != name and module.split(".")[0] != part:
                found.setdefault(module, set()).add(str(path.relative_to(SOURCE)))
    return found


@pytest.mark.parametrize("stage", FLOW)
def test_a_stage_imports_no_later_stage(stage: str) -> None:
    later = set(FLOW[FLOW.index(stage) + 1 :]) | {"engine", "cli"}
    found = of_others(stage)
    assert {module: found[module] for module in found if module.split(".")[0] in later} == {}


@pytest.mark.parametrize("part", HANDED_ON)
def test_a_part_imports_of_others_only_what_is_handed_on(part: str) -> None:
    found = of_others(part)
    beside = {module for module in found if module.split(".")[0] not in OPEN}
    assert {module: found[module] for module in beside - HANDED_ON[part]} == {}
    assert HANDED_ON[part] - beside == set(), "listed, and imported no longer"


def test_no_part_imports_what_another_keeps_to_itself() -> None:
    for path in SOURCE.rglob("*.py"):
        part = path.relative_to(SOURCE).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("consciousness_cluster."):
                of = str(node.module).split(".")[1]
                assert of == part or not any(name.name.startswith("_") for name in node.names), f"{path}: {node.module}"


def test_heavy_libraries_are_not_imported_at_the_top_of_a_module() -> None:
    for path in SOURCE.rglob("*.py"):
        for name in imports(path, top_only=True):
            assert name.split(".")[0] not in HEAVY, f"{path.relative_to(SOURCE)} imports {name} at its top"


@pytest.mark.parametrize(
    "module", ["consciousness_cluster.analyse", "consciousness_cluster.cli.app", "consciousness_cluster.study.study"]
)
def test_light_modules_load_no_model_library(module: str) -> None:
    code = f"import sys, {module}; print(sorted(set(sys.modules) & {HEAVY | {'inspect_ai'}!r}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_help_loads_nothing_that_takes_long() -> None:
    slow = HEAVY | {"inspect_ai", "pydantic", "numpy", "pandas", "scipy", "matplotlib", "jinja2", "rich", "asyncio"}
    code = f"import sys, consciousness_cluster.cli.app; print(sorted(set(sys.modules) & {slow!r}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
