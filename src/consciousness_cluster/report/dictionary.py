"""The data dictionary: what every column of the run's tables means."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from consciousness_cluster.report.run import Run, described


@dataclass(frozen=True)
class Described:
    """One table of the run."""

    name: str
    about: str
    rows: int
    columns: tuple[tuple[str, str], ...]


def entries(run: Run) -> list[Described]:
    """Tables that the run has, with the meaning of each column; a column that is not described is listed without."""
    known = described()
    found = []
    kept = {**run.tables, **{f"rejudged/{it.folder}/{name}": rows for it in run.rejudged for name, rows in it.tables.items()}}
    frames = {name: list(rows[0]) if rows else [] for name, rows in kept.items()}
    sizes = {name: len(rows) for name, rows in kept.items()}
    if run.answers is not None:
        frames = {"answers": [str(name) for name in run.answers.columns], **frames}
        sizes["answers"] = len(run.answers)
    for name, columns in frames.items():
        meaning = known.get(name.rpartition("/")[2], {})
        found.append(
            Described(
                name,
                str(meaning.get("about", "")),
                sizes[name],
                tuple((column, str(meaning.get(column, ""))) for column in columns),
            )
        )
    return found


def write(path: Path, run: Run) -> Path:
    """The dictionary as CSV: table, column, meaning."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("table", "column", "meaning"))
        for table in entries(run):
            rows.writerows((table.name, column, meaning) for column, meaning in table.columns)
    return path
