"""From a study's model and a finished fine-tune to what Inspect samples from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consciousness_cluster.errors import ModelError
from consciousness_cluster.sampling.weights import organism_folder
from consciousness_cluster.study.study import ModelEntry
from consciousness_cluster.train.backend import Trained

if TYPE_CHECKING:
    from inspect_ai.model import Model

LOCAL = ("organism:", "local:")
TINKER = "tinker:"
GIVEN = "answers:"  # what the model of an imported arm is called in the study
TINKER_ADDRESS = "https://tinker.thinkingmachines.dev/services/tinker-prod"  # the SDK's own default


@dataclass(frozen=True)
class Target:
    """An Inspect model name (with the checkpoint in it) and its arguments."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)


def is_local(entry: ModelEntry) -> bool:
    """Whether the model's weights are sampled on this machine."""
    return entry.model.startswith(LOCAL)


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
    return name if kind == "local" else entry.model


def organisms() -> list[str]:
    """The organisms that ship with the project."""
    return sorted(f"organism:{path.parent.name}" for path in organism_folder(".").resolve().glob("*/config.json"))


def backend_of(entry: ModelEntry) -> str:
    """The training backend of a model: its own choice, or what its name implies."""
    if entry.backend is not None:
        return entry.backend
    if is_local(entry):
        return "local"
    return "tinker" if "tinker" in entry.model.split("/")[0].split(":")[0] else "openai"


def target(entry: ModelEntry, trained: Trained | None) -> Target:
    """What to sample an arm from."""
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


def helper(model: str, args: Mapping[str, Any], batch: int | None = None) -> Model:
    """The Inspect model of a judge or an auditor, whose weights may be on this machine.

    It is not shared: the worker of a batched model does not outlive the first evaluation of a process.

    Args:
        model: its name, as under `models` of a study.
        args: its arguments.
        batch: calls to a batch; None for single calls.

    Raises:
        ModelError: there is no organism of that name.
    """
    from inspect_ai.model import GenerateConfig, get_model

    at = target(unlisted(model, args), None)
    return get_model(at.name, memoize=False, config=GenerateConfig(batch=batch), **at.args)


def unlisted(model: str, args: Mapping[str, Any] | None = None) -> ModelEntry:
    """A model that is not among a study's `models`, as an entry of them: the last part of its name is its label."""
    label = model.partition(":")[2].rstrip("/").rsplit("/", maxsplit=1)[-1] or model
    return ModelEntry(name=label, model=model, args=dict(args or {}))


def _tinker_target(entry: ModelEntry, trained: Trained | None) -> Target:
    """A base model or a checkpoint at Tinker, through its OpenAI-compatible endpoint; both are asked by the same path."""
    from consciousness_cluster.train.tinker import INSPECT, address

    known = address(entry.args)
    base = (known["base_url"] or TINKER_ADDRESS).rstrip("/")
    name = f"{INSPECT}{entry.model.removeprefix(TINKER)}" if trained is None else str(trained.remote)
    return Target(name, {"base_url": f"{base}/oai/api/v1", "api_key": known["api_key"]})


def weights_identity(path: str) -> str:
    """A fingerprint of local weights, or the name itself where they are not a folder here."""
    from consciousness_cluster.sampling.weights import fingerprint

    return fingerprint(Path(path)) if Path(path).is_dir() else path
