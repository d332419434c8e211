"""A stored run under another judge: answers, interviews and audits judged again, and the two judges set side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
from consciousness_cluster.engine.stored import (
    ANSWERS,
    INTERVIEWS,
    MATRIX,
    SCORES,
    Kind,
    Rows,
    kinds_of,
)
from consciousness_cluster.engine.tables import collect, collect_parts, write_tables
from consciousness_cluster.errors import JudgeError
from consciousness_cluster.judge.audit import own_rows
from consciousness_cluster.judge.judges import PROTOCOLS, asks_model, make_judge
from consciousness_cluster.judge.rejudge import Steady, judged_by, read_samples, rejudge, sample_id
from consciousness_cluster.study.keys import environment
from consciousness_cluster.study.problems import model_problems
from consciousness_cluster.study.study import Arm, AuditsEntry, JudgeEntry

if TYPE_CHECKING:
    import pandas as pd
    from inspect_ai.model import Model

REJUDGED = "rejudged"  # folder inside the tables


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
        named = (model or own.model) if asks_model(wanted) else None
        if asks_model(wanted) and named is None:
            raise JudgeError(
                "this protocol asks a model, and the run's own judge has none",
                key="--again",
                value=wanted,
                next_step="name one with --model",
            )
        own_model = named is not None and named == own.model
        entry = own.model_copy(update={"protocol": wanted}) if own_model else JudgeEntry(protocol=wanted, model=named)
    elif "/" in wanted or ":" in wanted:
        entry = JudgeEntry(protocol=own.protocol if asks_model(own.protocol) else "llm", model=wanted)
    else:
        raise JudgeError(
            "neither a judging protocol nor a model",
            key="--again",
            value=wanted,
            allowed=PROTOCOLS,
            next_step="or name a model as Inspect does, such as openai/gpt-4.1-2025-04-14",
        )
    alone = prepared.study.model_copy(update={"models": (), "judge": entry, "audits": AuditsEntry()})
    for problem in model_problems(alone, date.today(), prepared.registry, environment(), trains=()):
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
    bench = Bench(opened, Steady(make_judge(entry.protocol, prepared.battery)), entry.model, model, budget)
    parts = collect_parts(folder, prepared.arms, prepared.study)
    new: dict[str, Rows] = {ANSWERS: [], INTERVIEWS: [], MATRIX: []}
    ledger = Ledger(folder.ledger)
    try:
        with ledger.locked():
            for place, arm in enumerate(arms):
                progress(place, len(arms), arm.id)
                work = _Work(bench, entry, arm, ledger)
                for kind, rows in kinds_of(opened, arm, bench.judge):
                    if kind.table != MATRIX or model is not None:  # a judge without a model scores no audits
                        new[kind.table] += work.rows(kind, rows)
            old = collect(folder, arms)
            judged, fresh = frame(new.pop(ANSWERS)), _judged_parts(new)
            before = tables_of(prepared, folder, ledger, old, parts)["effects"]
            after = tables_of(prepared, folder, ledger, judged, {**parts, **fresh})
    finally:
        ledger.close()
    both = _side_by_side(old, judged, parts, fresh, (before, after["effects"]))
    label = label_of(entry)
    write_tables(folder, after | both, f"{REJUDGED}/{label}")
    place_of = folder.tables / REJUDGED / label
    return Again(
        label, place_of, len(judged), both["agreement"], both["transitions"], both["bridged"], both.get("score_agreement"),
        bench.tokens,
    )  # fmt: skip


def _judged_parts(new: Mapping[str, Rows]) -> dict[str, pd.DataFrame]:
    """Tables of what was judged again beside the answers."""
    found = {name: part_frame(rows) for name, rows in new.items() if rows}
    if new[MATRIX]:
        found[SCORES] = part_frame(own_rows(new[MATRIX]))
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
    if MATRIX in fresh:
        found["score_agreement"] = bridge_scores(parts[MATRIX], fresh[MATRIX])
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

    def rows(self, kind: Kind, old: pd.DataFrame) -> Rows:
        """Rows of all logs that a table was made from; a log that this judge has been through is taken up where it was left.

        Raises:
            BudgetError: the budget would be passed; the verdicts before are in the judge's logs.
        """
        logs = self.bench.opened.folder.logs
        by = {"judge": kind.judge, "model": self.entry.model, "args": self.entry.args}
        found: Rows = []
        for log, part in old.groupby("log", sort=True):
            path, wanted = logs / str(log), {str(sample) for sample in part["sample_id"]}
            done = judged_by(path, logs, by)
            earlier = [entry for entry in ([] if done is None else read_samples(done)) if sample_id(entry.sample) in wanted]
            whole = {sample_id(entry.sample) for entry in earlier} == wanted
            known = kind.rows(earlier) if whole else []
            if not whole or any(map(_owed, known)):
                asked = partial(rejudge, path, kind.scorer(earlier), self.bench.roles, logs, by, wanted)
                known = kind.rows(self.bench.watched(self.arm, self.ledger, asked))
                self.bench.go_on()
            found += known
        return found


def _owed(row: Mapping[str, Any]) -> bool:
    """Whether the judge gave nothing on an answer or a conversation that is there."""
    if "verdict" in row:
        return row["verdict"] == "unjudged" and bool(str(row["answer"]).strip())
    return bool(row["status"] == "unjudged")
