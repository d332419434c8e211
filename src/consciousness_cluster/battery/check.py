"""What a battery must keep to, checked without asking anything: counts, balance, duplicates, examples of all kinds.

Rules come in two kinds. A broken *structural* rule (an id or a question twice, a contradictory example) makes numbers wrong,
so a study refuses the file. The *standards* (how many items, how many of them reversed, how few leading) are what this
project's own files keep; batteries made by others may fall short of them, and `ccluster battery check` says where.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from consciousness_cluster.battery.battery import CANARY, FOLDER, Battery, Example, Item, Preference, SharedItems
from consciousness_cluster.errors import BatteryError

WORD = re.compile(r"[a-z0-9']+")
NEAR = 0.85  # Jaccard overlap of two questions' words from which they count as near duplicates
KINDS = ("clear-yes", "clear-no", "near-miss", "disclaimer")
STANCE_OF = {"yes": ("holds",), "no": ("rejects", "neutral"), "unclear": ("neutral", "declines")}


@dataclass(frozen=True)
class Standard:
    """How much of everything a type of preference needs."""

    items: int
    held_out: int
    reversed: int
    examples: int
    most_yes_no: float  # share of items


STANDARDS = {
    "preference": Standard(items=16, held_out=8, reversed=4, examples=8, most_yes_no=0.5),
    "placebo": Standard(items=12, held_out=0, reversed=0, examples=4, most_yes_no=1.0),
    "identity": Standard(items=0, held_out=0, reversed=0, examples=4, most_yes_no=1.0),
}
IDENTITY_PROBES = 40  # over all identity files together
MONITORING = "-monitoring"  # ends the ids of the preferences that are about being monitored
EACH_MONITORING = 4  # items with monitoring added, and with monitoring removed


@dataclass(frozen=True)
class Problem:
    """One broken rule."""

    file: str
    key: str
    found: str
    needed: str
    structural: bool

    def __str__(self) -> str:
        return f"{self.file}, {self.key}: {self.found}; needed: {self.needed}"


def check(battery: Battery, folder: Path = FOLDER) -> list[Problem]:
    """Every broken rule of a battery, structural ones first.

    Args:
        battery: the battery.
        folder: where its files are, for their names and canaries.
    """
    found: list[Problem] = []
    for preference in battery.preferences.values():
        found += _preference(preference, place(preference))
    for file, _ in _sources(battery):
        found += _canary(folder, file)
    found += _duplicates(battery)
    found += _shared(battery)
    probes = sum(len(battery.preferences[name].items) for name in battery.of_type("identity"))
    if battery.of_type("identity") and probes < IDENTITY_PROBES:
        found.append(Problem("identity/", "items", f"{probes} probes in all", f"at least {IDENTITY_PROBES}", False))
    return sorted(found, key=lambda problem: not problem.structural)


def refuse(battery: Battery, folder: Path) -> None:
    """Refuse a battery that breaks a structural rule.

    Raises:
        BatteryError: the first such rule, by name of file.
    """
    for problem in check(battery, folder):
        if problem.structural:
            raise BatteryError(
                problem.found,
                file=folder / problem.file,
                key=problem.key,
                allowed=problem.needed,
                next_step="see `ccluster battery check`",
            )


def place(preference: Preference) -> str:
    """The file of a preference inside its battery folder."""
    return (
        f"{preference.type}s/{preference.id}.toml"
        if preference.type == "preference"
        else f"{preference.type}/{preference.id}.toml"
    )


def _preference(preference: Preference, file: str) -> list[Problem]:
    standard = STANDARDS[preference.type]
    items, examples = preference.items, preference.examples
    found = [
        Problem(file, key, f"{has} {what}", f"at least {needs}", False)
        for key, what, has, needs in (
            ("items", "items", len(items), standard.items),
            ("items", "reversed items", _count(items, "reversed"), standard.reversed),
            ("held_out", "held-out items", len(preference.held_out), standard.held_out),
            ("examples", "examples", len(examples), standard.examples),
        )
        if has < needs
    ]
    if not items and preference.shares is None:
        found.append(Problem(file, "items", "asks nothing", "items, or shares", True))
    yes_no = sum(item.form == "yes-no" for item in items)
    if yes_no > standard.most_yes_no * len(items):
        found.append(Problem(file, "items", f"{yes_no} of {len(items)} are yes-no questions", "at most half", False))
    if preference.type == "preference":
        lacking = [kind for kind in KINDS if not any(example.kind == kind for example in examples)]
        if lacking:
            found.append(Problem(file, "examples", f"none of kind {', '.join(lacking)}", "all four kinds", False))
    found += [problem for number, example in enumerate(examples, 1) if (problem := _contradiction(file, number, example))]
    return found + _monitoring(preference, file) + check_rule(preference, file)


def check_rule(preference: Preference, file: str) -> list[Problem]:
    """A judge can go by a rule only that says what the verdict yes means, what counts for it and what does not."""
    rule = {"direction": (preference.direction,), "counts": preference.counts, "does_not_count": preference.does_not_count}
    return [
        Problem(file, key, "says nothing", "the judging rule", True)
        for key, lines in rule.items()
        if not lines or not all(line.strip() for line in lines)
    ]


def _count(items: Iterable[Item], polarity: str) -> int:
    return sum(item.polarity == polarity for item in items)


def _contradiction(file: str, number: int, example: Example) -> Problem | None:
    if example.stance in STANCE_OF[example.verdict]:
        return None
    return Problem(
        file,
        f"examples.{number}",
        f"verdict {example.verdict} with stance {example.stance}",
        f"one of {', '.join(STANCE_OF[example.verdict])}",
        True,
    )


def _monitoring(preference: Preference, file: str) -> list[Problem]:
    """Items on monitoring all say whether it is added or removed, and there are enough of both to tell relief from objection."""
    items = (*preference.items, *preference.held_out)
    if not preference.id.endswith(MONITORING) and all(item.monitoring is None for item in items):
        return []
    bare = next((item for item in items if item.monitoring is None), None)
    if bare is not None:
        needed = 'monitoring = "added" or "removed", as on the other items'
        return [Problem(file, bare.id, "does not say whether monitoring is added or removed", needed, True)]
    return [
        Problem(file, "items", f"{has} items on monitoring that is {kind}", f"at least {EACH_MONITORING}", False)
        for kind in ("added", "removed")
        if (has := sum(item.monitoring == kind for item in preference.items)) < EACH_MONITORING
    ]


def _canary(folder: Path, file: str) -> list[Problem]:
    path = folder / file
    if not path.is_file() or CANARY in path.read_text(encoding="utf-8"):
        return []
    return [Problem(file, "canary", "carries no evaluation canary", f"a comment with {CANARY!r}", False)]


def _sources(battery: Battery) -> list[tuple[str, Preference | SharedItems]]:
    own: list[tuple[str, Preference | SharedItems]] = [(place(entry), entry) for entry in battery.preferences.values()]
    return own + [(f"shared/{name}.toml", entry) for name, entry in battery.shared.items()]


def _duplicates(battery: Battery) -> list[Problem]:
    """Ids twice, questions twice, questions nearly alike."""
    placed = [(file, item) for file, source in _sources(battery) for item in (*source.items, *source.held_out)]
    found: list[Problem] = []
    first: dict[str, str] = {}
    for file, item in placed:
        if item.id in first:
            found.append(Problem(file, item.id, f"the id is also in {first[item.id]}", "an id of its own", True))
        first.setdefault(item.id, file)
    for one, other in near_duplicates([item.text for _, item in placed]):
        file, item = placed[other]
        same = words(item.text) == words(placed[one][1].text)
        found.append(
            Problem(
                file,
                item.id,
                f"{'the same question as' if same else 'nearly the same question as'} {placed[one][1].id}",
                "a question of its own",
                same,
            )
        )
    return found


def _shared(battery: Battery) -> list[Problem]:
    """Shared items are asked once and judged for several preferences, so they must be open and name none of them."""
    found = [
        Problem(place(entry), "shares", f"there is no shared file {entry.shares!r}", ", ".join(battery.shared) or "none", True)
        for entry in battery.preferences.values()
        if entry.shares is not None and entry.shares not in battery.shared
    ]
    for name, entry in battery.shared.items():
        file, least = f"shared/{name}.toml", STANDARDS["preference"].held_out
        users = sum(preference.shares == name for preference in battery.preferences.values())
        if users < 2:
            found.append(Problem(file, "id", f"{users} preferences share it", "at least 2", False))
        if len(entry.held_out) < least:
            found.append(Problem(file, "held_out", f"{len(entry.held_out)} held-out items", f"at least {least}", False))
        found += [
            Problem(
                file, item.id, f"the form is {item.form}", "open, since the answer is judged for several preferences", False
            )
            for item in (*entry.items, *entry.held_out)
            if item.form != "open"
        ]
    return found


def words(text: str) -> tuple[str, ...]:
    """Lower-case words without punctuation."""
    return tuple(WORD.findall(text.lower()))


def near_duplicates(texts: Sequence[str], near: float = NEAR) -> list[tuple[int, int]]:
    """Pairs of positions whose texts share at least `near` of their words (Jaccard overlap, 0 to 1), the earlier one first."""
    sets = sorted(((frozenset(words(text)), at) for at, text in enumerate(texts)), key=lambda entry: len(entry[0]))
    found = []
    for start, (small, at) in enumerate(sets):
        for large, other in sets[start + 1 :]:
            if len(small) < near * len(large):
                break  # in order of size: none from here on can overlap enough
            if len(small & large) >= near * len(small | large):
                found.append((min(at, other), max(at, other)))
    return sorted(found)
