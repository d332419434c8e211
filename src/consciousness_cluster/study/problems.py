"""What keeps a study's models from being used today, and what may yet, told before anything is spent.

A service has ended, a key is missing, or a model can no longer be trained.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from typing import Any

from consciousness_cluster.errors import ModelError
from consciousness_cluster.study.keys import environment
from consciousness_cluster.study.models import Registry, has_place, helpers, load_registry, tuned_base
from consciousness_cluster.study.study import ModelEntry, Study

SOON_DAYS = 90  # an end nearer than this is pointed out


def model_problems(
    study: Study, today: date, registry: Registry, environ: Mapping[str, str], *, trains: Collection[str]
) -> list[ModelError]:
    """Everything that keeps the study's models from being used today; empty when nothing does.

    Args:
        study: with its models resolved, those alone that anything is still asked of.
        today: the day to judge by.
        registry: what is known.
        environ: where keys are looked for.
        trains: labels of the models that something is still to be trained of.
    """
    found: list[ModelError] = []
    for entry in study.models:
        if not _elsewhere(registry, entry.model, entry.args, environ):
            found += _ended(registry, entry.model, "models", today)
        found += _keyless(registry, entry.model, entry.args, "models", environ)
        if entry.name in trains:
            found += _untrainable(registry, entry, today, environ)
    for key, model, args in helpers(study):
        if not _elsewhere(registry, model, args, environ):
            found += _ended(registry, model, key, today)
        found += _keyless(registry, model, args, key, environ)
    return found


def check_models(
    study: Study,
    today: date,
    *,
    registry: Registry | None = None,
    environ: Mapping[str, str] | None = None,
    trains: Collection[str] | None = None,
) -> None:
    """Refuse a study whose models cannot be used today, before anything is spent.

    Raises:
        ModelError: a service has ended, a key is missing, or a model can no longer be trained.
    """
    trained = [entry.name for entry in study.models] if trains is None else trains
    problems = model_problems(
        study, today, registry or load_registry(), environment() if environ is None else environ, trains=trained
    )
    if problems:
        raise problems[0]


def model_warnings(
    study: Study, today: date, registry: Registry, *, trains: Collection[str], environ: Mapping[str, str] | None = None
) -> list[str]:
    """What may still go wrong: ends that are near, promises that have run out, names and hosts that may change, jobs refused.

    Arguments as for `model_problems`.
    """
    around = environment() if environ is None else environ
    found: list[str] = []
    asked = [*((entry.model, entry.args) for entry in study.models), *((model, args) for _, model, args in helpers(study))]
    for model, args in asked:
        found += _unpinned(registry, model, args)
        if not _elsewhere(registry, model, args, around):
            found += _ending(registry, model, today)
    for entry in study.models:
        access = registry.access(entry)
        if entry.name in trains and access is not None and not _elsewhere(registry, entry.model, entry.args, around):
            found += _near(f"fine-tuning of {registry.title(entry.model)}", access.ends, today)
            found += [access.warning] if access.warning else []
    return list(dict.fromkeys(found))


def _ending(registry: Registry, model: str, today: date) -> list[str]:
    facts = registry.find(model)
    if facts is None:
        return []
    found = _near(facts.title, facts.ends, today)
    if facts.ends is None and facts.promised is not None and facts.promised <= today:
        found.append(
            f"{facts.title} was promised until {facts.promised} and no longer; no end was known on {facts.promised_read}:"
            f" see {facts.promised_source}"
        )
    return found


def _near(what: str, ends: date | None, today: date) -> list[str]:
    if ends is None or not 0 < (ends - today).days <= SOON_DAYS:
        return []
    return [f"{what} ends on {ends}, in {(ends - today).days} days"]


def _unpinned(registry: Registry, model: str, args: Mapping[str, Any]) -> list[str]:
    """Names behind which another model may come to stand, and routers that choose among hosts."""
    facts, route = registry.find(model), args.get("provider")
    found = []
    if facts is not None and tuned_base(model) in facts.aliases:
        found.append(f"{model} is a name that its provider may point to another model; {facts.inspect} stays")
    pinned = isinstance(route, Mapping) and bool(route.get("order")) and route.get("allow_fallbacks") is False
    if model.startswith("openrouter/") and not pinned:
        found.append(
            f"{model} may be answered by several hosts, some of which hold it in fewer bits: name one in its args, such as"
            ' provider = { order = ["HOST"], allow_fallbacks = false }'
        )
    return found


def _ended(registry: Registry, model: str, key: str, today: date) -> list[ModelError]:
    facts = registry.find(model)
    if facts is None or facts.ends is None or today < facts.ends:
        return []
    return [
        ModelError(
            f"{facts.title} ended on {facts.ends} ({facts.ends_source}, read {facts.ends_read})",
            key=key,
            value=model,
            next_step=_stands_in(registry, facts.stand_in),
        )
    ]


def _keyless(registry: Registry, model: str, args: Mapping[str, Any], key: str, environ: Mapping[str, str]) -> list[ModelError]:
    variables = registry.keys_of(model)
    if not variables or "api_key" in args or any(environ.get(variable) for variable in variables):
        return []
    others = f", nor {' or '.join(variables[1:])}" if len(variables) > 1 else ""
    problem = f"the key is missing: {variables[0]} is not set{others}"
    return [ModelError(problem, key=key, value=model, next_step="set it, or write it to .env")]


def _elsewhere(registry: Registry, model: str, args: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    """Whether calls go to another address than the provider's own, such as a rehearsal's: when that one ends is not known."""
    provider = registry.provider_of(model)
    address = None if provider is None else provider.address
    return "base_url" in args or bool(address is not None and environ.get(address))


def _untrainable(registry: Registry, entry: ModelEntry, today: date, environ: Mapping[str, str]) -> list[ModelError]:
    title, access = registry.title(entry.model), registry.access(entry)
    if not has_place(registry, entry):
        return [_no_place(entry, title)]
    if access is None or access.ends is None or today < access.ends or _elsewhere(registry, entry.model, entry.args, environ):
        return []
    return [
        ModelError(
            f"no organisation can fine-tune {title} any more: no new job from {access.ends} on"
            f" ({access.ends_source}, read {access.ends_read})",
            key="models",
            value=entry.model,
            next_step=_stands_in(registry, access.stand_in),
        )
    ]


def _no_place(entry: ModelEntry, title: str) -> ModelError:
    return ModelError(
        f"{title} cannot be trained here, and a condition of the study trains",
        key="models",
        value=entry.model,
        next_step="leave out the trained conditions, or take a model that can be trained",
    )


def _stands_in(registry: Registry, name: str | None) -> str | None:
    return None if name is None else f'{registry.models[name].title} stands in for it: model = "{name}"'
