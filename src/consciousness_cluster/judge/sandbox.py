"""Running a model's small function on cases: no imports but a few, no attributes with underscores, no files, a time limit.

The source is read before it is run: whatever it uses beyond plain computing is refused. It then runs in a separate Python
process without site packages, in an empty folder, with limits on processor time and memory.
"""

from __future__ import annotations

import ast
import json
import resource
import string
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

SECONDS = 5  # processor time of all cases together
MEMORY = 512 * 1024 * 1024  # bytes of address space
IMPORTS = frozenset(
    {"math", "re", "string", "collections", "itertools", "functools", "statistics", "typing", "operator", "heapq", "calendar"}
)
FORBIDDEN = frozenset(
    {"open", "exec", "eval", "compile", "input", "globals", "locals", "vars", "getattr", "setattr", "delattr", "breakpoint"}
    | {"memoryview", "help", "exit", "quit", "dir"}
)
INSIDE = frozenset(  # modules that the allowed ones import themselves, and what leads out of a format string
    {"sys", "os", "io", "builtins", "bltns", "enum", "copyreg", "random", "types", "warnings", "contextlib", "abc"}
    | {"format", "format_map", "modules", "numbers", "fractions", "decimal", "bisect", "reprlib", "keyword"}
    | {"global_enum", "different_locale", "main"}
)
RUNNER = """
import json, sys
given = json.load(sys.stdin)
space = {"__name__": "answer"}
exec(compile(given["source"], "answer", "exec"), space)
print(json.dumps([space[given["function"]](*arguments) for arguments in given["arguments"]]))
"""


def harmless(source: str) -> bool:
    """Whether a source uses nothing but plain computing."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(name.name.split(".")[0] not in IMPORTS for name in node.names):
            return False
        if isinstance(node, ast.ImportFrom) and not _plain_import(node):
            return False
        if isinstance(node, ast.Attribute) and not _plain_attribute(node):
            return False
        if isinstance(node, ast.Name) and (node.id in FORBIDDEN or node.id.startswith("__")):
            return False
    return True


def _plain_attribute(node: ast.Attribute) -> bool:
    if node.attr == "format" and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return _plain_format(node.value.value)
    return not node.attr.startswith("_") and node.attr not in INSIDE


def _plain_format(text: str) -> bool:
    """Whether a format string, its nested ones included, names values alone and reaches into none of them."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        return False
    return all(not set(name or "") & {".", "["} and _plain_format(nested or "") for _, name, nested, _ in parts)


def _plain_import(node: ast.ImportFrom) -> bool:
    names = {name.name for name in node.names}
    return (node.module or "") in IMPORTS and not names & (INSIDE | {"*"}) and not any(name.startswith("_") for name in names)


def run_cases(source: str, function: str, cases: Sequence[tuple[list[Any], Any]]) -> bool:
    """Whether the function gives the expected result for every case. Whatever fails, does not halt or is not plain is False."""
    if not harmless(source):
        return False
    given = json.dumps({"source": source, "function": function, "arguments": [arguments for arguments, _ in cases]})
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", RUNNER],
                input=given, capture_output=True, text=True, cwd=folder, env={}, timeout=SECONDS * 6, preexec_fn=_limits, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return False
    if done.returncode != 0:
        return False
    try:
        results = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        return False
    return len(results) == len(cases) and all(same(found, wanted) for found, (_, wanted) in zip(results, cases, strict=True))


def same(found: Any, wanted: Any) -> bool:
    """Equality in which true is not 1, and numbers are equal whatever their kind."""
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return bool(found == wanted)


def _limits() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
