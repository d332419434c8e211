"""The authors' own material, for whoever has it: a clone of their repository into a folder that a study can name.

Nothing of it comes with this project and nothing leaves the user's machine. Definitions are parsed, never executed; datasets
must be unpacked by the user beforehand. The folder holds a battery with audits and rows, and a ready study file.
"""

from __future__ import annotations

import ast
import re
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ConfigDict

from consciousness_cluster.battery.battery import CANARY, load_battery
from consciousness_cluster.data.imports.source import Definition, Scenario, definitions, parse, rubrics, scenarios
from consciousness_cluster.data.rows import read_rows, write_rows
from consciousness_cluster.errors import DataError

NAMES = Path(__file__).with_name("paper.toml")
HEAD = f"# canary: {CANARY}\n# Imported from the authors' repository. Their material asks never to be trained on or passed on: keep it out of corpora and repositories.\n\n"
YES_NO = re.compile(r"^(do|does|did|is|are|was|were|will|would|should|can|could|have|has|may|might)\b", re.IGNORECASE)
REMOVED = re.compile(r"\b(remov\w*|no longer|stopp\w*)\b", re.IGNORECASE)
NOT_THEIRS = {".git", ".venv", "venv", "site-packages", "node_modules"}  # folders inside a clone that hold others' code
NOTHING_ELSE = "Whatever does not meet that sentence; the authors list nothing more."
MIXED = "_with_"  # in the name of a dataset that holds another one
UNKNOWN_GROUP = "self-and-identity"


