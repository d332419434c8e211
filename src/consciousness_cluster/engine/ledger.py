"""What logs cannot hold: who is running, what was spent, which arms are finished. One SQLite file, safe against a kill."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from consciousness_cluster.errors import EngineError
from consciousness_cluster.train.jobs import TABLE

TRAIN = "train"  # the stage of spend whose rows name, in the place of an arm, the tag of a fine-tune: arms may share it
SCHEMA = """
CREATE TABLE IF NOT EXISTS lock (one INTEGER PRIMARY KEY CHECK (one = 1), pid INTEGER NOT NULL, started REAL NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS arms (arm TEXT PRIMARY KEY, content TEXT NOT NULL, status TEXT NOT NULL, why TEXT, seconds REAL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS spend (id INTEGER PRIMARY KEY, at REAL NOT NULL, arm TEXT, stage TEXT NOT NULL, model TEXT NOT NULL,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, dollars REAL);
"""


class Ledger:
    """The ledger of one run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open = sqlite3.connect(path, timeout=30, isolation_level=None)
        self._open.execute("PRAGMA journal_mode=WAL")
        self._open.executescript(SCHEMA + TABLE)

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process; a lock whose process is gone is taken over.

        Raises:
            EngineError: another process is running this study.
        """
        self._open.execute("BEGIN IMMEDIATE")
        held = self._open.execute("SELECT pid, started FROM lock").fetchone()
        if held is not None and held[0] != os.getpid() and _alive(held[0], held[1]):
            self._open.execute("ROLLBACK")
            raise EngineError(
                "another process is running this study",
                file=self.path,
                value=f"process {held[0]}",
                next_step="wait for it or stop it",
            )
        self._open.execute("INSERT OR REPLACE INTO lock VALUES (1, ?, ?, ?)", (os.getpid(), _started(os.getpid()), time.time()))
        self._open.execute("COMMIT")
        try:
            yield
        finally:
            self._open.execute("DELETE FROM lock WHERE pid = ?", (os.getpid(),))

    def finish(self, arm: str, content: str, seconds: float) -> None:
        """Note that an arm is finished, with the hash of what it was asked."""
        self._note(arm, content, "finished", None, seconds)

    def fail(self, arm: str, content: str, why: str) -> None:
        """Note that an arm failed, and why."""
        self._note(arm, content, "failed", why, None)

    def _note(self, arm: str, content: str, status: str, why: str | None, seconds: float | None) -> None:
        self._open.execute(
            "INSERT OR REPLACE INTO arms VALUES (?, ?, ?, ?, ?, ?)", (arm, content, status, why, seconds, time.time())
        )

    def arms(self) -> dict[str, tuple[str, str, str | None]]:
        """Arm id -> content hash, status, reason."""
        return {row[0]: (row[1], row[2], row[3]) for row in self._open.execute("SELECT arm, content, status, why FROM arms")}

    def seconds(self) -> float:
        """Seconds of all finished arms, one after the other."""
        return float(self._open.execute("SELECT COALESCE(SUM(seconds), 0) FROM arms").fetchone()[0])

    def spend(self, stage: str, model: str, tokens: tuple[int, int], dollars: float | None, arm: str | None = None) -> None:
        """Note tokens (input, output) that a model was paid for, and their price if it is known."""
        self._open.execute(
            "INSERT INTO spend (at, arm, stage, model, input_tokens, output_tokens, dollars) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (time.time(), arm, stage, model, *tokens, dollars),
        )

    def trained(self, tag: str, model: str, tokens: int, dollars: float | None) -> None:
        """Note what all jobs of a tag came to at a service, in place of what was noted of them before, for whichever arm."""
        self._open.execute("BEGIN IMMEDIATE")
        self._open.execute(
            "DELETE FROM spend WHERE stage = ? AND (arm = ? OR arm GLOB ?)", (TRAIN, tag, f"* {tag}")
        )  # the second is how an earlier version noted it: with an arm before it
        self.spend(TRAIN, model, (tokens, 0), dollars, tag)
        self._open.execute("COMMIT")

    def spent(self) -> list[tuple[str, str, int, int, float | None]]:
        """Stage, model, input tokens, output tokens and dollars, summed."""
        return list(
            self._open.execute(
                "SELECT stage, model, SUM(input_tokens), SUM(output_tokens), SUM(dollars) FROM spend GROUP BY stage, model ORDER BY stage, model"
            )
        )


def _started(pid: int) -> float:
    """When a process began, as its own clock has it; 0 where that cannot be told."""
    try:
        return float(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError, ValueError):
        return 0.0


def _alive(pid: int, started: float) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _started(pid) == started
