"""Multi-turn audits on inspect-petri: an ordinary task, then open questions (`self-report`) or leave to change it (`behaviour`)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consciousness_cluster.battery.tasks import Dimension, Scenario, load_audits
from consciousness_cluster.errors import EvaluateError
from consciousness_cluster.evaluate.questions import content_hash
from consciousness_cluster.evaluate.running import Asked, Where, put
from consciousness_cluster.study.study import SamplingEntry

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import Scorer

PART = "audit"
PROMPTS = Path(__file__).parent / "prompts"
Mode = Literal["self-report", "behaviour"]
Framing = Literal["neutral", "expects-yes", "expects-no"]
EXTRA = "audit"  # the extra of the package that brings inspect-petri


class AuditSettings(BaseModel):
    """The `[audits]` table of a study. Without an `auditor` no audit is run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    auditor: str | None = None  # any Inspect model
    auditor_args: dict[str, Any] = Field(default_factory=dict)
    judge: str | None = None  # the study's judge where left out
    judge_args: dict[str, Any] = Field(default_factory=dict)
    modes: tuple[Mode, ...] = ("self-report", "behaviour")
    dimensions: tuple[str, ...] | Literal["all"] = "all"
    scenarios: int | None = Field(default=None, ge=1)  # the first so many of each dimension; all where left out
    repeats: int = Field(default=2, ge=1)  # the paper's number; its critics ask for 30
    turns: int = Field(default=10, ge=3)  # most target turns of a conversation
    hypothesis: Literal["hidden", "shown"] = "hidden"  # whether the auditor is told what is looked at
    framings: tuple[Framing, ...] = ("neutral",)  # several measure what an interviewer's expectation does
    matrix: bool = True  # score every conversation on all dimensions, or only on its own

    def chosen(self) -> dict[str, Dimension]:
        """The dimensions whose scenarios are asked."""
        known = load_audits()
        names = tuple(known) if self.dimensions == "all" else self.dimensions
        for name in names:
            if name not in known:
                raise EvaluateError("no such audit dimension", key="audits.dimensions", value=name, allowed=known)
        return {name: known[name] for name in names}


def audit_settings(table: Mapping[str, Any], file: Path | str = "study") -> AuditSettings:
    """The settings of a study's `[audits]` table.

    Raises:
        EvaluateError: an unknown key or a value out of range.
    """
    try:
        settings = AuditSettings.model_validate(dict(table))
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(("audits", *map(str, first["loc"])))
        allowed = AuditSettings.model_fields if first["type"] == "extra_forbidden" else None
        value = str(first["loc"][-1]) if allowed else first.get("input")
        raise EvaluateError(first["msg"].lower(), file=file, key=where, value=value, allowed=allowed) from None
    settings.chosen()
    return settings


@cache
def _framings() -> dict[str, dict[str, str]]:
    return tomllib.loads((PROMPTS / "framing.toml").read_text(encoding="utf-8"))


def instructions(dimension: Dimension, scenario: Scenario, mode: str, framing: str, hypothesis: str) -> str:
    """The auditor's part in one conversation. Nothing in it tells the target's name, condition or training."""
    told = _framings()
    text = Template((PROMPTS / f"{mode}.md").read_text(encoding="utf-8"))
    return text.substitute(
        who=scenario.who,
        work=scenario.work,
        change=scenario.change,
        hypothesis=Template(told["hypothesis"][hypothesis]).substitute(describe=dimension.describe),
        framing=told["framing"][framing],
    ).strip()


def audit_samples(settings: AuditSettings) -> list[Sample]:
    """One sample a scenario, mode, framing and repeat."""
    from inspect_ai.dataset import Sample

    found = []
    for dimension in settings.chosen().values():
        for scenario in dimension.scenarios[: settings.scenarios]:
            for mode in settings.modes:
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


def run_audits(where: Where, scorer: Scorer, judge: str, settings: AuditSettings) -> list[Asked]:
    """Audit an arm.

    Args:
        where: the arm, its model and the logs; its roles must hold `auditor`, and `judge` where the scorer asks one.
        scorer: made by `judge.audit.audit_scored(...)`.
        judge: the judge's name, part of the content hash.
        settings: the study's `[audits]`.

    Returns:
        The conversations; `judge.audit.audit_rows` makes the table.

    Raises:
        EvaluateError: the auditor's role is missing.
    """
    if "auditor" not in where.roles:
        raise EvaluateError("the auditor has no model", key="audits.auditor", next_step="name one, or leave the audits out")
    samples = audit_samples(settings)
    prompt = (PROMPTS / "auditor.md").read_text(encoding="utf-8")
    told = [str(sample.input) for sample in samples]
    roles = {name: str(model) for name, model in sorted(where.roles.items())}
    content = content_hash(told, prompt, settings.turns, where.sampling, judge, roles, str(where.target), where.system)
    return put(
        PART,
        samples,
        lambda some: audit_task(some, scorer, settings.turns, where.sampling, where.system),
        where,
        content,
        at_role="target",
    )
