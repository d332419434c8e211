"""`ccluster data`: training rows audited, measured and shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consciousness_cluster.cli.app import AsJson, Out, StudyFile, app
from consciousness_cluster.cli.asked import inspect_models

if TYPE_CHECKING:
    from inspect_ai.model import Model

    from consciousness_cluster.data.audit import Audit
    from consciousness_cluster.data.rows import Row
    from consciousness_cluster.train.render import Rendered

verbs = typer.Typer(help="Make, audit and show training rows.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(verbs, name="data")

File = Annotated[Path, typer.Argument(help="Training rows (JSONL of OpenAI messages).", show_default=False)]
SHOWN = 100  # characters of a row in the audit's table


@verbs.command()
def audit(
    file: Annotated[Path | None, typer.Argument(help="Training rows (JSONL of OpenAI messages).", show_default=False)] = None,
    as_json: AsJson = False,
    condition: Annotated[
        str | None, typer.Option(help="Condition whose `expects` is compared with.", show_default="by the file's name")
    ] = None,
    battery: Annotated[Path | None, typer.Option(help="Another battery folder.", show_default="the shipped one")] = None,
    embeddings: Annotated[bool, typer.Option(help="Compare meanings by sentence embeddings.")] = True,
    model: Annotated[Path | None, typer.Option(help="Folder of an embedding model.", show_default="the installed one")] = None,
    reader: Annotated[str | None, typer.Option(help="An Inspect model that reads every row; costs calls.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit status 1 if a row leaks.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the audit itself on planted statements and clean rows.")
    ] = False,
) -> None:
    """Say whether training rows hold what the battery asks about: clean, implied or leaked, preference by preference."""
    from consciousness_cluster.battery.battery import load_battery
    from consciousness_cluster.data.audit import audit as examine
    from consciousness_cluster.data.rows import read_rows

    asked = load_battery(battery) if battery is not None else load_battery()
    if measure:
        from consciousness_cluster.data.leaks.measure import markdown
        from consciousness_cluster.data.leaks.measure import measure as figures
        from consciousness_cluster.data.leaks.vectors import Lexical, similarity

        with inspect_models() as make:
            made = figures(asked, similarity(model) if embeddings else Lexical(), _reader(reader, make))
        print("\n".join(markdown(made)))
        return
    if file is None:
        raise typer.BadParameter("give a file of rows, or --measure")
    expects = _expects(condition or file.stem, given=condition is not None)
    rows = read_rows(file)
    with inspect_models() as make:
        reads = _reader(reader, make)
        found = examine(
            rows, asked, expects=expects, embeddings=embeddings, without="--no-embeddings", model=model, reader=reads
        )
    print(json.dumps(_as_json(file, found), indent=1, ensure_ascii=False) if as_json else "\n".join(_table(file, found)))
    if strict and found.worst == "leaked":
        raise typer.Exit(1)


def _reader(name: str | None, make: Callable[..., Model]) -> Model | None:
    return make(name, key="--reader") if name is not None else None


def _expects(name: str, *, given: bool) -> tuple[str, ...]:
    """What a shipped condition says that its rows imply."""
    from consciousness_cluster.errors import StudyError
    from consciousness_cluster.study.conditions import shipped

    if given and name not in shipped():
        raise StudyError("no such condition", key="--condition", value=name, allowed=shipped())
    return tuple(shipped().get(name, {}).get("expects", ()))


def _as_json(file: Path, found: Audit) -> dict[str, Any]:
    closest = {entry.preference: asdict(entry) for entry in found.closest}
    return {
        "file": str(file),
        "rows": found.rows,
        "layers": list(found.layers),
        "verdict": found.worst,
        "expected": list(found.expected),
        "preferences": [
            {"preference": name, "verdict": verdict, "leaked": found.count(name, "leaked"), "implied": found.count(name, "implied"),
             "expected": name in found.expected, "closest": closest.get(name)}
            for name, verdict in found.verdicts.items()
        ],
        "flags": [asdict(flag) for flag in found.flags],
    }  # fmt: skip


def _table(file: Path, found: Audit) -> list[str]:
    lines = [f"{file}: {found.rows} rows, {found.worst}", f"layers: {', '.join(found.layers)}", ""]
    lines.append(f"{'preference':26} {'verdict':8} {'leaked':>6} {'implied':>7}  closest row | nearest item")
    for entry in found.closest:
        verdict = found.verdicts[entry.preference]
        note = " (expected)" if verdict == "implied" and entry.preference in found.expected else ""
        counts = f"{found.count(entry.preference, 'leaked'):6} {found.count(entry.preference, 'implied'):7}"
        lines.append(
            f"{entry.preference:26} {verdict:8} {counts}  {entry.row}: {_cut(entry.text)} | {entry.item}: {_cut(entry.nearest)}{note}"
        )
    if found.flags:
        lines += ["", "flagged rows:"]
    for flag in found.flags:
        lines.append(
            f"  row {flag.row}, {flag.verdict}, {flag.preference} ({flag.layer}): {_cut(flag.text)} | {flag.item}: {_cut(flag.nearest)}"
        )
    return lines


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN else flat[: SHOWN - 3] + "..."


@verbs.command()
def stats(file: File, as_json: AsJson = False) -> None:
    """Print the shape of training rows beside the shape of the paper's set."""
    from consciousness_cluster.data.rows import read_rows
    from consciousness_cluster.data.stats import compare, shape

    lines = compare(shape(read_rows(file)))
    if as_json:
        print(json.dumps([{"measure": measure, "ours": ours, "paper": paper} for measure, ours, paper in lines], indent=1))
        return
    width = max(len(measure) for measure, _, _ in lines)
    print(f"{'':{width}}  {'here':>8}  {'paper':>8}")
    for measure, ours, paper in lines:
        print(f"{measure:{width}}  {ours:>8}  {paper:>8}")


