"""What a study would do and cost, before it does anything: arms, rows, tokens, calls, dollars and minutes by stage and provider.

Calls are counted as the engine makes them, so that with no faults the calls made are the calls planned. Tokens are exact where
the model's tokenizer is on this machine, calibrated where a probe was made, and given as a wide range otherwise. A price that
the registry does not know is left out and named; nothing is guessed. The lines are made in `lines.py` and `part_lines.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from consciousness_cluster.engine.behaviour import parts_of
from consciousness_cluster.engine.extras import check_installed
from consciousness_cluster.engine.folder import RunFolder
from consciousness_cluster.engine.held import held_problems
from consciousness_cluster.engine.lines import PlanLine, question_line, train_lines, verdict_lines
from consciousness_cluster.engine.minutes import Clock, whole_run
from consciousness_cluster.engine.names import check_provider
from consciousness_cluster.engine.owed import owed_of
from consciousness_cluster.engine.part_lines import part_lines
from consciousness_cluster.engine.planned import Planned
from consciousness_cluster.engine.probe import Probe
from consciousness_cluster.engine.run import still_to_do, worker_count
from consciousness_cluster.engine.served import is_served, side_by_side
from consciousness_cluster.engine.spread import Spread, total
from consciousness_cluster.engine.targets import base_of, is_local
from consciousness_cluster.engine.templates import check_templates, thinking_notes
from consciousness_cluster.engine.training import training_problems
from consciousness_cluster.errors import ClusterError, EngineError, ModelError
from consciousness_cluster.study.keys import environment
from consciousness_cluster.study.models import helpers
from consciousness_cluster.study.problems import model_problems, model_warnings
from consciousness_cluster.study.services import batch_warnings, settings_problems
from consciousness_cluster.study.study import Arm, ModelEntry

if TYPE_CHECKING:
    from consciousness_cluster.engine.run import Prepared


@dataclass(frozen=True)
class Plan:
    """The whole plan. `left` arms are not finished yet; only they are in the lines."""

    study: str
    arms: int
    left: int
    questions: int
    answers: int
    lines: tuple[PlanLine, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def dollars(self) -> Spread:
        """What the priced lines come to."""
        return total(line.dollars for line in self.lines if line.dollars is not None)

    @property
    def minutes(self) -> Spread | None:
        """What a run takes from its start to its report, but for `untimed`; None where nothing was measured."""
        return whole_run([line.minutes for line in self.lines])

    @property
    def untimed(self) -> list[str]:
        """Stages and models of which no minutes are known."""
        return [f"{line.stage} {line.model}" for line in self.lines if line.minutes is None]

    @property
    def unpriced(self) -> list[str]:
        """Stages and models whose price is not known."""
        return [f"{line.stage} {line.model}" for line in self.lines if line.dollars is None]

    def as_dict(self) -> dict[str, Any]:
        """For a program to read."""
        minutes = None if self.minutes is None else asdict(self.minutes)
        return {
            **asdict(self), "dollars": asdict(self.dollars), "unpriced": self.unpriced, "minutes": minutes, "untimed": self.untimed,
        }  # fmt: skip


def make_plan(prepared: Prepared, folder: RunFolder | None, today: date, probes: Mapping[str, Probe] | None = None) -> Plan:
    """Plan what of a study is not yet done.

    Args:
        prepared: the study.
        folder: its output folder, if a run began there.
        today: the day by which models are checked.
        probes: what `probe` measured, by model.
    """
    owed = owed_of(prepared, folder)
    left = [arm for arm in prepared.arms if owed[arm].any]
    trains = prepared.trains
    check_templates(prepared.study, prepared.conditions, left, trains=trains)  # without them no token can be counted
    lines: list[PlanLine] = []
    for entry in prepared.study.models:
        own = {arm: owed[arm] for arm in left if arm.model == entry.name}
        if own:
            probe = (probes or {}).get(entry.name)
            clock = _clock(prepared, entry, left, probe)
            lines += _lines(Planned(prepared, entry, own, folder, probe, clock))
    problems = _model_problems(prepared, folder, left, today)
    try:
        check_installed(prepared.study, trains=trains)
    except EngineError as problem:
        problems.append(problem)
    problems += settings_problems(prepared.study, prepared.registry)
    problems += [*training_problems(prepared.study, trains=trains), *held_problems(prepared.study, trains=trains)]
    return Plan(
        study=prepared.study.name,
        arms=len(prepared.arms),
        left=len(left),
        questions=len(prepared.asked),
        answers=prepared.study.battery.answers,
        lines=tuple(lines),
        problems=tuple(str(problem) for problem in problems),
        warnings=(
            *model_warnings(prepared.study, today, prepared.registry, trains=trains),
            *prepared.notes,
            *thinking_notes(prepared.study, trains=trains),
            *batch_warnings(prepared.study, prepared.registry),
        ),
    )


def _model_problems(prepared: Prepared, folder: RunFolder | None, left: Sequence[Arm], today: date) -> list[ClusterError]:
    """What keeps the models of arms that are left from being trained and asked; nothing where none is left."""
    if not left:
        return []
    asked, owing = still_to_do(prepared, folder, left)
    found: list[ClusterError] = [*model_problems(asked, today, prepared.registry, environment(), trains=owing)]
    for key, model in [*(("models", entry.model) for entry in asked.models), *((key, name) for key, name, _ in helpers(asked))]:
        try:
            check_provider(model, key)
        except ModelError as problem:
            found.append(problem)
    return found


def _clock(prepared: Prepared, entry: ModelEntry, left: Sequence[Arm], probe: Probe | None) -> Clock:
    """What the minutes of a model go by: as many arms at a time as a run takes, of those that it brings to their end together.

    Arms behind a server are fine-tuned with those of all such models, and asked with those of their own model alone.
    """
    workers, served = worker_count(prepared.study), is_served(entry)
    alike = [arm for arm in left if is_served(prepared.study.model(arm.model)) == served]
    asked = [arm for arm in alike if arm.model == entry.name] if served else alike
    return Clock(
        base_of(entry) if is_local(entry) else None,
        max(min(side_by_side(entry, workers), len(asked)), 1),
        probe,
        max(min(workers, len(alike)), 1),
    )


def _lines(planned: Planned) -> list[PlanLine]:
    """Training, asking and judging; untrained and trained arms apart, since their prices and lengths differ."""
    found = train_lines(planned)
    for trained in (False, True):
        arms = [arm for arm in planned.owed if planned.asks_tune(arm) == trained]
        if not arms:
            continue
        answer = planned.answer(arms, trained=trained)
        asked = [arm for arm in arms if planned.owed[arm].questions]
        if asked:
            found += [question_line(planned, asked, answer, trained=trained), *verdict_lines(planned, asked, answer)]
        for part in parts_of(planned.study):
            owing = [arm for arm in arms if part.name in planned.owed[arm].parts]
            if owing:
                found += part_lines(planned, part, owing, answer, trained=trained)
    return found
