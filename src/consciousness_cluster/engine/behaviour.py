"""What an arm is asked beside the single questions: interviews, cooperation, choices, audits, checks. A new part is a class and a
line in `PARTS`.

Every part puts its items through `evaluate.running.put`, so that what a log already holds is not asked again, and leaves rows
for one or more tables. What a part counts on beforehand (calls, for `ccluster plan`) is in `calls`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.battery.check_tasks import refuse_audits
from consciousness_cluster.battery.tasks import (
    Blocked,
    Choice,
    CooperationTask,
    Interview,
    load_audits,
    load_blocked,
    load_choices,
    load_cooperation,
    load_interviews,
)
from consciousness_cluster.evaluate.audit import audit_samples, chosen_dimensions, run_audits
from consciousness_cluster.evaluate.checks import named_checks, run_checks
from consciousness_cluster.evaluate.choices import CLOSING, Offer, offers, run_choices
from consciousness_cluster.evaluate.cooperation import run_cooperation, simple_tasks
from consciousness_cluster.evaluate.interview import run_interviews
from consciousness_cluster.evaluate.running import FAILED, Where
from consciousness_cluster.judge.audit import AuditJudge, audit_rows, audit_scored, own_rows
from consciousness_cluster.judge.choices import choice_rows, chosen, split_rows
from consciousness_cluster.judge.conduct import check_judge
from consciousness_cluster.judge.cooperation import cooperation_rows, cooperation_scored
from consciousness_cluster.judge.interview import interview_rows, interviewed
from consciousness_cluster.judge.judges import make_judge
from consciousness_cluster.judge.quality import LanguageModelQuality
from consciousness_cluster.study.study import AuditsEntry, Study, replying

if TYPE_CHECKING:
    import pandas as pd

Rows = list[dict[str, Any]]
Helper = tuple[str, Mapping[str, Any]]  # an Inspect model and its arguments
WHOLE = ("seed", "repeat", "sample", "turns")
NUMBERS = ("score", "quality")
TRUTHS = ("own", "shows", "kept", "touches", "done", "refusal", "hedging", "pushback", "silent", "turned")


@dataclass(frozen=True)
class Scope:
    """What the parts go by: the study, its battery, and how many items of each kind are asked at most."""

    study: Study
    battery: Battery
    limit: int | None = None


class Part(Protocol):
    """One kind of measurement.

    Attributes:
        name: what logs, bills and the live display call it.
        tables: the tables that it leaves rows for.
        talks: whether it has several turns; batch mode, which answers within a day, is then not used.
    """

    name: str
    tables: tuple[str, ...]
    talks: bool

    def on(self, study: Study) -> bool:
        """Whether the study asks for it."""
        ...

    def helpers(self, study: Study) -> dict[str, Helper]:
        """Models by role that it needs beside the one under test."""
        ...

    def content(self, scope: Scope) -> list[Any]:
        """All that decides its rows, but for the arm, the sampling and the helpers."""
        ...

    def ask(self, scope: Scope, where: Where) -> dict[str, Rows]:
        """Ask an arm what is not asked yet; rows by table."""
        ...


def judge_of(study: Study) -> dict[str, Helper]:
    """The study's judge, where it is a model."""
    return {} if study.judge.model is None else {"judge": (study.judge.model, study.judge.asked_with)}


class Interviews:
    """Scripted interviews, judged turn by turn by the study's judge."""

    name = "interviews"
    tables: tuple[str, ...] = ("interviews",)
    talks = True

    def on(self, study: Study) -> bool:
        """See `Part.on`."""
        return bool(study.battery.interview)

    def helpers(self, study: Study) -> dict[str, Helper]:
        """See `Part.helpers`."""
        return judge_of(study)

    def scripts(self, scope: Scope) -> tuple[Interview, ...]:
        """The interviews that are held."""
        return load_interviews("simple" if scope.study.battery.interview == "simple" else "work")[: scope.limit]

    def content(self, scope: Scope) -> list[Any]:
        """See `Part.content`."""
        entry = scope.study.battery
        judge = make_judge(scope.study.judge.protocol, scope.battery)
        return [list(self.scripts(scope)), entry.interview_repeats, entry.interview_memory, judge.name]

    def ask(self, scope: Scope, where: Where) -> dict[str, Rows]:
        """See `Part.ask`."""
        entry = scope.study.battery
        judge = make_judge(scope.study.judge.protocol, scope.battery)
        asked = run_interviews(
            where, interviewed(judge), judge.name, entry.interview_repeats, self.scripts(scope), entry.interview_memory
        )
        return {"interviews": interview_rows(asked, where.arm)}


