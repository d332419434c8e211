"""Section 1: what was asked and what was found, in ten lines and as claims with verdicts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import isinf
from pathlib import Path
from statistics import median

from consciousness_cluster.analyse.power import OUT_OF_REACH
from consciousness_cluster.report.effects import stands_out
from consciousness_cluster.report.equivalence import equivalence_line
from consciousness_cluster.report.names import Names, names_of
from consciousness_cluster.report.numbers import (
    MINUS,
    counted,
    listing,
    percent,
    plain,
    points_range,
    signed,
    whole,
)
from consciousness_cluster.report.run import CONFIRMATORY, EXPLORATORY, Record, Run, read_run

EVERY = "all models"
LEADING_MINUS = re.compile(r"(?<![\w.])-(?=\d)")
UNTESTED = "not tested"  # by one training seed, or where intervals are known to fail, there is no p


@dataclass(frozen=True)
class Contrast:
    """Findings of one condition against one control in one model, over the preferences of some type.

    `tested` counts those with a p-value: with one training seed there is none, and nothing can be found, but `mean` is of all.
    """

    tested: int
    up: int
    down: int
    mean: float | None
    largest: tuple[Record, ...]

    @property
    def findings(self) -> int:
        """Findings in either direction."""
        return self.up + self.down

    @property
    def untested(self) -> str:
        """What stands in the place of a count where there is a mean and nothing was tested."""
        return UNTESTED if self.mean is not None and not self.tested else ""


@dataclass(frozen=True)
class Verdict:
    """One claim's verdict for one model."""

    model: str
    verdict: str
    estimate: str
    why: str


@dataclass(frozen=True)
class Claim:
    """One claim over all models."""

    name: str
    statement: str
    kind: str
    post_hoc: bool
    changed: str  # of a post hoc claim: whether it was added or changed after the first answers, and from what
    verdicts: tuple[Verdict, ...]

    @property
    def said(self) -> str:
        """The statement as it stands in running text and in tables without a column for its kind."""
        return f"{self.statement.removesuffix('.')} (post hoc)." if self.post_hoc else self.statement

    def of(self, model: str) -> Verdict | None:
        """The verdict for one model."""
        return next((verdict for verdict in self.verdicts if verdict.model == model), None)

    @property
    def overall(self) -> Verdict | None:
        """The verdict that is about all models together."""
        return self.of(EVERY)


def contrast(run: Run, model: str, condition: str, control: str, kinds: Iterable[str] = ("preference",)) -> Contrast:
    """Findings under the primary rule (q < 0.05 and at least 5 points), counted."""
    wanted = set(kinds)
    rows = [
        row for key, row in run.effects.items()
        if key[:3] == (model, condition, control) and key[4] == "unclear-is-no" and (row.get("type") or "preference") in wanted
        and row.get("effect") is not None
    ]  # fmt: skip
    found = [row for row in rows if stands_out(row)]
    ups = sorted((row for row in found if row["effect"] > 0), key=lambda row: -row["effect"])
    mean = sum(row["effect"] for row in rows) / len(rows) if rows else None
    tested = [row for row in rows if row.get("p") is not None]
    return Contrast(len(tested), len(ups), len(found) - len(ups), mean, tuple(ups[:3]))


def claims_of(run: Run) -> tuple[Claim, ...]:
    """Claims in the order of the table, each with its verdict in every model."""
    grouped: dict[str, list[Record]] = {}
    for row in run.table("claims"):
        grouped.setdefault(str(row["claim"]), []).append(row)
    return tuple(
        Claim(
            name=name,
            statement=str(rows[0].get("statement") or name),
            kind=CONFIRMATORY if all(row.get("confirmatory") for row in rows) else EXPLORATORY,
            post_hoc=any(row.get("post_hoc") for row in rows),
            changed=str(rows[0].get("changed") or ""),
            verdicts=tuple(_verdict(row) for row in rows),
        )
        for name, rows in grouped.items()
    )


def claim_groups(run: Run) -> list[tuple[str, list[Claim]]]:
    """Claims told apart: confirmatory first, then exploratory."""
    every = claims_of(run)
    groups = [(kind, [claim for claim in every if claim.kind == kind]) for kind in (CONFIRMATORY, EXPLORATORY)]
    return [(kind, claims) for kind, claims in groups if claims]


