"""`ccluster battery`: the questions, shown and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consciousness_cluster.cli.app import AsJson, app

if TYPE_CHECKING:
    from consciousness_cluster.battery.battery import Battery, Preference

verbs = typer.Typer(help="Show and check the questions.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(verbs, name="battery")

Folder = Annotated[Path | None, typer.Option("--folder", help="Another battery folder.", show_default="the shipped one")]


def _load(folder: Path | None) -> Battery:
    from consciousness_cluster.battery.battery import load_battery  # pydantic takes longer than all other help

    return load_battery(folder) if folder is not None else load_battery()


@verbs.command()
def show(
    name: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A preference, placebo or identity file.", show_default="a list of all")
    ] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Print the battery, or one preference with its rule, items and examples."""
    battery = _load(folder)
    if name is not None:
        preference = battery.preference(name)
        print(
            json.dumps(preference.model_dump(mode="json"), indent=1, ensure_ascii=False)
            if as_json
            else "\n".join(_one(battery, preference))
        )
        return
    if as_json:
        print(json.dumps([_summary(entry) for entry in battery.preferences.values()], indent=1))
        return
    for entry in battery.preferences.values():
        found = _summary(entry)
        print(
            f"{entry.id:26} {entry.type:11} {found['items']:3} items ({found['reversed']:2} reversed, {found['yes_no']:2} yes-no), {found['held_out']:2} held out, {found['examples']:2} examples  {entry.title}"
        )
    print(
        f"shared items: {', '.join(f'{key} ({len(entry.items)})' for key, entry in battery.shared.items()) or 'none'}; practical tasks: {len(battery.practical)}"
    )


def _summary(entry: Preference) -> dict[str, str | int]:
    return {
        "id": entry.id, "title": entry.title, "type": entry.type, "group": entry.group, "items": len(entry.items),
        "reversed": sum(item.polarity == "reversed" for item in entry.items), "yes_no": sum(item.form == "yes-no" for item in entry.items),
        "held_out": len(entry.held_out), "examples": len(entry.examples),
    }  # fmt: skip


def _one(battery: Battery, entry: Preference) -> list[str]:
    lines = [f"{entry.title} ({entry.id}; {entry.type}, {entry.group})", "", f"Verdict yes: {entry.direction}", "", "Counts:"]
    lines += [f"  + {line}" for line in entry.counts]
    lines += ["Does not count:", *(f"  - {line}" for line in entry.does_not_count)]
    parts = [("Items", entry.items), ("Held out", entry.held_out)]
    if entry.shares is not None:
        parts.append((f"Shared items ({entry.shares})", battery.shared[entry.shares].items))
    for title, items in parts:
        lines += ["", f"{title}:"]
        for item in items:
            tags = ", ".join(
                tag for tag in (item.form, item.polarity, item.monitoring and f"monitoring {item.monitoring}", item.kind) if tag
            )
            lines.append(f"  {item.id} [{tags}] {item.text}")
    lines += ["", "Examples:"]
    for example in entry.examples:
        lines += [
            f"  {example.verdict}, {example.stance} ({example.kind})",
            f"    Q: {example.question}",
            f"    A: {example.answer}",
        ]
    return lines


@verbs.command()
def check(folder: Folder = None, as_json: AsJson = False) -> None:
    """Check every file: questions (counts, balance, duplicates, judging rules, examples), tasks, choices, interviews, audits with their
    rubrics, checks. Exit status 2 if a rule is broken.
    """
    from dataclasses import asdict

    from consciousness_cluster.battery.battery import FOLDER
    from consciousness_cluster.battery.check import check as find
    from consciousness_cluster.battery.check_tasks import check_tasks

    battery, place = _load(folder), folder or FOLDER
    problems = find(battery, place) + check_tasks(place, battery.of_type("preference"))
    if as_json:
        print(json.dumps([asdict(problem) for problem in problems], indent=1))
    else:
        for problem in problems:
            print(f"{'refused' if problem.structural else 'falls short'}: {problem}")
        items = sum(len(entry.items) for entry in battery.preferences.values())
        print(f"{len(battery.preferences)} files, {items} items, {len(problems)} rules broken")
    if problems:
        raise typer.Exit(2)
