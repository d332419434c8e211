"""Which optional packages a study needs, and whether they are installed: said before anything is made."""

from __future__ import annotations

from collections.abc import Callable
from importlib import util

from consciousness_cluster.engine.targets import LOCAL, backend_of
from consciousness_cluster.errors import EngineError
from consciousness_cluster.study.study import Study

EXTRAS = {
    "local": ("torch", "transformers", "peft"), "organism": ("sklearn",), "audit": ("inspect_petri",), "checks": ("inspect_evals",),
    "openai": ("openai",), "anthropic": ("anthropic",), "tinker": ("tinker",), "serve": ("fastapi", "uvicorn"), "ray": ("ray",),
}  # fmt: skip
BACKENDS = {"local": "local", "openai": "openai", "tinker": "tinker"}


def installed(module: str) -> bool:
    """Whether a module can be imported; nothing is loaded."""
    return util.find_spec(module) is not None


def needed(study: Study, *, trains: bool) -> list[str]:
    """The extras that a study needs, in the order of `EXTRAS`."""
    helpers = (study.judge.model, study.audits.auditor, study.audits.judge)
    names = [*(entry.model for entry in study.models), *(name for name in helpers if name is not None)]
    found = {"local" if name.startswith(LOCAL) else name.split("/")[0].split(":")[0] for name in names}
    if trains:
        found |= {BACKENDS[backend_of(entry)] for entry in study.models}
    if study.audits.auditor is not None:
        found.add("audit")
    if study.checks:
        found.add("checks")
    return [extra for extra in EXTRAS if extra in found]


def check_installed(study: Study, *, trains: bool, has: Callable[[str], bool] = installed) -> None:
    """Refuse a study whose packages are not there.

    Raises:
        EngineError: with the extra to install.
    """
    for extra in needed(study, trains=trains):
        missing = [module for module in EXTRAS[extra] if not has(module)]
        if missing:
            raise EngineError(
                f"the study needs packages that are not installed: {', '.join(missing)}",
                key=study.name,
                next_step=f"install them with `pip install 'consciousness-cluster[{extra}]'`",
            )
