"""How far a run is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from consciousness_cluster.engine.folder import RunFolder, read_study
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.stages import arms_of


def status_of(root: Path) -> dict[str, Any]:
    """Study, number of arms, finished ones, failed ones with reasons, spend, and whether the run is complete.

    `dollars` are those of `spend` together; what has no known price is not in them and is named in `unpriced`.
    """
    folder = RunFolder(root)
    study = read_study(folder)
    ledger = Ledger(folder.ledger)
    try:
        noted = ledger.arms()
        spent = ledger.spent()
    finally:
        ledger.close()
    arms = [arm.id for arm in arms_of(study, folder)]
    return {
        "study": study.name,
        "arms": len(arms),
        "finished": sum(1 for arm in arms if noted.get(arm, ("", "", None))[1] == "finished"),
        "failed": {arm: noted[arm][2] or "" for arm in arms if arm in noted and noted[arm][1] == "failed"},
        "dollars": sum(row[-1] or 0.0 for row in spent),
        "unpriced": [f"{row[0]} {row[1]}" for row in spent if row[-1] is None],
        "spend": [dict(zip(("stage", "model", "input_tokens", "output_tokens", "dollars"), row, strict=True)) for row in spent],
        "complete": folder.manifest.is_file(),
    }
