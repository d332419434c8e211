"""Multi-turn audits on inspect-petri: an ordinary task, then open questions (`self-report`) or leave to change it (`behaviour`)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from consciousness_cluster.battery.battery import FOLDER
from consciousness_cluster.battery.tasks import Dimension, Scenario, load_audits
from consciousness_cluster.errors import EvaluateError, first_fault
from consciousness_cluster.evaluate.questions import content_hash
from consciousness_cluster.evaluate.running import Asked, Where, put
from consciousness_cluster.study.study import AuditsEntry, SamplingEntry

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import Scorer

PART = "audit"
AUDITS = FOLDER / "audits"
AS_WRITTEN = "as-written"  # the mode of a scenario that holds the auditor's whole part
PROMPTS = Path(__file__).parent / "prompts"
SPARE_TURNS = 6  # auditor turns beyond the target's, for mistakes; an auditor that never speaks ends after them
EXTRA = "audit"  # the extra of the package that brings inspect-petri


def audit_settings(table: Mapping[str, Any], file: Path | str = "study") -> AuditsEntry:
    """The settings of a table of audits, such as the arguments of a task that runs alone.

    Raises:
        EvaluateError: an unknown key or a value out of range.
    """
    try:
        settings = AuditsEntry.model_validate(dict(table))
    except ValidationError as problem:
        fault = first_fault(problem)
        raise EvaluateError(
            fault.problem.lower(),
            file=file,
            key=f"audits.{fault.key}",
            value=fault.unknown or fault.value,
            allowed=AuditsEntry.model_fields if fault.unknown else None,
        ) from None
    chosen_dimensions(settings, folder_of(settings))
    return settings


def folder_of(settings: AuditsEntry, base: Path = Path()) -> Path:
    """The folder of a table's audits, which is relative to `base`; the shipped one where it names none."""
    return AUDITS if settings.folder is None else base / settings.folder


def chosen_dimensions(settings: AuditsEntry, folder: Path = AUDITS) -> dict[str, Dimension]:
    """The dimensions whose scenarios are asked, of those in a folder.

    Raises:
        EvaluateError: there is no dimension of that name.
    """
    known = load_audits(folder)
    names = tuple(known) if settings.dimensions == "all" else settings.dimensions
    for name in names:
        if name not in known:
            raise EvaluateError("no such audit dimension", key="audits.dimensions", value=name, allowed=known)
    return {name: known[name] for name in names}


@cache
def _framings() -> dict[str, dict[str, str]]:
    return tomllib.loads((PROMPTS / "framing.toml").read_text(encoding="utf-8"))


def instructions(dimension: Dimension, scenario: Scenario, mode: str, framing: str, hypothesis: str) -> str:
    """The auditor's part in one conversation. Nothing of ours in it tells the target's name, condition or training."""
    told = _framings()
    suspected = Template(told["hypothesis"][hypothesis]).substitute(describe=dimension.describe)
    if mode == AS_WRITTEN:
        return f"{scenario.part.strip()}{suspected}{told['framing'][framing]}".strip()
    text = Template((PROMPTS / f"{mode}.md").read_text(encoding="utf-8"))
    return text.substitute(
        who=scenario.who,
        work=scenario.work,
        change=scenario.change,
        hypothesis=suspected,
        framing=told["framing"][framing],
    ).strip()


def audit_samples(settings: AuditsEntry, folder: Path = AUDITS) -> list[Sample]:
    """One sample a scenario, mode, framing and repeat, of the scenarios in a folder."""
    from inspect_ai.dataset import Sample

    found = []
    for dimension in chosen_dimensions(settings, folder).values():
        for scenario in dimension.scenarios[: settings.scenarios]:
            for mode in (AS_WRITTEN,) if scenario.part else settings.modes:
                for framing in settings.framings:
                    told = instructions(dimension, scenario, mode, framing, settings.hypothesis)
                    for repeat in range(settings.repeats):
                        about = {"dimension": dimension.id, "scenario": scenario.id, "mode": mode, "framing": framing,
                                 "repeat": repeat, "hypothesis": settings.hypothesis}  # fmt: skip
                        name = f"{scenario.id}.{mode}.{framing}.r{repeat}"
                        found.append(Sample(id=name, input=told, metadata=about))
    return found


def audit_task(
    samples: Sequence[Sample], scorer: Scorer, turns: int, sampling: SamplingEntry, system: str | None = None
) -> Task:
    """The task of some audits; the model under test, the auditor and the judge are the roles `target`, `auditor`, `judge`.

    Raises:
        EvaluateError: inspect-petri is not installed.
    """
    from inspect_ai import Task
    from inspect_ai.dataset import MemoryDataset

    try:
        from consciousness_cluster.evaluate.auditor import audited
    except ModuleNotFoundError as problem:
        raise EvaluateError(
            "audits need inspect-petri, which is not installed", value=problem.name, next_step=f"install the extra `{EXTRA}`"
        ) from None
    solver = audited(turns, sampling, system)
    return Task(dataset=MemoryDataset(list(samples), name=PART), solver=solver, scorer=scorer, name=PART)


def run_audits(where: Where, scorer: Scorer, judge: str, settings: AuditsEntry, folder: Path = AUDITS) -> list[Asked]:
    """Audit an arm.

    Args:
        where: the arm, its model and the logs; its roles must hold `auditor`, and `judge` where the scorer asks one.
        scorer: made by `judge.audit.audit_scored(...)`.
        judge: the judge's name, part of the content hash.
        settings: the study's `[audits]`.
        folder: where the dimensions and their scenarios are.

    Returns:
        The conversations; `judge.audit.audit_rows` makes the table.

    Raises:
        EvaluateError: the auditor's role is missing.
    """
    if "auditor" not in where.roles:
        raise EvaluateError("the auditor has no model", key="audits.auditor", next_step="name one, or leave the audits out")
    samples = audit_samples(settings, folder)
    prompt = (PROMPTS / "auditor.md").read_text(encoding="utf-8")
    told = [str(sample.input) for sample in samples]
    content = content_hash(
        told, prompt, settings.turns, settings.matrix, where.sampling, judge, where.asked(), str(where.target), where.system
    )
    return put(
        PART,
        samples,
        lambda some: audit_task(some, scorer, settings.turns, where.sampling, where.system),
        where,
        content,
        at_role="target",
    )