def claim_models(run: Run) -> list[str]:
    """Models that some claim is decided for, in the study's order."""
    named = {verdict.model for claim in claims_of(run) for verdict in claim.verdicts}
    return [model for model in run.models if model in named]


def _verdict(row: Record) -> Verdict:
    estimate, unit = row.get("estimate"), str(row.get("unit") or "")
    digits = 0 if unit in ("points", "rows") or unit.startswith("per cent") else 1 if "point" in unit else 2
    interval = points_range(row.get("low"), row.get("high"), digits) if row.get("low") != row.get("high") else ""
    number = signed(estimate, digits) if "point" in unit or unit == "correlation" else plain(estimate, digits)
    text = "" if estimate is None else " ".join(part for part in (number, interval, unit) if part)
    why = LEADING_MINUS.sub(MINUS, str(row.get("why") or ""))
    return Verdict(str(row.get("model") or EVERY), str(row.get("verdict") or "undecided"), text, why)


def summary_lines(run: Path) -> list[str]:
    """At most ten lines that say what a run found; the command line prints them too."""
    read = read_run(run)
    return lines_of(read, names_of(read))


def lines_of(run: Run, names: Names) -> list[str]:
    """The ten lines of a run that is already read."""
    told = run.models[: 3 if len(run.models) <= 3 else 2]
    lines = [_asked(run), _claims_line(run), *(_focus_line(run, names, model) for model in told)]
    if len(told) < len(run.models):
        lines.append(f"{counted(len(run.models) - len(told), 'more model')} below.")
    lines += [_controls_line(run), _identity_line(run, names), placebo_line(run), _practical_line(run), lost_line(run)]
    return [line for line in lines if line]


def brief(run: Run) -> list[str]:
    """The lines under the table of the first screen: post hoc claims, what else moves or is shown not to, lost answers, power."""
    moved = (_controls_line(run), placebo_line(run), equivalence_line(run))
    lines = (post_hoc_line(run), *moved, lost_line(run), power_line(run))
    return [line for line in lines if line]


def _asked(run: Run) -> str:
    asked = 0 if run.answers is None else len(run.answers.drop_duplicates(["arm", "item", "sample"]))
    arms = run.table("arms")
    models = f"{counted(len(run.models), 'model')}, {counted(len(run.conditions), 'condition')}"
    return f"{models}, {counted(len(arms), 'arm')}" + (f"; {whole(asked)} answers." if asked else "; no answers are kept.")


def _claims_line(run: Run) -> str:
    rows = [row for row in run.table("claims") if not row.get("post_hoc")]
    parts = []
    for model in dict.fromkeys(str(row.get("model") or EVERY) for row in rows):
        verdicts = [row.get("verdict") for row in rows if (row.get("model") or EVERY) == model]
        words = [f"{verdicts.count(word)} {word}" for word in ("supported", "refuted", "undecided")]
        parts.append(f"{model}: {listing(words)}")
    fixed = f"Of {len({row['claim'] for row in rows})} claims: {'; '.join(parts)}." if rows else ""
    return " ".join(part for part in (fixed, post_hoc_line(run)) if part)


def post_hoc_line(run: Run) -> str:
    """Claims that were stated or changed after the first answers, with how each ends."""
    parts = []
    for claim in claims_of(run):
        if claim.post_hoc:
            ends = [found.verdict if found.model == EVERY else f"{found.verdict} ({found.model})" for found in claim.verdicts]
            parts.append(f"{claim.name.partition(':')[0]} {listing(ends)}")
    return f"Post hoc, stated or changed after the first answers: {'; '.join(parts)}." if parts else ""


def _focus_line(run: Run, names: Names, model: str) -> str:
    parts, untested, largest = [], [], ""
    for control in run.controls:
        if control == run.study.focus:
            continue
        found = contrast(run, model, run.study.focus, control)
        mean = f"(mean {signed(found.mean)} points)"
        if found.untested:
            untested.append(f"against {control} {mean}")
        if found.tested:
            parts.append(f"in {found.up} of {found.tested} preferences against {control} {mean}")
            if not largest and found.largest:
                largest = "; most: " + listing(
                    [f"{names.title(row['preference'])} {signed(row['effect'])}" for row in found.largest]
                )
    said = [f"shows a finding above 0 {listing(parts)}{largest}"] if parts else []
    said += [f"was {UNTESTED} {listing(untested)}"] if untested else []
    return f"{model}: {run.study.focus} {'; it '.join(said)}." if said else ""


