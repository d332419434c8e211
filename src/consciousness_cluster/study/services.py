"""What services take of a study's settings: sampling that a model knows nothing of is refused or told, and so is batch mode without one.

Which settings are not taken is in the registry (`untaken` of a provider): Inspect leaves them out of the call and goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from consciousness_cluster.errors import ModelError
from consciousness_cluster.study.models import Registry, Untaken, tuned_base
from consciousness_cluster.study.study import ModelEntry, SamplingEntry, Study

CHANGED = ("temperature", "top_p")  # what draws other answers where it is not the default


def untaken(registry: Registry, model: str, effort: str | None) -> frozenset[str]:
    """The settings of sampling that no call to a model carries, by its name and how much it is to think."""
    facts = registry.find(model)
    name = (tuned_base(model) if facts is None else facts.inspect).partition("/")[2]
    provider = registry.provider_of(model)
    rules = () if provider is None else provider.untaken
    return frozenset(key for rule in rules if re.fullmatch(rule.models, name) and _holds(rule, effort) for key in rule.settings)


def _holds(rule: Untaken, effort: str | None) -> bool:
    return {"always": True, "unless-none": effort != "none", "told": effort not in (None, "none")}[rule.when]


def settings_problems(study: Study, registry: Registry) -> Iterator[ModelError]:
    """One sentence for every setting that would be another than the default, and is not taken by the model that it is for."""
    for entry in study.models:
        settings = study.sampling_of(entry.name)
        left = untaken(registry, entry.model, settings.reasoning_effort)
        for key in CHANGED:
            default, value = SamplingEntry.model_fields[key].default, getattr(settings, key)
            if key in left and value != default:
                yield _not_taken(entry, key, value, default)


def check_settings(study: Study, registry: Registry) -> None:
    """Refuse settings that would be reported and never sent.

    Raises:
        ModelError: a model's service does not take its temperature or top-p.
    """
    for problem in settings_problems(study, registry):
        raise problem


def _not_taken(entry: ModelEntry, key: str, value: float, default: float) -> ModelError:
    return ModelError(
        f"the service of {entry.model} takes no {key}",
        key=f"sampling.{key}",
        value=value,
        allowed=f"{default:g}",
        next_step=f"remove it, or give the model {entry.name} `sampling = {{ {key} = {default:g} }}`",
    )


def batch_warnings(study: Study, registry: Registry) -> list[str]:
    """One sentence for every model that is asked one call after the other, though the study wants batch mode."""
    if not study.sampling.batch:
        return []
    asked = [*(entry.model for entry in study.models), *([study.judge.model] if study.judge.model else [])]
    return [
        f"sampling.batch has no effect on {model}: no batch mode of its provider is known, so its calls go out one by one"
        for model in dict.fromkeys(asked)
        if not registry.batches(model)
    ]
