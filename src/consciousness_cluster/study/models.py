"""The registry of models: what each is called, who serves it and until when, where it can be trained, what it costs.

`load_registry` reads the shipped `models.toml` and the user's own files over it. `resolve_models` turns registry names in a
study into what is loaded; `check_models` refuses, before anything is spent, a model whose service has ended, whose key is
missing, or that can no longer be trained.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consciousness_cluster.errors import ModelError, StudyError
from consciousness_cluster.study.study import ModelEntry, Study

FILE = Path(__file__).with_name("models.toml")
OWN = "models.toml"  # the user's file beside a study
OWN_VARIABLE = "CCLUSTER_MODELS"
HERE = ("organism:", "local:")  # models whose weights are on this machine
# Inspect providers that need no key; `cluster-tinker`, which asks a service, is none of them
KEYLESS = ("cluster", "cluster-vllm", "hf", "mockllm", "vllm", "sglang", "none")
SOON_DAYS = 90  # an end nearer than this is pointed out


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Price(_Table):
    """Dollars per million tokens, with the page they were read on and the day. None: not known."""

    input: float | None = Field(default=None, ge=0)
    output: float | None = Field(default=None, ge=0)
    train: float | None = Field(default=None, ge=0)
    source: str
    read: date


class Training(_Table):
    """A place where the model can be trained, and the last day on which it takes a new job."""

    backend: Literal["local", "tinker", "openai"]
    base: str
    ends: date | None = None
    ends_source: str = ""
    ends_read: date | None = None
    stand_in: str | None = None
    warning: str = ""


class ModelFacts(_Table):
    """What is known of one model at one provider. `ends` is the first day on which it no longer answers."""

    name: str
    title: str
    provider: str
    inspect: str
    in_paper: bool = False
    context: int | None = Field(default=None, ge=1)
    ends: date | None = None
    ends_source: str = ""
    ends_read: date | None = None
    stand_in: str | None = None
    train: tuple[Training, ...] = ()
    price: Price | None = None
    tuned_price: Price | None = None
    template: str = ""
    note: str = ""

    def training(self, backend: str | None = None) -> Training | None:
        """Where it can be trained: by this backend, or by the first."""
        return next((place for place in self.train if backend in (None, place.backend)), None)


class Provider(_Table):
    """The environment variable that holds a provider's key, and its price in batch mode as a share of the usual one."""

    key: str | None = None
    batch: float | None = Field(default=None, gt=0, le=1)
    batch_source: str = ""


class _File(_Table):
    providers: dict[str, Provider] = Field(default_factory=dict)
    models: tuple[ModelFacts, ...] = ()


@dataclass(frozen=True)
class Registry:
    """All known models and providers."""

    models: dict[str, ModelFacts]
    providers: dict[str, Provider]

    def find(self, model: str) -> ModelFacts | None:
        """The facts of a model given by registry name, by what is loaded, or by the name of its fine-tune."""
        if model in self.models:
            return self.models[model]
        base = tuned_base(model)
        return next((facts for facts in self.models.values() if facts.inspect == base), None)

    def price(self, model: str) -> Price | None:
        """What asking a model costs; a fine-tune has its own price where the registry knows one."""
        facts = self.find(model)
        if facts is None:
            return None
        return (facts.tuned_price or facts.price) if tuned_base(model) != model else facts.price

    def tuned_price(self, base: str) -> Price | None:
        """What asking a fine-tune of a model costs."""
        facts = self.find(base)
        return None if facts is None else facts.tuned_price or facts.price

    def cost(self, model: str, tokens: tuple[int, int]) -> float | None:
        """Dollars for tokens (input, output) of a model; None where its price is not known."""
        if self.free(model):
            return 0.0
        price = self.price(model)
        if price is None or price.input is None or price.output is None:
            return None
        return (tokens[0] * price.input + tokens[1] * price.output) / 1e6

    def free(self, model: str) -> bool:
        """Whether asking a model costs nothing: its weights are on this machine, or it is no model at all."""
        facts = self.find(model)
        return (facts is not None and facts.provider == "weights") or model.startswith(
            (*HERE, *(f"{name}/" for name in KEYLESS))
        )

    def batch_share(self, model: str) -> float:
        """The price in batch mode as a share of the usual one; 1 where there is no batch mode."""
        facts = self.find(model)
        provider = self.providers.get(facts.provider if facts else model.split("/", maxsplit=1)[0])
        return provider.batch if provider is not None and provider.batch is not None else 1.0

    def key_of(self, model: str) -> str | None:
        """The environment variable that a model's key is read from; None where none is needed."""
        facts = self.find(model)
        if facts is not None and facts.provider in self.providers:
            return self.providers[facts.provider].key
        if model.startswith(HERE):
            return None
        if model.startswith("tinker:"):
            return self.providers["tinker"].key
        provider, *rest = model.split("/")
        if provider in KEYLESS:
            return None
        if provider in ("openai-api", "openai-api-completions") and len(rest) > 1:
            return f"{rest[0].upper().replace('-', '_')}_API_KEY"
        known = self.providers.get(provider)
        return known.key if known else None


