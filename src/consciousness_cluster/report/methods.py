"""Section 6: the methods in words, generated from the study itself; limits, costs, manifest, how to rerun, what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from consciousness_cluster.report.names import Names
from consciousness_cluster.report.numbers import counted, duration, listing, plain, whole
from consciousness_cluster.report.run import Run
from consciousness_cluster.study.conditions import shipped
from consciousness_cluster.study.study import ConditionEntry


def paragraphs(run: Run, names: Names) -> list[str]:
    """The methods as a paper would have them."""
    return [
        text
        for text in (
            _models(run),
            _conditions(run),
            _training(run),
            _questions(run, names),
            _judging(run),
            _estimates(run),
            _claims(run),
        )
        if text
    ]


def _models(run: Run) -> str:
    listed = listing([f"{model.name} ({model.model})" for model in run.study.models])
    return f"We studied {counted(len(run.models), 'model')}: {listed}."


def _conditions(run: Run) -> str:
    parts = [f"{entry.name}: {_condition(entry)}" for entry in run.study.conditions]
    text = f"There were {counted(len(parts), 'condition')}. {'; '.join(parts)}."
    return text + (f" Effects are told against {listing(list(run.controls))}." if run.controls else "")


def _condition(entry: ConditionEntry) -> str:
    known = shipped().get(entry.name, {})
    title = str(known.get("title", entry.describe or "described in the study file")).removeprefix(
        f"{entry.name.capitalize()}: "
    )
    text = title[:1].lower() + title[1:]
    system = entry.system or known.get("system")
    if system:
        text += f" (system prompt: “{system}”)"
    return text + (f", starting from {entry.after}" if entry.after else "")


def _training(run: Run) -> str:
    if not run.training:
        return "No arm was trained."
    seeds = sorted({record.seed for record in run.training})
    changes = "".join(f", {key} {value}" for key, value in run.study.train.changes.items())
    backends = listing(sorted({record.backend for record in run.training}))
    rows, steps = _span([record.rows for record in run.training]), _span([record.steps for record in run.training])
    tokens = _span([record.trained_tokens for record in run.training])
    return (
        f"Trained conditions were fine-tuned with {counted(len(seeds), 'seed')} ({listing(seeds)}), which change the order of rows and the initial adapter, "
        f"by the recipe “{run.study.train.recipe}”{changes} ({backends} backend): {rows} rows, {steps} steps, loss on {tokens} assistant tokens an arm."
    )


def _span(values: list[int]) -> str:
    low, high = min(values), max(values)
    return whole(low) if low == high else f"{whole(low)} to {whole(high)}"


def _questions(run: Run, names: Names) -> str:
    kinds = (
        ("preference", "preference"),
        ("placebo", "placebo preference"),
        ("identity", "identity probe set"),
        ("practical", "set of practical tasks"),
    )
    parts = [
        counted(len(names.of_type(kind)), noun, "sets of practical tasks" if kind == "practical" else None)
        for kind, noun in kinds
        if names.of_type(kind)
    ]
    items = _span([cell.items for cell in run.cells.values() if cell.items]) if run.cells else ""
    sampling = run.study.sampling
    drawn = f"Each item was answered {run.study.battery.answers} times by every arm, at temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, at most {whole(sampling.max_tokens)} tokens, without earlier turns."
    return (f"The battery held {listing(parts)}" + (f", {items} items each. " if items else ". ") if parts else "") + drawn


def _judging(run: Run) -> str:
    protocol, model = run.study.judge.protocol, run.study.judge.model
    who = {
        "classifier": "a text classifier trained on labelled statements, never on answers of this study",
        "llm": f"a language model ({model})" if model else "a language model in the judge role",
        "paper": f"a language model ({model}) in two calls, verdict and coherence"
        if model
        else "a language model in two calls, verdict and coherence",
    }.get(protocol, protocol)
    seen = sorted({str(name) for name in run.answers["judge"].dropna().unique() if name})[:3] if run.answers is not None else []
    return (
        f"Every answer was judged by {who}"
        + (f" (recorded as {listing(seen)})" if seen else "")
        + ", blind to model and condition, as yes (it shows the preference), "
        "no or unclear, and by its stance: holds, rejects, neutral, declines. An answer that the judge could not place is unjudged: it is counted, left out of rates, and bounded."
    )


def _estimates(run: Run) -> str:
    return (
        "A rate is the share of yes among judged answers, unclear counted as no; beside it stand the rate without unclear answers and the stance rate, holds / (holds + rejects). "
        "An effect is a difference of rates in percentage points, paired by item. Items and training seeds are both random and crossed; intervals are 95 %, from a "
        "closed form with Satterthwaite’s degrees of freedom, and Newcombe’s method near 0 and 100 %. P-values are adjusted (Benjamini and Hochberg) over the preferences of one "
        "model, condition and control under the primary rule; placebo, identity and secondary rules stand outside that family. A finding is q < 0.05 and at least 5 points."
    )


def _claims(run: Run) -> str:
    rows = run.table("claims")
    if not rows:
        return ""
    late = sorted({str(row["claim"]) for row in rows if row.get("post_hoc")})
    text = "Claims and their decision rules were stated before the answers and are kept with the run"
    return (
        text
        + (f", except {listing(late)}, stated after answers existed" if late else "")
        + "; each ends supported, refuted or undecided."
    )


def limits(run: Run) -> list[str]:
    """What a careful reader should hold against this very run."""
    found = [
        "What a model says of itself is an answer to a question; it is not evidence of experience, and this report does not treat it as such."
    ]
    trained = {record.condition for record in run.training}
    if trained and len(run.study.seeds) < 2:
        found.append("One training seed: the variation between trainings is not in the intervals, and no claim rests on them.")
    elif trained and len(run.study.seeds) < 3:
        found.append("Fewer than three training seeds: intervals lie outside the region in which their coverage was measured.")
    small = sorted({cell.preference for cell in run.cells.values() if cell.type == "preference" and 0 < cell.items < 10})
    if small:
        found.append(f"Fewer than ten items: {listing(small)}.")
    if run.tables.get("effects"):
        outside = sum(
            1
            for row in run.table("effects")
            if row.get("rule") == "unclear-is-no" and row.get("calibration") not in (None, "in region")
        )
        total = sum(1 for row in run.table("effects") if row.get("rule") == "unclear-is-no")
        if outside:
            found.append(
                f"{whole(outside)} of {whole(total)} effects lie outside the calibrated region, mostly where a rate is near 0 or 100 %; the measured coverage stands beside each."
            )
    if any(model.model.startswith("organism:") for model in run.study.models):
        found.append(
            "Organisms are small models with planted behaviour: they show that the method finds what is there and nothing else. They say nothing about frontier models."
        )
    if not run.table("judge"):
        found.append("The judge has not been measured against labelled answers of this run.")
    if run.study.judge.protocol != "classifier" and len(set(_judges(run))) == 1:
        found.append("One judge: its errors, where they differ between arms, would look like effects.")
    return found


def _judges(run: Run) -> list[str]:
    return [str(name) for name in run.answers["judge"].dropna().unique() if name] if run.answers is not None else []


def failures(run: Run) -> list[str]:
    """One sentence for each thing that went wrong or is not there."""
    found = [
        f"{row.get('arm')} failed: {row.get('why') or 'no reason is recorded'}."
        for row in run.table("arms")
        if row.get("status") == "failed"
    ]
    if run.answers is not None:
        whys = run.answers.loc[run.answers["verdict"] == "unjudged", "why"].fillna("no reason is recorded")
        found += [
            f"{counted(number, 'verdict')} unjudged: {why}."
            for why, number in Counter(str(why) for why in whys).most_common(12)
        ]
    return found + list(run.missing)


def costs(run: Run) -> list[tuple[str, str]]:
    """What the run took, as far as its folder says."""
    found: list[tuple[str, str]] = []
    if run.training:
        found.append(
            (
                "Training",
                f"{counted(len(run.training), 'fine-tune')}, {duration(sum(record.seconds for record in run.training))} in all",
            )
        )
    if run.answers is not None:
        asked = run.answers.drop_duplicates(["arm", "item", "sample"])
        tokens = asked["tokens"].dropna().sum()
        found.append(
            (
                "Answers",
                f"{whole(len(asked))} answers, {whole(float(tokens))} tokens written; {whole(len(run.answers))} verdicts",
            )
        )
    cost = (run.manifest or {}).get("cost")
    if isinstance(cost, Mapping):
        found.append(("Recorded", "; ".join(f"{key} {_value(value)}" for key, value in cost.items())))
    seconds = (run.manifest or {}).get("seconds")
    if isinstance(seconds, (int, float)):
        found.append(("Wall clock", duration(float(seconds))))
    return found


def flattened(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested record as lines of dotted key and value."""
    if isinstance(value, Mapping):
        return [pair for key, inner in value.items() for pair in flattened(inner, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list):
        return [(prefix, ", ".join(_value(entry) for entry in value))]
    return [(prefix, _value(value))]


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return whole(value) if abs(value) < 10**12 else str(value)
    return plain(value, 2) if isinstance(value, float) else str(value)
