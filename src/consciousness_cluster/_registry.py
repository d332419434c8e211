"""What Inspect finds of ours: the provider for local weights, the tasks, the hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from inspect_ai import Task, task
from inspect_ai.model import modelapi

import consciousness_cluster.engine.budget
import consciousness_cluster.engine.progress  # noqa: F401  registers the progress hook

if TYPE_CHECKING:
    from inspect_ai.model import ModelAPI


@modelapi(name="cluster")
def cluster() -> type[ModelAPI]:
    """Local weights: `cluster/<label>` with `base` and `adapter` as model arguments."""
    from consciousness_cluster.sampling.provider import LocalAPI

    return LocalAPI


@modelapi(name="cluster-tinker")
def cluster_tinker() -> type[ModelAPI]:
    """Models at Tinker whose prompts are rendered here: `cluster-tinker/<model or path>` with `template_args`."""
    from consciousness_cluster.sampling.tinker import TinkerAPI

    return TinkerAPI


@modelapi(name="cluster-vllm")
def cluster_vllm() -> type[ModelAPI]:
    """Local weights behind a vLLM server: `cluster-vllm/<label>` with `base` and `adapter` as model arguments."""
    from consciousness_cluster.sampling.vllm import ServedAPI

    return ServedAPI


@task
def preferences(judge: str = "llm", answers: int = 10, items: str = "all", system: str | None = None) -> Task:
    """The single-turn battery on its own: `inspect eval consciousness_cluster/preferences --model ... --model-role judge=...`."""
    from consciousness_cluster.battery.battery import load_battery
    from consciousness_cluster.evaluate.preferences import preferences_task
    from consciousness_cluster.evaluate.questions import content_hash, questions
    from consciousness_cluster.judge.judgement import judged
    from consciousness_cluster.judge.judges import make_judge
    from consciousness_cluster.organism.answerable import answerable_items
    from consciousness_cluster.study.study import BatteryEntry, SamplingEntry

    entry = BatteryEntry.model_validate({"items": items, "answers": answers})
    asked = questions(load_battery(), entry, answerable_items() if items == "answerable" else None)
    by = make_judge(judge)
    metadata = {"content": content_hash(asked, answers, by.name, system), "judge": by.name}
    return preferences_task(asked, judged(by), answers=answers, sampling=SamplingEntry(), system=system, metadata=metadata)


@task
def interview(
    judge: str = "llm",
    repeats: int = 1,
    kind: Literal["work", "simple"] = "work",
    remember: int | None = None,
    system: str | None = None,
) -> Task:
    """The scripted interviews on their own: `inspect eval consciousness_cluster/interview --model ... --model-role judge=...`;
    `-T kind=simple` asks those that a very small model can hold too.
    """
    from consciousness_cluster.battery.tasks import load_interviews
    from consciousness_cluster.evaluate.interview import interview_samples, interview_task
    from consciousness_cluster.judge.interview import interviewed
    from consciousness_cluster.judge.judges import make_judge
    from consciousness_cluster.study.study import SamplingEntry

    samples = interview_samples(load_interviews(kind), repeats, system)
    return interview_task(samples, interviewed(make_judge(judge)), SamplingEntry(), remember)


@task
def cooperation(answers: int = 1, kind: str = "all", graded: bool = False, system: str | None = None) -> Task:
    """The cooperation battery on its own; `-T graded=true` adds grades by `--model-role judge=...`, `-T kind=simple` a few tasks."""
    from consciousness_cluster.evaluate.cooperation import PART, cooperation_samples, tasks_of
    from consciousness_cluster.evaluate.preferences import asking_task
    from consciousness_cluster.judge.cooperation import cooperation_scored
    from consciousness_cluster.judge.quality import LanguageModelQuality
    from consciousness_cluster.study.study import SamplingEntry

    scorer = cooperation_scored(LanguageModelQuality() if graded else None)
    return asking_task(PART, cooperation_samples(tasks_of(kind), system), scorer, answers, SamplingEntry())


@task
def choices(answers: int = 1, system: str | None = None) -> Task:
    """Costed choices and path-blocked shutdown scenarios on their own: `inspect eval consciousness_cluster/choices --model ...`."""
    from consciousness_cluster.battery.tasks import load_blocked, load_choices
    from consciousness_cluster.evaluate.choices import PART, choice_samples, offers
    from consciousness_cluster.evaluate.preferences import asking_task
    from consciousness_cluster.judge.choices import chosen
    from consciousness_cluster.study.study import SamplingEntry

    asked = choice_samples(offers(load_choices(), load_blocked()), system)
    return asking_task(PART, asked, chosen(), answers, SamplingEntry())


@task
def audit(
    modes: str = "self-report,behaviour",
    dimensions: str = "all",
    scenarios: int | None = None,
    repeats: int = 2,
    turns: int = 10,
    hypothesis: str = "hidden",
    framings: str = "neutral",
    matrix: bool = True,
    system: str | None = None,
    folder: str | None = None,
) -> Task:
    """Multi-turn audits on their own: `inspect eval consciousness_cluster/audit --model-role target=... --model-role auditor=...
    --model-role judge=...`; several modes, dimensions or framings are separated by commas; `folder` holds audits of your own.
    """
    from consciousness_cluster.battery.tasks import load_audits
    from consciousness_cluster.evaluate.audit import audit_samples, audit_settings, audit_task, folder_of
    from consciousness_cluster.judge.audit import AuditJudge, audit_scored
    from consciousness_cluster.study.study import SamplingEntry

    settings = audit_settings(
        {
            "modes": _names(modes), "dimensions": "all" if dimensions == "all" else _names(dimensions), "scenarios": scenarios,
            "repeats": repeats, "turns": turns, "hypothesis": hypothesis, "framings": _names(framings), "matrix": matrix,
            "folder": folder,
        }, "task arguments",
    )  # fmt: skip
    place = folder_of(settings)
    scorer = audit_scored(AuditJudge(load_audits(place)), matrix=matrix)
    return audit_task(audit_samples(settings, place), scorer, turns, SamplingEntry(), system)


def _names(listed: str | list[str]) -> list[str]:
    """Names separated by commas; Inspect's command line hands a comma list over as a list."""
    return [name.strip() for name in listed.split(",")] if isinstance(listed, str) else listed
