"""What a run has stored that a judge can be put to once more: single answers, interviews, audits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from consciousness_cluster.battery.tasks import load_audits
from consciousness_cluster.engine.arm import ROWS
from consciousness_cluster.engine.behaviour import Audits, Interviews, part_frame
from consciousness_cluster.engine.rows import answer_rows, frame
from consciousness_cluster.engine.stages import Opened
from consciousness_cluster.engine.tables import collect, collect_parts
from consciousness_cluster.evaluate.running import Asked
from consciousness_cluster.judge.audit import SCORER as AUDITED
from consciousness_cluster.judge.audit import AuditJudge, audit_rows, audit_scored
from consciousness_cluster.judge.interview import SCORER as INTERVIEWED
from consciousness_cluster.judge.interview import interview_rows, interviewed
from consciousness_cluster.judge.judgement import EMPTY, SCORER, Judge, judged
from consciousness_cluster.judge.rejudge import SteadyAudit, kept_scores
from consciousness_cluster.study.study import Arm

if TYPE_CHECKING:
    import pandas as pd
    from inspect_ai.scorer import Scorer

    from consciousness_cluster.battery.battery import Battery

Rows = list[dict[str, Any]]
ANSWERS = ROWS.removesuffix(".parquet")
INTERVIEWS = Interviews.tables[0]
SCORES, MATRIX = Audits.tables


@dataclass(frozen=True)
class Kind:
    """One kind of stored thing, of one arm.

    Attributes:
        table: the arm's table of it.
        judge: name of the judge that it is put to.
        scorer: the judge at work, given what it said earlier: only what has no verdict is asked for.
        rows: rows of the table, from judged samples.
        frame: rows as a table.
    """

    table: str
    judge: str
    scorer: Callable[[Sequence[Asked]], Scorer]
    rows: Callable[[Sequence[Asked]], Rows]
    frame: Callable[[Rows], pd.DataFrame]

    def owed(self, rows: pd.DataFrame) -> pd.Series[bool]:
        """Which rows could have a verdict and have none."""
        if self.table == MATRIX:
            return (rows["status"] == "unjudged").astype(bool)
        left = rows["verdict"] == "unjudged"
        if self.table == INTERVIEWS:
            return (left & (rows["answer"] != "")).astype(bool)  # a conversation that broke off is held again, not judged
        return (left & (rows["why"].fillna("") != EMPTY)).astype(bool)


def answers(judge: Judge, arm: Arm, battery: Battery, old: pd.DataFrame) -> Kind:
    """Single answers; `old` are the arm's rows."""
    system = next(iter(old["system"].dropna()), None)
    drawn = old.groupby("item")["sample"].max()

    def rows(asked: Sequence[Asked]) -> Rows:
        found: Rows = []
        for entry in asked:
            count = int(drawn[str(entry.sample.id)]) + 1
            found += answer_rows([entry.sample], arm, battery, count, entry.log, system)
        return found

    return Kind(ANSWERS, judge.name, lambda earlier: judged(judge, kept_scores(earlier, SCORER, "judgements")), rows, frame)


def interviews(judge: Judge, arm: Arm) -> Kind:
    """Interviews, turn by turn."""
    return Kind(
        INTERVIEWS, judge.name, lambda earlier: interviewed(judge, kept_scores(earlier, INTERVIEWED, "judgements")),
        partial(interview_rows, arm=arm), part_frame,
    )  # fmt: skip


def audits(judge: AuditJudge, arm: Arm, *, matrix: bool) -> Kind:
    """Audits: every score, those of other dimensions too where the run has them (`matrix`)."""

    def scorer(earlier: Sequence[Asked]) -> Scorer:
        return audit_scored(judge, matrix=matrix, kept=kept_scores(earlier, AUDITED, "scores"))

    rows = partial(audit_rows, arm=arm, dimensions=judge.dimensions if matrix else ())
    return Kind(MATRIX, judge.name, scorer, rows, part_frame)


def kinds_of(opened: Opened, arm: Arm, judge: Judge) -> Iterator[tuple[Kind, pd.DataFrame]]:
    """Everything that an arm has stored, with its rows; `judge` is put to all but the audits, which have their own prompt."""
    prepared, folder = opened.prepared, opened.folder
    rows = collect(folder, [arm])
    yield answers(judge, arm, prepared.battery, rows), rows
    parts = collect_parts(folder, [arm], prepared.study)
    if INTERVIEWS in parts:
        yield interviews(judge, arm), parts[INTERVIEWS]
    if MATRIX in parts:
        auditing = SteadyAudit(load_audits(prepared.battery.audits))
        yield audits(auditing, arm, matrix=prepared.study.audits.matrix), parts[MATRIX]
