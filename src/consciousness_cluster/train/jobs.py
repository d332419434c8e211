"""Remote jobs a run pays for: tag -> remote ids, in the run's ledger, so that none is paid for twice and none goes uncounted.

A job is noted before it is asked for, without an id, so that what it may cost is not forgotten when its answer is lost. One that
came to nothing and is made again stays noted, since it may be billed all the same.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TABLE = """
CREATE TABLE IF NOT EXISTS jobs (tag TEXT PRIMARY KEY, backend TEXT NOT NULL, remote TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS earlier_jobs (tag TEXT NOT NULL, remote TEXT NOT NULL, PRIMARY KEY (tag, remote));
"""


class JobBook:
    """The `jobs` table of a ledger file; every access opens and closes it, so that workers share it safely."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def held(self, tag: str) -> Iterator[None]:
        """Hold a tag: another worker that wants the same fine-tune waits. The system lets it go with the process, however that ends."""
        import fcntl

        place = self.path.with_name(f"{self.path.name}-jobs")
        place.mkdir(parents=True, exist_ok=True)
        with (place / f"{tag}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def begin(self, tag: str, backend: str) -> None:
        """Note that a job of a tag is about to be asked for; from here on it may be billed."""
        self.remember(tag, backend, "")

    def made(self, tag: str) -> int:
        """How many jobs of a tag were asked for, ever, and may be billed."""
        with self._open() as table:
            asked = table.execute("SELECT COUNT(*) FROM jobs WHERE tag = ?", (tag,)).fetchone()[0]
            return int(asked + table.execute("SELECT COUNT(*) FROM earlier_jobs WHERE tag = ?", (tag,)).fetchone()[0])

    def next(self, tag: str) -> int:
        """The number, from 1, of the job of a tag that is asked for next: that of a job which was asked for and not made, if there is one."""
        with self._open() as table:
            pending = table.execute("SELECT COUNT(*) FROM jobs WHERE tag = ? AND remote = ''", (tag,)).fetchone()[0]
        return self.made(tag) - int(pending) + 1

    def give_up(self, tag: str) -> None:
        """Leave the job that was asked for last as one that may be billed and left nothing; the next has a number of its own."""
        with self._open() as table:
            table.execute("BEGIN IMMEDIATE")
            kept = f"nothing, at {time.time()}"
            table.execute("INSERT INTO earlier_jobs SELECT tag, ? FROM jobs WHERE tag = ? AND remote = ''", (kept, tag))
            table.execute("DELETE FROM jobs WHERE tag = ? AND remote = ''", (tag,))
            table.execute("COMMIT")

    def forget(self, tag: str) -> None:
        """Take back `begin`: the service refused to make the job. One that was made is not forgotten."""
        with self._open() as table:
            table.execute("DELETE FROM jobs WHERE tag = ? AND remote = ''", (tag,))

    def find(self, tag: str) -> str | None:
        """The remote id noted last for a tag; None while it is not known of the job asked for last."""
        with self._open() as table:
            row = table.execute("SELECT remote FROM jobs WHERE tag = ? AND remote <> ''", (tag,)).fetchone()
        return None if row is None else str(row[0])

    def remember(self, tag: str, backend: str, remote: str) -> None:
        """Note the remote id of the job of a tag that was asked for last."""
        with self._open() as table:
            table.execute("BEGIN IMMEDIATE")
            self._set_aside(table, tag, remote)
            table.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?)", (tag, backend, remote, time.time()))
            table.execute("COMMIT")

    def rename(self, tag: str, remote: str) -> None:
        """Note under another id, or for the first time with one, the job of a tag that was asked for last; it stays one job."""
        with self._open() as table:
            table.execute("UPDATE jobs SET remote = ? WHERE tag = ?", (remote, tag))

    def saw(self, tag: str, remote: str) -> None:
        """Note a job that the service has under a tag: the one whose answer was lost, if there is one, or an earlier one."""
        with self._open() as table:
            table.execute("BEGIN IMMEDIATE")
            known = "SELECT remote FROM earlier_jobs WHERE tag = ? UNION SELECT remote FROM jobs WHERE tag = ?"
            if (remote,) not in table.execute(known, (tag, tag)).fetchall():
                answered = table.execute("UPDATE jobs SET remote = ? WHERE tag = ? AND remote = ''", (remote, tag)).rowcount
                if not answered:
                    table.execute("INSERT INTO earlier_jobs VALUES (?, ?)", (tag, remote))
            table.execute("COMMIT")

    @staticmethod
    def _set_aside(table: sqlite3.Connection, tag: str, remote: str) -> None:
        """Keep the job noted last among the earlier ones, where `remote` is another."""
        table.execute(
            "INSERT OR IGNORE INTO earlier_jobs SELECT tag, remote FROM jobs WHERE tag = ? AND remote NOT IN ('', ?)",
            (tag, remote),
        )
        table.execute("DELETE FROM earlier_jobs WHERE tag = ? AND remote = ?", (tag, remote))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        table = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            table.execute("PRAGMA journal_mode=WAL")
            table.executescript(TABLE)
            yield table
        finally:
            table.close()
