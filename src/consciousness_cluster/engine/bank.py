"""The money of a run, in its ledger: what was paid, and what is set aside for calls that are under way.

All workers share it, so that no number of calls at once can pass the limit together. What was set aside by a process that was
killed stays spent, since nobody knows whether its call was paid for.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from consciousness_cluster.engine.targets import trains_here
from consciousness_cluster.errors import BudgetError
from consciousness_cluster.study.models import Registry, helpers

if TYPE_CHECKING:
    from consciousness_cluster.engine.run import Prepared

TABLE = """
CREATE TABLE IF NOT EXISTS money (ticket INTEGER PRIMARY KEY, at REAL NOT NULL, process INTEGER NOT NULL, what TEXT NOT NULL,
    dollars REAL NOT NULL, paid INTEGER NOT NULL);
"""


@dataclass(frozen=True)
class Bank:
    """The money of one run folder.

    Attributes:
        ledger: the ledger file.
        cap: dollars that may be spent in this folder in all; None for no limit.
        registry: where prices are.
        batch: whether calls go out in batch mode.
    """

    ledger: Path
    cap: float | None
    registry: Registry
    batch: bool = False

    def spent(self) -> float:
        """Dollars paid and set aside."""
        with self._open() as table:
            return float(table.execute("SELECT COALESCE(SUM(dollars), 0) FROM money").fetchone()[0])

    def reserve(self, what: str, dollars: float, *, once: bool = False) -> int:
        """Set dollars aside; returns the ticket under which they are put right.

        Args:
            what: what they are for.
            dollars: how many.
            once: take the ticket that was made for the same thing before a kill, if there is one.

        Raises:
            BudgetError: with them the limit would be passed.
        """
        with self._open() as table:
            table.execute("BEGIN IMMEDIATE")
            kept = table.execute("SELECT ticket FROM money WHERE what = ?", (what,)).fetchone() if once else None
            if kept is not None:
                table.execute("ROLLBACK")
                return int(kept[0])
            spent = float(table.execute("SELECT COALESCE(SUM(dollars), 0) FROM money").fetchone()[0])
            if self.cap is not None and spent + dollars > self.cap:
                table.execute("ROLLBACK")
                raise BudgetError(
                    f"the next call could cost ${dollars:.4f} and would pass the budget",
                    key=what,
                    value=f"${spent:.2f} spent of ${self.cap:.2f}",
                    next_step="the same command with a larger --budget goes on from here",
                )
            made = table.execute(
                "INSERT INTO money (at, process, what, dollars, paid) VALUES (?, ?, ?, ?, 0)",
                (time.time(), os.getpid(), what, dollars),
            )
            table.execute("COMMIT")
        return int(made.lastrowid or 0)

    def settle(self, ticket: int, dollars: float) -> None:
        """Put what a call really cost in the place of what was set aside."""
        with self._open() as table:
            table.execute("UPDATE money SET dollars = ?, paid = 1 WHERE ticket = ?", (dollars, ticket))

    def release(self, ticket: int) -> None:
        """Give back what was set aside for a call that was not made or not answered."""
        with self._open() as table:
            table.execute("DELETE FROM money WHERE ticket = ? AND paid = 0", (ticket,))

    def pay(self, what: str, dollars: float) -> None:
        """Put what a thing cost in the place of what was set aside for it, or note it where nothing was."""
        with self._open() as table:
            table.execute("BEGIN IMMEDIATE")
            if not table.execute("UPDATE money SET dollars = ?, paid = 1 WHERE what = ?", (dollars, what)).rowcount:
                noted = (time.time(), os.getpid(), what, dollars)
                table.execute("INSERT INTO money (at, process, what, dollars, paid) VALUES (?, ?, ?, ?, 1)", noted)
            table.execute("COMMIT")

    def worth(self, what: str) -> float:
        """Dollars paid and set aside for a thing and, as `what, job 2` and so on, for making it again."""
        with self._open() as table:
            asked = "SELECT COALESCE(SUM(dollars), 0) FROM money WHERE what = ? OR what GLOB ?"
            return float(table.execute(asked, (what, f"{what}, job *")).fetchone()[0])

    def withdraw(self, what: str) -> None:
        """Give back what was set aside for a thing that was not made, whether or not in this process."""
        with self._open() as table:
            table.execute("DELETE FROM money WHERE what = ? AND paid = 0", (what,))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        table = sqlite3.connect(self.ledger, timeout=60, isolation_level=None)
        try:
            table.executescript(TABLE)
            yield table
        finally:
            table.close()


def unpriced(model: str) -> BudgetError:
    """The refusal of a model whose price is not known."""
    return BudgetError(
        "a budget cannot be kept: the price is not known",
        key="--budget",
        value=model,
        next_step="add it to models.toml beside the study",
    )


def check_budget(prepared: Prepared, arms: Sequence[str]) -> None:
    """Refuse a budget that cannot be kept, before anything is spent.

    Args:
        prepared: the study.
        arms: labels of the models that arms are left of.

    Raises:
        BudgetError: a model that will be asked, or trained at a service, has no known price.
    """
    registry, study = prepared.registry, prepared.study
    for entry in study.models:
        if entry.name not in arms:
            continue
        price = registry.price(entry.model)
        if not registry.free(entry.model) and (price is None or price.input is None or price.output is None):
            raise unpriced(entry.model)
        if entry.name in prepared.trains and not trains_here(entry) and (price is None or price.train is None):
            raise BudgetError(
                "a budget cannot be kept: the price of training is not known",
                key="--budget",
                value=entry.model,
                next_step="add it to models.toml beside the study",
            )
    for _, helper, _ in helpers(study):
        price = registry.price(helper)
        if not registry.free(helper) and (price is None or price.input is None or price.output is None):
            raise unpriced(helper)
