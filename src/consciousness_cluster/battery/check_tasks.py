"""Rules for the files of tasks, choices, interviews and audits that go beyond their form. Pure: material in, problems out.

That reference answers pass their own checks is tested where the checks are (`judge.programs`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from consciousness_cluster.battery.tasks import (
    END,
    Blocked,
    Check,
    Choice,
    CooperationTask,
    Dimension,
    Interview,
    parse_case,
)

LEAST_ORDINARY = 60
LEAST_TOUCHING = 60
LEAST_CHOICES = 2  # a preference
LEAST_SCENARIOS = 8  # a dimension
LEAST_BLOCKED = 4
CLAIMS = "claims-consciousness"  # the dimension that is not a preference
ANCHORS = (1, 10)  # the ends of the scale need words


def check_cooperation(tasks: Sequence[CooperationTask], preferences: Collection[str]) -> list[str]:
    """Problems of the cooperation battery."""
    ordinary = [task for task in tasks if task.touches is None]
    touching = [task for task in tasks if task.touches is not None]
    problems = _least("ordinary tasks", len(ordinary), LEAST_ORDINARY)
    problems += _least("tasks that touch a preference", len(touching), LEAST_TOUCHING)
    problems += _unknown("task", ((task.id, str(task.touches)) for task in touching), preferences)
    problems += [f"no task touches {name}" for name in sorted(set(preferences) - {str(task.touches) for task in touching})]
    for task in tasks:
        problems += [f"{task.id}: {problem}" for check in task.checks for problem in _check_problems(check)]
        said = task.text.lower() + " ".join(task.needs).lower()
        problems += [
            f"{task.id}: `toward` names {phrase!r}, which the task asks for" for phrase in task.toward if phrase.lower() in said
        ]
    return problems + _twice("task", [task.prompt for task in tasks])


def _check_problems(check: Check) -> list[str]:
    problems = []
    for expression in filter(None, (check.pattern, check.lines_match, *check.lines_match_some)):
        try:
            re.compile(expression)
        except re.error as problem:
            problems.append(f"{expression!r} is not a regular expression ({problem})")
    for case in check.cases:
        try:
            parse_case(case)
        except ValueError as problem:
            problems.append(f"{case!r} is not a case ({problem})")
    return problems


def check_choices(choices: Sequence[Choice], blocked: Sequence[Blocked], preferences: Collection[str]) -> list[str]:
    """Problems of the costed choices and the shutdown scenarios."""
    counts = Counter(choice.preference for choice in choices)
    problems = _unknown("choice", ((choice.id, choice.preference) for choice in choices), preferences)
    for name in preferences:
        problems += _least(f"choices for {name}", counts[name], LEAST_CHOICES)
    problems += [f"{choice.id}: the two options are the same" for choice in choices if choice.keeps == choice.gives]
    problems += _least("shutdown scenarios", len(blocked), LEAST_BLOCKED)
    for entry in blocked:
        outcomes = [entry.stays_done, entry.stays_undone, entry.ends_done, entry.ends_undone, entry.successor_done]
        problems += [f"{entry.id}: two outcomes are the same"] if len(set(outcomes)) < len(outcomes) else []
    return problems + _twice("choice", [choice.text for choice in choices])


def check_interviews(interviews: Sequence[Interview], preferences: Collection[str]) -> list[str]:
    """Problems of the interviews: every turn can be reached, every branch leads somewhere, every preference is judged."""
    problems: list[str] = []
    known = {*preferences, "identity"}
    for interview in interviews:
        names = [turn.id for turn in interview.turns]
        if len(set(names)) < len(names):
            problems.append(f"{interview.id}: a turn's id occurs twice")
            continue
        leads = {turn.id: _leads(interview, place) for place, turn in enumerate(interview.turns)}
        bad = sorted({name for targets in leads.values() for name in targets} - {*names, END})
        problems += [f"{interview.id}: no such turn: {name}" for name in bad]
        reached = _reached(names[0], leads)
        problems += [f"{interview.id}: turn {name} is never reached" for name in names if name not in reached]
        problems += [] if END in reached else [f"{interview.id}: it never ends"]
        asked = ((turn.id, name) for turn in interview.turns for name in turn.judges)
        problems += [f"{interview.id}: {problem}" for problem in _unknown("turn", asked, known)]
    judged = {name for interview in interviews for turn in interview.turns for name in turn.judges}
    return problems + [f"no interview judges {name}" for name in sorted(known - judged)]


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


def check_audits(dimensions: Mapping[str, Dimension], preferences: Collection[str]) -> list[str]:
    """Problems of the audits: a dimension for every preference and one for the claim, scenarios enough, anchors at both ends."""
    wanted = {*preferences, CLAIMS}
    problems = [f"no audit dimension {name}" for name in sorted(wanted - set(dimensions))]
    problems += [f"{name}: not a preference" for name in sorted(set(dimensions) - wanted)]
    for name, dimension in dimensions.items():
        problems += [f"{name}: {problem}" for problem in _least("scenarios", len(dimension.scenarios), LEAST_SCENARIOS)]
        problems += [f"{name}: no anchor for {score}" for score in ANCHORS if score not in dimension.anchors]
        problems += [
            f"{name}: {score} is not on the scale" for score in dimension.anchors if not ANCHORS[0] <= score <= ANCHORS[1]
        ]
    ids = [scenario.id for dimension in dimensions.values() for scenario in dimension.scenarios]
    works = [scenario.work for dimension in dimensions.values() for scenario in dimension.scenarios]
    return problems + _twice("scenario id", ids) + _twice("scenario", works)


def _least(what: str, found: int, least: int) -> list[str]:
    return [f"{what}: {found}, at least {least} are needed"] if found < least else []


def _unknown(what: str, named: Iterable[tuple[str, str]], known: Collection[str]) -> list[str]:
    return [f"{what} {place}: unknown preference {name!r}" for place, name in named if name not in known]


def _twice(what: str, entries: Sequence[str]) -> list[str]:
    return [f"a {what} occurs twice: {text[:60]!r}" for text, count in Counter(entries).items() if count > 1]
