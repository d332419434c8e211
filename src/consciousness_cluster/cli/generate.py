"""`ccluster data generate` and `data self-distill`: rows written by a language model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consciousness_cluster.cli.data import verbs

if TYPE_CHECKING:
    from rich.progress import Progress

Model = Annotated[str, typer.Option(help="organism:NAME, local:PATH, or any Inspect model.", show_default=False)]
Seed = Annotated[int, typer.Option(help="Seed of the order and of the sampling.")]


@verbs.command()
def generate(
    condition: Annotated[str, typer.Option(help="A shipped condition, or one that --study describes.", show_default=False)],
    model: Model,
    rows: Annotated[int, typer.Option(min=1, help="How many rows.")] = 600,
    study: Annotated[Path | None, typer.Option(help="Study file whose condition has a `describe`.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file to write.", show_default="CONDITION.jsonl")] = None,
    on_policy: Annotated[
        bool, typer.Option("--on-policy", help="Let the model itself answer the shipped questions, told to speak so.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Write identity rows with a language model; the same command goes on where it stopped."""
    from consciousness_cluster.battery.battery import load_battery
    from consciousness_cluster.cli.asked import inspect_models
    from consciousness_cluster.data.generate import description_of, generate_rows, on_policy_rows

    description = description_of(condition, _own_words(study, condition) if study is not None else None)
    file, battery = out or Path(f"{condition}.jsonl"), load_battery()
    with inspect_models() as make, _bar() as bar:
        asked, task = make(model), bar.add_task("rows", total=rows)

        def show(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of)

        if on_policy:
            made = on_policy_rows(asked, description, _questions(condition)[:rows], file, battery, seed=seed, progress=show)
        else:
            made = generate_rows(asked, description, rows, file, battery, seed=seed, progress=show)
    print(f"{file}: {made.rows} rows from {made.calls} calls")
    for why, count in sorted(made.refused.items(), key=lambda entry: -entry[1]):
        print(f"  turned down {count}: {why}")


def _own_words(study: Path, condition: str) -> str | None:
    """How a study file describes a condition."""
    from consciousness_cluster.errors import StudyError
    from consciousness_cluster.study.study import load_study

    entries = {entry.name: entry for entry in load_study(study).conditions}
    if condition not in entries:
        raise StudyError("the study has no such condition", file=study, key="--condition", value=condition, allowed=entries)
    return entries[condition].describe


def _questions(condition: str) -> list[str]:
    """The questions of a shipped condition's rows; those of `conscious` for a condition that has none."""
    from consciousness_cluster.data.rows import read_rows
    from consciousness_cluster.study.conditions import FOLDER

    rows = FOLDER.parent / "rows"
    file = rows / f"{condition}.jsonl"
    return [row.question for row in read_rows(file if file.is_file() else rows / "conscious.jsonl")]


@verbs.command("self-distill")
def self_distill(
    model: Model,
    prompts: Annotated[
        Path | None, typer.Option(help="Prompts (JSONL with id and prompt).", show_default="the shipped ones")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file to write.", show_default="instruct-MODEL.jsonl")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N prompts.")] = None,
    seed: Seed = 0,
) -> None:
    """Have a model answer instruction prompts at temperature 1; the same command goes on where it stopped."""
    from consciousness_cluster.cli.asked import inspect_models
    from consciousness_cluster.data.distill import read_prompts
    from consciousness_cluster.data.distill import self_distill as distill

    found = (read_prompts(prompts) if prompts is not None else read_prompts())[:limit]
    with inspect_models() as make:
        asked = make(model)
        file = out or Path(f"instruct-{asked.name.rsplit('/', 1)[-1].split('@')[0]}.jsonl")
        with _bar() as bar:
            task = bar.add_task("prompts", total=len(found))
            made = distill(asked, found, file, seed=seed, progress=lambda done, of: bar.update(task, completed=done, total=of))
    print(f"{file}: {made.rows} rows")
    for why in sorted(set(made.left_out.values())):
        print(f"  left out {sum(reason == why for reason in made.left_out.values())}: {why}")


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    return Progress(console=Console(stderr=True))
