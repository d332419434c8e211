"""Training backends by name. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from consciousness_cluster.errors import TrainError
from consciousness_cluster.train.backend import Backend


def _local(ledger: Path, args: dict[str, Any]) -> Backend:
    from consciousness_cluster.train.local import LocalBackend

    return LocalBackend(**{name: args.get(name) for name in ("device", "dtype", "quantisation")})


def _openai(ledger: Path, args: dict[str, Any]) -> Backend:
    from consciousness_cluster.train.openai import OpenAIBackend

    return OpenAIBackend(ledger, args)


def _tinker(ledger: Path, args: dict[str, Any]) -> Backend:
    from consciousness_cluster.train.tinker import TinkerBackend

    return TinkerBackend(ledger, args)


# Methods of recipes that each backend trains by
METHODS: dict[str, tuple[str, ...]] = {"local": ("lora", "full"), "openai": ("hosted",), "tinker": ("lora",)}
BACKENDS: dict[str, Callable[[Path, dict[str, Any]], Backend]] = {"local": _local, "openai": _openai, "tinker": _tinker}


def make_backend(name: str, ledger: Path, args: dict[str, Any]) -> Backend:
    """A backend by name; `ledger` is where it notes remote jobs, `args` are the model's arguments in the study.

    Raises:
        TrainError: no such backend.
    """
    if name not in BACKENDS:
        raise TrainError("no such training backend", key="models.backend", value=name, allowed=BACKENDS)
    return BACKENDS[name](ledger, args)
