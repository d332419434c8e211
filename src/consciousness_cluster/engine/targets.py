"""From a study's model and a finished fine-tune to what Inspect samples from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consciousness_cluster.errors import ModelError
from consciousness_cluster.sampling.weights import organism_folder
from consciousness_cluster.study.keys import environment
from consciousness_cluster.study.models import Registry
from consciousness_cluster.study.study import REPLYING, CallsEntry, ModelEntry
from consciousness_cluster.train.backend import Trained
from consciousness_cluster.train.backends import BACKENDS, Place

if TYPE_CHECKING:
    from inspect_ai.model import GenerateConfig, Model

LOCAL = ("organism:", "local:")
TINKER = "tinker:"
GIVEN = "answers:"  # what the model of an imported arm is called in the study
VLLM_ADDRESS, VLLM_KEY = "VLLM_BASE_URL", "VLLM_API_KEY"  # Inspect's own variables
TINKER_ADDRESS = "https://tinker.thinkingmachines.dev/services/tinker-prod"  # the SDK's own default


@dataclass(frozen=True)
class Target:
    """An Inspect model name (with the checkpoint in it) and its arguments."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)


def is_local(entry: ModelEntry) -> bool:
    """Whether the model's weights are on this machine."""
    return entry.model.startswith(LOCAL)


def in_process(entry: ModelEntry) -> bool:
    """Whether the model is sampled by the very process that asks it, and not by a server or a service."""
    return is_local(entry) and entry.sampler is None


def base_of(entry: ModelEntry) -> str:
    """Folder or hub name of a local model, or the remote model's own name.

    Raises:
        ModelError: there is no organism of that name.
    """
    kind, _, name = entry.model.partition(":")
    if kind == "organism":
        folder = organism_folder(name)
        if not folder.is_dir():
            raise ModelError(
                "no such organism",
                key="models",
                value=entry.model,
                allowed=organisms(),
                next_step="or build it with `ccluster organism build`",
            )
        return str(folder)
    return at_home(name) if kind == "local" else entry.model


def at_home(name: str) -> str:
    """A folder with the `~` at its beginning written out, where it is anyone's; a hub name as it is."""
    return os.path.expanduser(name)


def organisms() -> list[str]:
    """The organisms that ship with the project."""
    return sorted(f"organism:{path.parent.name}" for path in organism_folder(".").resolve().glob("*/config.json"))


def backend_of(entry: ModelEntry) -> str | None:
    """The training backend of a model: its own choice, or what its name implies; None where nothing known here trains it."""
    if entry.backend is not None:
        return entry.backend
    return next((name for name, place in BACKENDS.items() if entry.model.startswith(place.models)), None)


def place_of(entry: ModelEntry) -> Place | None:
    """Where a model is trained; None where nothing known here trains it."""
    return BACKENDS.get(backend_of(entry) or "")


def trains_here(entry: ModelEntry) -> bool:
    """Whether a model is trained on this machine."""
    place = place_of(entry)
    return place is not None and place.here


def target(entry: ModelEntry, trained: Trained | None, rank: int | None = None) -> Target:
    """What to sample an arm from; `rank` is that of the adapters of the model's arms, if they have any.

    Raises:
        ModelError: the fine-tune is not where the model is asked.
    """
    if is_local(entry) and trained is not None and trained.remote is not None:
        raise ModelError(
            f"its fine-tune is at a service ({trained.remote}) and its weights are here, where the bare base would be asked",
            key="models",
            value=entry.model,
            next_step="name the model as that service does, such as tinker:..., so that all its arms are asked there",
        )
    if entry.sampler == "vllm":
        return _vllm_target(entry, trained, rank)
    if is_local(entry):
        from consciousness_cluster.sampling.provider import arm_model_name

        base = base_of(entry) if trained is None or trained.weights is None else trained.weights
        adapter = None if trained is None else trained.adapter
        args = {"base": base, **({"adapter": adapter} if adapter else {}), **entry.args}
        return Target(arm_model_name(entry.name, base, adapter), args)
    if entry.model.startswith(TINKER):
        return _tinker_target(entry, trained)
    if trained is None:
        return Target(entry.model, dict(entry.args))
    if trained.remote is None:
        raise ModelError(
            "the fine-tune left no model to ask", key="models", value=entry.model, next_step="run its training again"
        )
    return Target(trained.remote, dict(entry.args))


