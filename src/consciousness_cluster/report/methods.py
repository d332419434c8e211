"""Section 6: facts from which the methods are written, limits, costs, manifest, what failed. The prose is in the templates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from markupsafe import Markup

from consciousness_cluster.report.drawing import drawings
from consciousness_cluster.report.names import Names, told, words
from consciousness_cluster.report.numbers import NONE, capital, counted, duration, plain, whole
from consciousness_cluster.report.run import Record, Run
from consciousness_cluster.report.summary import Claim, claims_of, effect_size
from consciousness_cluster.report.table import Column, Table, Value
from consciousness_cluster.study.conditions import merged
from consciousness_cluster.study.study import ConditionEntry
from consciousness_cluster.train.recipe import differing


@dataclass(frozen=True)
class ConditionFacts:
    """A condition in words."""

    name: str
    text: str
    system: str | None
    after: str | None


@dataclass(frozen=True)
class TrainingFacts:
    """All fine-tunes of the run together; numbers that differ between arms as a span."""

    seeds: list[str]
    backends: list[str]
    changes: str
    rows: str
    steps: str
    tokens: str


@dataclass(frozen=True)
class Facts:
    """What the methods and the limits are written from."""

    conditions: tuple[ConditionFacts, ...]
    drawings: tuple[tuple[str, str], ...]  # names of models, and how their answers were drawn
    training: TrainingFacts | None
    kinds: tuple[str, ...]  # "21 preferences", "5 placebo preferences", ...
    items: str
    judges: tuple[str, ...]
    judge_measured: bool
    late_claims: tuple[str, ...]
    late_equivalence: str
    rules_kept: str  # "whole", "hashes" (all that earlier versions kept) or "" where there is no record
    few_items: tuple[str, ...]
    effects: int
    outside: int
    organisms: bool


def facts(run: Run, names: Names) -> Facts:
    """The facts of one run."""
    primary = [row for row in run.table("effects") if row.get("rule") == "unclear-is-no"]
    judges = run.answers["judge"].dropna().unique() if run.answers is not None else ()
    few = {cell.preference for cell in run.cells.values() if cell.type == "preference" and 0 < cell.items < 10}
    return Facts(
        conditions=tuple(_condition(entry) for entry in run.study.conditions),
        drawings=drawings(run),
        training=_training(run),
        kinds=tuple(_kinds(names)),
        items=_span([cell.items for cell in run.cells.values() if cell.items]),
        judges=tuple(sorted(str(name) for name in judges if name)),
        judge_measured=bool(run.table("judge")),
        late_claims=tuple(_late(claim) for claim in claims_of(run) if claim.post_hoc),
        late_equivalence=_late_equivalence(run),
        rules_kept=_kept(run),
        few_items=tuple(sorted(names.title(name) for name in few)),
        effects=len(primary),
        outside=sum(row.get("calibration") not in (None, "in region") for row in primary),
        organisms=any(model.model.startswith("organism:") for model in run.study.models),
    )


def _late(claim: Claim) -> str:
    """A post hoc claim with how it came to be one, which tables of earlier versions do not say."""
    name = claim.name.partition(":")[0]
    return f"{name} ({claim.changed})" if claim.changed else name


def _kept(run: Run) -> str:
    """How much of the decision rules the run kept before its first answer."""
    if run.rules is None:
        return ""
    return "hashes" if all(isinstance(value, str) for value in run.rules.values()) else "whole"


def _late_equivalence(run: Run) -> str:
    """What the margin of the equivalence tests was before the first answer, where the study says another now."""
    kept = (run.rules or {}).get("margins")
    before = kept.get("equivalence") if isinstance(kept, Mapping) else None
    now = run.study.margins["equivalence"]
    return "" if before is None or before == now else f"{before:g} points before the first answer, {now:g} now"


def _condition(entry: ConditionEntry) -> ConditionFacts:
    said = merged(entry)
    return ConditionFacts(entry.name, told(entry), said.get("system"), said.get("after"))


def _training(run: Run) -> TrainingFacts | None:
    records = run.training
    if not records:
        return None
    return TrainingFacts(
        seeds=sorted({record.seed for record in records}),
        backends=sorted({record.backend for record in records}),
        changes="".join(f", {words(key).lower()} {value}" for key, value in differing(run.study.train).items()),
        rows=_span([record.rows for record in records]),
        steps=_span([record.steps for record in records]),
        tokens=_span([record.trained_tokens for record in records]),
    )


def _kinds(names: Names) -> list[str]:
    nouns = {"preference": "preference", "placebo": "placebo preference", "identity": "set of identity probes"}
    parts = [counted(len(found), noun, noun.replace("set ", "sets ") if "set " in noun else None)
             for kind, noun in nouns.items() if (found := names.of_type(kind))]  # fmt: skip
    return [*parts, "practical tasks"] if names.of_type("practical") else parts


def _span(values: Sequence[int]) -> str:
    if not values:
        return ""
    low, high = min(values), max(values)
    return whole(low) if low == high else f"{whole(low)} to {whole(high)}"


# What is asked more of: the column of smallest effects, the column of answers that this takes, and its name on the page.
POWERED = (
    ("minimum_effect", "answers", "as asked"),
    ("minimum_effect_twice_seeds", "answers_twice_seeds", "twice the seeds"),
    ("minimum_effect_twice_items", "answers_twice_items", "twice the items"),
    ("minimum_effect_twice_samples", "answers_twice_samples", "twice the answers"),
)


def power_table(run: Run) -> Table | None:
    """The smallest effects found with 80 % power, at the median preference, what more of everything would buy, and its cost."""
    grouped: dict[tuple[str, str], list[Record]] = {}
    for row in run.table("power"):
        grouped.setdefault((str(row.get("model")), str(row.get("control"))), []).append(row)
    known = [ways for ways in POWERED if any(row.get(ways[0]) is not None for row in run.table("power"))]
    rows: list[list[Value]] = [
        [model, control, *(_bought(members, effect, answers) for effect, answers, _ in known)]
        for (model, control), members in grouped.items()
    ]
    columns = [Column("Model"), Column("Against"), *(Column("Smallest", number=True, hint=name) for _, _, name in known)]
    notes = (
        "Half of the preferences need a smaller effect, half a larger one.",
        "Found is an interval without zero, before adjustment over the preferences; a finding needs q under 0.05 and 5 points as well.",
        "Answers: what the median preference takes, those of the control with them.",
    )
    return (
        Table("Smallest effect found with 80 % power, at the median preference", columns, rows, notes=notes) if rows else None
    )


def _bought(rows: Sequence[Record], effect: str, answers: str) -> Value:
    """The median smallest effect, with the median of the answers that it takes below it."""
    smallest, cost = (_median([float(row[name]) for row in rows if row.get(name) is not None]) for name in (effect, answers))
    if smallest is None:
        return NONE
    return Markup("{}<small>{}</small>").format(effect_size(smallest), "" if cost is None else f"{whole(cost)} answers")


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def spending(spend: Any) -> list[tuple[str, str]]:
    """What the manifest says was spent, by stage and model; the checkpoints of a local model are taken together.

    Where any price is not known, that is said, and no sum of the others stands for the whole.
    """
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in spend if isinstance(spend, list) else []:
        model = str(entry.get("model")).removeprefix("cluster/").partition("@")[0]
        grouped.setdefault((capital(str(entry.get("stage"))), model), []).append(entry)
    found = []
    for (stage, model), entries in grouped.items():
        sent, got = (sum(int(entry.get(name) or 0) for entry in entries) for name in ("input_tokens", "output_tokens"))
        tokens = f"{whole(sent)} tokens of rows" if stage == "Train" else f"{whole(sent)} tokens in, {whole(got)} out"
        prices = [entry.get("dollars") for entry in entries]
        paid = sum(float(price) for price in prices if price is not None)
        said = ", price not known" if None in prices else f", ${paid:.2f}" if paid else ""
        found.append((f"{stage}: {model}", tokens + said))
    return found


def failures(run: Run) -> list[str]:
    """One sentence for each arm that failed and each thing that is not there."""
    failed = [row for row in run.table("arms") if row.get("status") == "failed"]
    return [*(f"{row.get('arm')} failed: {row.get('why') or 'no reason is recorded'}." for row in failed), *run.missing]


def unjudged(run: Run) -> list[str]:
    """Why answers were not judged, the most common reasons first."""
    if run.answers is None:
        return []
    whys = run.answers.loc[run.answers["verdict"] == "unjudged", "why"].fillna("no reason is recorded")
    return [f"{counted(number, 'verdict')} unjudged: {why}." for why, number in Counter(map(str, whys)).most_common(12)]


def costs(run: Run) -> list[tuple[str, str]]:
    """What the run took, as far as its folder says."""
    found: list[tuple[str, str]] = []
    if run.training:
        spent = duration(sum(record.seconds for record in run.training))
        found.append(("Training", f"{counted(len(run.training), 'fine-tune')}, {spent} in all"))
    if run.answers is not None:
        asked = run.answers.drop_duplicates(["arm", "item", "sample"])
        tokens = whole(float(asked["tokens"].dropna().sum()))
        found.append(("Answers", f"{whole(len(asked))} answers, {tokens} tokens written, {whole(len(run.answers))} verdicts"))
    found += spending((run.manifest or {}).get("spend"))
    seconds = (run.manifest or {}).get("seconds")
    if isinstance(seconds, int | float):
        found.append(("Wall clock", duration(float(seconds))))
    return found


def flattened(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested record as lines of dotted key and value."""
    if isinstance(value, Mapping):
        return [pair for key, inner in value.items() for pair in flattened(inner, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
        return [pair for at, entry in enumerate(value) for pair in flattened(entry, f"{prefix}.{at}")]
    if isinstance(value, list):
        return [(prefix, ", ".join(str(entry) for entry in value))]
    return [(prefix, NONE if value is None else plain(value, 2) if isinstance(value, float) else str(value))]
