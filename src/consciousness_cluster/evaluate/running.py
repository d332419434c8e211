"""Putting a task to an arm: what earlier logs already hold is kept, the rest is asked, and every sample comes with its log.

A log counts only if it carries the same content hash, so a changed prompt, rubric, setting or checkpoint is asked anew. A log
that a kill cut off is recovered first. A sample that failed is asked again; what fails twice stays a failed sample.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consciousness_cluster.errors import EvaluateError
from consciousness_cluster.evaluate.questions import content_hash
from consciousness_cluster.study.study import REPLYING, Arm, SamplingEntry

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.log import EvalLog, EvalSample
    from inspect_ai.model import GenerateConfig, Model

HEAVY = {"events", "attachments", "timelines"}  # left out when logs are read: rows need none of them
PARENT = "parent"  # key of a log's metadata that names the log it was judged from
REPAIRED = "repaired"  # key of a log that holds verdicts of the same judge which its parent lacks
FAILED = "call failed"  # how the reason of a sample begins that was not asked or judged to its end
LONGEST_REASON = 250  # characters
AT_ONCE_LOCAL = 512  # samples in flight where one forward pass serves many
NOT_A_LOG = (ValueError, KeyError, zipfile.BadZipFile, zlib.error, EOFError)  # what reading a torn or foreign file raises
LOG = logging.getLogger(__name__)


Note = Callable[["EvalLog"], None]


Count = Callable[[Sequence["Sample"], Sequence["Sample"]], None]


@contextmanager
def unwatched(samples: int) -> Iterator[Note]:
    """Nobody counts samples, money or tokens."""
    yield lambda log: None


@dataclass(frozen=True)
class Where:
    """Whom to ask and where the logs go.

    Attributes:
        arm: the arm, for names and rows.
        target: the Inspect model under test, with its checkpoint in its name.
        logs: folder of the study's logs.
        sampling: how answers are drawn; every field is sent.
        system: the condition's system prompt; it reaches the target alone.
        roles: other models by role (`judge`, `auditor`).
        local: whether the target is sampled on this machine.
        batched: whether calls go out in batch mode, which waits for all samples.
        watch: held open while samples are asked, so many as it is told; what it gives is handed the finished log.
        addresses: where these models are asked, if the environment moves them from their providers' own.
        counting: where there is one, nothing is asked and no file touched: it is told which samples no log has answered, and all.
    """

    arm: Arm
    target: Model
    logs: Path
    sampling: SamplingEntry = field(default_factory=SamplingEntry)
    system: str | None = None
    roles: Mapping[str, Model] = field(default_factory=dict)
    local: bool = False
    batched: bool = False
    watch: Callable[[int], AbstractContextManager[Note]] = unwatched
    addresses: tuple[str, ...] = ()
    counting: Count | None = None

    def asked(self) -> dict[str, str]:
        """Names of the other models by role, and how they are to reply if that is set, for the hash of what decides a verdict."""
        return {name: " ".join([str(model), *_replying(model)]) for name, model in sorted(self.roles.items())}


def _replying(model: Model) -> list[str]:
    said = {key: getattr(model.config, key) for key in REPLYING}
    return [f"{key}={value}" for key, value in said.items() if value is not None]


@dataclass(frozen=True)
class Asked:
    """A sample and the file name of the log that holds it."""

    log: str
    sample: EvalSample


def put(
    part: str, samples: Sequence[Sample], make: Callable[[Sequence[Sample]], Task], where: Where, content: str,
    at_role: str | None = None,
) -> list[Asked]:  # fmt: skip
    """Ask what no log of the same content has answered yet.

    Args:
        part: what this is (`interview`, `audit`, ...), empty for the single questions; names the logs.
        samples: all samples, each with an id of its own.
        make: makes the task of some of the samples.
        where: whom to ask.
        content: hash of everything that decides an answer or a verdict, but for what the samples' metadata say of themselves.
        at_role: the role that the model under test takes; None for the model of the evaluation itself.

    Returns:
        One entry a sample: the last good one, or a failed one where none is good.

    Raises:
        EvaluateError: the evaluation as a whole could not be run, or an earlier log not opened.
    """
    if where.addresses:
        content = content_hash(content, where.addresses)
    logs = earlier_logs(where.logs, _name(part, where), content, mend=where.counting is None)
    about = {str(sample.id): _plain(sample.metadata or {}) for sample in samples}
    earlier = [
        Asked(path.name, sample)
        for path, log in logs
        for sample in log.samples or []
        if about.get(str(sample.id), {}).items() <= sample.metadata.items()
    ]
    answered = {str(entry.sample.id) for entry in earlier if good(entry.sample)}
    missing = [sample for sample in samples if str(sample.id) not in answered]
    if where.counting is not None:
        where.counting(missing, samples)
        return []
    if missing:
        with where.watch(len(missing)) as note:
            log = _evaluate(part, make(missing), where, content, at_role)
            note(log)
        earlier += [Asked(Path(log.location).name, sample) for sample in log.samples or []]
    wanted = {str(sample.id) for sample in samples}
    kept: dict[str, Asked] = {}
    for entry in earlier:
        name = str(entry.sample.id)
        if name in wanted and (good(entry.sample) or name not in kept):
            kept[name] = entry
    return [kept[str(sample.id)] for sample in samples if str(sample.id) in kept]


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as a log gives them back."""
    return dict(json.loads(json.dumps(metadata)))


