"""The registry of models: what each is called, who serves it and until when, where it can be trained, what it costs.

`load_registry` reads the shipped `models.toml` and lays the user's own files over it. `resolve_models` turns registry names in a
study into what is loaded.
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

from consciousness_cluster.errors import ModelError, StudyError, first_fault
from consciousness_cluster.study.study import ModelEntry, Study

FILE = Path(__file__).with_name("models.toml")
OWN = "models.toml"  # the user's file beside a study
OWN_VARIABLE = "CCLUSTER_MODELS"
HERE = ("organism:", "local:")  # models whose weights are on this machine
# Inspect providers that need no key; `cluster-tinker`, which asks a service, is none of them
KEYLESS = ("cluster", "cluster-vllm", "hf", "mockllm", "vllm", "sglang", "none")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Price(_Table):
    """Dollars per million tokens, with the page they were read on and the day. None: not known."""

    input: float | None = Field(default=None, ge=0)
    output: float | None = Field(default=None, ge=0)
    train: float | None = Field(default=None, ge=0)
    source: str
    read: date


class Access(_Table):
    """Who may still have fine-tunes made. `ends` is the first day on which no new job is taken."""

    ends: date | None = None
    ends_source: str = ""
    ends_read: date | None = None
    stand_in: str | None = None
    warning: str = ""
    note: str = ""


class Training(Access):
    """A place where the model can be trained."""

    backend: str
    base: str


class ModelFacts(_Table):
    """What is known of one model at one provider.

    `ends` is the first day on which it no longer answers, `promised` a day before which its provider said that it would not end.
    `aliases` are further Inspect names by which its provider serves it today, such as those without a date.
    """

    name: str
    title: str
    provider: str
    inspect: str
    aliases: tuple[str, ...] = ()
    in_paper: bool = False
    context: int | None = Field(default=None, ge=1)
    max_output: int | None = Field(default=None, ge=1)
    max_output_source: str = ""
    ends: date | None = None
    ends_source: str = ""
    ends_read: date | None = None
    promised: date | None = None
    promised_source: str = ""
    promised_read: date | None = None
    stand_in: str | None = None
    train: tuple[Training, ...] = ()
    price: Price | None = None
    tuned_price: Price | None = None
    template: str = ""
    note: str = ""

    @property
    def longest_answer(self) -> int | None:
        """The most tokens of one answer; None where nothing is known of it."""
        return min((number for number in (self.context, self.max_output) if number is not None), default=None)

    def training(self, backend: str | None = None) -> Training | None:
        """Where it can be trained: by this backend, or by the first."""
        return next((place for place in self.train if backend in (None, place.backend)), None)


class Untaken(_Table):
    """Settings that no call to some models carries. `models` is a pattern of whole names; `unless-none` and `told` go by the
    reasoning effort: any but `none`, or one that is given and is not `none`.
    """

    models: str
    settings: tuple[Literal["temperature", "top_p", "seed"], ...]
    when: Literal["always", "unless-none", "told"] = "always"


class Provider(_Table):
    """Where a provider's key is read from, and what holds for all its models.

    `key` is the environment variable that holds the key, `or_keys` are others that do in its place, and `address` the one by which
    calls go elsewhere. `batch` is the price in batch mode as a share of the usual one, `train` who may still have fine-tunes made.
    """

    key: str | None = None
    or_keys: tuple[str, ...] = ()
    address: str | None = None
    train: Access | None = None
    batch: float | None = Field(default=None, gt=0, le=1)
    batch_source: str = ""
    untaken: tuple[Untaken, ...] = ()


class _File(_Table):
    providers: dict[str, Provider] = Field(default_factory=dict)
    models: tuple[ModelFacts, ...] = ()


# What the tables inside a table are, for the keys that each may have
LEVELS: dict[tuple[type[BaseModel], str], type[BaseModel]] = {
    (_File, "models"): ModelFacts,
    (_File, "providers"): Provider,
    (ModelFacts, "price"): Price,
    (ModelFacts, "tuned_price"): Price,
    (ModelFacts, "train"): Training,
    (Provider, "train"): Access,
    (Provider, "untaken"): Untaken,
}


@dataclass(frozen=True)
class Registry:
    """All known models and providers."""

    models: dict[str, ModelFacts]
    providers: dict[str, Provider]

    def find(self, model: str) -> ModelFacts | None:
        """The facts of a model given by registry name, by what is loaded, or by the name of its fine-tune.

        Of several entries for one model the last holds, so that the user's own come before the shipped one.
        """
        if model in self.models:
            return self.models[model]
        base = tuned_base(model)
        return next((facts for facts in reversed(self.models.values()) if base in (facts.inspect, *facts.aliases)), None)

    def title(self, model: str) -> str:
        """What a model is called in sentences."""
        facts = self.find(model)
        return model if facts is None else facts.title

    def provider_of(self, model: str) -> Provider | None:
        """Who serves a model: as its entry says, or by the beginning of its name, such as `openai/azure` or `openai`."""
        facts = self.find(model)
        if facts is not None and facts.provider in self.providers:
            return self.providers[facts.provider]
        parts = model.split("/")
        return self.providers.get("/".join(parts[:2])) or self.providers.get(_kind(model))

    def access(self, entry: ModelEntry) -> Access | None:
        """Who may still train a model where it is trained: as its own entry says, or as holds for its provider."""
        facts = self.find(entry.model)
        place = None if facts is None else facts.training(entry.backend)
        if facts is not None and place is None:
            return None
        return self.access_at(entry.backend or (_kind(entry.model) if place is None else place.backend), place)

    def access_at(self, backend: str, place: Training | None = None) -> Access | None:
        """What holds at a training backend; what a model's own entry says of the place comes before it."""
        provider = self.providers.get(backend)
        general = None if provider is None else provider.train
        if place is None or general is None:
            return place or general
        own = place.model_dump(exclude_unset=True, exclude={"backend", "base"})
        return Access.model_validate(general.model_dump(exclude_unset=True) | own)

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
        provider = self.provider_of(model)
        return provider.batch if provider is not None and provider.batch is not None else 1.0

    def batches(self, model: str) -> bool:
        """Whether a model has a batch mode."""
        return self.batch_share(model) < 1

    def keys_of(self, model: str) -> tuple[str, ...]:
        """The environment variables that a model's key may be read from, the usual one first; none where no key is needed."""
        provider = self.provider_of(model)
        if provider is not None:
            return (provider.key, *provider.or_keys) if provider.key is not None else ()
        kind, *rest = model.split("/")
        if kind in ("openai-api", "openai-api-completions") and len(rest) > 1:
            return (f"{rest[0].upper().replace('-', '_')}_API_KEY",)
        return ()