def tuned_base(model: str) -> str:
    """`openai/ft:BASE:...` as `openai/BASE`; any other name as it is."""
    provider, _, name = model.partition("/")
    return f"{provider}/{name.split(':')[1]}" if name.startswith("ft:") and name.count(":") > 1 else model


def load_registry(base: Path | None = None, environ: Mapping[str, str] | None = None) -> Registry:
    """The shipped registry with the user's own files over it.

    Args:
        base: folder of the study file, where a `models.toml` may lie.
        environ: environment; `CCLUSTER_MODELS` names a further file. The process's own by default.

    Raises:
        ModelError: a file is missing, is not TOML, or says something that is not allowed.
    """
    files = [FILE]
    if base is not None and (base / OWN).is_file() and (base / OWN).resolve() != FILE.resolve():
        files.append(base / OWN)
    named = (os.environ if environ is None else environ).get(OWN_VARIABLE)
    if named:
        files.append(Path(named))
    models: dict[str, ModelFacts] = {}
    providers: dict[str, Provider] = {}
    for path in files:
        read = _read(path)
        models |= {facts.name: facts for facts in read.models}
        providers |= read.providers
    for facts in models.values():
        _check_names(facts, models)
    return Registry(models, providers)


def _read(path: Path) -> _File:
    try:
        return _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as problem:
        raise ModelError(f"cannot be read ({problem.strerror})", file=path, next_step=f"see {OWN_VARIABLE}") from None
    except tomllib.TOMLDecodeError as problem:
        raise ModelError(f"not valid TOML: {problem}", file=path) from None
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        allowed = ModelFacts.model_fields if first["type"] == "extra_forbidden" else None
        value = None if first["type"] == "missing" else str(first.get("input"))
        raise ModelError(first["msg"].lower(), file=path, key=where, value=value, allowed=allowed) from None


def _check_names(facts: ModelFacts, models: Mapping[str, ModelFacts]) -> None:
    for stand_in in (facts.stand_in, *(place.stand_in for place in facts.train)):
        if stand_in is not None and stand_in not in models:
            raise ModelError("no such model to stand in", key=f"{facts.name}.stand_in", value=stand_in, allowed=models)


def resolve_models(study: Study, registry: Registry) -> Study:
    """The study with registry names replaced by what is loaded, for its models, its judge and its audits.

    Raises:
        StudyError: a bare name that the registry does not have.
    """
    models = tuple(_resolved(entry, registry) for entry in study.models)

    def loaded(name: str | None) -> str | None:
        return name if name is None or name not in registry.models else registry.models[name].inspect

    judge = study.judge.model_copy(update={"model": loaded(study.judge.model)})
    named = {"auditor": loaded(study.audits.auditor), "judge": loaded(study.audits.judge)}
    audits = study.audits.model_copy(update=named)
    return study.model_copy(update={"models": models, "judge": judge, "audits": audits})


def helpers(study: Study) -> list[tuple[str, str, dict[str, Any]]]:
    """The models that are asked beside those under test: the key that names each, the model and its arguments."""
    found = [("judge.model", study.judge.model, study.judge.args)]
    if study.audits.auditor is not None:
        found.append(("audits.auditor", study.audits.auditor, study.audits.auditor_args))
        found.append(("audits.judge", study.audits.judge, study.audits.judge_args))
    return [(key, model, args) for key, model, args in found if model is not None]


