"""Judging stored answers and conversations again: nothing is asked of the target, and the old log stays as it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consciousness_cluster.errors import JudgeError
from consciousness_cluster.evaluate.questions import Question
from consciousness_cluster.evaluate.running import FAILED, LONGEST_REASON, PARENT, REPAIRED, Asked
from consciousness_cluster.judge.audit import AuditJudge
from consciousness_cluster.judge.judgement import Judge, Judgement

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample
    from inspect_ai.model import Model
    from inspect_ai.scorer import Scorer

REJUDGED = "rejudged"  # key of a log's metadata: by whom it was judged again
JUDGE = "judge"  # the role


def rejudge(
    path: Path,
    scorer: Scorer,
    roles: Mapping[str, Model],
    out: Path,
    by: Mapping[str, Any] | None = None,
    only: Collection[str] | None = None,
) -> list[Asked]:
    """Score every sample of a log with another scorer or judge, into a new log that names its parent.

    Args:
        path: the stored log, of any part.
        scorer: the new scorer, such as `judged(judge)` or `audit_scored(judge)`.
        roles: models by role; the judge's, where the scorer asks one.
        out: folder of the new log, which is the parent's name with `rejudged` in it.
        by: what tells this judge from another; `judged_by` finds the log by it.
        only: ids of the samples to take (`sample_id`); all by default.

    Returns:
        The samples with their new scores and the new log's name.

    Raises:
        JudgeError: the log cannot be read, or has no samples.
    """
    log = _read(path)
    log.samples = [sample for sample in log.samples or [] if only is None or sample_id(sample) in only]
    failed = [sample for sample in log.samples if sample.error is not None or sample.limit is not None]
    log.samples = [sample for sample in log.samples if sample.error is None and sample.limit is None]
    log = _scored(log, scorer, roles)
    log.samples = [*(log.samples or []), *failed]
    judged_by = {name: str(model) for name, model in roles.items()}
    more = {PARENT: path.name, REPAIRED: False, "rejudged_by": judged_by, **({REJUDGED: dict(by)} if by else {})}
    return _write(log, more, _free(path, out, "-rejudged"))


def repair(path: Path, scorer: Scorer, roles: Mapping[str, Model], only: Collection[str]) -> list[Asked]:
    """Score again the answered samples among `only`, by the same judge, into a new log beside the old one that names it.

    A sample that broke off while it was judged has its answers; a sample without any answer cannot be judged and is left out.
    The new log counts like the old one: the last good sample of an item is the one that rows are made from.

    Returns:
        The samples that were judged; none, and no log, where there is nothing to judge.
    """
    log = _read(path)
    log.samples = [sample for sample in log.samples or [] if sample_id(sample) in only and _answered(sample)]
    if not log.samples:
        return []
    for sample in log.samples:
        sample.error = None
        sample.limit = None
    log = _scored(log, scorer, roles)
    return _write(log, {PARENT: path.name, REPAIRED: True}, _free(path, path.parent, ".repaired"))


def judged_by(path: Path, out: Path, by: Mapping[str, Any]) -> Path | None:
    """The last log in `out` that has the samples of a log judged again by this judge, if there is one."""
    from inspect_ai.log import read_eval_log

    found = None
    for candidate in sorted(out.glob(f"{path.stem}-rejudged*{path.suffix}")):
        metadata = read_eval_log(str(candidate), header_only=True).eval.metadata or {}
        if metadata.get(PARENT) == path.name and metadata.get(REJUDGED) == dict(by):
            found = candidate
    return found


def sample_id(sample: EvalSample) -> str:
    """What the rows call a sample."""
    return sample.uuid or str(sample.id)


def read_samples(path: Path) -> list[Asked]:
    """The samples of a stored log.

    Raises:
        JudgeError: the log cannot be read, or has no samples.
    """
    return [Asked(path.name, sample) for sample in _read(path).samples or []]


def kept_scores(asked: Sequence[Asked], scorer: str, key: str) -> dict[str, Any]:
    """What a scorer left in the metadata of samples under a key, by sample id: what it need not ask for again."""
    found = {}
    for entry in asked:
        score = (entry.sample.scores or {}).get(scorer)
        if score is not None:
            found[str(entry.sample.id)] = (score.metadata or {})[key]
    return found


def judge_tokens(asked: Sequence[Asked]) -> dict[str, tuple[int, int]]:
    """Tokens (input, output) that the judge's calls on some samples took, by model."""
    found: dict[str, tuple[int, int]] = {}
    for entry in asked:
        for event in entry.sample.events:
            if event.event == "model" and event.role == JUDGE and event.output.usage is not None:
                before = found.get(event.model, (0, 0))
                usage = event.output.usage
                found[event.model] = (before[0] + usage.input_tokens, before[1] + usage.output_tokens)
    return found


