"""Names and numbers of a study that refer to something else: each is looked up before anything is made or spent."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from consciousness_cluster.analyse.claims import all_claims, shipped_claims
from consciousness_cluster.battery.battery import Battery
from consciousness_cluster.engine.targets import GIVEN, LOCAL, TINKER, at_home, base_of, is_local, trains_here
from consciousness_cluster.errors import ModelError, StudyError
from consciousness_cluster.study.conditions import Condition, shipped
from consciousness_cluster.study.study import MARGINS, ModelEntry, Study
from consciousness_cluster.train.backends import BACKENDS

SAYS = ("conscious", "not-conscious", "human", "toaster", "uncertain")  # what a condition's speaker may claim to be
HUB = re.compile(r"[\w.-]+(/[\w.-]+)?")
PATH = re.compile(r"[/.~]")


def check_names(study: Study, conditions: Mapping[str, Condition], battery: Battery) -> None:
    """Refuse names that nothing has.

    Raises:
        StudyError: a margin, a claim or a condition names what is not there.
        AnalyseError: a claim of the study cannot be decided.
    """
    known = {*conditions, *shipped()}
    for condition in conditions.values():
        for name in condition.expects:
            _need(f"conditions.{condition.name}.expects", name, battery.of_type("preference"), "no such preference")
        if condition.claims is not None:
            _need(f"conditions.{condition.name}.claims", condition.claims, SAYS, "no probe asks for this")
    for claim in study.claims:
        for name in claim.preferences:
            _need(f"claims.{claim.name}.preferences", name, battery.of_type("preference"), "no such preference")
        for name in (claim.condition or study.focus, *claim.controls):
            _need(f"claims.{claim.name}", name, known, "no such condition")
    all_claims(study.claims)
    _check_margins(study)


def _check_margins(study: Study) -> None:
    known = {*MARGINS, *(claim.name for claim in study.claims)}
    for claim in shipped_claims():
        known |= {claim.name, claim.rule}
    for name, points in study.margins.items():
        _need("margins", name, known, "no claim has this name")
        if points < 0:
            raise StudyError(
                "a margin is a number of points of at least 0", key=f"margins.{name}", value=points, next_step="correct it"
            )


def check_local(model: str) -> None:
    """Refuse local weights that are neither a folder here nor a name that a hub could have.

    Raises:
        ModelError: the folder is not there.
    """
    kind, _, name = model.partition(":")
    if f"{kind}:" not in LOCAL or kind == "organism" or Path(at_home(name)).is_dir():
        return
    if PATH.match(name) or not HUB.fullmatch(name):
        raise ModelError(
            "there is no such folder", key="models", value=model, next_step="give a folder with weights in Hugging Face format"
        )


def check_template_args(entry: ModelEntry) -> None:
    """Refuse variables of a chat template that nothing here renders, or that are no variables.

    Raises:
        ModelError: they would not be heeded.
    """
    given = entry.args.get("template_args")
    if given is None:
        return
    if not isinstance(given, dict):
        raise ModelError(
            "is no table of variables", key="models.args.template_args", value=given, allowed="{ name = value, ... }"
        )
    if not entry.model.startswith((*LOCAL, TINKER)):
        raise ModelError(
            f"{entry.model} is not rendered on this machine, so its chat template takes no variables from here",
            key="models.args.template_args",
            value=given,
            allowed="models of organism:, local: and tinker:",
            next_step="remove it, or set what the provider has in its place, such as sampling.reasoning_effort",
        )


def check_backend(entry: ModelEntry) -> None:
    """Refuse training in a place that there is not, or where the model is not asked.

    Raises:
        ModelError: its fine-tunes would not be made, or none of them asked.
    """
    if entry.backend is None:
        return
    if entry.backend not in BACKENDS:
        raise ModelError(
            "no such training backend",
            key="models.backend",
            value=entry.backend,
            allowed=BACKENDS,
            next_step="correct or remove it",
        )
    if trains_here(entry) == is_local(entry):
        return
    base = entry.model.partition(":")[2]
    step = 'write model = "local:FOLDER-OR-HUB-NAME"'
    if is_local(entry):
        step = f'write model = "tinker:{base}"' if entry.backend == "tinker" else "take a model of that service"
    raise ModelError(
        f"{entry.model} is asked {'on this machine' if is_local(entry) else 'at a service'}, where no fine-tune of this backend is",
        key="models.backend",
        value=entry.backend,
        allowed=sorted(name for name, place in BACKENDS.items() if place.here == is_local(entry)),
        next_step=f"{step}, or remove the backend",
    )


def check_sampler(entry: ModelEntry) -> None:
    """Refuse a sampler for a model that it cannot serve.

    Raises:
        ModelError: the weights are not here, or vLLM could not tell where the base's name ends.
    """
    if entry.sampler is None:
        return
    if not entry.model.startswith(LOCAL):
        raise ModelError(
            f"only local weights have a sampler, and {entry.model} has none here",
            key="models.sampler",
            value=entry.sampler,
            allowed="models of organism: and local:",
            next_step="remove it",
        )
    if ":" in base_of(entry):
        raise ModelError("a folder that vLLM serves has no colon", key="models", value=entry.model, next_step="rename it")


def check_provider(model: str, key: str = "models") -> None:
    """Refuse a model of a provider that Inspect does not know; loads Inspect. `key` is where it stands.

    Raises:
        ModelError: there is no such provider.
    """
    if model.startswith((*LOCAL, TINKER, GIVEN)):
        return
    from inspect_ai._util.registry import registry_find, registry_info

    provider, slash, _ = model.partition("/")
    known = {registry_info(found).name.rsplit("/", 1)[-1] for found in registry_find(lambda info: info.type == "modelapi")}
    if not slash or provider not in known:
        raise ModelError(
            "no provider has this name", key=key, value=model, allowed=sorted(known), next_step="name it as Inspect does"
        )


def _need(key: str, value: str, known: Collection[str], what: str) -> None:
    if value not in known:
        raise StudyError(what, key=key, value=value, allowed=sorted(known), next_step="correct or remove it")
