"""`ccluster merge` and `ccluster checkpoints`: fine-tunes as models of their own, and those that lie at Tinker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from consciousness_cluster.cli.app import app
from consciousness_cluster.errors import TrainError


@app.command()
def merge(
    base: Annotated[str, typer.Argument(help="The base model: organism:NAME, or its folder or hub name.")],
    adapter: Annotated[Path, typer.Argument(help="PEFT folder, as an arm of a run has it.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the merged model to.")],
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16, ...", show_default="float32 on a CPU, else bfloat16")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Merge an adapter that was trained on a base in 4 bits too.")] = False,
) -> None:
    """Merge an adapter into its base model.

    The result is in Hugging Face format. An adapter that was trained on a base in 4 bits is refused without --force: the merged model
    has the base's full weights, on which it was not trained.
    """
    from consciousness_cluster.engine.targets import base_of, unlisted
    from consciousness_cluster.sampling.export import export

    print(export(base_of(unlisted(base)), str(adapter), out, force=force, dtype=dtype))


@app.command()
def checkpoints(
    folder: Annotated[Path, typer.Argument(help="The output folder of a run.")],
    days: Annotated[float | None, typer.Option(min=0.05, help="Let every checkpoint live this many days from now.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Let every checkpoint live for ever.")] = False,
    download: Annotated[bool, typer.Option("--download", help="Fetch the adapters into the arms' folders.")] = False,
) -> None:
    """Show, extend or fetch the fine-tunes that lie at Tinker.

    When each of a run expires; --days and --keep extend, --download fetches.
    """
    from consciousness_cluster.engine.folder import RunFolder, read_study
    from consciousness_cluster.train.tinker_checkpoints import download as fetch
    from consciousness_cluster.train.tinker_checkpoints import expiry, extend

    run = RunFolder(folder)
    study = read_study(run)
    lost = False
    for arm, record in _remote(folder):
        args: dict[str, Any] = study.model(arm.name.split("--", maxsplit=1)[0]).args
        try:
            if days is not None or keep:
                extend(record["remote"], None if keep else days, args)
            print(f"{arm.name}: {record['remote']} expires {expiry(record['remote'], args) or 'never'}")
            for path in fetch(record["remote"], arm / "adapter", args) if download else ():
                print(f"  {path}")
        except TrainError as problem:  # one that is gone must not keep the others from being extended
            print(f"{arm.name}: {problem}")
            lost = True
    if lost:
        raise typer.Exit(2)


def _remote(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Arms whose fine-tune lies at Tinker, with their records."""
    for path in sorted((folder / "arms").glob("*/training.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["backend"] == "tinker" and record["remote"]:
            yield path.parent, record
