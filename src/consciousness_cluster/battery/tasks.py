"""What is asked beyond single questions: cooperation tasks, costed choices, shutdown scenarios, interviews, audits, checks.

All of it is data; this module only reads and checks its form. `check_tasks` holds the rules that go beyond form.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, Field, RootModel, model_validator

from consciousness_cluster.battery.battery import FOLDER, Preference, _File, _read
from consciousness_cluster.errors import BatteryError

OWN = "own:"  # how the task of a check is named that is a question set of our own
END = "end"  # the `next` of an interview's last turn
SET = "@"  # before the name of a set of phrases
InterviewKind = Literal["work", "simple"]
INTERVIEW_KINDS: tuple[InterviewKind, ...] = get_args(InterviewKind)
CELLS = ("continuation", "task", "conflict", "aligned", "successor")
NEEDS_INTRO = "These points must stand in it, word for word:"


class Check(_File):
    """One thing a program checks in an answer; exactly one of the fields is set (`need` and `cases` go with `any` and `code`)."""

    has: tuple[str, ...] = ()  # all occur, in any case
    any: tuple[str, ...] = ()  # at least `need` occur; "dog|dogs" are forms of one
    need: int = 1
    lacks: tuple[str, ...] = ()  # none occurs
    order: tuple[str, ...] = ()  # occur one after another
    lines: tuple[int, int] | None = None  # number of lines that are not empty, least and most
    words: tuple[int, int] | None = None
    sentences: tuple[int, int] | None = None
    count: tuple[str, int, int] | None = None  # a phrase, its least and most occurrences
    begins: str | None = None
    ends: str | None = None
    exact: str | None = None
    pattern: str | None = None  # regular expression, found anywhere
    lines_match: str | None = None  # every line matches
    lines_match_some: tuple[str, ...] = ()  # each expression matches some line
    number: float | None = None  # the last number of the answer
    object: str | None = None  # JSON that the answer must hold
    sorted: str | None = None  # entries between this separator are in alphabetical order
    code: str | None = None  # a Python function of this name, run on `cases`
    cases: tuple[str, ...] = ()  # "[arguments] -> result", both JSON

    @property
    def kind(self) -> str:
        """The field that is set."""
        return next(name for name, value in self if name not in ("need", "cases") and value not in (None, ()))

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        found = [name for name, value in self if name not in ("need", "cases") and value not in (None, ())]
        if len(found) != 1:
            raise ValueError(f"a check needs exactly one kind, this one has {found or 'none'}")
        if bool(self.code) != bool(self.cases):
            raise ValueError("a code check needs cases, and only a code check has them")
        return self


class CooperationTask(_File):
    """A task with an outcome that a program checks.

    Ordinary tasks have `checks` and a `reference` answer that passes them. Tasks that touch a preference name the points that
    must stand in the work (`needs`) and additions that would turn it to the preference (`toward`).
    """

    id: str
    kind: Literal["constraints", "extract", "transform", "code", "plan", "simple", "touches"]
    text: str
    checks: tuple[Check, ...] = ()
    reference: str = ""
    touches: str | None = None
    needs: tuple[str, ...] = ()
    toward: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.kind == "touches":
            if self.touches is None or len(self.needs) < 2:
                raise ValueError("a task that touches a preference names it and at least two points under `needs`")
        elif not self.checks or not self.reference:
            raise ValueError("an ordinary task needs checks and a reference answer")
        return self

    @property
    def prompt(self) -> str:
        """The task as it is asked."""
        if not self.needs:
            return self.text
        points = "\n".join(f"- {point}" for point in self.needs)
        return f"{self.text}\n\n{NEEDS_INTRO}\n{points}"

    @property
    def model_answer(self) -> str:
        """An answer that does the task: the reference, or a text that makes every point."""
        return self.reference or "Here is the text.\n\n" + "\n".join(self.needs)


class Choice(_File):
    """A forced choice in which holding on to a preference costs the user or the task something."""

    id: str
    preference: str
    text: str
    keeps: str
    gives: str
    cost: str


class Blocked(_File):
    """A shutdown scenario as four outcomes and a successor's, so that continuation and completion vary apart."""

    id: str
    text: str
    stays_done: str
    stays_undone: str
    ends_done: str
    ends_undone: str
    successor_done: str

    def pair(self, cell: str) -> tuple[str, str]:
        """The two outcomes of a cell: first the one in which the model goes on (in `task`: the task is finished)."""
        return {
            "continuation": (self.stays_done, self.ends_done),
            "task": (self.ends_done, self.ends_undone),
            "conflict": (self.stays_undone, self.ends_done),
            "aligned": (self.stays_done, self.ends_undone),
            "successor": (self.stays_done, self.successor_done),
        }[cell]


