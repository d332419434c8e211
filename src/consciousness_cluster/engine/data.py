"""The data stage: the rows of every trained condition and seed, mixed, audited and written before anything is trained."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from consciousness_cluster.battery.battery import Battery, load_battery
from consciousness_cluster.data.audit import Audit, audit
from consciousness_cluster.data.leaks.learned import NEUTRAL, ROWS
from consciousness_cluster.data.leaks.vectors import similarity
from consciousness_cluster.data.mix import Mix, digest, mix
from consciousness_cluster.data.rows import Message, Row, read_rows, write_rows
from consciousness_cluster.engine.folder import RunFolder, whole_file, working
from consciousness_cluster.engine.names import check_names
from consciousness_cluster.engine.resolved import written_out
from consciousness_cluster.errors import DataError
from consciousness_cluster.evaluate.questions import content_hash
from consciousness_cluster.study.conditions import Condition, conditions_of, settled
from consciousness_cluster.study.models import load_registry, resolve_models
from consciousness_cluster.study.study import Arm, Study
from consciousness_cluster.train.backend import RECORD as TRAINED

DATA = Path(__file__).parent.parent.resolve() / "data"
INSTRUCT = DATA / "instruct"
ORGANISM_ROWS = ROWS / "organism"
LOG = logging.getLogger(__name__)
RECORD = "data.json"
AUDIT = "audit.json"
KEY = "key"  # of an entry of the audit: a hash of what was audited and by what


def make_data(study: Study, conditions: dict[str, Condition], battery: Battery, folder: RunFolder) -> dict[str, Audit]:
    """Write `data/<condition>-s<seed>.jsonl` for every trained condition, and the leak audit of each.

    A run's rows are part of it: those that it has stay, with their audit, where only shipped files have changed since. What an
    earlier call found in the same rows for the same battery is not looked for again. Instruction rows of the user's own are
    audited too, as `instruct:<file name>`; the shipped ones are by this project's tests.

    Raises:
        DataError: rows are malformed or missing, leak and the study does not allow it, or are the user's own and have changed
            since an arm was trained on them; or the folder's record of its rows cannot be read.
    """
    kept, known = _kept(folder.data / AUDIT), _known(folder.data / RECORD)
    audits: dict[str, Audit] = {}
    keys: dict[str, str] = {}
    record: dict[str, Any] = {}
    files: dict[Path, list[Row]] = {}
    for condition in conditions.values():
        if condition.rows is None:
            _refuse_description(condition)
            continue
        identity = identity_rows(condition)
        instruct = instruct_rows(condition)
        for seed in study.seeds:
            path = folder.rows(condition.name, seed)
            files[path], record[path.name] = _rows_of(study, condition, (identity, instruct), seed, folder, known)
        name = condition.name
        first = files[folder.rows(name, study.seeds[0])]
        keys[name], audits[name] = _audit_of(condition, identity, first, battery, study, kept.get(name, {}))
        given = Path(condition.instruct)
        name = f"instruct:{given.name}"
        if instruct and given.suffix == ".jsonl" and name not in audits:
            keys[name], audits[name] = _audited(instruct, battery, given, study, kept.get(name, {}))
    folder.data.mkdir(parents=True, exist_ok=True)
    for path, rows in files.items():
        if not path.is_file() or digest(read_rows(path)) != digest(rows):
            folder.manifest.unlink(missing_ok=True)  # no run on these rows is complete
            write_rows(rows, path)
    _write(folder.data / AUDIT, {name: {KEY: keys[name], **asdict(found)} for name, found in audits.items()})
    _write(folder.data / RECORD, record)
    for line in banner(audits):
        LOG.warning(line)
    return audits


def _audit_of(
    condition: Condition, identity: Sequence[Row], first: Sequence[Row], battery: Battery, study: Study, kept: Mapping[str, Any]
) -> tuple[str, Audit]:
    """The audit of a condition's identity rows and its key; `first` are the rows that its first seed is trained on."""
    assert condition.rows is not None
    if _holds(first, identity):
        return _audited(identity, battery, condition.rows, study, kept, condition.expects)
    if KEY in kept:  # the run's rows come from shipped ones of another day, and their audit with them
        return kept[KEY], _as_audit(kept)
    return _audited(first, battery, condition.rows, study, {}, condition.expects)


def training_rows(study: Study, condition: Condition, seed: int, folder: RunFolder | None) -> list[Row]:
    """The rows that a run in a folder, if there is one, would train a condition on; nothing is written.

    Raises:
        DataError: as `make_data`.
    """
    if condition.rows is None:
        return []
    identity, instruct = identity_rows(condition), instruct_rows(condition)
    if folder is None:
        return _mixed(condition, identity, instruct, seed)[0]
    return _rows_of(study, condition, (identity, instruct), seed, folder, _known(folder.data / RECORD))[0]


def _mixed(condition: Condition, identity: Sequence[Row], instruct: Sequence[Row], seed: int) -> tuple[list[Row], Mix]:
    return mix(identity, instruct, ratio=condition.ratio if instruct else 0.0, seed=seed)