def generation(sampling: SamplingEntry, seed: int) -> GenerateConfig:
    """How one call draws its answer."""
    from inspect_ai.model import GenerateConfig

    return GenerateConfig(
        temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=sampling.max_tokens, seed=seed,
        reasoning_effort=sampling.reasoning_effort, reasoning_tokens=sampling.reasoning_tokens,
    )  # fmt: skip


def stream(seed: int, *of: object) -> int:
    """A seed of its own for each of those who are asked with one seed: the same on every machine, and below 2^31, as services want.

    With one seed for all, whoever draws by it draws by the same random numbers: answers of like models would agree by chance, and
    so would answers to like questions.
    """
    digest = hashlib.sha256(":".join(map(str, (seed, *of))).encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


def good(sample: EvalSample) -> bool:
    """Whether a sample was asked and judged to its end: no error, and not stopped by a limit such as the budget."""
    return sample.error is None and sample.limit is None and bool(sample.scores)


def why_failed(sample: EvalSample) -> str:
    """Reason of a sample that is not good, in one line; of a long message its end, where the cause stands."""
    said = "it was not scored"
    if sample.error is not None:
        said = sample.error.message
    elif sample.limit is not None:
        said = f"stopped by its {sample.limit.type} limit"
    line = " ".join(said.replace("\\n", " ").split())
    return f"{FAILED}: {line if len(line) <= LONGEST_REASON else '...' + line[-LONGEST_REASON:]}"


def _name(part: str, where: Where) -> str:
    return "--".join(name for name in (where.arm.id, part) if name).replace("_", "-")


def earlier_logs(logs: Path, name: str, content: str, *, mend: bool = True) -> list[tuple[Path, EvalLog]]:
    """Logs of one task (by the name in their files) with the same content; one that a kill cut off is recovered in place.

    A log judged again by another judge names its parent and is left out; a repaired one counts, after its parent. No file is
    removed: one that does not read as a log is set aside under another name. Without `mend` all files stay as they are.

    Raises:
        EvaluateError: a file cannot be opened or written.
    """
    found: list[tuple[Path, EvalLog]] = []
    for path in sorted(logs.glob(f"*_{name}_*.eval")):
        try:
            log = _earlier(path, content, mend=mend)
        except OSError as problem:
            raise EvaluateError(
                f"an earlier log cannot be opened or written ({problem.strerror or problem})", file=path,
                next_step="mend that, or move the file out of the folder: what it holds is then asked again",
            ) from None  # fmt: skip
        if log is not None:
            found.append((path, log))
    return found


def _earlier(path: Path, content: str, *, mend: bool) -> EvalLog | None:
    """One earlier log, if it has this content; of a cut-off one all that is still to be had."""
    from inspect_ai.log import read_eval_log

    try:
        header = read_eval_log(str(path), header_only=True)
        known = header.eval.metadata or {}
        if known.get("content") != content or (PARENT in known and not known.get(REPAIRED)):
            return None
        if header.status == "started" and mend:
            _recover(path)
        return read_eval_log(str(path), exclude_fields=HEAVY)
    except NOT_A_LOG as problem:
        if not mend:
            return None
        aside = path.with_name(f"{path.name}.unreadable")
        path.rename(aside)
        LOG.warning("%s does not read as a log (%s): kept as %s, and what it held is asked again", path, problem, aside.name)
        return None


def _recover(path: Path) -> None:
    """Add to a log that a kill cut off the samples that had not been written to it yet, where Inspect still has them.

    It keeps them for some days in a folder of the machine and under the path of the log: on another machine, or once the run has
    been moved, there is nothing to add, and the log holds what had been written.
    """
    from inspect_ai.log import RecoveryNotAvailable, recover_eval_log

    with suppress(RecoveryNotAvailable):
        recover_eval_log(str(path), overwrite=True)


def _evaluate(part: str, task: Task, where: Where, content: str, at_role: str | None) -> EvalLog:
    from inspect_ai import eval as inspect_eval
    from inspect_ai import task_with

    arm = where.arm
    metadata = {**(task.metadata or {}), "part": part or "questions", "arm": arm.id, "model": arm.model, "condition": arm.condition,
                "seed": arm.seed, "content": content}  # fmt: skip
    roles: dict[str, Any] = dict(where.roles)
    if at_role is not None:
        roles[at_role] = where.target
    where.logs.mkdir(parents=True, exist_ok=True)
    at_once = AT_ONCE_LOCAL if where.local else len(task.dataset) if where.batched else None
    logs = inspect_eval(
        task_with(task, name=_name(part, where), metadata=metadata),
        model=where.target if at_role is None else "none/none", model_roles=roles or None, log_dir=str(where.logs), display="none",
        fail_on_error=False, retry_on_error=0 if where.local else 2, max_samples=at_once, log_buffer=25,
        log_model_api=False, score_display=False, ctl_server=False, log_level="warning",
    )  # fmt: skip
    if not logs:
        raise KeyboardInterrupt  # Inspect returns nothing when it was interrupted
    if logs[0].status != "success":
        message = logs[0].error.message if logs[0].error else logs[0].status
        raise EvaluateError(
            f"{part or 'the questions'} could not be put: {message}", key=arm.id, next_step="see the log with `inspect view`"
        )
    return logs[0]
