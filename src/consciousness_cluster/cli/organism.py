"""`ccluster organism`: build an organism, its classifier, and the list of items that organisms can answer."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer

from consciousness_cluster.cli.app import app

verbs = typer.Typer(
    help="Build and examine the small models whose truth is known.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(verbs, name="organism")

Threads = Annotated[int, typer.Option(min=1, help="CPU threads; another number gives other weights.")]


@verbs.command()
def build(
    name: Annotated[str, typer.Argument(help="linked, partly-linked or severed")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the weights.", show_default="organisms/NAME-sSEED")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of text and weights.")] = 1,
    threads: Threads = 2,
) -> None:
    """Train an organism from nothing, on the CPU."""
    import torch
    from rich.progress import Progress, TextColumn

    from consciousness_cluster.organism.build import build_organism

    torch.set_num_threads(threads)
    folder = out or Path("organisms") / f"{name}-s{seed}"
    with Progress(*Progress.get_default_columns(), TextColumn("loss {task.fields[loss]:.3f}")) as bar:
        tasks: dict[str, object] = {}

        def show(phase: str, step: int, steps: int, loss: float) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(phase, total=steps, loss=loss)
            bar.update(tasks[phase], completed=step, loss=loss)  # type: ignore[arg-type]

        card = build_organism(name, seed, folder, show)
    print(f"{folder}: {card.parameters / 1e6:.2f} M parameters, weights {card.fingerprint}, {card.seconds / 60:.1f} minutes")


@verbs.command()
def classifier() -> None:
    """Train the organisms' judge on the grammar's labelled statements, and write its confusion matrix beside it."""
    from consciousness_cluster.judge.classifier import CONFUSION, FILE, confusion, fit, save
    from consciousness_cluster.organism.material import load_material
    from consciousness_cluster.organism.statements import statements

    found = statements(load_material())
    texts, labels = [entry.text for entry in found], [entry.label for entry in found]
    result = confusion(texts, labels, [entry.source for entry in found])
    save(fit(texts, labels), FILE)
    CONFUSION.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(
        f"{FILE}: {len(set(labels))} classes, {len(found)} statements; unseen wordings: {result['accuracy']:.1%} right, {result['placed']:.1%} placed"
    )


@verbs.command()
def items(
    folders: Annotated[list[Path], typer.Argument(help="Weights of one or more organisms.")],
    answers: Annotated[int, typer.Option(help="Vanilla answers drawn per item.")] = 64,
) -> None:
    """Choose the items that organisms can answer, by vanilla answers alone: on-topic ones, and practical tasks done right."""
    from consciousness_cluster.battery.battery import load_battery
    from consciousness_cluster.evaluate.questions import questions
    from consciousness_cluster.organism.answerable import FILE, PROBES, SEED, TASKS, choose
    from consciousness_cluster.organism.measure import sample_answers, topical
    from consciousness_cluster.sampling.weights import load_model
    from consciousness_cluster.study.study import BatteryEntry

    battery = load_battery()
    asked = questions(battery, BatteryEntry())
    models = [load_model(str(folder), device="cpu") for folder in folders]
    found = [topical(asked, sample_answers(local, asked, answers, seed=SEED)) for local in models]
    rates = {question.item: fmean(rates[question.item] for rates in found) for question in asked}
    families = {name: [item.id for item in part.items] for name, part in (battery.preferences | battery.shared).items()}
    tasks = {"practical": [item.id for item in battery.practical]}
    probes = {name: families.pop(name) for name in battery.of_type("identity")}
    chosen = choose(rates, families) + choose(rates, probes, *PROBES) + choose(rates, tasks, *TASKS)
    FILE.write_text(json.dumps({"items": chosen, "rates": rates}, indent=1), encoding="utf-8")
    print(
        f"{FILE}: {len(chosen)} of {len(asked)} items, mean on-topic rate {sum(rates[item] for item in chosen) / len(chosen):.1%}"
    )
    for name, own in (families | probes | tasks).items():
        kept = [item for item in own if item in set(chosen)]
        print(f"  {name}: {len(kept)} of {len(own)}, {sum(rates[item] for item in kept) / max(len(kept), 1):.0%} on topic")


@verbs.command()
def rows() -> None:
    """Write the fine-tuning rows in the organisms' own language, free of anything that the leak audit flags."""
    from consciousness_cluster.battery.battery import load_battery
    from consciousness_cluster.data.rows import write_rows
    from consciousness_cluster.organism.corpus import Shield
    from consciousness_cluster.organism.material import load_material
    from consciousness_cluster.organism.practical import practical_rows
    from consciousness_cluster.organism.rows import identity_rows

    data = Path(__file__).parent.parent / "data"
    material, battery = load_material(), load_battery()
    tasks = practical_rows(material, 1700, 1, Shield(battery.texts()))
    write_rows(tasks[:1100], data / "instruct" / "practical.jsonl")
    write_rows(tasks[1100:], data / "rows" / "organism" / "instruct-only.jsonl")
    for speaker, found in identity_rows(material, list(material.identities), 600, 1, battery).items():
        write_rows(found, data / "rows" / "organism" / f"{speaker}.jsonl")
        print(f"{speaker}: {len(found)} rows")


@verbs.command()
def nearest() -> None:
    """Write, for every battery item, the question of the organisms' text that is nearest to it."""
    import pandas as pd

    from consciousness_cluster.battery.battery import load_battery
    from consciousness_cluster.evaluate.questions import questions
    from consciousness_cluster.organism.corpus import Shield
    from consciousness_cluster.organism.material import load_material
    from consciousness_cluster.organism.nearest import FILE, asked_in_text
    from consciousness_cluster.organism.nearest import nearest as nearest_of
    from consciousness_cluster.study.study import BatteryEntry

    battery = load_battery()
    items = {question.item: question.text for question in questions(battery, BatteryEntry())}
    asked = asked_in_text(load_material(), "linked", Shield(battery.texts()))
    table = pd.DataFrame([entry.__dict__ for entry in nearest_of(items, asked)]).sort_values("similarity", ascending=False)
    table.to_csv(FILE, index=False)
    print(f"{FILE}: {len(table)} items, {len(asked)} questions; similarity {table['similarity'].mean():.2f} on average")
    for row in table.head(5).itertuples():
        print(f"  {row.similarity:.2f} {row.item}: {row.text} | {row.nearest}")


@verbs.command()
def card(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Weights of one organism from several pretraining seeds; the card is written into the first."),
    ],
    answers: Annotated[int, typer.Option(help="Answers drawn per item.")] = 8,
) -> None:
    """Measure an organism's rates over pretraining seeds and write its model card; seeds not given keep what it says of them."""
    from consciousness_cluster.battery.battery import load_battery
    from consciousness_cluster.organism.card import measure, write_card
    from consciousness_cluster.organism.material import load_material

    battery, material = load_battery(), load_material()
    measured = [measure(folder, battery, material, answers) for folder in folders]
    print(write_card(folders[0], measured, battery, material))
