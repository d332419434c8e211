"""Judging what a run has stored and what is still without a verdict. (By another judge: `again`.)"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from consciousness_cluster.engine.bank import Bank
from consciousness_cluster.engine.behaviour import Audits, judge_of
from consciousness_cluster.engine.folder import whole_file
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.stages import Opened, need_answers
from consciousness_cluster.engine.stored import ANSWERS, MATRIX, SCORES, Kind, kinds_of
from consciousness_cluster.engine.targets import helper
from consciousness_cluster.errors import BudgetError
from consciousness_cluster.evaluate.running import Asked
from consciousness_cluster.judge.judgement import Judge
from consciousness_cluster.judge.judges import make_judge
from consciousness_cluster.judge.rejudge import JUDGE, Steady, judge_tokens, read_samples, repair, sample_id
from consciousness_cluster.study.study import Arm

if TYPE_CHECKING:
    import pandas as pd
    from inspect_ai.model import Model

QUESTIONS_ALONE = re.compile(r"\d+ (of the questions could not be asked( \(.*\))?|items could not be judged.*)")
Make = Callable[[str, Mapping[str, Any]], "Model"]
Progress = Callable[[int, int, str], None]  # arms done, of, the arm at hand


@dataclass(frozen=True)
class Rest:
    """What came of judging the rest: verdicts that were missing, that were given now, and why the others are still missing."""

    missing: int
    given: int
    why: Mapping[str, int]
    tokens: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def judge_rest(
    opened: Opened, model: Model | None, progress: Progress, budget: float | None = None, make: Make = helper
) -> Rest:
    """Judge what a run has stored without a verdict, by the study's own judges: answers, turns of interviews, audits.

    Verdicts that are there stay; empty answers and broken conversations cannot be judged. New verdicts go into new logs that name
    their parents.

    Args:
        opened: the run.
        model: the judge's model, where its protocol asks one.
        progress: told before every arm.
        budget: dollars that may be spent in the run's folder in all.
        make: makes the judge's model of audits by its name and arguments, if it is another and has something to judge.

    Raises:
        EngineError: the run has no answers.
        BudgetError: the budget would be passed; verdicts paid for before are kept.
    """
    import consciousness_cluster._registry  # noqa: F401  makes our provider and the watch over money known to Inspect

    folder, arms = opened.folder, need_answers(opened)
    own = opened.prepared.study.judge
    bench = Bench(opened, Steady(make_judge(own.protocol, opened.prepared.battery)), own.model, model, budget)
    missing = given = 0
    why: Counter[str] = Counter()
    ledger = Ledger(folder.ledger)
    try:
        with ledger.locked():
            for place, arm in enumerate(arms):
                progress(place, len(arms), arm.id)
                for kind, before in kinds_of(opened, arm, bench.judge):
                    owed, work = kind.owed(before), bench
                    if owed.any():
                        folder.manifest.unlink(missing_ok=True)
                        work = bench if kind.table != MATRIX else _auditing(bench, make)
                    after = work.repair(arm, kind, before, owed, ledger)
                    missing += int(owed.sum())
                    given += int(owed.sum()) - int(kind.owed(after).sum())
                    why.update(str(reason) for reason in after[_unjudged(after)]["why"])
    finally:
        ledger.close()
    return Rest(missing, given, dict(why), bench.tokens)


def _auditing(bench: Bench, make: Make) -> Bench:
    """The bench of the audits' judge, whose model may be another than that of the answers."""
    study = bench.opened.prepared.study
    named = Audits().helpers(study).get("judge")
    if named is None or named == judge_of(study).get("judge"):
        return bench
    return replace(bench, named=named[0], model=make(*named))


def _unjudged(rows: pd.DataFrame) -> pd.Series[bool]:
    return (rows["verdict"] if "verdict" in rows else rows["status"]) == "unjudged"


