"""A stored run under another judge: answers, interviews and audits judged again, and the two judges set side by side."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consciousness_cluster.engine.behaviour import part_frame
from consciousness_cluster.engine.judging import Bench, Progress
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.rows import frame
from consciousness_cluster.engine.run import Prepared
from consciousness_cluster.engine.stages import Opened, need_answers
from consciousness_cluster.engine.tables import collect, collect_parts, write_tables
from consciousness_cluster.errors import JudgeError
from consciousness_cluster.evaluate.running import Asked
from consciousness_cluster.judge.audit import audit_rows, audit_scored, own_rows
from consciousness_cluster.judge.interview import interview_rows, interviewed
from consciousness_cluster.judge.judgement import judged
from consciousness_cluster.judge.judges import ASKING, PROTOCOLS, make_judge
from consciousness_cluster.judge.rejudge import (
    Steady,
    SteadyAudit,
    judged_by,
    kept_judgements,
    read_samples,
    rejudge,
    sample_id,
)
from consciousness_cluster.study.models import environment, model_problems
from consciousness_cluster.study.study import Arm, AuditsEntry, JudgeEntry

if TYPE_CHECKING:
    import pandas as pd
    from inspect_ai.model import Model
    from inspect_ai.scorer import Scorer

REJUDGED = "rejudged"  # folder inside the tables
ANSWERS, INTERVIEWS = "answers", "interviews"
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Again:
    """A run under another judge: where its tables are, and the two judges side by side; `scores` is None without audits."""

    label: str
    folder: Path
    verdicts: int
    agreement: pd.DataFrame
    transitions: pd.DataFrame
    bridged: pd.DataFrame
    scores: pd.DataFrame | None
    tokens: Mapping[str, tuple[int, int]]


def other_judge(wanted: str, model: str | None, prepared: Prepared) -> JudgeEntry:
    """The judge that `--again WANTED --model MODEL` names: a protocol, or a model for the run's own protocol.

    Raises:
        JudgeError: the protocol asks a model and none is named, or the name is neither.
        ModelError: the model cannot be asked today.
    """
    own = prepared.study.judge
    if wanted in PROTOCOLS:
        named = (model or own.model) if wanted in ASKING else None
        if wanted in ASKING and named is None:
            raise JudgeError(
                "this protocol asks a model, and the run's own judge has none",
                key="--again",
                value=wanted,
                next_step="name one with --model",
            )
        entry = JudgeEntry(protocol=wanted, model=named, args=own.args if named == own.model else {})
    elif "/" in wanted or ":" in wanted:
        entry = JudgeEntry(protocol=own.protocol if own.protocol in ASKING else "llm", model=wanted)
    else:
        raise JudgeError(
            "neither a judging protocol nor a model",
            key="--again",
            value=wanted,
            allowed=PROTOCOLS,
            next_step="or name a model as Inspect does, such as openai/gpt-4.1-2025-04-14",
        )
    alone = prepared.study.model_copy(update={"models": (), "judge": entry, "audits": AuditsEntry()})
    for problem in model_problems(alone, date.today(), prepared.registry, environment(), trains=False):
        raise problem
    return entry


def label_of(entry: JudgeEntry) -> str:
    """A judge as the name of a folder."""
    words = [entry.protocol, *([entry.model] if entry.model else [])]
    return "--".join(re.sub(r"[^a-z0-9.]+", "-", word.lower()).strip("-") for word in words)


def judge_again(
    opened: Opened, entry: JudgeEntry, model: Model | None, progress: Progress, budget: float | None = None
) -> Again:
    """Judge everything that a run has stored by another judge; the arms are asked nothing, no log or table is overwritten.

    The new verdicts are in logs that name their parents, the tables in `tables/rejudged/<judge>/`: those of a run, and
    `agreement`, `transitions` and `bridged` (`score_agreement` for audits). Called again, only what has no verdict is judged.

    Args:
        opened: the run.
        entry: the judge; audits are judged again where it is a model.
        model: its model, where its protocol asks one.
        progress: told before every arm.
        budget: dollars that may be spent in the run's folder in all.

    Raises:
        EngineError: the run has no answers.
        BudgetError: the budget would be passed; arms that were judged before are kept.
    """
    import consciousness_cluster._registry  # noqa: F401  makes our provider and the watch over money known to Inspect
    from consciousness_cluster.engine.estimate import tables_of

    prepared, folder = opened.prepared, opened.folder
    arms = need_answers(opened)
    bench = Bench(opened, Steady(make_judge(entry.protocol, prepared.battery)), model, budget)
    parts = collect_parts(folder, prepared.arms, prepared.study)
    new: dict[str, Rows] = {ANSWERS: [], INTERVIEWS: [], "score_matrix": []}
    ledger = Ledger(folder.ledger)
    try:
        with ledger.locked():
            for place, arm in enumerate(arms):
                progress(place, len(arms), arm.id)
                work = _Work(bench, entry, arm, ledger)
                new[ANSWERS] += work.answers(collect(folder, [arm]))
                new[INTERVIEWS] += work.interviews(_of(parts, INTERVIEWS, arm))
                new["score_matrix"] += [] if model is None else work.audits(_of(parts, "score_matrix", arm))
            old = collect(folder, arms)
            answers, fresh = frame(new.pop(ANSWERS)), _judged_parts(new)
            before = tables_of(prepared, folder, ledger, old, parts)["effects"]
            after = tables_of(prepared, folder, ledger, answers, {**parts, **fresh})
    finally:
        ledger.close()
    both = _side_by_side(old, answers, parts, fresh, (before, after["effects"]))
    label = label_of(entry)
    write_tables(folder, after | both, f"{REJUDGED}/{label}")
    place_of = folder.tables / REJUDGED / label
    return Again(
        label, place_of, len(answers), both["agreement"], both["transitions"], both["bridged"], both.get("score_agreement"),
        bench.tokens,
    )  # fmt: skip


def _of(parts: Mapping[str, pd.DataFrame], table: str, arm: Arm) -> pd.DataFrame | None:
    return parts[table][parts[table]["arm"] == arm.id] if table in parts else None


def _judged_parts(new: Mapping[str, Rows]) -> dict[str, pd.DataFrame]:
    """Tables of what was judged again beside the answers."""
    found = {name: part_frame(rows) for name, rows in new.items() if rows}
    if new["score_matrix"]:
        found["scores"] = part_frame(own_rows(new["score_matrix"]))
    return found


def _side_by_side(
    old: pd.DataFrame,
    new: pd.DataFrame,
    parts: Mapping[str, pd.DataFrame],
    fresh: Mapping[str, pd.DataFrame],
    effects: tuple[pd.DataFrame, pd.DataFrame],
) -> dict[str, pd.DataFrame]:
    """The tables that compare two judges; `part` says whether a row is about answers or interviews."""
    import pandas as pd

    from consciousness_cluster.analyse.judge_error import bridge, bridge_scores, bridged_effects, transitions

    pairs = {ANSWERS: (old, new)}
    if INTERVIEWS in fresh:
        pairs[INTERVIEWS] = (_turns(parts[INTERVIEWS]), _turns(fresh[INTERVIEWS]))
    found = {
        name: pd.concat([make(*pair).assign(part=part) for part, pair in pairs.items()], ignore_index=True)
        for name, make in (("agreement", bridge), ("transitions", transitions))
    }
    found["bridged"] = bridged_effects(*effects)
    if "score_matrix" in fresh:
        found["score_agreement"] = bridge_scores(parts["score_matrix"], fresh["score_matrix"])
    return found


def _turns(interviews: pd.DataFrame) -> pd.DataFrame:
    """Turns of interviews by the keys of answers; a script that leads in a circle asks a turn several times."""
    time = interviews.groupby(["arm", "interview", "repeat", "turn", "preference"]).cumcount().astype(str)
    item = interviews["interview"] + "/" + interviews["turn"] + "/" + time
    return interviews.assign(item=item, sample=interviews["repeat"])


@dataclass(frozen=True)
class _Work:
    """One arm before the new judge."""

    bench: Bench
    entry: JudgeEntry
    arm: Arm
    ledger: Ledger

    def answers(self, old: pd.DataFrame) -> Rows:
        """Rows of the single questions; verdicts that an earlier call left stay."""
        judge = self.bench.judge

        def rows(asked: Sequence[Asked]) -> Rows:
            return self.bench.rows(self.arm, asked, old)

        return self._logs(old, judge.name, rows, lambda earlier: judged(judge, kept_judgements(earlier)))

    def interviews(self, old: pd.DataFrame | None) -> Rows:
        """Rows of interviews, turn by turn."""
        if old is None:
            return []
        judge = self.bench.judge
        return self._logs(old, judge.name, partial(interview_rows, arm=self.arm), lambda _: interviewed(judge))

    def audits(self, old: pd.DataFrame | None) -> Rows:
        """Rows of audits: every score, those of other dimensions too where the run has them."""
        if old is None:
            return []
        judge, matrix = SteadyAudit(), self.bench.opened.prepared.study.audits.matrix
        rows = partial(audit_rows, arm=self.arm, dimensions=judge.dimensions if matrix else ())
        return self._logs(old, judge.name, rows, lambda _: audit_scored(judge, matrix=matrix))

    def _logs(
        self, old: pd.DataFrame, name: str, rows: Callable[[Sequence[Asked]], Rows], scorer: Callable[[Sequence[Asked]], Scorer]
    ) -> Rows:
        """Rows of all logs that a table was made from; a log that this judge has been through is taken up where it was left."""
        logs = self.bench.opened.folder.logs
        by = {"judge": name, "model": self.entry.model, "args": self.entry.args}
        found: Rows = []
        for log, part in old.groupby("log", sort=True):
            path, wanted = logs / str(log), {str(sample) for sample in part["sample_id"]}
            done = judged_by(path, logs, by)
            earlier = [entry for entry in ([] if done is None else read_samples(done)) if sample_id(entry.sample) in wanted]
            whole = {sample_id(entry.sample) for entry in earlier} == wanted
            known = rows(earlier) if whole else []
            if not whole or any(map(_owed, known)):
                asked = partial(rejudge, path, scorer(earlier), self.bench.roles, logs, by, wanted)
                known = rows(self.bench.watched(self.arm, self.ledger, asked))
            found += known
        return found


def _owed(row: Mapping[str, Any]) -> bool:
    """Whether the judge gave nothing on an answer or a conversation that is there."""
    if "verdict" in row:
        return row["verdict"] == "unjudged" and bool(str(row["answer"]).strip())
    return bool(row["status"] == "unjudged")