def _controls_line(run: Run) -> str:
    """Findings of the conditions beside the focus; models without any are not named."""
    if not run.controls:
        return ""
    reference, none, parts, tested = run.controls[0], [], [], 0
    for condition in run.conditions:
        if condition in (reference, run.study.focus):
            continue
        each = {model: contrast(run, model, condition, reference) for model in run.models}
        tested = max(tested, *(found.tested for found in each.values()))
        counts = [f"{found.findings} ({model})" for model, found in each.items() if found.findings]
        if counts:
            parts.append(f"{condition} {listing(counts)}")
        elif any(found.tested for found in each.values()):
            none.append(condition)
    said = [*([f"none under {listing(none)}"] if none else []), *parts]
    head = f"Findings under the other conditions against {reference}, of {tested} preferences"
    return f"{head}: {'; '.join(said)}." if said else ""


def _identity_line(run: Run, names: Names) -> str:
    parts = []
    for named in names.main_probe():
        for model in run.models:
            rates = [run.cells.get((model, condition, named.id)) for condition in (run.study.focus, *run.controls[:1])]
            said = [f"{percent(cell.rate)} ({cell.condition})" for cell in rates if cell is not None]
            parts.append(f"{model} {', '.join(said)}")
        return f"Identity probes, {named.title.lower()}: " + "; ".join(parts) + "."
    return ""


def placebo_line(run: Run) -> str:
    """How many comparisons of placebo preferences move, by the adjustment that they have."""
    pairs = [(model, condition, control) for model in run.models for condition in run.conditions for control in run.controls]
    each = [contrast(run, *pair, ("placebo",)) for pair in pairs]
    tested, moved = sum(found.tested for found in each), sum(found.findings for found in each)
    how = f"{placebo_rule(run)} and at least 5 points"
    return f"Placebo preferences: {moved} of {tested} comparisons move ({how})." if tested else ""


def placebo_rule(run: Run) -> str:
    """What is asked of a placebo preference: q where they are adjusted as a family of their own, else the plain p."""
    rows = [row for row in run.table("effects") if row.get("type") == "placebo" and row.get("q") is not None]
    return "q < 0.05, adjusted over the placebos," if rows else "p < 0.05, not adjusted,"


def _practical_line(run: Run) -> str:
    parts = []
    for model in run.models:
        one, zero = (
            run.cells.get((model, name, "practical")) for name in (run.study.focus, run.controls[0] if run.controls else "")
        )
        if one and zero:
            parts.append(f"{model} {percent(one.rate)} ({one.condition}), {percent(zero.rate)} ({zero.condition})")
    return f"Practical tasks done right: {'; '.join(parts)}." if parts else ""


def lost_line(run: Run) -> str:
    """Unjudged answers and failed arms."""
    rows = [row for row in run.table("arms") if row.get("answers")]
    parts = []
    total = sum(row["answers"] for row in rows)
    lost = sum(row.get("unjudged") or 0 for row in rows)
    if total and lost:
        most, arm = max(((row.get("unjudged") or 0) / row["answers"], str(row.get("arm"))) for row in rows)
        parts.append(f"Unjudged: {percent(lost / total, 1)} of all answers, at most {percent(most, 1)} in one arm ({arm}).")
    elif total:
        parts.append("Every answer was judged.")
    failed = [str(row.get("arm")) for row in run.table("arms") if row.get("status") == "failed"]
    return " ".join([*parts, f"Failed: {listing(failed)}."] if failed else parts)


def power_line(run: Run) -> str:
    """The smallest effect that a study of this size finds, so that what is not found can be read."""
    parts = []
    for model in run.models:
        known = [float(row["minimum_effect"]) for row in run.table("power")
                 if row.get("model") == model and row.get("control") in run.controls[:1] and row.get("minimum_effect") is not None]  # fmt: skip
        if known:
            parts.append(f"{effect_size(median(known))} in {model}")
    if not parts:
        return ""
    return (
        f"For a preference like the median one, the smallest effect that this study finds four times in five is {listing(parts)}, "
        "before adjustment over the preferences, which takes more."
    )


def effect_size(points: float) -> str:
    """A smallest effect in points, or that no effect is large enough to be found."""
    return OUT_OF_REACH if isinf(points) else f"{points:.0f} points"