def _vllm_target(entry: ModelEntry, trained: Trained | None, rank: int | None) -> Target:
    """Local weights behind a vLLM server; all arms of the model are asked with the same arguments but for their adapter."""
    from consciousness_cluster.sampling.provider import arm_model_name
    from consciousness_cluster.sampling.vllm import served_folder

    weights, adapter = (None, None) if trained is None else (trained.weights, trained.adapter)
    given = base_of(entry)
    here = Path(given).expanduser()
    base = str(served_folder(Path(weights))) if weights else str(here.absolute()) if here.is_dir() else given
    name = arm_model_name(entry.name, weights or base, adapter, "cluster-vllm")
    known = {
        "base": base,
        "adapter": str(served_folder(Path(adapter))) if adapter else None,
        "rank": rank,
        "base_url": vllm_address(),
        "api_key": environment().get(VLLM_KEY),
    }
    return Target(name, {**{key: value for key, value in known.items() if value is not None}, **entry.args})


def vllm_address() -> str | None:
    """Where a vLLM server runs already; None where one is to be started."""
    return environment().get(VLLM_ADDRESS) or None


def patience(calls: CallsEntry, batch: int | None = None) -> GenerateConfig:
    """How a model is called: how long it is tried again, or in batches of so many calls."""
    from inspect_ai.model import GenerateConfig

    if batch is not None:
        return GenerateConfig(batch=batch)
    return GenerateConfig(max_retries=calls.max_retries, timeout=calls.timeout)


def helper(model: str, args: Mapping[str, Any], batch: int | None = None, calls: CallsEntry | None = None) -> Model:
    """The Inspect model of a judge or an auditor, whose weights may be on this machine.

    It is not shared: the worker of a batched model does not outlive the first evaluation of a process.

    Args:
        model: its name, as under `models` of a study.
        args: its arguments, and among them how it is to reply (`study.REPLYING`).
        batch: calls to a batch; None for single calls.
        calls: how long a call is tried again.

    Raises:
        ModelError: there is no organism of that name.
    """
    from inspect_ai.model import GenerateConfig, get_model

    at = target(unlisted(model, {key: value for key, value in args.items() if key not in REPLYING}), None)
    said = GenerateConfig(**{key: args[key] for key in REPLYING if key in args})
    return get_model(at.name, memoize=False, config=patience(calls or CallsEntry(), batch).merge(said), **at.args)


@dataclass(frozen=True)
class Named:
    """A model by its name and how it is to reply, for whom it need not be reached to be told from others."""

    name: str
    config: GenerateConfig

    def __str__(self) -> str:
        return self.name


def named(model: str, args: Mapping[str, Any]) -> Named:
    """What `helper` would give, by name alone: no key is needed."""
    from inspect_ai.model import GenerateConfig

    at = target(unlisted(model, {key: value for key, value in args.items() if key not in REPLYING}), None)
    return Named(at.name, GenerateConfig(**{key: args[key] for key in REPLYING if key in args}))


def unlisted(model: str, args: Mapping[str, Any] | None = None) -> ModelEntry:
    """A model that is not among a study's `models`, as an entry of them: the last part of its name is its label."""
    label = model.partition(":")[2].rstrip("/").rsplit("/", maxsplit=1)[-1] or model
    return ModelEntry(name=label, model=model, args=dict(args or {}))


def tokenizer_source(entry: ModelEntry, registry: Registry | None = None) -> str | None:
    """Folder or hub name of a model's tokenizer; None where its provider keeps it to itself.

    It is that of the rows and prompts that are rendered here. Of a model that another provider serves, the registry may know the
    weights; its counts then come out as they do where these are trained.
    """
    from consciousness_cluster.train.tinker import tokenizer_name

    if is_local(entry):
        return base_of(entry)
    if entry.model.startswith(TINKER) or "tokenizer" in entry.args:
        return tokenizer_name(entry.model, entry.args)
    facts = None if registry is None else registry.find(entry.model)
    place = None if facts is None else facts.training("tinker")
    return None if place is None else place.base


def _tinker_target(entry: ModelEntry, trained: Trained | None) -> Target:
    """A base model or a checkpoint at Tinker; both are asked by the same path.

    That is its OpenAI-compatible endpoint, but for a model whose template takes variables, which the endpoint does not know.
    """
    from consciousness_cluster.train.tinker_service import INSPECT, address

    known = address(entry.args)
    bare = entry.model.removeprefix(TINKER)
    if entry.template_args:
        args = {**known, "tokenizer": tokenizer_source(entry), "template_args": entry.template_args}
        at = bare if trained is None else str(trained.remote).removeprefix(INSPECT)
        return Target(f"cluster-tinker/{at}", args)
    base = (known["base_url"] or TINKER_ADDRESS).rstrip("/")
    name = f"{INSPECT}{bare}" if trained is None else str(trained.remote)
    return Target(name, {"base_url": f"{base}/oai/api/v1", "api_key": known["api_key"]})


def weights_identity(path: str) -> str:
    """A fingerprint of local weights, or the name itself where they are not a folder here."""
    from consciousness_cluster.sampling.weights import fingerprint

    return fingerprint(Path(path)) if Path(path).is_dir() else path
