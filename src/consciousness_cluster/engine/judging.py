"""Judging what a run has stored and what is still without a verdict. (By another judge: `again`.)"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consciousness_cluster.engine.arm import ROWS
from consciousness_cluster.engine.bank import Bank
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.rows import answer_rows, frame
from consciousness_cluster.engine.stages import Opened, need_answers
from consciousness_cluster.engine.tables import collect
from consciousness_cluster.evaluate.running import Asked
from consciousness_cluster.judge.judgement import EMPTY, Judge, judged
from consciousness_cluster.judge.judges import make_judge
from consciousness_cluster.judge.rejudge import (
    JUDGE,
    Steady,
    judge_tokens,
    kept_judgements,
    read_samples,
    repair,
    sample_id,
)
from consciousness_cluster.study.study import Arm

if TYPE_CHECKING:
    import pandas as pd
    from inspect_ai.model import Model

QUESTIONS_ALONE = re.compile(r"\d+ (of the questions could not be asked|items could not be judged.*)")
Progress = Callable[[int, int, str], None]  # arms done, of, the arm at hand


@dataclass(frozen=True)
class Rest:
    """What came of judging the rest: verdicts that were missing, that were given now, and why the others are still missing."""

    missing: int
    given: int
    why: Mapping[str, int]
    tokens: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def judge_rest(opened: Opened, model: Model | None, progress: Progress, budget: float | None = None) -> Rest:
    """Judge the answers of a run that are without a verdict, by the study's own judge.

    Verdicts that are there stay; empty answers cannot be judged. New verdicts go into new logs that name their parents.

    Args:
        opened: the run.
        model: the judge's model, where its protocol asks one.
        progress: told after every arm.
        budget: dollars that may be spent in the run's folder in all.

    Raises:
        EngineError: the run has no answers.
        BudgetError: the budget would be passed; what was judged before is kept.
    """
    import consciousness_cluster._registry  # noqa: F401  makes our provider and the watch over money known to Inspect

    prepared, folder = opened.prepared, opened.folder
    arms = need_answers(opened)
    judge = Steady(make_judge(prepared.study.judge.protocol, prepared.battery))
    work = Bench(opened, judge, model, budget)
    missing = given = 0
    ledger = Ledger(folder.ledger)
    try:
        with ledger.locked():
            for place, arm in enumerate(arms):
                progress(place, len(arms), arm.id)
                rows = collect(folder, [arm])
                owed = owed_rows(rows)
                if not owed.any():
                    continue
                missing += int(owed.sum())
                folder.manifest.unlink(missing_ok=True)
                given += work.repair(arm, rows, owed, ledger)
    finally:
        ledger.close()
    left = collect(folder, arms)
    why = Counter(str(reason) for reason in left[left["verdict"] == "unjudged"]["why"])
    return Rest(missing, given, dict(why), work.tokens)


def owed_rows(rows: pd.DataFrame) -> pd.Series[bool]:
    """Which rows could have a verdict and have none."""
    return (rows["verdict"] == "unjudged") & (rows["why"].fillna("") != EMPTY)


@dataclass
class Bench:
    """One judge at work on the logs of a run; what it was paid is counted."""

    opened: Opened
    judge: Judge
    model: Model | None
    budget: float | None
    tokens: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def roles(self) -> dict[str, Model]:
        """The judge's role, where there is one."""
        return {} if self.model is None else {JUDGE: self.model}

    def watched(self, arm: Arm, ledger: Ledger, score: Callable[[], list[Asked]]) -> list[Asked]:
        """Judge with money and tokens counted.

        Raises:
            BudgetError: the budget would be passed.
        """
        from inspect_ai.util import LimitExceededError

        from consciousness_cluster.engine.budget import watching

        registry = self.opened.prepared.registry
        costs = self.model is not None and not registry.free(str(self.model))
        bank = Bank(self.opened.folder.ledger, self.budget, registry) if costs else None
        with watching(bank, {}) as money:
            try:
                asked = score()
            except LimitExceededError:
                if money is not None and money.stopped is not None:
                    raise money.stopped from None
                raise
        for name, (sent, got) in judge_tokens(asked).items():
            before = self.tokens.get(name, (0, 0))
            self.tokens[name] = (before[0] + sent, before[1] + got)
            ledger.spend("judge", name, (sent, got), registry.cost(name, (sent, got)), arm.id)
        return asked

    def repair(self, arm: Arm, rows: pd.DataFrame, owed: pd.Series[bool], ledger: Ledger) -> int:
        """Judge the owed rows of an arm, and put the new rows in their places; returns how many have a verdict now."""
        folder = self.opened.folder
        new: list[dict[str, Any]] = []
        for name, part in rows[owed].groupby("log", sort=True):
            path, wanted = folder.logs / str(name), {str(sample) for sample in part["sample_id"]}
            kept = kept_judgements([entry for entry in read_samples(path) if sample_id(entry.sample) in wanted])
            scorer = judged(self.judge, kept)
            asked = self.watched(arm, ledger, partial(repair, path, scorer, self.roles, wanted))
            new += self.rows(arm, asked, rows)
        after = replaced(rows, frame(new)) if new else rows
        if new:
            _put(folder.arm(arm) / ROWS, after)
            self._settle(arm, after, ledger)
        return int(owed.sum()) - int(owed_rows(after).sum())

    def _settle(self, arm: Arm, rows: pd.DataFrame, ledger: Ledger) -> None:
        """An arm that had failed for its questions alone is finished when all of them have answers and verdicts."""
        content, status, why = ledger.arms().get(arm.id, ("", "", None))
        if status == "failed" and content and QUESTIONS_ALONE.fullmatch(why or "") and not (rows["stop"] == "error").any():
            ledger.finish(arm.id, content, 0.0)

    def rows(self, arm: Arm, asked: Sequence[Asked], old: pd.DataFrame) -> list[dict[str, Any]]:
        """Table rows of judged samples, as the arm's own are made."""
        found: list[dict[str, Any]] = []
        system = next(iter(old["system"].dropna()), None)
        drawn = old.groupby("item")["sample"].max()
        for entry in asked:
            count = int(drawn[str(entry.sample.id)]) + 1
            found += answer_rows([entry.sample], arm, self.opened.prepared.battery, count, entry.log, system)
        return found


def replaced(rows: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Rows with those of the new ones' items replaced, in the old order of items."""
    import pandas as pd

    order = {item: place for place, item in enumerate(dict.fromkeys(rows["item"]))}
    both = pd.concat([rows[~rows["item"].isin(set(new["item"]))], new], ignore_index=True)
    return both.sort_values("item", key=lambda items: items.map(order), kind="stable", ignore_index=True)


def _put(path: Path, rows: pd.DataFrame) -> None:
    part = path.with_name(path.name + ".part")
    rows.to_parquet(part)
    part.replace(path)
