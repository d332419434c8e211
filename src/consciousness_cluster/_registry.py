"""What Inspect finds of ours: the provider for local weights, the tasks, the hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspect_ai import Task, task
from inspect_ai.model import modelapi

import consciousness_cluster.engine.progress  # noqa: F401  registers the progress hook

if TYPE_CHECKING:
    from inspect_ai.model import ModelAPI


@modelapi(name="cluster")
def cluster() -> type[ModelAPI]:
    """Local weights: `cluster/<label>` with `base` and `adapter` as model arguments."""
    from consciousness_cluster.sampling.provider import LocalAPI

    return LocalAPI


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
