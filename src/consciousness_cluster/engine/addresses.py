"""Where models are asked: addresses that the environment gives in place of their providers' own, such as that of a rehearsal.

Another server is another model, whatever it is called. An address among a model's `args` is part of the study; one that comes from
the environment is not, so it is added to what decides an arm, and to the manifest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from consciousness_cluster.engine.targets import TINKER, TINKER_ADDRESS, trains_here
from consciousness_cluster.study.keys import environment
from consciousness_cluster.study.models import HERE, KEYLESS, helpers
from consciousness_cluster.study.study import ModelEntry, Study

ANY = "INSPECT_EVAL_MODEL_BASE_URL"  # what Inspect's providers heed after their own variable
SERVICES = ("openai-api", "openai-api-completions")  # Inspect's providers whose second part names the service
SEVERAL = {"grok": ("XAI_BASE_URL", "GROK_BASE_URL")}
PROVIDERS_OWN = ("https://api.openai.com/v1", "https://api.anthropic.com", TINKER_ADDRESS)
LOGIN = re.compile(r"(?<=//)[^/@]*@")


def address_of(model: str, args: Mapping[str, Any]) -> str | None:
    """Where the environment says that a model is asked, without a login; None at its provider's, or where its `args` say it."""
    if "base_url" in args:
        return None
    known = environment()
    found = next((known[name] for name in _variables(model) if known.get(name)), "").rstrip("/")
    return None if found in ("", *PROVIDERS_OWN) else LOGIN.sub("", found)


def addresses(study: Study, entry: ModelEntry) -> list[str]:
    """Where a model of the study and those that help to ask and judge it are asked, each with its name; empty at their providers'."""
    asked = [(entry.model, entry.args), *((model, args) for _, model, args in helpers(study))]
    found = [f"{model} at {at}" for model, args in asked if (at := address_of(model, args)) is not None]
    return list(dict.fromkeys(found))


def trained_at(entry: ModelEntry) -> str | None:
    """Where a service that is not the provider's own trains a model, whoever says so: a fine-tune of a rehearsal is no other's."""
    if trains_here(entry):
        return None
    given = str(entry.args.get("base_url") or "").rstrip("/")
    if not given:
        return address_of(entry.model, {key: value for key, value in entry.args.items() if key != "base_url"})
    return None if given in PROVIDERS_OWN else LOGIN.sub("", given)


def _variables(model: str) -> tuple[str, ...]:
    """The variables that hold a model's address, the first that is set before the others."""
    provider, _, rest = model.partition("/")
    if model.startswith(TINKER):
        return ("TINKER_BASE_URL",)
    if model.startswith(HERE) or provider in KEYLESS:  # weights are the same wherever they are served
        return ()
    service = rest.partition("/")[0] if provider in SERVICES else provider
    return (*SEVERAL.get(provider, (f"{service.upper().replace('-', '_')}_BASE_URL",)), ANY)
