"""Values of the paper, to set beside ours: the run's own copy, or the one that ships with the analyse stage."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from consciousness_cluster.report.names import labels
from consciousness_cluster.report.run import Run

Published = Mapping[tuple[str, str, str], float]  # (model, condition, preference) to per cent


def published(run: Run) -> Published:
    """Single-turn rates in per cent, conditions under our names; empty where no copy is found."""
    rows = run.table("published") or _shipped()
    ours = labels()["published"]
    return {
        (str(row["model"]), ours.get(str(row["condition"]), str(row["condition"])), str(row["preference"])): float(row["value"])
        for row in rows if row.get("evaluation") == "single-turn" and row.get("value") not in (None, "")
    }  # fmt: skip


def _shipped() -> list[dict[str, str]]:
    path = Path(__file__).parent.parent / "analyse" / "published.csv"  # data of that stage, read without importing it
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def models_of(values: Published) -> list[str]:
    """Published models in the order of the file."""
    return list(dict.fromkeys(key[0] for key in values))
