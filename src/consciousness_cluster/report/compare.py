"""`compare`: several runs in one page, and of each difference whether it is within noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from consciousness_cluster.errors import ReportError
from consciousness_cluster.report.differences import BEYOND, ONE_SEED, Comparison, Difference, comparisons, labels_of
from consciousness_cluster.report.methods import flattened
from consciousness_cluster.report.names import Names, names_of
from consciousness_cluster.report.numbers import NONE, counted, listing, points_range, probability, signed, whole
from consciousness_cluster.report.page import write_page
from consciousness_cluster.report.run import Cell, Run, read_run
from consciousness_cluster.report.summary import EVERY, claims_of
from consciousness_cluster.report.svg import dot, line, scale, tag
from consciousness_cluster.report.table import Column, Table, Value, figures, rate_text
from consciousness_cluster.study.conditions import filled
from consciousness_cluster.train.recipe import filled as filled_recipe


@dataclass(frozen=True)
class Compared:
    """Runs that were set side by side, and one sentence for each thing that could not be."""

    folders: tuple[Path, ...]
    runs: tuple[Run, ...]
    names: Names
    found: tuple[Comparison, ...]
    apart: tuple[str, ...]


def read_compared(runs: Sequence[Path]) -> Compared:
    """Set two or more run folders side by side.

    Raises:
        ReportError: fewer than two runs, or a folder without a study.
    """
    if len(runs) < 2:
        raise ReportError(
            "a comparison needs at least two runs", value=[str(run) for run in runs], next_step="name another run folder"
        )
    read = [read_run(run) for run in runs]
    named = [names_of(run) for run in read]
    every = {entry.id: entry for names in named for entry in names.preferences}
    names = replace(named[0], preferences=tuple(every.values()))
    found, apart = comparisons(read, names)
    return Compared(tuple(runs), tuple(read), names, tuple(found), tuple(apart))


def compare(runs: Sequence[Path] | Compared, out: Path) -> Path:
    """Write the comparison page of two or more run folders to `out` (a file, or a folder for `index.html`).

    Raises:
        ReportError: fewer than two runs, or a folder without a study.
    """
    known = runs if isinstance(runs, Compared) else read_compared(runs)
    path = out if out.suffix == ".html" else out / "index.html"
    return write_page(path, "compare.html", _context(known.folders, known.runs, known.names, known.found, known.apart))


def _context(
    folders: Sequence[Path], runs: Sequence[Run], names: Names, found: Sequence[Comparison], apart: Sequence[str]
) -> dict[str, Any]:
    claims, differ = _claims(runs)
    return {
        "title": "Runs compared: " + listing(list(dict.fromkeys(run.study.name for run in runs))),
        "said": _said(runs, found, claims, differ),
        "overview": [_overview(part, names, title) for title, part in _parts(found)],
        "claims": claims,
        "runs": list(zip(labels_of(runs), runs, folders, strict=True)),
        "settings": _settings(runs),
        "details": [
            (title, [(entry, beyond_of(entry), _table(entry, names)) for entry in part]) for title, part in _parts(found)
        ],
        "apart": apart,
    }


def _parts(found: Sequence[Comparison]) -> list[tuple[str, list[Comparison]]]:
    """Effects and rates apart, each with its title."""
    titles = {True: "Effects of the trained or prompted claim", False: "Rates by condition"}
    parts = [(title, [entry for entry in found if entry.effects is kind]) for kind, title in titles.items()]
    return [(title, part) for title, part in parts if part]


def _said(runs: Sequence[Run], found: Sequence[Comparison], claims: Table | None, differ: int) -> str:
    """How much differs, in a sentence."""
    if not found:
        return "Nothing could be set side by side."
    parts, silent = [], 0
    for kind, noun in ((True, f"effect of {runs[0].study.focus}"), (False, "rate")):
        some = [entry for entry in found if entry.effects is kind]
        total, beyond = sum(entry.decided for entry in some), sum(entry.beyond for entry in some)
        silent += sum(difference.word == ONE_SEED for entry in some for difference in entry.differences)
        if total:
            parts.append(f"{whole(beyond)} of {counted(total, noun, noun.replace('effect', 'effects') if kind else None)}")
    ends = "ends" if differ == 1 else "end"
    verdicts = f" {whole(differ)} of {counted(len(claims.rows), 'claim')} {ends} differently." if claims else ""
    without = (
        f" No verdict on {counted(silent, 'difference')} of one training seed, whose noise is not known." if silent else ""
    )
    return (f"Beyond noise differ {listing(parts)}." if parts else "No difference can be told from noise.") + without + verdicts


def _claims(runs: Sequence[Run]) -> tuple[Table | None, int]:
    """Verdicts of the same claim and model in every run, those that differ first; and how many differ."""
    known = [
        {(claim.name, verdict.model): (claim, verdict) for claim in claims_of(run) for verdict in claim.verdicts}
        for run in runs
    ]
    keys = [key for key in dict.fromkeys(key for entry in known for key in entry) if sum(key in entry for entry in known) > 1]
    rows: list[tuple[bool, list[Value]]] = []
    for key in keys:
        claim = next(entry[key][0] for entry in known if key in entry)
        verdicts = [entry[key][1].verdict if key in entry else "" for entry in known]
        cells: list[Value] = [
            Markup('<span class="verdict {}">{}</span> {}').format(word, word, entry[key][1].estimate) if word else NONE
            for entry, word in zip(known, verdicts, strict=True)
        ]
        where = "" if key[1] == EVERY else f"{key[1]}: "
        rows.append((len(set(verdicts) - {""}) > 1, [where + claim.said, *cells]))
    rows.sort(key=lambda row: not row[0])
    differ = sum(row[0] for row in rows)
    strong = frozenset((at, column) for at in range(differ) for column in range(1, len(runs) + 1))
    columns = [Column("Claim"), *(Column(name) for name in labels_of(runs))]
    return (
        Table("Claims; those that end differently first", columns, [row for _, row in rows], strong) if rows else None
    ), differ


def _overview(found: Sequence[Comparison], names: Names, title: str) -> Table:
    rows: list[list[Value]] = []
    strong: set[tuple[int, int]] = set()
    for entry in found:
        largest = max(entry.differences, key=lambda difference: abs(difference.effect))
        mean = sum(difference.effect for difference in entry.differences) / len(entry.differences)
        if entry.beyond:
            strong.add((len(rows), 3))
        rows.append([
            entry.other, entry.model, entry.condition, beyond_of(entry), signed(mean, 1),
            f"{names.title(largest.preference)} {signed(largest.effect)}",
        ])  # fmt: skip
    columns = [Column("Run"), Column("Model"), Column("Condition"), *figures("Beyond noise", "Mean, points"), Column("Largest")]
    return Table(f"{title}: difference to {found[0].first}", columns, rows, frozenset(strong))


def beyond_of(entry: Comparison) -> str:
    """How many of the differences with a verdict are beyond noise."""
    return f"{whole(entry.beyond)} of {whole(entry.decided)}" if entry.decided else "no verdict"


def _table(entry: Comparison, names: Names) -> Table:
    rows: list[list[Value]] = []
    strong: set[tuple[int, int]] = set()
    shown = _effect if entry.effects else rate_text
    for d in sorted(entry.differences, key=lambda difference: (difference.word != BEYOND, -abs(difference.effect))):
        if d.word == BEYOND:
            strong |= {(len(rows), 4), (len(rows), 6)}
        rows.append([
            names.title(d.preference), shown(d.first), shown(d.other), picture(d),
            f"{signed(d.effect)} {points_range(d.low, d.high)}", probability(d.q), d.word,
        ])  # fmt: skip
    columns = [
        Column("Preference"),
        *figures(entry.first, entry.other),
        Column("Difference", hint="drawn"),
        *figures("Points", "q"),
        Column("Verdict"),
    ]
    caption = f"{entry.model}, {entry.condition}: {entry.other} minus {entry.first}"
    return Table(caption, columns, rows, frozenset(strong))


def _effect(cell: Cell) -> str:
    """An effect in points."""
    low, high = (None if end is None else 100 * end for end in (cell.low, cell.high))
    return f"{signed(None if cell.rate is None else 100 * cell.rate)} {points_range(low, high)}".strip()


def picture(difference: Difference) -> Markup:
    """A difference as a dot with its interval, from -100 to 100 points; beyond that it lies on the edge."""
    x = scale(-100, 100, 4, 156)
    parts = [line(4, 8, 156, 8, "grid"), line(x(0), 1, x(0), 15, "zero")]
    if difference.low is not None and difference.high is not None:
        parts.append(line(x(difference.low), 8, x(difference.high), 8, "interval"))
    kind = "mean" if difference.word == BEYOND else "mean hollow"
    colour = "vermillion" if difference.word == BEYOND else "ink"
    return tag(
        "svg",
        tag("g", *parts, dot(x(difference.effect), 8, 3.6, kind), class_=f"mark k-{colour}"),
        viewBox="0 0 160 16",
        class_="inline",
        aria_hidden="true",
    )


def _settings(runs: Sequence[Run]) -> Table:
    """What the studies declare differently, since a difference of settings is no noise."""
    flat = [dict(flattened(_declared(run))) for run in runs]
    nothing = (NONE, "")
    keys = [
        key for key in dict.fromkeys(key for entry in flat for key in entry)
        if len({NONE if entry.get(key, NONE) in nothing else entry[key] for entry in flat}) > 1
    ]  # fmt: skip
    rows: list[list[Value]] = [[key.removesuffix(".is"), *(entry.get(key) or NONE for entry in flat)] for key in keys]
    return Table("Settings that differ", [Column("Setting"), *(Column(name) for name in labels_of(runs))], rows)


def _declared(run: Run) -> dict[str, Any]:
    """A study's settings, its models and conditions by name rather than by place."""
    written = filled(run.study).model_copy(update={"train": filled_recipe(run.study.train)})  # older runs kept less
    found = written.model_dump(mode="json", exclude={"name", "title"})
    for part in ("models", "conditions"):
        found[part] = {entry.pop("name"): {"is": "declared", **entry} for entry in found[part]}
    return found
