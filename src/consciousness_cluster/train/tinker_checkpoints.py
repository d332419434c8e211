"""Finished fine-tunes at Tinker: how long they are kept, and how they come to this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consciousness_cluster.errors import TrainError
from consciousness_cluster.train.tinker_service import (
    DAY,
    INSPECT,
    address,
    answer,
    listed,
    plainly,
    reach,
    service,
    training_path,
)


def expiry(path: str, args: Mapping[str, Any]) -> str | None:
    """When a checkpoint expires, as an ISO date and time; None when it never does or the service does not say.

    Raises:
        TrainError: the service cannot be asked, or no longer holds the checkpoint.
    """
    bare = path.removeprefix(INSPECT)
    reach(args, bare)
    with plainly(bare):
        found = listed(bare, args)
    if found is None:
        raise TrainError("Tinker no longer holds this checkpoint", value=bare, next_step="train the arm again")
    return None if found.expires_at is None else str(found.expires_at.isoformat())


def extend(path: str, days: float | None, args: Mapping[str, Any]) -> None:
    """Let a checkpoint and its training state live for `days` from now, or for ever with None.

    Raises:
        TrainError: the service does not do it.
    """
    import tinker

    bare = path.removeprefix(INSPECT)
    reach(args, bare)
    with plainly(bare):
        client = tinker.RestClient(**address(args))
        for one in (bare, training_path(path)):
            answer(client.set_checkpoint_ttl_from_tinker_path(one, None if days is None else int(days * DAY)))


def download(path: str, folder: Path, args: Mapping[str, Any]) -> list[Path]:
    """Fetch a fine-tune as a PEFT adapter into a folder, ready for local sampling; returns the files written.

    The service exports it through a training client of its own; the export expires after a day.

    Raises:
        TrainError: the service refuses it, or names a file outside the folder.
    """
    import tinker

    bare = path.removeprefix(INSPECT)
    reach(args, bare)
    with plainly(bare), service(args) as api:
        client = answer(api.create_training_client_from_state(training_path(path)))
        exported = answer(client.save_weights_external("download", ttl_seconds=DAY)).path
        urls = answer(tinker.RestClient(**address(args)).get_external_weights_urls(exported)).urls
    written = []
    for name, url in sorted(urls.items()):
        to = (folder / name).resolve()
        if not to.is_relative_to(folder.resolve()):
            raise TrainError("the service names a file outside the folder", file=folder, value=name)
        to.parent.mkdir(parents=True, exist_ok=True)
        _fetch(str(url), to)
        written.append(to)
    _complete(folder)
    return written


def _fetch(url: str, to: Path) -> None:
    """Fetch a file, whole or not at all.

    Raises:
        TrainError: it does not come.
    """
    import urllib.request
    from http.client import HTTPException

    part = to.with_name(to.name + ".part")
    try:
        urllib.request.urlretrieve(url, part)
    except (OSError, HTTPException) as problem:
        part.unlink(missing_ok=True)
        raise TrainError(
            f"cannot be fetched from Tinker ({problem})", file=to, next_step="give the same command again"
        ) from None
    part.replace(to)


def _complete(folder: Path) -> None:
    """Name in an adapter's configuration the modules that it holds weights for, where it does not say.

    `skyrl` leaves them out; PEFT would then take its own choice for the architecture and drop the other weights without a word.
    """
    from safetensors import safe_open

    path, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    if not path.is_file() or not weights.is_file():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("target_modules") or config.get("target_parameters"):
        return
    with safe_open(weights, framework="numpy") as tensors:
        held = [name for name in list(tensors.keys()) if ".lora_" in name]
    config["target_modules"] = sorted({name.split(".lora_")[0].rsplit(".", 1)[-1] for name in held})
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
