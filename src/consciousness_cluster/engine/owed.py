"""What is left to ask of every arm of a begun run, counted as a run counts it: by the answers that its logs hold.

Nothing is asked and no file is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consciousness_cluster.engine.arm import counted_at, has_rows
from consciousness_cluster.engine.behaviour import Checks, Part, judge_of, parts_of
from consciousness_cluster.engine.context import Context, has_training_rows
from consciousness_cluster.engine.fine_tune import is_trained
from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.engine.identity import answers_content, arm_content
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.evaluate.preferences import sample
from consciousness_cluster.evaluate.questions import Question
from consciousness_cluster.evaluate.running import put
from consciousness_cluster.study.study import Arm

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.dataset import Sample

    from consciousness_cluster.engine.run import Prepared


@dataclass(frozen=True)
class Owed:
    """What is left to ask of an arm: single questions, and what share of each part by its name; a part of which nothing is left
    is left out."""

    questions: tuple[Question, ...]
    parts: Mapping[str, float]

    @property
    def any(self) -> bool:
        """Whether anything is left."""
        return bool(self.questions or self.parts)


def owed_of(prepared: Prepared, folder: RunFolder | None) -> dict[Arm, Owed]:
    """What is left to ask of every arm.

    A finished arm whose content is the present one owes nothing. Any other owes what no log has answered with the same content,
    which is what a run would ask; an arm whose fine-tune is still to be made owes everything.

    Raises:
        EvaluateError: a log cannot be opened.
    """
    whole = Owed(prepared.asked, {part.name: 1.0 for part in parts_of(prepared.study)})
    if folder is None or not folder.ledger.is_file():
        return dict.fromkeys(prepared.arms, whole)
    ledger = Ledger(folder.ledger)
    noted = ledger.arms()
    ledger.close()
    context = prepared.context(folder)
    found = {}
    for arm in prepared.arms:
        content, status, _ = noted.get(arm.id, ("", "", None))
        known = content if status == "finished" else ""
        if not has_training_rows(context, arm):
            found[arm] = whole
        elif known and known == arm_content(context, arm) and has_rows(context, arm):
            found[arm] = Owed((), {})
        else:
            found[arm] = _left(context, arm, known) if is_trained(context, arm) else whole
    return found


def _left(context: Context, arm: Arm, content: str) -> Owed:
    """What an arm's logs lack; `content` is that with which it was finished, if it was."""
    parts = parts_of(context.study)
    known = [part for part in parts if (context.folder.arm(arm) / f"{part.tables[0]}.parquet").is_file()]
    kept = bool(content) and content == arm_content(context, arm, known)
    shares = {part.name: _share(context, arm, part, kept=kept and part in known) for part in parts}
    return Owed(_questions(context, arm), {name: share for name, share in shares.items() if share})


def _questions(context: Context, arm: Arm) -> tuple[Question, ...]:
    """The single questions that no log has answered."""
    left: set[str] = set()

    def count(missing: Sequence[Sample], samples: Sequence[Sample]) -> None:
        left.update(str(entry.id) for entry in missing)

    where = counted_at(context, arm, judge_of(context.study), count)
    samples = [sample(question, where.system) for question in context.asked]
    put("", samples, _never, where, answers_content(context, arm, str(where.target)))
    return tuple(question for question in context.asked if question.item in left)


def _share(context: Context, arm: Arm, part: Part, *, kept: bool) -> float:
    """The share of a part's samples that no log has answered; `kept` says that the arm was finished with it as it is now."""
    if kept:
        return 0.0
    if isinstance(part, Checks):
        return 1.0  # which items they have is known from their data alone, which lie at a hub
    counts = [0, 0]

    def count(missing: Sequence[Sample], samples: Sequence[Sample]) -> None:
        counts[0] += len(missing)
        counts[1] += len(samples)

    part.ask(context.scope, counted_at(context, arm, part.helpers(context.study), count))
    return counts[0] / counts[1] if counts[1] else 0.0


def _never(samples: Sequence[Sample]) -> Task:
    raise AssertionError("a sample that is only counted is not asked")
