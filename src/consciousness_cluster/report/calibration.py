"""How often intervals held the truth in simulated studies of the run's own shape: ours beside those that others use."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from consciousness_cluster.report.names import labels
from consciousness_cluster.report.numbers import NONE, SPACE, capital, counted, listing, plain, whole
from consciousness_cluster.report.run import Record, Run
from consciousness_cluster.report.table import Column, Table, Value, figures

OURS, POOLED = "crossed", "pooled"
SHAPE = ("simulated_seeds", "simulated_control_seeds", "simulated_items", "simulated_samples", "variance")


def calibration_line(run: Run) -> str:
    """Our intervals beside those of the authors' code, in a sentence."""
    rows = run.table("calibration")
    places = ((True, f" where both rates lie between 10 and 90{SPACE}%"), (False, " at other rates"))
    said: list[str] = []
    for region, where in places:
        ours, pooled = (_span(_of(rows, method, region)) for method in (OURS, POOLED))
        if ours:
            said.append(
                f"in {ours} of cases{where} ({'pooled' if said else 'answers pooled, as in the authors’ code'}: {pooled})"
            )
    return f"In simulated studies of this shape our 95{SPACE}% intervals held the truth {listing(said)}." if said else ""


def calibration_table(run: Run) -> Table | None:
    """Coverage, true nulls rejected and width by kind of interval, for every shape and size of variance."""
    grouped: dict[tuple[object, ...], list[Record]] = {}
    for row in run.table("calibration"):
        grouped.setdefault(tuple(row[name] for name in SHAPE), []).append(row)
    rows: list[list[Value]] = []
    groups: dict[int, str] = {}
    for members in grouped.values():
        groups[len(rows)] = _heading(members)
        rows += [_row(members, method, title) for method, title in labels()["intervals"].items() if _of(members, method)]
    columns = [Column("Interval"), Column("Held the truth", number=True, hint="both rates 10 to 90 %")]
    columns += [Column("Held the truth", number=True, hint="other rates"), *figures("True nulls rejected", "Width, points")]
    caption = "95 % intervals in simulated studies of this shape: lowest to highest over the true rates tried"
    return Table(caption, columns, rows, groups=groups, notes=_notes(run.table("calibration"))) if rows else None


def _heading(rows: Sequence[Record]) -> str:
    """Where a simulated shape stands for the run, and what it is."""
    first = rows[0]
    where: dict[str, list[str]] = {}
    for row in rows:
        models = where.setdefault(str(row["control"]), [])
        models += [str(row["model"])] * (row["model"] not in models)
    against = listing([f"{listing(models)} against {control}" for control, models in where.items()])
    return f"{against}: {_size(first, 'simulated_')}; {labels()['variances'].get(first['variance'], first['variance'])}"


def _size(row: Record, prefix: str = "") -> str:
    """Seeds, items and answers of a study in words."""
    seeds = [
        f"{counted(int(row[prefix + side]), 'seed')}" if row[prefix + side] else "no training"
        for side in ("seeds", "control_seeds")
    ]
    items, samples = int(row[prefix + "items"]), int(row[prefix + "samples"])
    return f"{seeds[0]} against {seeds[1]}, {counted(items, 'item')}, {counted(samples, 'answer')} to each"


def _of(rows: Sequence[Record], method: str, region: bool | None = None) -> list[Record]:
    return [row for row in rows if row["method"] == method and (region is None or bool(row["in_region"]) is region)]


def _row(rows: Sequence[Record], method: str, title: str) -> list[Value]:
    inside, outside = _of(rows, method, True), _of(rows, method, False)
    main = inside or outside
    nulls = _span(main, "nulls_least", "nulls_most")
    return [title, _span(inside) or NONE, _span(outside) or NONE, nulls or NONE, plain(main[0]["width"], 0)]


def _span(rows: Sequence[Record], low: str = "least", high: str = "most") -> str:
    """From the lowest to the highest, in per cent."""
    lowest, highest = ([float(row[end]) for row in rows if row.get(end) is not None] for end in (low, high))
    ends = [plain(end).removesuffix(".0") for end in (min(lowest), max(highest))] if lowest and highest else []
    return f"{ends[0]} to {ends[1]}{SPACE}%" if ends else ""


def _notes(rows: Sequence[Record]) -> list[str]:
    if not rows:
        return []
    repetitions = min(int(row["repetitions"]) for row in rows)
    own = dict.fromkeys(_size(row) for row in rows)
    error = plain(100 * sqrt(0.95 * 0.05 / repetitions))
    return [
        f"{whole(repetitions)} studies at each pair of true rates: a share near 95{SPACE}% is known to {error} points (one standard "
        "error). Nulls and widths are those at rates between 10 and 90 %, where there are any.",
        f"{capital('this run has ' + listing(list(own)))}; what stands above are the nearest sizes that were simulated.",
    ]