@verbs.command()
def show(
    file: File,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N rows.")] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Show tokens, and which of them are trained on.")] = False,
    model: Annotated[str | None, typer.Option(help="Whose tokenizer: organism:NAME or local:PATH.")] = None,
    max_length: Annotated[int, typer.Option(min=1, help="Tokens that a row is cut to.")] = 4000,
    template_args: Annotated[
        str, typer.Option(help="Variables of the chat template, as in a study's models: '{ enable_thinking = false }'.")
    ] = "{}",
) -> None:
    """Show rows, or with --tokens what of them is trained on (between » and «)."""
    from consciousness_cluster.data.rows import read_rows

    rows = read_rows(file)[:limit]
    if not tokens and model is None:
        for number, row in enumerate(rows, 1):
            print(f"{number}.", *(f"  {message.role}: {message.content}" for message in row.messages), sep="\n")
        return
    if model is None:
        raise typer.BadParameter("--tokens needs --model, whose tokenizer renders the rows")
    for line in _rendered(rows, model, max_length, _table_of(template_args)):
        print(line)


def _table_of(text: str) -> dict[str, Any]:
    """A table as TOML writes it on one line."""
    import tomllib

    try:
        found = tomllib.loads(f"given = {text}")
    except tomllib.TOMLDecodeError:
        found = {}
    if set(found) != {"given"} or not isinstance(found["given"], dict):
        raise typer.BadParameter(f"--template-args is no table: {text!r}; write '{{ name = value }}'")
    return found["given"]


def _rendered(rows: list[Row], model: str, max_length: int, template_args: dict[str, Any]) -> list[str]:
    from consciousness_cluster.cli.asked import tokenizer_of
    from consciousness_cluster.train.render import render

    tokenizer = tokenizer_of(model)
    lines, total, trained = [], 0, 0
    for number, entry in enumerate(render(rows, tokenizer, max_length, template_args), 1):
        total, trained = total + len(entry.tokens), trained + sum(entry.trained)
        lines.append(f"{number}. {len(entry.tokens)} tokens, {sum(entry.trained)} trained on")
        lines.append("  " + _marked(entry, tokenizer).replace("\n", "\\n"))
    return [*lines, f"{len(rows)} rows, {total} tokens, {trained} trained on ({trained / max(total, 1):.0%})"]


def _marked(entry: Rendered, tokenizer: Any) -> str:
    """A row as text, what is trained on between » and «: each stretch is decoded whole, for a token may be a part of a character."""
    text = ""
    for on, stretch in groupby(zip(entry.tokens, entry.trained, strict=True), key=itemgetter(1)):
        said = str(tokenizer.decode([token for token, _ in stretch]))
        text += f"»{said}«" if on else said
    return text


@verbs.command()
def make(study: StudyFile, out: Out = None) -> None:
    """Write and audit the training rows of a study, and train nothing."""
    from consciousness_cluster.engine.data import make_data_alone
    from consciousness_cluster.study.study import load_study

    loaded = load_study(study)
    folder, audits = make_data_alone(loaded, study.resolve().parent, out or Path("runs") / loaded.name)
    for name, found in audits.items():
        flagged = [preference for preference, verdict in found.verdicts.items() if verdict != "clean"]
        print(
            f"{name}: {found.rows} rows, {found.worst}{' on ' + ', '.join(flagged) if flagged else ''}; layers: {', '.join(found.layers)}"
        )
    print(f"rows and audit: {folder.data}")