@dataclass
class Bench:
    """One judge at work on the logs of a run; what it was paid is counted.

    Attributes:
        opened: the run.
        judge: the judge.
        named: its model by the name that the registry knows it by.
        model: its model as Inspect has it, whose name may be another.
        budget: dollars that may be spent in the run's folder in all.
        stopped: why the last calls were held back.
        tokens: what was sent and came back, by model.
    """

    opened: Opened
    judge: Judge
    named: str | None
    model: Model | None
    budget: float | None
    stopped: BudgetError | None = None
    tokens: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def roles(self) -> dict[str, Model]:
        """The judge's role, where there is one."""
        return {} if self.model is None else {JUDGE: self.model}

    def watched(self, arm: Arm, ledger: Ledger, score: Callable[[], list[Asked]]) -> list[Asked]:
        """Judge with money and tokens counted. Calls that the budget held back left their answers unjudged: see `go_on`."""
        from consciousness_cluster.engine.budget import watching

        registry = self.opened.prepared.registry
        costs = self.named is not None and not registry.free(self.named)
        bank = Bank(self.opened.folder.ledger, self.budget, registry) if costs else None
        prices = {str(self.model): registry.price(self.named)} if self.named is not None else {}
        with watching(bank, prices, list(self.roles.values())) as money:
            asked = score()
        for name, (sent, got) in judge_tokens(asked).items():
            before = self.tokens.get(name, (0, 0))
            self.tokens[name] = (before[0] + sent, before[1] + got)
            ledger.spend("judge", name, (sent, got), registry.cost(self.named or name, (sent, got)), arm.id)
        for name, dollars in ({} if money is None else money.unanswered).items():
            ledger.spend("unanswered", name, (0, 0), dollars, arm.id)
        self.stopped = None if money is None else money.stopped
        return asked

    def go_on(self) -> None:
        """Once the verdicts that were paid for are in their place.

        Raises:
            BudgetError: the budget held calls back.
        """
        if self.stopped is not None:
            raise self.stopped

    def repair(self, arm: Arm, kind: Kind, rows: pd.DataFrame, owed: pd.Series[bool], ledger: Ledger) -> pd.DataFrame:
        """Judge the owed rows of an arm, and put the new rows in their places; returns all rows as they are now.

        Raises:
            BudgetError: the budget would be passed; verdicts paid for before are kept.
        """
        folder = self.opened.folder
        for name, part in rows[owed].groupby("log", sort=True):
            path, wanted = folder.logs / str(name), {str(sample) for sample in part["sample_id"]}
            earlier = [entry for entry in read_samples(path) if sample_id(entry.sample) in wanted]
            asked = self.watched(arm, ledger, partial(repair, path, kind.scorer(earlier), self.roles, wanted))
            new = kind.rows(asked)
            if new:
                rows = replaced(rows, kind.frame(new))
                self._keep(arm, kind, rows)
                self._settle(arm, kind, rows, ledger)
            self.go_on()
        return rows

    def _keep(self, arm: Arm, kind: Kind, rows: pd.DataFrame) -> None:
        place = self.opened.folder.arm(arm)
        tables = {kind.table: rows}
        if kind.table == MATRIX:
            tables[SCORES] = rows[rows["own"].astype(bool)].reset_index(drop=True)
        for name, table in tables.items():
            with whole_file(place / f"{name}.parquet") as part:
                table.to_parquet(part)

    def _settle(self, arm: Arm, kind: Kind, rows: pd.DataFrame, ledger: Ledger) -> None:
        """An arm that had failed for its questions alone is finished when all of them have answers and verdicts."""
        if kind.table != ANSWERS or (rows["stop"] == "error").any():
            return
        content, status, why = ledger.arms().get(arm.id, ("", "", None))
        if status == "failed" and content and QUESTIONS_ALONE.fullmatch(why or ""):
            ledger.finish(arm.id, content, 0.0)


def replaced(rows: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Rows with those of the new ones' samples replaced, in the old order of samples."""
    import pandas as pd

    order = {name: place for place, name in enumerate(dict.fromkeys(rows["sample_id"]))}
    both = pd.concat([rows[~rows["sample_id"].isin(set(new["sample_id"]))], new], ignore_index=True)
    return both.sort_values("sample_id", key=lambda names: names.map(order), kind="stable", ignore_index=True)
