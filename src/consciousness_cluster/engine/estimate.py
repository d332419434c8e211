"""The analyse stage as the engine runs it: arms' rows in, tables out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from consciousness_cluster.engine.arm import ROWS
from consciousness_cluster.engine.folder import RunFolder, whole_file
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.tables import collect, collect_parts, keep_tables, planted, read_table, write_tables
from consciousness_cluster.errors import EngineError

if TYPE_CHECKING:
    import pandas as pd

    from consciousness_cluster.analyse import FailedArm, Registered
    from consciousness_cluster.engine.run import Prepared

REGISTERED = "claims.json"  # the decision rules with their hashes, written before the first answer


def register_claims(prepared: Prepared, folder: RunFolder) -> None:
    """Keep the rule of every claim, with its hash, until something is asked; what changes later shows as post hoc."""
    from consciousness_cluster.analyse import plan_of, register

    if _asked(folder):
        return
    plan = plan_of(prepared.study)
    kept = register(plan.claims, plan.margins, plan.terms)
    with whole_file(folder.data / REGISTERED) as part:
        part.write_text(json.dumps(kept.as_dict(), indent=1), encoding="utf-8")


def _asked(folder: RunFolder) -> bool:
    """Whether any arm may have answered: a log is opened before its first question."""
    return any(folder.logs.glob("*.eval")) or any(folder.root.glob(f"arms/*/{ROWS}"))


def registered_claims(folder: RunFolder) -> Registered | None:
    """The decision rules that a run kept before its first answer; None where it kept none.

    Raises:
        EngineError: what it kept cannot be read.
    """
    from consciousness_cluster.analyse import read_registered

    path = folder.data / REGISTERED
    if not path.is_file():
        return None
    try:
        return read_registered(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as problem:
        raise EngineError(
            f"the decision rules that this run kept cannot be read ({str(problem).splitlines()[0]})",
            file=path,
            next_step="take the file from a copy of the run; it was written before the first answer",
        ) from None


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

    plan = plan_of(prepared.study, registered_claims(folder))
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
