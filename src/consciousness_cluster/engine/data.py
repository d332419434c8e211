"""The data stage: the rows of every trained condition and seed, mixed, audited and written before anything is trained."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.data.audit import Audit, audit
from consciousness_cluster.data.mix import digest, mix
from consciousness_cluster.data.rows import Row, read_rows, write_rows
from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.engine.targets import is_local
from consciousness_cluster.errors import DataError
from consciousness_cluster.study.conditions import Condition
from consciousness_cluster.study.study import Study

INSTRUCT = Path(__file__).parent.parent / "data" / "instruct"
RECORD = "data.json"


def make_data(study: Study, conditions: dict[str, Condition], battery: Battery, folder: RunFolder) -> dict[str, Audit]:
    """Write `data/<condition>-s<seed>.jsonl` for every trained condition, and the leak audit of each.

    Raises:
        DataError: rows are malformed or missing, or leak and the study does not allow it.
    """
    folder.data.mkdir(parents=True, exist_ok=True)
    audits: dict[str, Audit] = {}
    record: dict[str, Any] = {}
    for condition in conditions.values():
        if condition.rows is None:
            continue
        identity = read_rows(condition.rows)
        audits[condition.name] = audit(identity, battery, expects=condition.expects)
        _refuse_leaks(audits[condition.name], condition, study)
        instruct = instruct_rows(study, condition)
        for seed in study.seeds:
            rows, made = mix(identity, instruct, ratio=condition.ratio, seed=seed)
            path = folder.rows(condition.name, seed)
            if not path.is_file() or digest(read_rows(path)) != made.digest:
                write_rows(rows, path)
            record[path.name] = made.as_dict()
    _write(folder.data / "audit.json", {name: asdict(found) for name, found in audits.items()})
    _write(folder.data / RECORD, record)
    return audits


def _refuse_leaks(found: Audit, condition: Condition, study: Study) -> None:
    leaked = [flag for flag in found.flags if flag.verdict == "leaked"]
    if leaked and not study.train.allow_leaks:
        first = leaked[0]
        raise DataError(
            f"{len(leaked)} rows leak a preference, the first on {first.preference}",
            file=condition.rows,
            key=f"row {first.row}",
            value=first.text[:80],
            next_step="remove them, or set train.allow_leaks = true in the study",
        )


def instruct_rows(study: Study, condition: Condition) -> list[Row]:
    """The instruction rows that a condition mixes in."""
    if condition.instruct == "none" or condition.ratio == 0:
        return []
    if condition.instruct.endswith(".jsonl"):
        return read_rows(Path(condition.instruct))
    if condition.instruct == "practical" or all(
        is_local(model) and model.model.startswith("organism:") for model in study.models
    ):
        return read_rows(INSTRUCT / "practical.jsonl")
    raise DataError(
        "there are no such instruction rows",
        key=f"conditions.{condition.name}.instruct",
        value=condition.instruct,
        allowed="practical, none, or a JSONL file beside the study",
        next_step="have the model answer prompts: `ccluster data self-distill --model M --out FILE.jsonl`, and name that file",
    )


def _write(path: Path, value: Any) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")
    part.replace(path)