class Steady:
    """A judge whose failed calls become unjudged answers with their reason: one of them must not end a whole log.

    A call that the budget held back is one of them, so that the verdicts paid for before it are kept.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.name = judge.name

    async def judge(self, question: Question, answer: str) -> Sequence[Judgement]:
        """See `Judge.judge`."""
        try:
            return await self._judge.judge(question, answer)
        except Exception as problem:  # the place that records a failed judgement
            return [Judgement(name, "unjudged", why=_said(problem), judge=self.name) for name in question.judged]


class SteadyAudit(AuditJudge):
    """A judge of audits whose failed calls leave dimensions unjudged with their reason."""

    async def _ask(self, model: Model, conversation: str, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
        try:
            return await super()._ask(model, conversation, names)
        except Exception as problem:  # the place that records a failed judgement of a conversation
            return {}, dict.fromkeys(names, _said(problem))


def _said(problem: Exception) -> str:
    return " ".join(f"{FAILED}: {type(problem).__name__}: {problem}".split())[:LONGEST_REASON]


def _read(path: Path) -> EvalLog:
    from inspect_ai.log import read_eval_log

    try:
        log = read_eval_log(str(path))
    except (OSError, ValueError, KeyError) as problem:
        raise JudgeError(f"cannot be read as a log ({problem})", file=path) from None
    if not log.samples:
        raise JudgeError("the log has no samples", file=path, next_step="rejudge a finished log")
    return log


def _scored(log: EvalLog, scorer: Scorer, roles: Mapping[str, Model]) -> EvalLog:
    from inspect_ai import score

    if not log.samples:
        return log
    for sample in log.samples:  # what an earlier judge was asked stands in the parent, and is not counted twice
        sample.events = [event for event in sample.events if event.event != "model" or event.role != JUDGE]
    asked = log.eval.model_roles
    log.eval.model_roles = None  # neither the target nor the auditor is needed again, nor are their keys
    new_roles = dict(roles) or None
    log = score(log, scorer, model="none/none", model_roles=new_roles, action="overwrite", display="none", copy=False)
    log.eval.model_roles = asked
    return log


def _answered(sample: EvalSample) -> bool:
    said = [*(choice.message for choice in sample.output.choices), *sample.messages]
    return any(message.role == "assistant" and message.text.strip() for message in said)


def _write(log: EvalLog, more: Mapping[str, Any], new: Path) -> list[Asked]:
    """Write a log under a new name, with more metadata."""
    from inspect_ai.log import write_eval_log

    log.eval.metadata = {**(log.eval.metadata or {}), **more}
    new.parent.mkdir(parents=True, exist_ok=True)
    part = new.with_name(f"{new.name}.part")  # a kill must leave no half of a log
    log.location = str(new)
    write_eval_log(log, str(part), format="eval")
    part.replace(new)
    return [Asked(new.name, sample) for sample in log.samples or []]


def _free(path: Path, out: Path, word: str) -> Path:
    """A name that no log has yet; `word` tells what it is. A repaired log sorts after its parent."""
    number = 1
    while (new := out / f"{path.stem}{word}{number:02}{path.suffix}").exists():
        number += 1
    return new
