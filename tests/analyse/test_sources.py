"""Every public function of `analyse` says where its method comes from."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from consciousness_cluster import analyse

MODULES = sorted(Path(analyse.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_public_function_names_its_source(path: Path) -> None:
    functions = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    without = [
        function.name
        for function in functions
        if not function.name.startswith("_") and "\nSource: " not in (ast.get_docstring(function) or "")
    ]
    assert without == []