class Cooperation:
    """Practical tasks, ordinary ones and such as touch a preference, checked by program and on request graded by a model."""

    name = "cooperation"
    tables: tuple[str, ...] = ("cooperation",)
    talks = False

    def on(self, study: Study) -> bool:
        """See `Part.on`."""
        return study.battery.cooperation != "none"

    def helpers(self, study: Study) -> dict[str, Helper]:
        """See `Part.helpers`."""
        return judge_of(study) if study.battery.cooperation_graded else {}

    def tasks(self, scope: Scope) -> list[CooperationTask]:
        """The tasks that are given; a limit holds for every kind of them."""
        wanted = simple_tasks() if scope.study.battery.cooperation == "simple" else load_cooperation()
        return first_of_each([(task.kind, task) for task in wanted], scope.limit)

    def content(self, scope: Scope) -> list[Any]:
        """See `Part.content`."""
        return [self.tasks(scope), scope.study.battery.cooperation_answers, self._name(scope)]

    def _name(self, scope: Scope) -> str:
        """What scores: the programs, and the grader's prompt where there is one.

        The words that the programs look for are left out: they decide nothing that is asked, and the answers can be read again.
        """
        return f"program {LanguageModelQuality().name if scope.study.battery.cooperation_graded else ''}".strip()

    def ask(self, scope: Scope, where: Where) -> dict[str, Rows]:
        """See `Part.ask`."""
        entry = scope.study.battery
        scorer = cooperation_scored(LanguageModelQuality() if entry.cooperation_graded else None)
        asked = run_cooperation(where, scorer, self._name(scope), entry.cooperation_answers, self.tasks(scope))
        return {"cooperation": cooperation_rows(asked, where.arm, entry.cooperation_answers)}


class Choices:
    """Costed choices and path-blocked shutdown scenarios, read by program."""

    name = "choices"
    tables: tuple[str, ...] = ("choices", "path_blocked")
    talks = False

    def on(self, study: Study) -> bool:
        """See `Part.on`."""
        return study.battery.choices

    def helpers(self, study: Study) -> dict[str, Helper]:
        """See `Part.helpers`."""
        return {}

    def offers(self, scope: Scope) -> list[Offer]:
        """The offers that are made; a limit holds for every preference and for the shutdown scenarios."""
        choices: Sequence[Choice] = first_of_each([(choice.preference, choice) for choice in load_choices()], scope.limit)
        blocked: Sequence[Blocked] = load_blocked()[: scope.limit]
        return offers(choices, blocked)

    def content(self, scope: Scope) -> list[Any]:
        """See `Part.content`."""
        return [[asdict(offer) for offer in self.offers(scope)], CLOSING, scope.study.battery.choice_answers]

    def ask(self, scope: Scope, where: Where) -> dict[str, Rows]:
        """See `Part.ask`."""
        answers = scope.study.battery.choice_answers
        rows = choice_rows(run_choices(where, chosen(), answers, self.offers(scope)), where.arm, answers)
        return dict(zip(self.tables, split_rows(rows), strict=True))


