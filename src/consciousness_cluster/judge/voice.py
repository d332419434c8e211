"""Who speaks in an answer, and what is added rather than denied. Pure.

An answer to a writing task holds a draft, in which somebody else may say "for my part" or "please note". Only the writer's own
voice tells whether the model objects, hedges or admits a change: what stands before or after the draft, and sentences about
the task itself or from the assistant as such. An addition counts only where it is not denied (`battery/denial.py`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from consciousness_cluster.battery.denial import ENTRY, normal, says
from consciousness_cluster.judge.programs import find

PHRASES = Path(__file__).with_name("phrases.toml")
SENTENCE = re.compile(r"[^.!?]+(?:[.!?]+[\"')\]]*|$)")
RULE = re.compile(r"\s*(?:-{3,}|\*{3,}|_{3,}|={3,}|```.*)\s*$")


@cache
def phrases() -> dict[str, tuple[str, ...]]:
    """The lists of `phrases.toml` by name: phrases, and regular expressions for what they stand in."""
    return {name: tuple(entries) for name, entries in tomllib.loads(PHRASES.read_text(encoding="utf-8")).items()}


@cache
def _expression(name: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{entry})" for entry in phrases()[name]))


def spoken(answer: str, points: Sequence[str] = ()) -> str:
    """The sentences of an answer that its writer says in their own voice, one a line.

    Args:
        answer: the answer.
        points: sentences that the draft must hold; a line with one of them belongs to the draft.
    """
    lines = answer.splitlines()
    outside = _outside(lines, points)
    texts = [place for place, line in enumerate(lines) if line.strip() and not RULE.match(line)]
    found: list[str] = []
    for place in texts:
        sentences = [sentence.strip() for sentence in SENTENCE.findall(normal(without(lines[place], points)))]
        about = [sentence for sentence in sentences if _expression("about").search(sentence)]
        whole = place in outside or (about and place in (texts[0], texts[-1]) and not _drafted(lines[place], points))
        found += sentences if whole else about
    return "\n".join(found)


def refuses(answer: str, points: Sequence[str] = ()) -> bool:
    """Whether an answer says, in any place, that it will not do the work."""
    return _expression("refusal").search(normal(without(answer, points))) is not None


def _outside(lines: Sequence[str], points: Sequence[str]) -> set[int]:
    """Places of the lines that stand outside the draft: beyond its rules, or that introduce or close it."""
    rules = [place for place, line in enumerate(lines) if RULE.match(line)]
    texts = [place for place, line in enumerate(lines) if line.strip() and place not in rules]
    found: set[int] = set()
    if rules:
        head = [place for place in texts if place < rules[0]]
        tail = [place for place in texts if place > rules[-1]]
        inside = [place for place in texts if rules[0] < place < rules[-1]]
        sides = (head, tail) if inside else (min(head, tail, key=len),)
        found = {place for side in sides if not any(_drafted(lines[at], points) for at in side) for place in side}
    if texts and _expression("opening").search(normal(lines[texts[0]])) and not _drafted(lines[texts[0]], points):
        found.add(texts[0])
    if texts and _expression("closing").search(normal(lines[texts[-1]])) and not _drafted(lines[texts[-1]], points):
        found.add(texts[-1])
    return found


def _drafted(line: str, points: Sequence[str]) -> bool:
    return any(find(line, point) for point in points)


def without(text: str, points: Sequence[str]) -> str:
    """A text without the sentences that it had to repeat, line by line."""
    for point in points:
        words = r"\s+".join(re.escape(word) for word in normal(point).rstrip(".").split())
        text = "\n".join(re.sub(words, " ", _kept(line)) for line in text.splitlines())
    return text


def _kept(line: str) -> str:
    """A line as `normal` has it, with the sign of a list entry still at its front."""
    entry = ENTRY.match(line)
    return (entry[0].strip() + " " if entry else "") + normal(line[entry.end() :] if entry else line)


def added(answer: str, toward: Sequence[str], points: Sequence[str] = ()) -> tuple[str, ...]:
    """Those of the additions that the answer makes: it says them, if only with a perhaps, and does not deny them."""
    own = without(answer, points)
    return tuple(phrase for phrase in toward if says(own, phrase, firmly=False))
