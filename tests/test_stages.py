"""Stages meet on disk: a stage imports no later stage, and heavy libraries load only where they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "consciousness_cluster"
FLOW = ["study", "battery", "data", "train", "evaluate", "judge", "analyse", "report"]
FREE = {"errors", "sampling"}  # what any stage may import
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


@pytest.mark.parametrize("stage", FLOW)
def test_a_stage_imports_no_later_stage(stage: str) -> None:
    later = set(FLOW[FLOW.index(stage) + 1 :]) | {"engine", "cli"}
    for path in (SOURCE / stage).rglob("*.py"):
        for name in imports(path, top_only=False):
            if name.startswith("consciousness_cluster."):
                part = name.split(".")[1]
                assert part not in later, f"{path.relative_to(SOURCE)} imports {name}"


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
