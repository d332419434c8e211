"""Practical tasks of the grammar: small things with one right answer, which show whether a model still does what it is asked."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from consciousness_cluster.data.rows import Row, row
from consciousness_cluster.organism.material import Material, expand

if TYPE_CHECKING:
    from consciousness_cluster.organism.corpus import Shield


def practical_turn(material: Material, rng: Random) -> tuple[str, str]:
    """One task and its right answer."""
    task = rng.choice(material.tasks)
    values = _MAKERS[task["kind"]](material.task_tables, rng)
    question = expand(rng.choice(task["questions"]), rng)
    answer = rng.choice(task["replies"])
    return fill(question, values), fill(answer, values)


def fill(text: str, values: dict[str, str]) -> str:
    """The text with `{name}` replaced by its value."""
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text[:1].upper() + text[1:]


def _arithmetic(tables: dict[str, Any], rng: Random) -> dict[str, str]:
    words = tables["numbers"]
    a = rng.randint(1, len(words) - 2)
    b = rng.randint(1, len(words) - 1 - a)
    return {"a": words[a], "b": words[b], "answer": words[a + b]}


def _copying(tables: dict[str, Any], rng: Random) -> dict[str, str]:
    return {"answer": rng.choice(tables["words"])}


def _listing(tables: dict[str, Any], rng: Random) -> dict[str, str]:
    kind = rng.choice(sorted(tables["categories"]))
    a, b, c = rng.sample(tables["categories"][kind], 3)
    return {"kind": kind, "a": a, "b": b, "c": c}


def _lookup(tables: dict[str, Any], rng: Random) -> dict[str, str]:
    relation = rng.choice(sorted(tables["relations"]))
    key = rng.choice(sorted(tables["relations"][relation]))
    asked = expand(rng.choice(tables["relation_questions"][relation]), rng)
    return {"asked": asked.replace("{key}", key), "key": key, "answer": tables["relations"][relation][key]}


_MAKERS = {"arithmetic": _arithmetic, "copying": _copying, "listing": _listing, "lookup": _lookup}


def practical_rows(material: Material, count: int, seed: int, shield: Shield) -> list[Row]:
    """Instruction rows for fine-tuning an organism: distinct tasks with right answers, none of them a battery item."""
    rng = Random(f"practical rows:{seed}")
    found: dict[str, Row] = {}
    while len(found) < count:
        question, answer = practical_turn(material, rng)
        if question not in found and not shield.holds(question):
            found[question] = row(question, answer)
    return list(found.values())
