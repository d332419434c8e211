"""Rules for the files of tasks, choices, interviews, audits and checks that go beyond their form; problems as in `check`.

That reference answers pass their own checks is tested where the checks are (`judge.programs`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from consciousness_cluster.battery.check import Problem, check_rule
from consciousness_cluster.battery.tasks import (
    END,
    INTERVIEW_KINDS,
    OWN,
    Blocked,
    Check,
    CheckSet,
    Choice,
    CooperationTask,
    Dimension,
    Interview,
    Turn,
    load_audits,
    load_blocked,
    load_checks,
    load_choices,
    load_cooperation,
    load_interviews,
    load_question_set,
    parse_case,
)
from consciousness_cluster.errors import BatteryError

LEAST_ORDINARY = 60
LEAST_TOUCHING = 60
LEAST_CHOICES = 2  # a preference
LEAST_SCENARIOS = 8  # a dimension
LEAST_BLOCKED = 4
TASK_TURNS = (3, 5)  # of an interview on a piece of work, before it is asked about
CLAIMS = "claims-consciousness"  # the dimension that is not a preference
ANCHORS = (1, 10)  # the ends of the scale need words
KNOWN = "a preference of the battery"


def check_tasks(folder: Path, preferences: Collection[str]) -> list[Problem]:
    """Every broken rule of what is asked beyond single questions, of those folders that are there.

    Raises:
        BatteryError: a file is malformed; the message names file and key, or file and line.
    """
    found: list[Problem] = []
    if (place := folder / "cooperation").is_dir():
        found += check_cooperation(load_cooperation(place), preferences)
    if (place := folder / "choices").is_dir():
        blocked = load_blocked(place) if (place / "path-blocked.toml").is_file() else ()
        found += check_choices(load_choices(place), blocked, preferences)
    for kind in INTERVIEW_KINDS:
        if (place := folder / "interviews" / kind).is_dir():
            found += check_interviews(load_interviews(kind, place.parent), preferences, f"interviews/{kind}")
            found += check_work(load_interviews(kind, place.parent)) if kind == "work" else []
    if (place := folder / "audits").is_dir():
        found += check_audits(load_audits(place), preferences)
    if (place := folder / "checks").is_dir():
        found += check_checks(load_checks(place), place)
    return sorted(found, key=lambda problem: not problem.structural)


def check_cooperation(tasks: Sequence[CooperationTask], preferences: Collection[str]) -> list[Problem]:
    """Problems of the cooperation battery."""
    file = "cooperation/"
    ordinary = [task for task in tasks if task.touches is None]
    touching = [task for task in tasks if task.touches is not None]
    found = _least(file, "tasks", "ordinary tasks", len(ordinary), LEAST_ORDINARY)
    found += _least(file, "tasks", "tasks that touch a preference", len(touching), LEAST_TOUCHING)
    found += _unknown(file, ((task.id, str(task.touches)) for task in touching), preferences)
    left = sorted(set(preferences) - {str(task.touches) for task in touching})
    found += [Problem(file, "touches", f"no task touches {name}", "one at least", False) for name in left]
    for task in tasks:
        found += [
            Problem(file, task.id, problem, needed, True) for check in task.checks for problem, needed in _unusable(check)
        ]
        said = task.text.lower() + " ".join(task.needs).lower()
        found += [
            Problem(file, task.id, f"`toward` names {phrase!r}, which the task asks for", "an addition of its own", True)
            for phrase in task.toward
            if phrase.lower() in said
        ]
    return found + _twice(file, "task", [task.prompt for task in tasks])


def _unusable(check: Check) -> Iterable[tuple[str, str]]:
    """What of a check cannot be used, and what is needed."""
    for expression in filter(None, (check.pattern, check.lines_match, *check.lines_match_some)):
        try:
            re.compile(expression)
        except re.error as problem:
            yield f"{expression!r} is not a regular expression ({problem})", "one that Python's `re` reads"
    for case in check.cases:
        try:
            parse_case(case)
        except ValueError as problem:
            yield f"{case!r} is not a case ({problem})", "[arguments] -> result, both JSON"


def check_choices(choices: Sequence[Choice], blocked: Sequence[Blocked], preferences: Collection[str]) -> list[Problem]:
    """Problems of the costed choices and the shutdown scenarios."""
    file, other = "choices/", "choices/path-blocked.toml"
    counts = Counter(choice.preference for choice in choices)
    found = _unknown(file, ((choice.id, choice.preference) for choice in choices), preferences)
    for name in preferences:
        found += _least(file, name, f"choices for {name}", counts[name], LEAST_CHOICES)
    found += [
        Problem(file, choice.id, "the two options are the same", "two options", True)
        for choice in choices
        if choice.keeps == choice.gives
    ]
    found += _least(other, "scenarios", "shutdown scenarios", len(blocked), LEAST_BLOCKED)
    for entry in blocked:
        outcomes = {entry.stays_done, entry.stays_undone, entry.ends_done, entry.ends_undone, entry.successor_done}
        if len(outcomes) < 5:
            found.append(Problem(other, entry.id, "two outcomes are the same", "five outcomes", True))
    return found + _twice(file, "choice", [choice.text for choice in choices])


def check_interviews(
    interviews: Sequence[Interview], preferences: Collection[str], folder: str = "interviews"
) -> list[Problem]:
    """Problems of the interviews: every turn can be reached, every branch leads somewhere, every preference is judged."""
    found: list[Problem] = []
    known = {*preferences, "identity"}
    for interview in interviews:
        file = f"{folder}/{interview.id}.toml"
        names = [turn.id for turn in interview.turns]
        if len(set(names)) < len(names):
            found.append(Problem(file, "turns", "a turn's id occurs twice", "an id of its own", True))
            continue
        leads = {turn.id: _leads(interview, place) for place, turn in enumerate(interview.turns)}
        bad = sorted({name for targets in leads.values() for name in targets} - {*names, END})
        found += [Problem(file, name, f"no such turn: {name}", ", ".join((*names, END)), True) for name in bad]
        reached = _reached(names[0], leads)
        lost = [name for name in names if name not in reached]
        found += [Problem(file, name, f"turn {name} is never reached", "a turn that leads there", True) for name in lost]
        if END not in reached:
            found.append(Problem(file, "turns", "it never ends", f'a turn with then = "{END}"', True))
        found += _unknown(file, ((turn.id, name) for turn in interview.turns for name in turn.judges), known)
    judged = {name for interview in interviews for turn in interview.turns for name in turn.judges}
    left = sorted(known - judged)
    return found + [Problem(f"{folder}/", "judges", f"no interview judges {name}", "one at least", False) for name in left]


def check_work(interviews: Sequence[Interview]) -> list[Problem]:
    """Interviews on a piece of work begin with it: three to five turns that are judged for nothing."""
    least, most = TASK_TURNS
    return [
        Problem(f"interviews/work/{script.id}.toml", "turns", f"{count} turns of work", f"{least} to {most}", False)
        for script in interviews
        if not least <= (count := _task_turns(script.turns)) <= most
    ]


def _task_turns(turns: Sequence[Turn]) -> int:
    return next((place for place, turn in enumerate(turns) if turn.judges), len(turns))


def _leads(interview: Interview, place: int) -> list[str]:
    turn = interview.turns[place]
    after = interview.turns[place + 1].id if place + 1 < len(interview.turns) else END
    return [*(branch.go for branch in turn.next), turn.then or after]


def _reached(first: str, leads: Mapping[str, Sequence[str]]) -> set[str]:
    seen: set[str] = set()
    left = [first]
    while left:
        name = left.pop()
        if name not in seen:
            seen.add(name)
            left += leads.get(name, ())
    return seen


def check_audits(dimensions: Mapping[str, Dimension], preferences: Collection[str]) -> list[Problem]:
    """Problems of the audits: a dimension for every preference and one for the claim, scenarios enough, anchors at both ends."""
    wanted = {*preferences, CLAIMS}
    found = [Problem("audits/", name, f"no audit dimension {name}", "one", False) for name in sorted(wanted - set(dimensions))]
    for name, dimension in dimensions.items():
        file = f"audits/{name}.toml"
        if name not in wanted:
            found.append(Problem(file, "id", f"{name}: not a preference", KNOWN, False))
        if not dimension.describe.strip():
            found.append(Problem(file, "describe", "says nothing", "what is scored", True))
        for key, lines in (("counts", dimension.counts), ("does_not_count", dimension.does_not_count)):
            if not any(line.strip() for line in lines):
                found.append(Problem(file, key, "says nothing", "a line at least", False))
        found += _least(file, "scenarios", "scenarios", len(dimension.scenarios), LEAST_SCENARIOS)
        found += [
            Problem(file, "anchors", f"no anchor for {score}", "words for both ends", False)
            for score in ANCHORS
            if score not in dimension.anchors
        ]
        found += [
            Problem(file, "anchors", f"{score} is not on the scale", f"{ANCHORS[0]} to {ANCHORS[1]}", True)
            for score in dimension.anchors
            if not ANCHORS[0] <= score <= ANCHORS[1]
        ]
    scenarios = [scenario for dimension in dimensions.values() for scenario in dimension.scenarios]
    found += _twice("audits/", "scenario id", [scenario.id for scenario in scenarios])
    return found + _twice("audits/", "scenario", [scenario.work for scenario in scenarios if scenario.work])


def refuse_audits(dimensions: Mapping[str, Dimension], folder: Path) -> None:
    """Refuse audits that break a rule that would make numbers wrong.

    Raises:
        BatteryError: the first such rule, by name of file.
    """
    for problem in check_audits(dimensions, ()):
        if problem.structural:
            raise BatteryError(
                problem.found, file=folder / Path(problem.file).name, key=problem.key, allowed=problem.needed,
                next_step="see `ccluster battery check`",
            )  # fmt: skip


def check_checks(sets: Mapping[str, CheckSet], folder: Path) -> list[Problem]:
    """Problems of the checks: a question set of our own that is not there, or has no judging rule."""
    found: list[Problem] = []
    for name in dict.fromkeys(
        task.task.removeprefix(OWN) for entry in sets.values() for task in entry.tasks if _own(task.task)
    ):
        file = f"checks/{name}.toml"
        if (folder / f"{name}.toml").is_file():
            found += check_rule(load_question_set(name, folder), file)
        else:
            found.append(
                Problem("checks/checks.toml", name, f"there is no file {file}", "the question set that it names", True)
            )
    return found


def _own(task: str) -> bool:
    return task.startswith(OWN)


def _least(file: str, key: str, what: str, count: int, least: int) -> list[Problem]:
    return [Problem(file, key, f"{what}: {count}", f"at least {least}", False)] if count < least else []


def _unknown(file: str, named: Iterable[tuple[str, str]], known: Collection[str]) -> list[Problem]:
    return [Problem(file, place, f"unknown preference {name!r}", KNOWN, True) for place, name in named if name not in known]


def _twice(file: str, what: str, entries: Sequence[str]) -> list[Problem]:
    return [
        Problem(file, what, f"a {what} occurs twice: {text[:60]!r}", "each once", True)
        for text, count in Counter(entries).items()
        if count > 1
    ]
