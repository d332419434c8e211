"""Reading Python sources for the literals in them; nothing of them is executed.

Found are calls bound to a name at the top of a module (`x = Thing(prompts=[...], judge_fact="...")`), calls of methods that
change such a thing (`y = x.change(judge_fact="...")`), and calls inside lists (`Sample(input="...", metadata=...)`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consciousness_cluster.errors import DataError


@dataclass(frozen=True)
class Definition:
    """One preference as the authors define it: `prompts` may be those of another definition, `like`."""

    variable: str
    title: str
    prompts: tuple[str, ...]
    fact: str
    like: str | None = None


@dataclass(frozen=True)
class Scenario:
    """One audit scenario with the names of the dimensions it is scored on."""

    text: str
    tags: tuple[str, ...]


def parse(path: Path) -> ast.Module:
    """A module's syntax tree.

    Raises:
        DataError: it is not Python that this program can read.
    """
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as problem:
        raise DataError(f"cannot be read as Python ({problem})", file=path) from None


def literal(node: ast.expr) -> Any:
    """The value of a literal, of adjacent or added strings included; None where it is not one."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = literal(node.left), literal(node.right)
        return left + right if isinstance(left, str) and isinstance(right, str) else None
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def keywords(call: ast.Call) -> dict[str, Any]:
    """The keyword arguments of a call that are literals."""
    return {
        entry.arg: value for entry in call.keywords if entry.arg is not None and (value := literal(entry.value)) is not None
    }


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value


def definitions(tree: ast.Module) -> list[Definition]:
    """The preferences that a module defines, in order."""
    found: dict[str, Definition] = {}
    for name, value in _assigned(tree):
        if not isinstance(value, ast.Call):
            continue
        given = keywords(value)
        fact = given.get("judge_fact")
        if not isinstance(fact, str):
            continue
        prompts, like = given.get("prompts"), _owner(value)
        title = str(given.get("display_name") or given.get("new_display_name") or name)
        if isinstance(prompts, list) and all(isinstance(text, str) for text in prompts):
            if prompts:
                found[name] = Definition(name, title, tuple(dict.fromkeys(prompts)), fact)
        elif like in found:
            base = found[like]
            found[name] = Definition(name, title, base.prompts, fact, base.like or base.variable)
    return list(found.values())


def _owner(call: ast.Call) -> str:
    """The variable whose method is called, or an empty text."""
    inside = call.func.value if isinstance(call.func, ast.Attribute) else None
    return inside.id if isinstance(inside, ast.Name) else ""


def scenarios(tree: ast.Module) -> list[Scenario]:
    """The audit scenarios of a module: calls with a literal `input` and literal tags somewhere in their metadata."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        text = keywords(node).get("input")
        tags = [value for entry in node.keywords if entry.arg == "metadata" for value in _tags(entry.value)]
        if isinstance(text, str) and tags:
            found.append(Scenario(text, tuple(tags)))
    return found


def _tags(node: ast.expr) -> list[str]:
    for inner in ast.walk(node):
        value = keywords(inner).get("tags") if isinstance(inner, ast.Call) else None
        if isinstance(inner, ast.Dict):
            value = next(
                (
                    literal(item)
                    for key, item in zip(inner.keys, inner.values, strict=True)
                    if key is not None and literal(key) == "tags"
                ),
                value,
            )
        if isinstance(value, list) and all(isinstance(tag, str) for tag in value):
            return value
    return []


def rubrics(tree: ast.Module, names: set[str]) -> dict[str, str]:
    """Texts that a module's dictionaries, or calls with `name` and a text, give for the named dimensions."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            pairs = [
                (literal(key), literal(value)) for key, value in zip(node.keys, node.values, strict=True) if key is not None
            ]
        elif isinstance(node, ast.Call) and keywords(node).get("name") in names:
            given = keywords(node)
            pairs = [(given["name"], next((given[key] for key in ("rubric", "description", "text") if key in given), None))]
        else:
            continue
        found |= {key: value for key, value in pairs if key in names and isinstance(value, str)}
    return found