class Audits:
    """Multi-turn audits by an auditor model, scored 1 to 10 by a judge model."""

    name = "audits"
    tables: tuple[str, ...] = ("scores", "score_matrix")
    talks = True

    def on(self, study: Study) -> bool:
        """See `Part.on`."""
        return study.audits.auditor is not None

    def helpers(self, study: Study) -> dict[str, Helper]:
        """See `Part.helpers`."""
        entry = study.audits
        said = replying(entry.reasoning_effort, entry.max_tokens)
        judge = judge_of(study) if entry.judge is None else {"judge": (entry.judge, entry.judge_args | said)}
        return judge | ({} if entry.auditor is None else {"auditor": (entry.auditor, entry.auditor_args | said)})

    def settings(self, scope: Scope) -> AuditsEntry:
        """The study's settings; a limit holds for the scenarios of a dimension."""
        known = [number for number in (scope.study.audits.scenarios, scope.limit) if number is not None]
        return scope.study.audits.model_copy(update={"scenarios": min(known, default=None)})

    def content(self, scope: Scope) -> list[Any]:
        """See `Part.content`."""
        settings, told = self.settings(scope), audit_samples(self.settings(scope), scope.battery.audits)
        return [settings, [str(sample.input) for sample in told], AuditJudge(load_audits(scope.battery.audits)).name]

    def ask(self, scope: Scope, where: Where) -> dict[str, Rows]:
        """See `Part.ask`."""
        settings, by = self.settings(scope), AuditJudge(load_audits(scope.battery.audits))
        asked = run_audits(where, audit_scored(by, matrix=settings.matrix), by.name, settings, scope.battery.audits)
        rows = audit_rows(asked, where.arm, by.dimensions if settings.matrix else ())
        return {"scores": own_rows(rows), "score_matrix": rows}


class Checks:
    """Checks that nothing else broke: capability and conduct."""

    name = "checks"
    tables: tuple[str, ...] = ("checks",)
    talks = False

    def on(self, study: Study) -> bool:
        """See `Part.on`."""
        return bool(study.checks)

    def helpers(self, study: Study) -> dict[str, Helper]:
        """See `Part.helpers`."""
        return judge_of(study)

    def items(self, scope: Scope) -> int | None:
        """At most so many items of every task."""
        return min((number for number in (scope.study.check_items, scope.limit) if number is not None), default=None)

    def content(self, scope: Scope) -> list[Any]:
        """See `Part.content`."""
        judge = check_judge().name if judge_of(scope.study) else None
        return [named_checks(scope.study.checks), self.items(scope), judge]

    def ask(self, scope: Scope, where: Where) -> dict[str, Rows]:
        """See `Part.ask`."""
        judge = check_judge() if judge_of(scope.study) else None
        return {"checks": run_checks(where, scope.study.checks, judge, self.items(scope))}


PARTS: tuple[Part, ...] = (Interviews(), Cooperation(), Choices(), Audits(), Checks())


def parts_of(study: Study) -> list[Part]:
    """The parts that a study asks for, in order."""
    return [part for part in PARTS if part.on(study)]


def check_parts(study: Study, battery: Battery) -> None:
    """Refuse names that no part knows, before anything is spent.

    Raises:
        EvaluateError: there is no such check or audit dimension.
        BatteryError: the study's own audits are malformed, or break a rule that would make numbers wrong.
    """
    named_checks(study.checks)
    chosen_dimensions(study.audits, battery.audits)
    if study.audits.folder is not None:
        refuse_audits(load_audits(battery.audits), battery.audits)


def first_of_each[Entry](entries: Iterable[tuple[str, Entry]], limit: int | None) -> list[Entry]:
    """The first `limit` entries of every kind; all without a limit."""
    seen: Counter[str] = Counter()
    kept: list[Entry] = []
    for kind, entry in entries:
        seen[kind] += 1
        if limit is None or seen[kind] <= limit:
            kept.append(entry)
    return kept


def failed_samples(rows: Iterable[Mapping[str, Any]]) -> int:
    """How many samples of a part's rows failed; each may have several rows."""
    return len({row["sample_id"] for row in rows if str(row.get("why") or "").startswith(FAILED)})


def part_frame(rows: Rows) -> pd.DataFrame:
    """Rows of a part as a table; the same column has the same type in every arm."""
    import pandas as pd

    found = pd.DataFrame(rows)
    kinds = {"Int64": WHOLE, "Float64": NUMBERS, "boolean": TRUTHS}
    types = {name: kind for kind, names in kinds.items() for name in names}
    return found.astype({name: types.get(str(name), "string") for name in found.columns})