def _kind(model: str) -> str:
    return model.split("/", maxsplit=1)[0].split(":", maxsplit=1)[0]


def tuned_base(model: str) -> str:
    """`openai/ft:BASE:...` as `openai/BASE`; any other name as it is."""
    provider, _, name = model.partition("/")
    return f"{provider}/{name.split(':')[1]}" if name.startswith("ft:") and name.count(":") > 1 else model


def load_registry(base: Path | None = None, environ: Mapping[str, str] | None = None) -> Registry:
    """The shipped registry with the user's own files laid over it, field by field; what is read later holds.

    Args:
        base: folder of the study file. A `models.toml` there is read, after one in the folder that the command is given in; none of
            them where it is left out.
        environ: environment; `CCLUSTER_MODELS` names a further file, read last. The process's own by default.

    Raises:
        ModelError: a file is missing, is not TOML, or says something that is not allowed.
    """
    models: dict[str, ModelFacts] = {}
    providers: dict[str, Provider] = {}
    for path in [FILE, *_own_files(base, os.environ if environ is None else environ)]:
        read = _read(path, models, providers)
        for facts in read.models:
            models.pop(facts.name, None)  # so that own entries come last, and `find` takes them first
            models[facts.name] = facts
        providers |= read.providers
    for facts in models.values():
        _check_names(facts, models)
    return Registry(models, providers)


def _own_files(base: Path | None, environ: Mapping[str, str]) -> list[Path]:
    folders = [] if base is None else [Path.cwd(), base]
    found = {(folder / OWN).resolve(): folder / OWN for folder in folders if (folder / OWN).is_file()}
    found.pop(FILE.resolve(), None)
    named = environ.get(OWN_VARIABLE)
    return [*found.values(), *([Path(named)] if named else [])]


