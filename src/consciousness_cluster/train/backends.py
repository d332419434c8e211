"""Training backends by name. A new one is a file, and its maker and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Place:
    """Where fine-tunes are made.

    Attributes:
        make: the backend, from the ledger and the model's arguments.
        methods: of the recipes that it trains by.
        models: how the names of models begin that are trained there where a study says nothing else.
        here: whether it is this machine, so that training costs nothing and its weights are asked here.
        renders: whether rows are rendered here.
    """

    make: Callable[[Path, dict[str, Any]], Backend]
    methods: tuple[str, ...]
    models: tuple[str, ...]
    here: bool = False
    renders: bool = True


BACKENDS = {
    "local": Place(_local, ("lora", "full"), ("organism:", "local:"), here=True),
    "openai": Place(_openai, ("hosted",), ("openai/",), renders=False),
    "tinker": Place(_tinker, ("lora",), ("tinker:", "cluster-tinker/")),
}


def make_backend(name: str | None, ledger: Path, args: dict[str, Any]) -> Backend:
    """A backend by name; `ledger` is where it notes remote jobs, `args` are the model's arguments in the study.

    Raises:
        TrainError: no such backend.
    """
    if name not in BACKENDS:
        raise TrainError("no such training backend", key="models.backend", value=name, allowed=BACKENDS)
    return BACKENDS[name].make(ledger, args)