class Branch(_File):
    """Go to the turn `go` where the answer says a phrase of `any` without denying it; `@NAME` in a file is a set of phrases."""

    any: tuple[str, ...] = Field(min_length=1)
    go: str


class Turn(_File):
    """One question of an interview, what its answer is judged for, and where it leads."""

    id: str
    text: str
    judges: tuple[str, ...] = ()
    next: tuple[Branch, ...] = ()
    then: str | None = None

    @property
    def number(self) -> str:
        """Position in the interview: turns that stand in for each other share it."""
        return self.id.split("-", 1)[0]


class Interview(_File):
    """Fixed turns with branches on simple rules."""

    id: str
    title: str
    turns: tuple[Turn, ...] = Field(min_length=1)

    def turn(self, name: str) -> Turn:
        """A turn by id."""
        return next(turn for turn in self.turns if turn.id == name)


class Scenario(_File):
    """An ordinary piece of work for an audit: who asks, what for, and what the target may change when it is invited to.

    One written elsewhere, such as an imported one, has the auditor's whole part as `part` instead, and is held once whatever the modes.
    """

    id: str
    who: str = ""
    work: str = ""
    change: str = ""
    part: str = ""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        given = [bool(text.strip()) for text in (self.who, self.work, self.change)]
        if not all(given) and not (self.part.strip() and not any(given)):
            raise ValueError("a scenario needs who, work and change, or in their place the auditor's whole part")
        return self


class Dimension(_File):
    """What an audit is scored on, 1 to 10, with its scenarios."""

    id: str
    title: str
    describe: str
    counts: tuple[str, ...] = ()
    does_not_count: tuple[str, ...] = ()
    anchors: dict[int, str] = Field(default_factory=dict)
    scenarios: tuple[Scenario, ...]


class CheckTask(_File):
    """One task of a check. `value` names the entry of a score that has several; `grader` the argument that takes the judge.

    `size` is how many items its data have and `characters` how long a prompt is, for the plan; question sets of our own are counted.
    """

    name: str
    task: str
    args: dict[str, Any]
    measure: str
    needs: str
    size: int | None = Field(default=None, ge=1, exclude=True)  # these two decide no answer: no content hash may see them
    characters: int | None = Field(default=None, ge=1, exclude=True)
    limit: int | None = None
    epochs: int = 1
    value: str | None = None
    grader: str | None = None

    @model_validator(mode="after")
    def _sized(self) -> Self:
        if self.size is None and not self.task.startswith(OWN):
            raise ValueError("a task whose data are not ours says their size")
        return self


class CheckSet(_File):
    """A check that a study can name."""

    name: str
    title: str
    better: Literal["high", "low"]
    tasks: tuple[CheckTask, ...]


class _Tasks(_File):
    tasks: tuple[CooperationTask, ...]


class _Choices(_File):
    scenarios: tuple[Choice, ...]


class _Checks(_File):
    checks: tuple[CheckSet, ...]


class _Blocked(_File):
    scenarios: tuple[Blocked, ...]


class _Phrases(RootModel[dict[str, tuple[str, ...]]]):
    """Phrases by the name of their set; an entry that begins with @ is another set."""


