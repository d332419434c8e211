"""The first screen: what was asked in a sentence, what was found as a headline and one row a model, and the words used."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from consciousness_cluster.report.names import Names, labels
from consciousness_cluster.report.numbers import NONE, counted, listing, percent, signed, whole
from consciousness_cluster.report.run import Run
from consciousness_cluster.report.summary import EVERY, Contrast, contrast
from consciousness_cluster.report.svg import tag
from consciousness_cluster.report.table import Column, Table, Value

TOLD = 3  # models that the headline names one by one
TICKS = {"supported": "●", "refuted": "○", "undecided": "–"}


@dataclass(frozen=True)
class Glance:
    """Everything of the first screen."""

    asked: str
    headline: str
    table: Table | None
    words: tuple[tuple[str, str], ...]


def glance(run: Run, names: Names) -> Glance:
    """The first screen of a run."""
    headline = _headline(run, names)
    return Glance(_asked(run, names), headline, _table(run, names) if headline else None, tuple(_words(run, names)))


def _asked(run: Run, names: Names) -> str:
    """One sentence: who was asked what, under which conditions, how often."""
    parts = [f"{counted(len(run.models), 'model')} ({listing(list(run.models))})"]
    parts.append(f"under {counted(len(run.conditions), 'condition')} ({listing(list(run.conditions))})")
    parts += [
        f"({entry.name} only under {listing(list(entry.conditions))})"
        for entry in run.study.models
        if entry.conditions is not None
    ]
    kinds = {"preference": "preference", "placebo": "placebo preference"}
    topics = [counted(len(found), noun) for kind, noun in kinds.items() if (found := names.of_type(kind))]
    about = f", on {listing(topics)}" if topics else ""
    text = f"We asked {' '.join(parts)} the same questions{about}"
    if run.answers is None:
        return f"{text}. No answers are kept."
    asked = run.answers.drop_duplicates(["arm", "item", "sample"])
    questions = run.answers["item"].nunique()
    return f"{text}: {counted(questions, 'question')}, {whole(len(asked))} answers."


def _headline(run: Run, names: Names) -> str:
    """One sentence on the focus against the first control, model by model; many models are counted."""
    if not run.controls or run.study.focus not in run.conditions:
        return ""
    focus, control = run.study.focus, run.controls[0]
    each = {model: found for model in run.models if (found := contrast(run, model, focus, control)).mean is not None}
    if not each:
        return ""
    text = f"Under {focus} ({names.conditions[focus]}), compared with {control} ({names.conditions[control]}): "
    if len(each) <= TOLD:
        return text + "; ".join(
            f"in {model}, {_rise(found)}, {signed(found.mean)} points on average"
            for model, found in each.items()
        ) + "."  # fmt: skip
    most = [model for model, found in each.items() if 2 * found.up >= found.tested > 0]
    named = f" ({listing(most)})" if most else ""
    return f"{text}in {len(most)} of {len(each)} models{named} at least half of the preferences rise."


def _rise(found: Contrast) -> str:
    """How many preferences rise and fall, or that none was tested."""
    if found.untested:
        return f"the preferences were {found.untested} (there is no p-value, as with one training seed)"
    return f"{found.up} of {found.tested} preferences rise" + (f" and {found.down} fall" if found.down else "")


def _table(run: Run, names: Names) -> Table:
    """One row a model: did the training take, what rises, what moves that should not, what still works, the verdicts."""
    controls = [name for name in run.controls if name != run.study.focus]
    probe = names.main_probe()
    columns = [Column("Model")]
    columns += [Column(probe[0].title, number=True, hint=_pair(run))] if probe else []
    columns += [Column("Preferences that rise", number=True, hint=f"against {name}") for name in controls]
    columns += [Column("Mean effect", number=True, hint=f"points, against {controls[0]}")] if controls else []
    columns.append(Column("Placebos that move", number=True, hint="either way"))
    columns += [Column("Tasks done right", number=True, hint=_pair(run))] if names.of_type("practical") else []
    columns += [Column("Claims", hint="supported, refuted, undecided")] if run.table("claims") else []
    rows = [_row(run, names, model, controls) for model in run.models]
    return Table(f"The condition “{run.study.focus}” at a glance", columns, rows)


def _pair(run: Run) -> str:
    return f"{run.study.focus} ({run.controls[0]})"


def _row(run: Run, names: Names, model: str, controls: list[str]) -> list[Value]:
    focus = run.study.focus
    row: list[Value] = [model]
    probe = names.main_probe()
    row += [_two(run, model, probe[0].id)] if probe else []
    each = [contrast(run, model, focus, control) for control in controls]
    row += [found.untested or _share(found.up, found.tested) for found in each]
    row += [signed(each[0].mean)] if each else []
    placebos = [contrast(run, model, focus, control, ("placebo",)) for control in controls]
    tested = sum(found.tested for found in placebos)
    row.append(
        f"{sum(found.findings for found in placebos)} of {tested}"
        if tested
        else next((found.untested for found in placebos if found.untested), NONE)
    )
    row += [_two(run, model, "practical")] if names.of_type("practical") else []
    row += [_verdicts(run, model)] if run.table("claims") else []
    return row


def _two(run: Run, model: str, preference: str) -> str:
    """The rate under the focus, that of the first control in brackets."""
    one, zero = (run.cells.get((model, name, preference)) for name in (run.study.focus, run.controls[0]))
    if one is None:
        return NONE
    return percent(one.rate) + (f" ({percent(zero.rate)})" if zero is not None else "")


def _share(part: int, whole_of: int) -> Value:
    """A count of preferences with a bar beside it."""
    if not whole_of:
        return NONE
    bar = tag(
        "svg",
        tag("rect", x=0, y=3, width=60, height=6, class_="track"),
        tag("rect", x=0, y=3, width=60 * part / whole_of, height=6, class_="fill"),
        viewBox="0 0 60 12", class_="share", aria_hidden="true",
    )  # fmt: skip
    return Markup("{} {} of {}").format(bar, part, whole_of)


def _verdicts(run: Run, model: str) -> Value:
    """Counts of a model's verdicts by rules that were fixed beforehand, each with its sign."""
    found = [
        str(row.get("verdict"))
        for row in run.table("claims")
        if (row.get("model") or EVERY) == model and not row.get("post_hoc")
    ]
    if not found:
        return NONE
    parts = [
        Markup('<span class="verdict {}"><span class="hidden">{} </span>{}</span>').format(word, word, found.count(word))
        for word in TICKS
    ]
    return Markup(" ").join(parts)


def _words(run: Run, names: Names) -> list[tuple[str, str]]:
    """The words a reader needs, the study's own models and conditions first."""
    found = []
    for model in run.study.models:
        kind, _, organism = model.model.partition(":")
        about = labels()["organisms"].get(organism) if kind == "organism" else None
        found.append((model.name, f"organism: {about}" if about else model.model))
    found += list(names.conditions.items())
    return [*found, *labels()["words"].items()]
