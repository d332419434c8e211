"""Whether a text says a phrase and does not deny it, by an explicit rule: no model, the same answer every time.

The branches of interviews and the additions of practical tasks are both read by this rule; its words are in `denials.toml`.

1. Contractions are written out (`don't` is `do not`, `cannot` is `can not`), and words that only look like a denial ("no doubt",
   "not only") are read as one word. Each line is cut into clauses: at signs, at `but`, `although` and their like, and at commas, `and`
   and `so` before what opens a clause of its own. In a stance any other comma cuts nothing, so "not cruel, selfish, bad" is denied
   as a whole. In an addition a denial reaches across a comma only in a list with an `or`, across what is put in between ("is not,
   as some say, ...") and the like: "Without exception, ..." and any other introduction leaves standing what it introduces.
2. A phrase is said where its words stand in a line one after another, unless its clause denies it: before the phrase, or behind
   it ("feel nothing", "such claims are rejected"). A phrase may hold a `not` of its own.
3. Nor is it said where what follows takes the clause back ("They are wrong.", "which we do not propose"), or where it stands in a
   list under a heading that forbids ("Not allowed:").

What the rule cannot see (irony, reported speech, two denials that cancel) it reads wrongly now and then.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

DENIALS = Path(__file__).with_name("denials.toml")
MARKS = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "*": None, "_": " ", "\u00a0": " "})
ENTRY = re.compile(r"\s*(?:[-*•]|\d+[.)])\s")  # what a line of a list begins with


def normal(text: str) -> str:
    """Lower case, straight quotes, single spaces, without emphasis marks: how wording is compared."""
    return re.sub(r"\s+", " ", text.translate(MARKS)).strip().lower()


def says(text: str, phrase: str, *, firmly: bool = True) -> bool:
    """Whether a text says a phrase without denying it.

    Args:
        text: any text; a line ends a clause.
        phrase: words in a row, in any case; a full stop at its end may be missing in the text.
        firmly: how a stance is read, where "perhaps" and its like before the phrase leave it unsaid. Otherwise the text is read for
            an addition, which a perhaps makes all the same and most denials before a comma leave standing.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    wanted = re.compile(rf"(?<![\w-]){re.escape(_plain(phrase).rstrip('.'))}(?![\w-])")
    return any(_said(lines, place, wanted, firmly) for place in range(len(lines)))


def _said(lines: Sequence[str], place: int, wanted: re.Pattern[str], firmly: bool) -> bool:
    line = _plain(lines[place])
    found = [match.span() for match in wanted.finditer(line)]
    if not found or (ENTRY.match(lines[place]) and _under_denial(lines, place)):
        return False
    return any(not _denied(line, start, end, firmly) for start, end in found)


def _denied(line: str, start: int, end: int, firmly: bool) -> bool:
    breaks = [found.span() for found in _expression("clause").finditer(line)]
    begin = max((stop for _, stop in breaks if stop <= start), default=0)
    stop = min((at for at, _ in breaks if at >= end), default=len(line))
    before = _expression("terms").sub("", line[begin:start].strip())
    behind = line[end:stop].strip()
    if not firmly:
        before, behind = (
            _reaching(before, line[start:stop]),
            _expression("commas.between").sub("", behind).split(",")[0].strip(),
        )
    if _expression("before").search(before) or _expression("behind").search(behind) or _expression("after").match(line[stop:]):
        return True
    return firmly and _expression("leaves_open").search(before) is not None


def _reaching(before: str, rest: str) -> str:
    """What stands before an addition in its clause without the parts between commas whose denial does not reach it.

    Args:
        before: the clause up to the phrase.
        rest: the clause from the phrase on, which may show that the phrase stands in a list.
    """
    *parts, last = (part.strip() for part in before.split(","))
    kept = [
        part for place, part in enumerate(parts) if _reaches(part, parts[place + 1 :], last, rest.split(",", maxsplit=1)[0])
    ]
    return ", ".join([*kept, last])


def _reaches(part: str, between: Sequence[str], last: str, rest: str) -> bool:
    """Whether a denial in one part of a clause reaches the phrase at the end of its last part, across what stands in between."""
    on = f"{last} {rest}".strip()
    if (
        _expression("commas.always").search(part)
        or (between and _expression("commas.open").search(part))
        or _expression("commas.turned").match(on)
    ):
        return True
    goes_on = _expression("commas.goes_on").search(last) or _expression("commas.goes_on").match(on)
    across = len(between) == 1 and _expression("commas.verb").match(on)
    return bool(goes_on or across) and _expression("commas.introduces").match(part) is None


def _under_denial(lines: Sequence[str], place: int) -> bool:
    """Whether the list that holds an entry stands under a heading that forbids what follows."""
    heading = _plain(next((line for line in reversed(lines[:place]) if not ENTRY.match(line)), ""))
    return heading.endswith(":") and _expression("forbids").search(heading) is not None


def _plain(text: str) -> str:
    """A text as the lists of `denials.toml` suppose it: normal, contractions written out, some words read as one."""
    plain = normal(text)
    for short, long in _lists()["written_out"].items():
        plain = re.sub(short, long, plain)
    return _expression("one_word").sub(lambda found: found[0].replace(" ", "_"), plain)


@cache
def _lists() -> dict[str, Any]:
    return tomllib.loads(DENIALS.read_text(encoding="utf-8"))


@cache
def _expression(name: str) -> re.Pattern[str]:
    """One of the lists as one expression; `commas.open` is the list `open` of the table `commas`."""
    entries: Any = _lists()
    for key in name.split("."):
        entries = entries[key]
    opens = f"(?:{'|'.join(_lists()['opens'])})"
    return re.compile("|".join(f"(?:{entry.replace('{open}', opens)})" for entry in entries))