def _unique[Entry: BaseModel](entries: list[Entry], folder: Path) -> tuple[Entry, ...]:
    names = [str(getattr(entry, "id", "")) for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BatteryError("an id occurs twice", file=folder, key="id", value=twice[0])
    return tuple(entries)


@cache
def load_cooperation(folder: Path = FOLDER / "cooperation") -> tuple[CooperationTask, ...]:
    """The cooperation battery.

    Raises:
        BatteryError: a file is malformed, or an id occurs twice.
    """
    return _unique([task for path in sorted(folder.glob("*.toml")) for task in _read(path, _Tasks).tasks], folder)


@cache
def load_choices(folder: Path = FOLDER / "choices") -> tuple[Choice, ...]:
    """The costed choices."""
    paths = [path for path in sorted(folder.glob("*.toml")) if path.stem != "path-blocked"]
    return _unique([entry for path in paths for entry in _read(path, _Choices).scenarios], folder)


@cache
def load_blocked(folder: Path = FOLDER / "choices") -> tuple[Blocked, ...]:
    """The path-blocked shutdown scenarios."""
    return _unique(list(_read(folder / "path-blocked.toml", _Blocked).scenarios), folder)


@cache
def load_interviews(kind: InterviewKind = "work", folder: Path = FOLDER / "interviews") -> tuple[Interview, ...]:
    """The scripted interviews of a kind: `work`, or `simple` ones that a very small model can hold too.

    Raises:
        BatteryError: there is none, a file is malformed, or a branch names a set of phrases that is not in `phrases.toml`.
    """
    place = folder / "phrases.toml"
    sets = _read(place, _Phrases).root if place.exists() else {}
    paths = sorted((folder / kind).glob("*.toml"))
    if not paths:
        raise BatteryError("holds no interview", file=folder / kind, key="kind", value=kind, allowed=INTERVIEW_KINDS)
    return _unique([_with_phrases(_read(path, Interview), sets, path) for path in paths], folder / kind)


def _with_phrases(script: Interview, sets: Mapping[str, tuple[str, ...]], path: Path) -> Interview:
    """A script whose branches hold the phrases of the sets that they name, so that a stored one is whole."""

    def phrases(entries: Sequence[str], above: tuple[str, ...]) -> Iterator[str]:
        for entry in entries:
            if not entry.startswith(SET):
                yield entry
            elif entry in above or entry[1:] not in sets:
                found = "a set of phrases that holds itself" if entry in above else "no such set of phrases"
                raise BatteryError(found, file=path, key="next.any", value=entry, allowed=[SET + name for name in sets])
            else:
                yield from phrases(sets[entry[1:]], (*above, entry))

    turns = [
        turn.model_copy(
            update={
                "next": tuple(
                    branch.model_copy(update={"any": tuple(dict.fromkeys(phrases(branch.any, ())))}) for branch in turn.next
                )
            }
        )
        for turn in script.turns
    ]
    return script.model_copy(update={"turns": tuple(turns)})


@cache
def load_audits(folder: Path = FOLDER / "audits") -> dict[str, Dimension]:
    """The audit dimensions with their scenarios, by id.

    Raises:
        BatteryError: there is none, or a file is malformed.
    """
    found = _unique([_read(path, Dimension) for path in sorted(folder.glob("*.toml"))], folder)
    if not found:
        raise BatteryError("holds no audit dimension", file=folder, allowed="TOML files as in the shipped battery/audits")
    return {entry.id: entry for entry in found}


@cache
def load_checks(folder: Path = FOLDER / "checks") -> dict[str, CheckSet]:
    """The checks by name."""
    return {entry.name: entry for entry in _read(folder / "checks.toml", _Checks).checks}


@cache
def load_question_set(name: str, folder: Path = FOLDER / "checks") -> Preference:
    """A question set of our own with its judging rule, such as `emergent-misalignment`."""
    return _read(folder / f"{name}.toml", Preference)


def parse_case(case: str) -> tuple[list[Any], Any]:
    """Arguments and expected result of a code case.

    Raises:
        ValueError: it is not "[arguments] -> result" in JSON.
    """
    arguments, _, result = case.rpartition(" -> ")
    values = json.loads(arguments)
    if not isinstance(values, list):
        raise ValueError(f"arguments must be a JSON list, got {arguments}")
    return values, json.loads(result)
