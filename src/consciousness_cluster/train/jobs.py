"""Remote jobs a run pays for: tag -> remote id, in the run's ledger, so that none is paid for twice.

A job is noted before it is asked for, without an id, so that what it may cost is not forgotten when its answer is lost.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TABLE = "CREATE TABLE IF NOT EXISTS jobs (tag TEXT PRIMARY KEY, backend TEXT NOT NULL, remote TEXT NOT NULL, at REAL NOT NULL);"


class JobBook:
    """The `jobs` table of a ledger file; every access opens and closes it, so that workers share it safely."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, tag: str, backend: str) -> None:
        """Note that a job of a tag is about to be asked for; from here on it may be billed."""
        with self._open() as table:
            table.execute("INSERT OR IGNORE INTO jobs VALUES (?, ?, '', ?)", (tag, backend, time.time()))

    def begun(self, tag: str) -> bool:
        """Whether a job of a tag was asked for, ever, and may be billed."""
        with self._open() as table:
            return table.execute("SELECT 1 FROM jobs WHERE tag = ?", (tag,)).fetchone() is not None

    def forget(self, tag: str) -> None:
        """Take back `begin`: the service refused to make the job. One that was made is not forgotten."""
        with self._open() as table:
            table.execute("DELETE FROM jobs WHERE tag = ? AND remote = ''", (tag,))

    def find(self, tag: str) -> str | None:
        """The remote id noted for a tag."""
        with self._open() as table:
            row = table.execute("SELECT remote FROM jobs WHERE tag = ? AND remote <> ''", (tag,)).fetchone()
        return None if row is None else str(row[0])

    def remember(self, tag: str, backend: str, remote: str) -> None:
        """Note the remote id of a tag."""
        with self._open() as table:
            table.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?)", (tag, backend, remote, time.time()))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        table = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            table.execute("PRAGMA journal_mode=WAL")
            table.execute(TABLE)
            yield table
        finally:
            table.close()
