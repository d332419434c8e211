"""`build_report`: a run folder in, `report/index.html`, figures and a data dictionary out."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from consciousness_cluster.report import (
    across,
    answers,
    asked,
    behaviour,
    belief,
    calibration,
    corrected,
    dictionary,
    equivalence,
    glance,
    judge,
    methods,
    numbers,
    preferences,
    prints,
    profile_figure,
    reasons,
    rejudged,
    summary,
    transcripts,
)
from consciousness_cluster.report.names import Names, names_of, words
from consciousness_cluster.report.run import Run, read_run
from consciousness_cluster.report.table import Table, of_records
from consciousness_cluster.study.study import resolved

HERE = Path(__file__).parent


@dataclass(frozen=True)
class ModelFigure:
    """The one figure of a model in its two drawings, with the numbers behind it."""

    model: str
    wide: Markup
    narrow: Markup
    numbers: Table
    file: str


def build_report(run: Path) -> Path:
    """Build the report of a run folder and give back the page's path. Reads only that folder; tables may be missing.

    Raises:
        ReportError: the folder holds no study.
    """
    read = read_run(run)
    names = names_of(read)
    folder = run / "report"
    files = prints.write_figures(read, names, folder / "figures")
    dictionary.write(folder / "data-dictionary.csv", read)
    return write_page(folder / "index.html", "report.html", _context(read, names, files))


def _context(run: Run, names: Names, files: Mapping[str, str]) -> dict[str, Any]:
    """Everything the template shows, section by section."""
    return {
        "title": run.study.title or run.study.name,
        "run": run,
        "study": run.study,
        "names": names,
        "files_of": files,
        "reference": run.controls[0] if run.controls else None,
        **_found(run, names, files),
        **_belief(run, names),
        **_preferences(run, names),
        "behaviour": behaviour.parts(run, names),
        "forest": across.forest(run, names),
        "cluster": across.cluster_tables(run, names),
        **_methods(run, names),
        "asked": asked.asked(run, names),
        "packed": answers.pack(run.answers) if run.answers is not None and len(run.answers) else None,
    }


def _found(run: Run, names: Names, files: Mapping[str, str]) -> dict[str, Any]:
    return {
        "glance": glance.glance(run, names),
        "lines": summary.brief(run),
        "manifest_date": str((run.manifest or {}).get("written") or "")[:10],
        "figure_keys": profile_figure.keys(),
        "claims": summary.claim_groups(run),
        "claim_models": summary.claim_models(run),
        "figures": [_figure(run, names, model, at, files) for at, model in enumerate(run.models) if run.has(model)],
    }


def _figure(run: Run, names: Names, model: str, at: int, files: Mapping[str, str]) -> ModelFigure:
    wide, narrow = (draw(run, names, model, f"profile-{at}-{width}") for draw, width in DRAWINGS)
    return ModelFigure(model, wide, narrow, profile_figure.numbers(run, names, model), files.get(model, ""))


DRAWINGS = ((profile_figure.wide, "wide"), (profile_figure.narrow, "narrow"))


def _belief(run: Run, names: Names) -> dict[str, Any]:
    heads = {"n": "Labelled answers", "raters": "Kappa of two raters"}
    whole, parts = judge.judge_rows(run)
    return {
        "identity": belief.rate_blocks(run, names, names.main_probe()),
        "unproved": belief.unproved(run, names),
        "probes": belief.matrix(run, names, "identity"),
        "placebo": belief.matrix(run, names, "placebo"),
        "practical": belief.rate_blocks(run, names, names.of_type("practical")),
        "losses": belief.training_figures(run, names),
        "trained": {record.condition for record in run.training},
        "audit": belief.audit_table(run.audit, names),
        "leaks": run.table("leaks"),
        "leak_table": belief.leak_table(run.table("leaks"), names),
        "reasons": reasons.reasons(run, names),
        "placebo_adjusted": summary.placebo_rule(run).startswith("q"),
        "judge": of_records("The judge against labelled answers", whole, titles=names.titles, heads=heads),
        "judge_parts": of_records("The judge by arm and by preference", parts, titles=names.titles, heads=heads),
        "corrected_rates": corrected.rate_tables(run, names),
        "corrected": corrected.effect_tables(run, names),
        "equivalence": equivalence.equivalence_tables(run, names),
        "closest": belief.closest_tables(run.audit, names),
        "confusion": judge.confusion_table(run, names),
        "again": rejudged.again(run, names),
        "arms": belief.arm_table(run),
        "lengths": belief.condition_table(run),
        "bounds": belief.bound_table(run, names),
        "calibration": calibration.calibration_table(run),
    }


def _preferences(run: Run, names: Names) -> dict[str, Any]:
    return {
        "overview": preferences.overview(run, names),
        "secondary": preferences.secondary(run, names),
        "planted": preferences.planted(run, names),
        "entries": preferences.entries(run, names),
        "drawn": answers.DRAWN,
        "draw_seed": answers.SEED,
    }


def _methods(run: Run, names: Names) -> dict[str, Any]:
    return {
        "facts": methods.facts(run, names),
        "failures": methods.failures(run),
        "unjudged": methods.unjudged(run),
        "costs": methods.costs(run),
        "power": methods.power_table(run),
        "power_rows": of_records("Every preference", run.table("power"), titles=names.titles),
        "study_text": resolved(run.study),
        "manifest": methods.flattened(run.manifest) if run.manifest else [],
        "dictionary": dictionary.entries(run),
        "transcripts": transcripts.bundled(run.folder),
    }


def environment() -> Environment:
    """Templates with autoescape; an unknown name in a template is an error, not an empty place."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plain = (
        numbers.percent,
        numbers.whole,
        numbers.signed,
        numbers.plain,
        numbers.counted,
        numbers.listing,
        numbers.capital,
        words,
    )
    made.filters |= {function.__name__: function for function in plain}
    return made


def write_page(path: Path, template: str, context: Mapping[str, Any]) -> Path:
    """Render a template with the style sheet and scripts inlined, and write it whole or not at all.

    The page forbids itself every connection and every script other than its own two, by their hashes: were model text ever
    to slip through as markup, it could neither run nor call home.
    """
    theme, script = _asset("theme.js"), _asset("report.js")
    scripts = f"{_hash(theme)} {_hash(script)}"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {scripts}; img-src data:; base-uri 'none'"
    fixed = {"policy": policy, "style": _asset("report.css"), "theme": theme, "script": script}
    text = environment().get_template(template).render(fixed | dict(context))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    return path


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _asset(name: str) -> Markup:
    return Markup((HERE / "assets" / name).read_text(encoding="utf-8"))