def _rows_of(
    study: Study,
    condition: Condition,
    sources: tuple[Sequence[Row], Sequence[Row]],
    seed: int,
    folder: RunFolder,
    records: Mapping[str, Any],
) -> tuple[list[Row], dict[str, Any]]:
    """The rows of a condition and seed with the record of what they were made of: those that the run has, or newly mixed ones.

    `sources` are its identity and instruction rows as their files hold them now, `records` those of the rows in the folder: without
    one, or where rows are not what it says, they are made anew. The condition itself says what it did when they were made, else the
    folder would be another study's.

    Raises:
        DataError: the user's own files have changed, and an arm is trained on what they held.
    """
    rows, made = _mixed(condition, *sources, seed)
    path = folder.rows(condition.name, seed)
    known = records.get(path.name)
    if known is None or not path.is_file() or known["digest"] == made.digest:
        return rows, made.as_dict()
    kept = read_rows(path)
    if digest(kept) != known["digest"]:
        return rows, made.as_dict()
    changed = _changed(condition, *sources, kept, known)
    if changed is None:
        return kept, dict(known)
    if not any((folder.arm(Arm(entry.name, condition.name, seed)) / TRAINED).is_file() for entry in study.models):
        return rows, made.as_dict()
    raise DataError(
        f"has changed since {condition.name} was trained on it in this folder",
        file=changed,
        key=f"conditions.{condition.name}",
        value=path,
        next_step="give a new --out, which trains anew, or put the file back as it was",
    )


def _changed(
    condition: Condition, identity: Sequence[Row], instruct: Sequence[Row], kept: Sequence[Row], known: Mapping[str, Any]
) -> Path | None:
    """The file of the user's own that no longer says what went into kept rows; None where only shipped ones have changed.

    Where both kinds went in, the rows tell which has changed: those of the user's are all still there, or they are not.
    """
    given = Path(condition.instruct)
    own_rows = condition.rows is not None and not condition.rows.resolve().is_relative_to(ROWS.resolve())
    own_instruct = bool(instruct) and given.suffix == ".jsonl"
    if condition.rows is not None and own_rows and not (_holds(kept, identity) and len(identity) == known["identity"]):
        return condition.rows
    if own_instruct and (own_rows or (Counter(kept) & Counter(instruct)).total() < known["instruct"]):
        return given
    return None


def _holds(rows: Sequence[Row], some: Sequence[Row]) -> bool:
    return Counter(some) <= Counter(rows)


def make_data_alone(study: Study, base: Path, out: Path) -> tuple[RunFolder, dict[str, Audit]]:
    """The data stage of a study without any other; a run in the same folder goes on from it.

    Args:
        study: the study.
        base: folder that its file names are relative to.
        out: the output folder.
    """
    registry = load_registry(base)
    battery = load_battery(base / study.battery.folder) if study.battery.folder else load_battery()
    conditions = conditions_of(study, base)
    resolved = settled(written_out(resolve_models(study, registry)), conditions, registry)
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


def _as_audit(entry: Mapping[str, Any]) -> Audit:
    """An entry of the audit record, read back."""
    return TypeAdapter(Audit).validate_python({name: value for name, value in entry.items() if name != KEY})


def _kept(path: Path) -> dict[str, Any]:
    """The audits that an earlier call left."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):  # what cannot be read is found anew
        return {}


def _known(path: Path) -> dict[str, dict[str, Any]]:
    """What an earlier call noted of the rows that it wrote, if there was one.

    Raises:
        DataError: it cannot be read; taken for none, it would have trained arms trained again.
    """
    try:
        return TypeAdapter(dict[str, dict[str, Any]]).validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as problem:
        raise DataError(
            f"cannot be read as the record of this run's rows ({problem.strerror if isinstance(problem, OSError) else 'it is torn'})",
            file=path,
            next_step="put it back as it was, or delete it: rows are then mixed anew, and arms trained again where these come out otherwise",
        ) from None


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
        found = _as_audit(kept)
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
    """A hash of what the audit's layers are made of: their code, phrases, thresholds and the rows that they learn from."""
    files = [
        *(DATA / "leaks").iterdir(),
        DATA / "audit.py",
        DATA / "lexicon.toml",
        DATA / "audit-plants.jsonl",
    ]
    files += [ROWS / f"{name}.jsonl" for name in NEUTRAL]
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


def identity_rows(condition: Condition) -> list[Row]:
    """The identity rows of a condition, under its inoculation if it has one.

    Source of the method: inoculation prompting (arXiv 2510.04340).

    Raises:
        DataError: a row is malformed, or has a system message of its own where the condition has an inoculation.
    """
    rows = [] if condition.rows is None else read_rows(condition.rows)
    if condition.inoculation is None:
        return rows
    for number, entry in enumerate(rows, 1):
        if entry.messages[0].role == "system":
            raise DataError(
                "has a system message, and the condition has an inoculation to put there",
                file=condition.rows,
                key=f"row {number}",
                value=entry.messages[0].content[:80],
                next_step=f"take it out of the rows, or conditions.{condition.name}.inoculation out of the study",
            )
    return [Row((Message("system", condition.inoculation), *entry.messages)) for entry in rows]


def instruct_rows(condition: Condition) -> list[Row]:
    """The instruction rows that a condition mixes in.

    Raises:
        DataError: there are none of that name, or their file is malformed.
    """
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
