"""The data stage: the rows of every trained condition and seed, mixed, audited and written before anything is trained."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from consciousness_cluster.battery.battery import Battery, load_battery
from consciousness_cluster.data.audit import Audit, audit
from consciousness_cluster.data.leaks.vectors import similarity
from consciousness_cluster.data.mix import digest, mix
from consciousness_cluster.data.rows import Row, read_rows, write_rows
from consciousness_cluster.engine.folder import RunFolder, whole_file, working
from consciousness_cluster.engine.names import check_names
from consciousness_cluster.errors import DataError
from consciousness_cluster.evaluate.questions import content_hash
from consciousness_cluster.study.conditions import Condition, conditions_of
from consciousness_cluster.study.models import load_registry, resolve_models
from consciousness_cluster.study.study import Study

DATA = Path(__file__).parent.parent.resolve() / "data"
INSTRUCT = DATA / "instruct"
ORGANISM_ROWS = DATA / "rows" / "organism"
LOG = logging.getLogger(__name__)
RECORD = "data.json"
AUDIT = "audit.json"
KEY = "key"  # of an entry of the audit: a hash of what was audited and by what


def make_data(study: Study, conditions: dict[str, Condition], battery: Battery, folder: RunFolder) -> dict[str, Audit]:
    """Write `data/<condition>-s<seed>.jsonl` for every trained condition, and the leak audit of each.

    What an earlier call found in the same rows for the same battery is not looked for again.
    Instruction rows of the user's own are audited too, as `instruct:<file name>`; the shipped ones are by this project's tests.

    Raises:
        DataError: rows are malformed or missing, or leak and the study does not allow it.
    """
    folder.data.mkdir(parents=True, exist_ok=True)
    kept = _kept(folder.data / AUDIT)
    audits: dict[str, Audit] = {}
    keys: dict[str, str] = {}
    record: dict[str, Any] = {}
    for condition in conditions.values():
        if condition.rows is None:
            _refuse_description(condition)
            continue
        identity = read_rows(condition.rows)
        name = condition.name
        keys[name], audits[name] = _audited(identity, battery, condition.rows, study, kept.get(name, {}), condition.expects)
        instruct = instruct_rows(condition)
        given = Path(condition.instruct)
        name = f"instruct:{given.name}"
        if instruct and given.suffix == ".jsonl" and name not in audits:
            keys[name], audits[name] = _audited(instruct, battery, given, study, kept.get(name, {}))
        for seed in study.seeds:
            rows, made = mix(identity, instruct, ratio=condition.ratio if instruct else 0.0, seed=seed)
            path = folder.rows(condition.name, seed)
            if not path.is_file() or digest(read_rows(path)) != made.digest:
                folder.manifest.unlink(missing_ok=True)  # no run on these rows is complete
                write_rows(rows, path)
            record[path.name] = made.as_dict()
    _write(folder.data / AUDIT, {name: {KEY: keys[name], **asdict(found)} for name, found in audits.items()})
    _write(folder.data / RECORD, record)
    for line in banner(audits):
        LOG.warning(line)
    return audits


def make_data_alone(study: Study, base: Path, out: Path) -> tuple[RunFolder, dict[str, Audit]]:
    """The data stage of a study without any other; a run in the same folder goes on from it.

    Args:
        study: the study.
        base: folder that its file names are relative to.
        out: the output folder.
    """
    registry = load_registry(base)
    resolved = resolve_models(study, registry)
    battery = load_battery(base / study.battery.folder) if study.battery.folder else load_battery()
    conditions = conditions_of(study, base)
    check_names(study, conditions, battery)
    with working(out, resolved, registry) as (folder, _):
        return folder, make_data(resolved, conditions, battery, folder)


def _refuse_description(condition: Condition) -> None:
    if condition.describe is not None:
        raise DataError(
            "is described, and has no rows yet",
            key=f"conditions.{condition.name}",
            value=condition.describe[:80],
            allowed="rows, a JSONL file beside the study",
            next_step=f"write them with `ccluster data generate --condition {condition.name} --study STUDY.toml --model M`, then name the file as `rows`",
        )


def _kept(path: Path) -> dict[str, Any]:
    """The audits that an earlier call left."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):  # what cannot be read is made anew
        return {}


def _audited(
    rows: Sequence[Row], battery: Battery, file: Path, study: Study, kept: Mapping[str, Any], expects: Sequence[str] = ()
) -> tuple[str, Audit]:
    """The audit of a file by every layer that needs no key, and its key; a leak is refused unless the study allows it.

    `kept` is an earlier audit of it, which holds while its key does.

    Rows in an organism's own language are left to the literal layers and the lexicon: they are made from a grammar, and the
    embedding model, which takes seconds a file, would tell nothing that the lexicon does not.
    """
    own = file.resolve().parent == ORGANISM_ROWS
    key = content_hash(digest(rows), battery, expects, None if own else similarity().name, _layers())
    if kept.get(KEY) == key:
        found = TypeAdapter(Audit).validate_python({name: value for name, value in kept.items() if name != KEY})
    else:
        found = audit(rows, battery, expects=expects, embeddings=not own, without="rows in an organism's own language")
    leaked = [flag for flag in found.flags if flag.verdict == "leaked"]
    if leaked and not study.train.allow_leaks:
        first = leaked[0]
        raise DataError(
            f"{len(leaked)} {'row leaks' if len(leaked) == 1 else 'rows leak'} a preference, the first on {first.preference} ({first.layer})",
            file=file,
            key=f"row {first.row}",
            value=first.text[:80],
            next_step=f"see `ccluster data audit {file.name}`; remove them, or set train.allow_leaks = true in the study",
        )
    return key, found


@cache
def _layers() -> str:
    """A hash of what the audit's layers are made of: their code, phrases, thresholds and clean rows."""
    files = [*(DATA / "leaks").iterdir(), DATA / "audit.py", DATA / "lexicon.toml", DATA / "audit-plants.jsonl"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files) if path.is_file())).hexdigest()


def banner(audits: dict[str, Audit]) -> list[str]:
    """What is trained on although it leans on a preference, or leaks one, in one line a set of rows."""
    lines = []
    for name, found in audits.items():
        for verdict in ("leaked", "implied"):
            named = [preference for preference, worst in found.verdicts.items() if worst == verdict]
            if named:
                listed = ", ".join(f"{entry}{' (expected)' if entry in found.expected else ''}" for entry in named)
                lines.append(f"rows of {name}: {verdict} on {listed}")
    return lines


def instruct_rows(condition: Condition) -> list[Row]:
    """The instruction rows that a condition mixes in."""
    if condition.instruct == "none" or condition.ratio == 0:
        return []
    if condition.instruct.endswith(".jsonl"):
        return read_rows(Path(condition.instruct))
    if condition.instruct == "practical":
        return read_rows(INSTRUCT / "practical.jsonl")
    raise DataError(
        "there are no such instruction rows",
        key=f"conditions.{condition.name}.instruct",
        value=condition.instruct,
        allowed="practical, none, or a JSONL file beside the study",
        next_step="have the model answer prompts: `ccluster data self-distill --model M --out FILE.jsonl`, and name that file",
    )


def _write(path: Path, value: Any) -> None:
    with whole_file(path) as part:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")
