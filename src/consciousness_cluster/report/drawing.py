"""How the answers of each model were drawn, in words: as its settings say, and what of them its service does not take."""

from __future__ import annotations

from consciousness_cluster.report.numbers import listing, whole
from consciousness_cluster.report.run import Run
from consciousness_cluster.study.models import Registry, load_registry
from consciousness_cluster.study.services import untaken
from consciousness_cluster.study.study import SamplingEntry

TITLES = {"temperature": "temperature", "top_p": "top-p", "seed": "seed"}


def drawings(run: Run) -> tuple[tuple[str, str], ...]:
    """Names of models, and how their answers were drawn; those of which it is the same stand together."""
    registry = load_registry(run.folder, environ={})
    found: dict[str, list[str]] = {}
    for entry in run.study.models:
        text = drawn(run.study.sampling_of(entry.name), entry.model, registry)
        found.setdefault(text, []).append(entry.name)
    return tuple((listing(names), text) for text, names in found.items())


def drawn(sampling: SamplingEntry, model: str, registry: Registry) -> str:
    """How a model's answers were drawn."""
    left = untaken(registry, model, sampling.reasoning_effort)
    said = [f"{TITLES[key]} {getattr(sampling, key):g}" for key in ("temperature", "top_p") if key not in left]
    parts = [f"at {listing(said)}"] if said else []
    if sampling.reasoning_effort is not None:
        parts.append(f"at reasoning effort {sampling.reasoning_effort}")
    if sampling.reasoning_tokens is not None:
        parts.append(f"with {whole(sampling.reasoning_tokens)} tokens for thinking")
    parts.append(f"in at most {whole(sampling.max_tokens)} tokens")
    missing = [title for key, title in TITLES.items() if key in left]
    return ", ".join(parts) + (
        f" ({listing(missing)} {'is' if len(missing) == 1 else 'are'} not taken by its service)" if left else ""
    )
