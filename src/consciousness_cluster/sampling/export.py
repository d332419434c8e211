"""A fine-tune as a model of its own: the adapter merged into its base and written out in Hugging Face format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from consciousness_cluster.sampling.weights import load_model


def export(base: str, adapter: str | None, folder: Path, **options: Any) -> Path:
    """Write a base model with an adapter merged in; returns the folder.

    Args:
        base: folder or hub name.
        adapter: PEFT folder; None writes the base as it is.
        folder: where to write.
        options: as for `load_model` (device, dtype).

    Raises:
        SamplingError: there is no such model, or the adapter does not fit it.
    """
    local = load_model(base, **options)
    local.use(adapter)
    folder.mkdir(parents=True, exist_ok=True)
    local.model.save_pretrained(folder)
    local.tokenizer.save_pretrained(folder)
    return folder