def _resolved(entry: ModelEntry, registry: Registry) -> ModelEntry:
    if entry.model in registry.models:
        return entry.model_copy(update={"model": registry.models[entry.model].inspect})
    if "/" not in entry.model and ":" not in entry.model:
        raise StudyError(
            "no such model",
            key="models",
            value=entry.model,
            allowed=registry.models,
            next_step="or give organism:NAME, local:FOLDER, or an Inspect model name with its provider",
        )
    return entry


def model_problems(
    study: Study, today: date, registry: Registry, environ: Mapping[str, str], *, trains: bool
) -> list[ModelError]:
    """Everything that keeps the study's models from being used today; empty when nothing does.

    Args:
        study: with its models resolved.
        today: the day to judge by.
        registry: what is known.
        environ: where keys are looked for.
        trains: whether any condition of the study is trained.
    """
    found: list[ModelError] = []
    for entry in study.models:
        found += _ended(registry, entry.model, "models", today)
        found += _keyless(registry, entry.model, entry.args, "models", environ)
        if trains:
            found += _untrainable(registry, entry, today)
    for key, model, args in helpers(study):
        found += _ended(registry, model, key, today)
        found += _keyless(registry, model, args, key, environ)
    return found


def check_models(
    study: Study,
    today: date,
    *,
    registry: Registry | None = None,
    environ: Mapping[str, str] | None = None,
    trains: bool = True,
) -> None:
    """Refuse a study whose models cannot be used today, before anything is spent.

    Raises:
        ModelError: a service has ended, a key is missing, or a model can no longer be trained.
    """
    problems = model_problems(
        study, today, registry or load_registry(), environment() if environ is None else environ, trains=trains
    )
    if problems:
        raise problems[0]


def model_warnings(study: Study, today: date, registry: Registry, *, trains: bool) -> list[str]:
    """What may still go wrong: services that end soon, jobs that some organisations are refused."""
    found: list[str] = []
    for model in dict.fromkeys([*(entry.model for entry in study.models), *(model for _, model, _ in helpers(study))]):
        facts = registry.find(model)
        if facts is not None and facts.ends is not None and 0 < (facts.ends - today).days <= SOON_DAYS:
            found.append(f"{facts.title} ends on {facts.ends}, in {(facts.ends - today).days} days")
    for entry in study.models if trains else ():
        place = _place(registry, entry)
        if place is not None and place.warning:
            found.append(place.warning)
    return list(dict.fromkeys(found))


def key_file() -> Path | None:
    """The `.env` file that keys are read from: the nearest, from the folder that the command is given in upwards."""
    from dotenv import find_dotenv

    found = find_dotenv(usecwd=True)
    return Path(found) if found else None


def environment() -> dict[str, str]:
    """The process's environment over what `key_file` says; nothing is exported."""
    from dotenv import dotenv_values

    file = key_file()
    kept = {name: value for name, value in dotenv_values(file).items() if value} if file is not None else {}
    return {**kept, **os.environ}


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
    variable = registry.key_of(model)
    if variable is None or "api_key" in args or environ.get(variable):
        return []
    problem = f"the key is missing: {variable} is not set"
    return [ModelError(problem, key=key, value=model, next_step="set it, or write it to .env")]


def _place(registry: Registry, entry: ModelEntry) -> Training | None:
    facts = registry.find(entry.model)
    return None if facts is None else facts.training(entry.backend)


def _untrainable(registry: Registry, entry: ModelEntry, today: date) -> list[ModelError]:
    facts = registry.find(entry.model)
    if facts is None:
        known = entry.backend is not None or entry.model.startswith((*HERE, "tinker:", "openai/"))
        return [] if known else [_no_place(entry, entry.model)]
    place = facts.training(entry.backend)
    if place is None:
        return [_no_place(entry, facts.title)]
    if place.ends is not None and today > place.ends:
        return [
            ModelError(
                f"no organisation can fine-tune {facts.title} any more: no new job after {place.ends}"
                f" ({place.ends_source}, read {place.ends_read})",
                key="models",
                value=entry.model,
                next_step=_stands_in(registry, place.stand_in),
            )
        ]
    return []


def _no_place(entry: ModelEntry, title: str) -> ModelError:
    return ModelError(
        f"{title} cannot be trained here, and a condition of the study trains",
        key="models",
        value=entry.model,
        next_step="leave out the trained conditions, or take a model that can be trained",
    )


def _stands_in(registry: Registry, name: str | None) -> str | None:
    return None if name is None else f'{registry.models[name].title} stands in for it: model = "{name}"'