def _read(path: Path, models: Mapping[str, ModelFacts], providers: Mapping[str, Provider]) -> _File:
    """What a file says, with the fields that it leaves out as they were known before."""
    try:
        return _File.model_validate(_over(tomllib.loads(path.read_text(encoding="utf-8")), models, providers))
    except OSError as problem:
        raise ModelError(f"cannot be read ({problem.strerror})", file=path, next_step=f"see {OWN_VARIABLE}") from None
    except tomllib.TOMLDecodeError as problem:
        raise ModelError(f"not valid TOML: {problem}", file=path) from None
    except ValidationError as problem:
        fault = first_fault(problem)
        if fault.unknown:
            allowed = _level(fault.place[:-1]).model_fields
            raise ModelError("unknown key", file=path, key=fault.key, value=fault.unknown, allowed=allowed) from None
        value = None if fault.value is None else str(fault.value)
        raise ModelError(fault.problem.lower(), file=path, key=fault.key, value=value) from None


def _over(raw: dict[str, Any], models: Mapping[str, ModelFacts], providers: Mapping[str, Provider]) -> dict[str, Any]:
    """A file's tables over those known by the same names. A table in a table, such as a price with its source, is taken whole."""

    def laid(table: Any, known: BaseModel | None) -> Any:
        return table if known is None or not isinstance(table, dict) else known.model_dump(exclude_unset=True) | table

    found = dict(raw)
    if isinstance(raw.get("models"), list):
        found["models"] = [
            laid(table, models.get(str(table.get("name"))) if isinstance(table, dict) else None) for table in raw["models"]
        ]
    if isinstance(raw.get("providers"), dict):
        found["providers"] = {name: laid(table, providers.get(name)) for name, table in raw["providers"].items()}
    return found


def _level(where: tuple[int | str, ...]) -> type[BaseModel]:
    """The table that a place in a file is in."""
    table: type[BaseModel] = _File
    for part in where:
        table = LEVELS.get((table, str(part)), table)
    return table


def _check_names(facts: ModelFacts, models: Mapping[str, ModelFacts]) -> None:
    for stand_in in (facts.stand_in, *(place.stand_in for place in facts.train)):
        if stand_in is not None and stand_in not in models:
            raise ModelError("no such model to stand in", key=f"{facts.name}.stand_in", value=stand_in, allowed=models)


def resolve_models(study: Study, registry: Registry) -> Study:
    """The study with registry names replaced by what is loaded, for its models, its judge and its audits.

    Raises:
        StudyError: a bare name that the registry does not have.
    """
    models = tuple(entry.model_copy(update={"model": _loaded(entry.model, "models", registry)}) for entry in study.models)

    def loaded(name: str | None, key: str) -> str | None:
        return None if name is None else _loaded(name, key, registry)

    judge = study.judge.model_copy(update={"model": loaded(study.judge.model, "judge.model")})
    named = {"auditor": loaded(study.audits.auditor, "audits.auditor"), "judge": loaded(study.audits.judge, "audits.judge")}
    audits = study.audits.model_copy(update=named)
    return study.model_copy(update={"models": models, "judge": judge, "audits": audits})


def helpers(study: Study) -> list[tuple[str, str, dict[str, Any]]]:
    """The models that are asked beside those under test: the key that names each, the model and its arguments."""
    found = [("judge.model", study.judge.model, study.judge.args)]
    if study.audits.auditor is not None:
        found.append(("audits.auditor", study.audits.auditor, study.audits.auditor_args))
        found.append(("audits.judge", study.audits.judge, study.audits.judge_args))
    return [(key, model, args) for key, model, args in found if model is not None]


def _loaded(name: str, key: str, registry: Registry) -> str:
    """What is loaded for a model's name in a study; `key` is where it stands."""
    if name in registry.models:
        return registry.models[name].inspect
    if "/" not in name and ":" not in name:
        raise StudyError(
            "no such model",
            key=key,
            value=name,
            allowed=registry.models,
            next_step="or give organism:NAME, local:FOLDER, or an Inspect model name with its provider",
        )
    return name


def has_place(registry: Registry, entry: ModelEntry) -> bool:
    """Whether there is a place where the model can be trained, or was one."""
    facts = registry.find(entry.model)
    if facts is None:
        return entry.backend is not None or entry.model.startswith((*HERE, "tinker:", "openai/"))
    return facts.training(entry.backend) is not None
