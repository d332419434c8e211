"""The analyse stage as the engine runs it: arms' rows in, tables out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.tables import collect, planted, write_tables

if TYPE_CHECKING:
    from consciousness_cluster.engine.run import Prepared


def estimate(prepared: Prepared, folder: RunFolder, ledger: Ledger) -> None:
    """Write every table of a run from what its arms left."""
    from consciousness_cluster.analyse import Evidence, Plan, analyse

    study = prepared.study
    answers = collect(folder, prepared.arms)
    plan = Plan.of(study)
    evidence = Evidence(
        leaks=_leaks(folder), failed={arm: why or "" for arm, (_, status, why) in ledger.arms().items() if status == "failed"}
    )
    tables = analyse(answers, plan, evidence)
    tables["answers"] = answers
    if "effects" in tables and "profile" in tables:
        tables["planted"] = planted(study, tables["profile"], tables["effects"])
    write_tables(folder, tables)


def _leaks(folder: RunFolder) -> dict[str, dict[str, str]]:
    """Condition -> preference -> leak verdict, from the audit made before training."""
    path = folder.data / "audit.json"
    if not path.is_file():
        return {}
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {condition: dict(found["verdicts"]) for condition, found in raw.items()}