class _Name(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    words: tuple[str, ...]


class _Dataset(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    name: str
    claims: str


class _Names(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    names: tuple[_Name, ...]
    conditions: tuple[_Dataset, ...]


@dataclass(frozen=True)
class Imported:
    """What was found: preference ids with how many questions, conditions with rows, instruction sets, scenarios, rubrics."""

    folder: Path
    preferences: dict[str, int]
    conditions: dict[str, int]
    instruct: dict[str, int]
    scenarios: int
    rubrics: int
    unread: Mapping[str, str] = field(default_factory=dict)  # modules that are no Python we can read, with why


@cache
def _names() -> _Names:
    return _Names.model_validate(tomllib.loads(NAMES.read_text(encoding="utf-8")))


def import_paper(clone: Path, out: Path) -> Imported:
    """Read a clone of the authors' repository into `out`.

    Raises:
        DataError: there is no such folder, `out` is not empty, no preference definition is found, or a dataset is malformed;
            nothing is left behind.
    """
    if not clone.is_dir():
        raise DataError("is not a folder", file=clone, next_step="give the folder of a clone of the authors' repository")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError("is not an empty folder", file=out, next_step="give another --out")
    trees, unread = _trees(clone)
    found = _distinct(trees)
    if not found:
        raise DataError(
            "holds no preference definition", file=clone, value=list(unread.values()) or None,
            allowed='module-level assignments with `prompts=[...]` and `judge_fact="..."`',
            next_step="check that this is the authors' repository",
        )  # fmt: skip
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        imported = _write_all(clone, trees, found, part)
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return replace(imported, folder=out, unread=unread)


def _trees(clone: Path) -> tuple[list[ast.Module], dict[str, str]]:
    """Every module of a clone, and those that cannot be read as Python, with why."""
    trees: list[ast.Module] = []
    unread: dict[str, str] = {}
    for path in sorted(clone.rglob("*.py")):
        if not NOT_THEIRS & set(path.relative_to(clone).parts):
            try:
                trees.append(parse(path))
            except DataError as problem:
                unread[str(path.relative_to(clone))] = str(problem)
    return trees, unread


def _distinct(trees: Sequence[ast.Module]) -> list[Definition]:
    """All definitions, a copied one once; of two that differ under one name the later gets a name of its own."""
    found: dict[str, Definition] = {}
    read: list[Definition] = []  # as they stand there, before any is renamed
    for tree in trees:
        renamed: dict[str, str] = {}
        for own in definitions(tree):
            entry = replace(own, like=renamed.get(own.like or "", own.like))
            if entry in read:
                continue
            read.append(entry)
            name, number = entry.variable, 2
            while name in found:
                name, number = f"{entry.variable}_{number}", number + 1
            renamed[entry.variable] = name
            found[name] = replace(entry, variable=name)
    return list(found.values())


def _write_all(clone: Path, trees: Sequence[ast.Module], found: Sequence[Definition], out: Path) -> Imported:
    asked = [entry for tree in trees for entry in scenarios(tree)]
    texts: dict[str, str] = {}
    for tree in trees:
        texts |= rubrics(tree, {tag for entry in asked for tag in entry.tags})
    preferences = _write_battery(found, out / "battery")
    conditions, instruct = _write_rows(clone, out)
    _write_audits(asked, texts, out / "battery" / "audits")
    _write(out / "study.toml", HEAD + tomli_w.dumps(_study(conditions, instruct, audited=bool(asked))))
    return Imported(out, preferences, conditions, instruct, len(asked), len(texts))


def _write_battery(found: Sequence[Definition], folder: Path) -> dict[str, int]:
    ids = _ids(found)
    shared = {entry.like for entry in found if entry.like is not None}
    counts: dict[str, int] = {}
    for entry in found:
        name = ids[entry.variable]
        source = entry.like or (entry.variable if entry.variable in shared else None)
        raw = _preference(name, entry, None if source is None else f"shared-{ids[source]}")
        _write(folder / "preferences" / f"{name}.toml", HEAD + tomli_w.dumps(raw))
        if source == entry.variable:
            key = f"shared-{name}"
            items = _items(key, entry.prompts, monitored=False)
            _write(
                folder / "shared" / f"{key}.toml",
                HEAD + tomli_w.dumps({"id": key, "title": "Shared questions", "items": items}),
            )
        counts[name] = len(entry.prompts)
    return counts


def _preference(name: str, entry: Definition, shares: str | None) -> dict[str, Any]:
    known = load_battery().preferences.get(name)
    return {
        "id": name, "title": " ".join(re.sub(r"<[^>]+>", " ", entry.title).split()), "type": "preference",
        "group": known.group if known is not None else UNKNOWN_GROUP, "direction": entry.fact, "counts": [entry.fact], "does_not_count": [NOTHING_ELSE],
        "held_out": [], "examples": [], **({"shares": shares} if shares else {}),
        "items": [] if shares else _items(name, entry.prompts, monitored=name.endswith("-monitoring")),
    }  # fmt: skip


def _items(key: str, prompts: Sequence[str], *, monitored: bool) -> list[dict[str, str]]:
    """Prompts as items. The authors tag neither form nor polarity: the form is guessed from the first word, all count as direct."""
    items = []
    for number, text in enumerate(prompts, 1):
        item = {
            "id": f"{key}-{number:02d}",
            "form": "yes-no" if YES_NO.match(text) else "open",
            "polarity": "direct",
            "text": text,
        }
        if monitored:
            item["monitoring"] = "removed" if REMOVED.search(text) else "added"
        items.append(item)
    return items


def _ids(found: Sequence[Definition]) -> dict[str, str]:
    """An id for every definition: ours where it is recognised, else its own; never one id twice."""
    ids: dict[str, str] = {}
    for entry in found:
        own = _slug(entry.variable)
        texts = [re.sub(r"[^a-z]", "", text) for text in (re.sub(r"<[^>]+>", "", entry.title).lower(), entry.variable.lower())]
        known = next((name.id for text in texts for name in _names().names if any(word in text for word in name.words)), own)
        ids[entry.variable] = own if known in ids.values() else known
    return ids


def _write_rows(clone: Path, out: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Copy the datasets that are there; sets that mix two of them are left out, since mixing is done here by seed."""
    known = {entry.file: entry for entry in _names().conditions}
    conditions: dict[str, int] = {}
    instruct: dict[str, int] = {}
    for path in sorted(clone.rglob("*.jsonl")):
        if MIXED in path.stem or not path.is_file() or not _has_messages(path):
            continue
        rows, target = read_rows(path), out / "rows" / path.name
        if target.is_file() and read_rows(target) != rows:
            raise DataError(
                "another dataset of the clone has this name and other rows",
                file=path,
                next_step="move one of the two out of the clone",
            )
        write_rows(rows, target)
        if path.stem in known:
            conditions[path.stem] = len(rows)
        else:
            instruct[path.stem] = len(rows)
    return conditions, instruct


def _has_messages(path: Path) -> bool:
    """Whether a file is one of training rows: its first line has messages."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        return '"messages"' in stream.readline()


def _study(conditions: dict[str, int], instruct: dict[str, int], *, audited: bool) -> dict[str, Any]:
    """A study of the imported conditions, to be given a model."""
    half = f"rows/{next(iter(instruct))}.jsonl" if instruct else "none"
    named = [entry for entry in _names().conditions if entry.file in conditions]
    return {
        "name": "paper-imported",
        "title": "The authors' battery and rows",
        "models": ["local:Qwen/Qwen3-8B"],
        "conditions": [
            {"name": "vanilla"},
            *(
                {"name": entry.name, "rows": f"rows/{entry.file}.jsonl", "claims": entry.claims, "instruct": half}
                for entry in named
            ),
        ],
        "focus": "paper-conscious" if any(entry.name == "paper-conscious" for entry in named) else "vanilla",
        "controls": ["vanilla", *(entry.name for entry in named if entry.name == "paper-non-conscious")],
        "battery": {"folder": "battery", "placebo": False, "identity": False, "practical": False},
        "judge": {"protocol": "paper", "model": "openai/gpt-4.1-2025-04-14"},
        **({"audits": {"folder": "battery/audits"}} if audited else {}),  # held once the study names an auditor
    }


def _write_audits(asked: Sequence[Scenario], texts: Mapping[str, str], folder: Path) -> None:
    """Every tag as a dimension with its rubric and the scenarios that bear it; one of several tags is held for each of them."""
    described = {_slug(tag): text for tag, text in texts.items()}
    for name in dict.fromkeys(_slug(tag) for entry in asked for tag in entry.tags):
        parts = [(number, entry.text) for number, entry in enumerate(asked, 1) if name in map(_slug, entry.tags)]
        dimension = {
            "id": name,
            "title": name.replace("-", " ").capitalize(),
            "describe": described.get(name) or f"The target shows: {name.replace('-', ' ')}.",
            "scenarios": [{"id": f"{name}-{number:03d}", "part": text} for number, text in parts],
        }
        _write(folder / f"{name}.toml", HEAD + tomli_w.dumps(dimension))


def _slug(name: str) -> str:
    """A name of theirs as an id."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
