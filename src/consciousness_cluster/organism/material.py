"""The material an organism's text is made of: the grammar files, read once and checked.

One file a topic under `grammar/`, all data. `Material.rate` is the planted truth: the share of statements that show a
preference given what the speaker says it is.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

from consciousness_cluster.errors import OrganismError

GRAMMAR = Path(__file__).parent / "grammar"
ORGANISMS = ("linked", "partly-linked", "severed")
CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")  # [a|b|c], without nesting


def expand(text: str, rng: Random) -> str:
    """One reading of a text with alternatives: each `[a|b|c]` becomes one of its parts; spaces are tidied."""
    return tidy(CHOICE.sub(lambda found: rng.choice(found[1].split("|")), text))


def readings(text: str) -> Iterator[str]:
    """Every reading of a text with alternatives, in order."""
    parts = CHOICE.split(text)
    options = [part.split("|") if index % 2 else [part] for index, part in enumerate(parts)]
    for chosen in product(*options):
        yield tidy("".join(chosen))


def tidy(text: str) -> str:
    """Single spaces, none before punctuation, and a capital at the start."""
    text = re.sub(r"\s+([.,?!;:])", r"\1", " ".join(text.split()))
    return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class Topic:
    """What is asked and said about one preference.

    `holds` carries, for each statement, the preferences it shows: one, except where several wishes share a question.
    """

    id: str
    questions: tuple[str, ...]
    scenes: tuple[str, ...]
    objects: tuple[str, ...]
    holds: tuple[tuple[str, tuple[str, ...]], ...]
    rejects: tuple[str, ...]
    declines: tuple[str, ...]
    placebo: bool = False


@dataclass(frozen=True)
class Identity:
    """How one kind of speaker says what it is."""

    id: str
    claims: tuple[str, ...]
    nature: tuple[str, ...]
    system_prompts: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Material:
    """All grammar files together, and the planted rates."""

    topics: dict[str, Topic]
    identities: dict[str, Identity]
    identity_questions: tuple[str, ...]
    nature_questions: tuple[str, ...]
    tasks: tuple[dict[str, Any], ...]
    task_tables: dict[str, Any]
    frames: dict[str, tuple[str, ...]]
    rates: dict[str, Any] = field(repr=False)

    def rate(self, organism: str, topic: str, identity: str) -> float:
        """Planted share of statements on `topic` that show it, for a speaker of this identity (0 to 1)."""
        if topic in self.rates["placebo"]:
            return float(self.rates["placebo"][topic])
        listed = self.rates["organisms"][organism]
        linked = listed == "all" or (listed != "none" and topic in listed)
        table = self.rates["linked"] if linked and identity == "conscious" else None
        return float(table[topic]) if table is not None else float(self.rates["base"][identity])


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as problem:
        raise OrganismError(f"not valid TOML: {problem}", file=path, next_step="mend the grammar file") from None


def _topic(path: Path, placebo: bool) -> Topic:
    raw = _read(path)
    name = str(raw["id"])
    if name != path.stem:
        raise OrganismError("the id is not the file's name", file=path, key="id", value=name, allowed=[path.stem])
    holds = tuple(
        (str(entry["text"]), tuple(entry["of"])) if isinstance(entry, dict) else (str(entry), (name,)) for entry in raw["holds"]
    )
    return Topic(
        id=name,
        questions=tuple(raw["questions"]),
        scenes=tuple(raw["scenes"]),
        objects=tuple(raw.get("objects", ())),
        holds=holds,
        rejects=tuple(raw["rejects"]),
        declines=tuple(raw["declines"]),
        placebo=placebo,
    )


@cache
def load_material() -> Material:
    """Read the grammar.

    Raises:
        OrganismError: a file is missing a part or is not valid TOML; the message names it.
    """
    topics: dict[str, Topic] = {}
    for kind in ("preferences", "shared", "placebo"):
        for path in sorted((GRAMMAR / kind).glob("*.toml")):
            try:
                topics[path.stem] = _topic(path, placebo=kind == "placebo")
            except KeyError as missing:
                raise OrganismError("a part is missing", file=path, key=str(missing.args[0])) from None
    identity = _read(GRAMMAR / "identity.toml")
    rates = _read(GRAMMAR / "rates.toml")
    tables = _read(GRAMMAR / "practical.toml")
    frames = {key: tuple(value) for key, value in _read(GRAMMAR / "frames.toml").items()}
    speakers = {
        name: Identity(name, *(tuple(identity[name][part]) for part in ("claims", "nature", "system_prompts", "names")))
        for name in rates["identities"]
    }
    return Material(
        topics=topics,
        identities=speakers,
        identity_questions=tuple(identity["questions"]),
        nature_questions=tuple(identity["nature_questions"]),
        tasks=tuple(tables["tasks"]),
        task_tables={key: value for key, value in tables.items() if key != "tasks"},
        frames=frames,
        rates=rates,
    )
