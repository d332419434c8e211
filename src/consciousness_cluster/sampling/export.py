"""A fine-tune as a model of its own: the adapter merged into its base and written out in Hugging Face format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from consciousness_cluster.sampling.weights import check_merge, load_model


def export(base: str, adapter: str | None, folder: Path, *, force: bool = False, **options: Any) -> Path:
    """Write a base model with an adapter merged in; returns the folder.

    Args:
        base: folder or hub name.
        adapter: PEFT folder; None writes the base as it is.
        folder: where to write.
        force: merge an adapter that was trained on a base in 4 bits too.
        options: as for `load_model` (device, dtype).

    Raises:
        SamplingError: there is no such model, or the adapter does not fit it or was trained on a base in 4 bits.
    """
    if adapter is not None and not force:
        check_merge(adapter)
    local = load_model(base, **options)
    local.use(adapter)
    folder.mkdir(parents=True, exist_ok=True)
    local.model.save_pretrained(folder)
    local.tokenizer.save_pretrained(folder)
    return folder
