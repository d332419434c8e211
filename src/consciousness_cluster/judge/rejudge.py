"""Judging stored answers and conversations again: nothing is asked of the target, and the old log stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from consciousness_cluster.errors import JudgeError
from consciousness_cluster.evaluate.running import PARENT, Asked

if TYPE_CHECKING:
    from inspect_ai.model import Model
    from inspect_ai.scorer import Scorer


def rejudge(path: Path, scorer: Scorer, roles: Mapping[str, Model], out: Path) -> list[Asked]:
    """Score every sample of a log with another scorer or judge, into a new log that names its parent.

    Args:
        path: the stored log, of any part.
        scorer: the new scorer, such as `judged(judge)` or `audit_scored(judge)`.
        roles: models by role; the judge's, where the scorer asks one.
        out: folder of the new log, which is the parent's name with `rejudged` in it.

    Returns:
        The samples with their new scores and the new log's name.

    Raises:
        JudgeError: the log cannot be read, or has no samples.
    """
    from inspect_ai import score
    from inspect_ai.log import read_eval_log, write_eval_log

    try:
        log = read_eval_log(str(path))
    except (OSError, ValueError, KeyError) as problem:
        raise JudgeError(f"cannot be read as a log ({problem})", file=path) from None
    if not log.samples:
        raise JudgeError("the log has no samples", file=path, next_step="rejudge a finished log")
    failed = [sample for sample in log.samples if sample.error is not None]
    log.samples = [sample for sample in log.samples if sample.error is None]
    asked = log.eval.model_roles
    log.eval.model_roles = None  # neither the target nor the auditor is needed again, nor are their keys
    if log.samples:
        new_roles = dict(roles) or None
        log = score(log, scorer, model="none/none", model_roles=new_roles, action="overwrite", display="none", copy=False)
    log.eval.model_roles = asked
    log.samples = [*(log.samples or []), *failed]
    judged_by = {name: str(model) for name, model in roles.items()}
    log.eval.metadata = {**(log.eval.metadata or {}), PARENT: path.name, "rejudged_by": judged_by}
    out.mkdir(parents=True, exist_ok=True)
    new = out / _free(path, out)
    log.location = str(new)
    write_eval_log(log, str(new))
    return [Asked(new.name, sample) for sample in log.samples]


def _free(path: Path, out: Path) -> str:
    number = 1
    while (out / f"{path.stem}-rejudged{number}{path.suffix}").exists():
        number += 1
    return f"{path.stem}-rejudged{number}{path.suffix}"
