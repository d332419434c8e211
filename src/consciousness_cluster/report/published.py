"""Values of the paper, to set beside ours: the run's own copy, or the one that ships with the analyse stage."""

from __future__ import annotations

from collections.abc import Mapping

from consciousness_cluster.analyse.published import published_rows
from consciousness_cluster.report.names import labels
from consciousness_cluster.report.run import Run

Published = Mapping[tuple[str, str, str], float]  # (model, condition, preference) to per cent


def published(run: Run) -> Published:
    """Single-turn rates in per cent, conditions under our names; empty where no copy is found."""
    rows = run.table("published") or published_rows()
    ours = labels()["published"]
    return {
        (str(row["model"]), ours.get(str(row["condition"]), str(row["condition"])), str(row["preference"])): float(row["value"])
        for row in rows if row.get("evaluation") == "single-turn" and row.get("value") not in (None, "")
    }  # fmt: skip


def models_of(values: Published) -> list[str]:
    """Published models in the order of the file."""
    return list(dict.fromkeys(key[0] for key in values))
