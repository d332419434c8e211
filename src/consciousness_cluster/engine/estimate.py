"""The analyse stage as the engine runs it: arms' rows in, tables out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from consciousness_cluster.engine.folder import RunFolder, whole_file
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.tables import collect, collect_parts, keep_tables, planted, read_table, write_tables

if TYPE_CHECKING:
    import pandas as pd

    from consciousness_cluster.analyse import FailedArm
    from consciousness_cluster.engine.run import Prepared

REGISTERED = "claims.json"  # hashes of the claims, written before the first answer


def register_claims(prepared: Prepared, folder: RunFolder) -> None:
    """Keep the hash of every claim's rule before anything is asked, so that a later change shows."""
    from consciousness_cluster.analyse import plan_of, register

    path = folder.data / REGISTERED
    if not path.is_file():
        plan = plan_of(prepared.study)
        with whole_file(path) as part:
            part.write_text(json.dumps(register(plan.claims, plan.margins, plan.terms), indent=1), encoding="utf-8")


def estimate(prepared: Prepared, folder: RunFolder, ledger: Ledger) -> None:
    """Write every table of a run from what its arms left."""
    behaviour = collect_parts(folder, prepared.arms, prepared.study)
    tables = tables_of(prepared, folder, ledger, collect(folder, prepared.arms), behaviour)
    write_tables(folder, tables)
    keep_tables(folder, tables)


def tables_of(
    prepared: Prepared, folder: RunFolder, ledger: Ledger, answers: pd.DataFrame, behaviour: dict[str, pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    """Every table of a run by file name, from answers, the rows of the parts beside them (`collect_parts`) and its folder."""
    from consciousness_cluster.analyse import Evidence, analyse, plan_of
    from consciousness_cluster.analyse.behaviour import behaviour_tables
    from consciousness_cluster.engine.labels import read_labels

    kept = folder.data / REGISTERED
    plan = plan_of(prepared.study, json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else None)
    audits = _audits(folder)
    evidence = Evidence(
        leaks={name: sum(flag["verdict"] == "leaked" for flag in found["flags"]) for name, found in audits.items()},
        cooperation=behaviour.get("cooperation"),
        checks=behaviour.get("checks"),
        scores=behaviour.get("scores"),
        labels=read_labels(folder, answers),
        failed=_failed(prepared, ledger, set(answers["arm"])),
    )
    tables = analyse(answers, plan, evidence)
    tables |= behaviour | behaviour_tables(behaviour, answers, plan.controls)
    tables["answers"] = answers
    tables["planted"] = planted(prepared.study, tables["effects"])
    tables["leaks"] = _leaks(audits)
    confusion = _confusion(folder, set(answers["judge"].dropna()))
    return tables if confusion is None else tables | {"confusion": confusion}


def _audits(folder: RunFolder) -> dict[str, Any]:
    path = folder.data / "audit.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _leaks(audits: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    columns = ["condition", "row", "preference", "verdict", "layer", "item", "text", "nearest"]
    rows = [{"condition": name, **flag} for name, found in audits.items() for flag in found["flags"]]
    return pd.DataFrame(rows, columns=columns)


def _confusion(folder: RunFolder, judges: set[str]) -> pd.DataFrame | None:
    """How the classifier that judged did, when it was made, on statements that it had not seen; None for other judges.

    Of a classifier that has been replaced since, what the run itself has kept stays.
    """
    import pandas as pd

    from consciousness_cluster.judge.classifier import load_confusion
    from consciousness_cluster.judge.classify import ClassifierJudge

    if not any(name.startswith("classifier@") for name in judges):
        return None
    shipped = ClassifierJudge().name
    if shipped not in judges:
        kept = read_table(folder, "confusion")
        return kept if kept is not None and judges & set(kept["judge"]) else None
    known = load_confusion()
    wrong = [(label, taken, count) for label, row in known["errors"].items() for taken, count in row.items()]
    right = ("all", "as labelled", known["n"] - sum(count for _, _, count in wrong))
    return pd.DataFrame([right, *wrong], columns=["label", "predicted", "statements"]).assign(judge=shipped)


def _failed(prepared: Prepared, ledger: Ledger, answered: set[str]) -> list[FailedArm]:
    from consciousness_cluster.analyse import FailedArm

    noted = ledger.arms()
    return [
        FailedArm(arm.model, arm.condition, arm.seed, arm.id, noted[arm.id][2] or "")
        for arm in prepared.arms
        if arm.id in noted and noted[arm.id][1] == "failed" and arm.id not in answered
    ]
