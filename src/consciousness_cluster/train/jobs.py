"""Remote jobs a run has paid for: tag -> remote id, in the run's ledger, so that none is paid for twice."""

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

    def find(self, tag: str) -> str | None:
        """The remote id noted for a tag."""
        with self._open() as table:
            row = table.execute("SELECT remote FROM jobs WHERE tag = ?", (tag,)).fetchone()
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
