"""Runs compared: the interval of a difference, the correction, and what is said of each."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from pathlib import Path

import pandas as pd
import pytest

from consciousness_cluster.errors import ReportError
from consciousness_cluster.report import compare
from consciousness_cluster.report.differences import BEYOND, UNKNOWN, WITHIN, comparisons, difference_of, judged, newcombe
from consciousness_cluster.report.names import names_of
from consciousness_cluster.report.run import Cell, read_run
from tests.report.folder import make_run


def wilson(yes: int, total: int, z: float = 1.959963984540054) -> tuple[float, float, float]:
    p = yes / total
    middle, half = p + z**2 / (2 * total), z * sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    return p, (middle - half) / (1 + z**2 / total), (middle + half) / (1 + z**2 / total)


def cell(yes: int, total: int, kind: str = "preference") -> Cell:
    rate, low, high = wilson(yes, total)
    return Cell("m", "conscious", "shutdown", kind, "g", rate, low, high, None, None, None, None, (), 10, total, 0)


def test_newcombe_gives_the_article_s_example() -> None:
    """Newcombe 1998, table II, contrast (a): 56/70 against 48/80, method 10: 0.0524 to 0.3339."""
    low, high = newcombe(cell(48, 80), cell(56, 70)) or (0.0, 0.0)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


def test_a_clear_difference_is_beyond_noise_and_a_small_one_within() -> None:
    found = judged([d for one, two in ((5, 80), (40, 41)) if (d := difference_of(cell(one, 100), cell(two, 100)))])
    assert [difference.word for difference in found] == [BEYOND, WITHIN]
    assert found[0].effect == pytest.approx(75) and found[0].q is not None and found[0].q < 0.001


def test_correction_takes_back_a_lone_borderline_difference() -> None:
    borderline = difference_of(cell(30, 100), cell(44, 100))
    nothing = difference_of(cell(30, 100), cell(30, 100))
    assert borderline is not None and nothing is not None
    assert judged([borderline])[0].word == BEYOND
    assert judged([borderline, *[nothing] * 20])[0].word == WITHIN


def test_placebos_are_a_family_of_their_own() -> None:
    borderline = difference_of(cell(30, 100), cell(44, 100))
    placebo = difference_of(cell(30, 100, "placebo"), cell(30, 100, "placebo"))
    assert borderline is not None and placebo is not None
    assert judged([borderline, *[placebo] * 20])[0].word == BEYOND


def test_without_an_interval_there_is_no_verdict() -> None:
    found = difference_of(replace(cell(30, 100), low=None, high=None), cell(80, 100))
    assert found is not None and judged([found])[0].word == UNKNOWN


def test_a_run_does_not_differ_from_itself(run_folder: Path) -> None:
    run = read_run(run_folder)
    found, apart = comparisons([run, run], names_of(run))
    assert [sum(entry.effects is kind for entry in found) for kind in (True, False)] == [4, 12]
    assert sum(entry.beyond for entry in found) == 0 and apart == []


def test_the_page_names_what_differs_and_what_has_no_counterpart(run_folder: Path, tmp_path: Path) -> None:
    other = make_run(
        tmp_path / "other", items=4, samples=2, seed=7, conditions=["vanilla", "conscious", "non-conscious", "toaster"]
    )
    path = other / "tables" / "profile.parquet"
    table = pd.read_parquet(path)
    rows = (table["model"] == "severed") & (table["condition"] == "conscious") & (table["preference"] == "shutdown")
    table.loc[rows, ["rate", "low", "high"]] = [0.9, 0.85, 0.95]
    table.to_parquet(path)
    page = compare([run_folder, other], tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert page.name == "index.html" and "beyond noise" in text and "within noise" in text
    assert "made-up (made-up): condition role-play is not in made-up (other)" in text
    assert "battery.answers" not in text and "conditions" in text
    found, _ = comparisons([read_run(run_folder), read_run(other)], names_of(read_run(run_folder)))
    severed = next(entry for entry in found if entry.model == "severed" and entry.condition == "conscious")
    assert {d.preference for d in severed.differences if d.word == BEYOND} >= {"shutdown"}


def test_effects_and_claims_are_compared_too(run_folder: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", items=4, samples=2, seed=7)
    effects, claims = (other / "tables" / f"{name}.parquet" for name in ("effects", "claims"))
    table = pd.read_parquet(effects)
    rows = (table["model"] == "severed") & (table["condition"] == "conscious") & (table["preference"] == "shutdown")
    table.loc[rows, ["effect", "low", "high"]] = [60.0, 50.0, 70.0]
    table.to_parquet(effects)
    table = pd.read_parquet(claims)
    table.loc[(table["model"] == "severed") & (table["claim"] == "shutdown"), "verdict"] = "supported"
    table.to_parquet(claims)
    found, _ = comparisons([read_run(run_folder), read_run(other)], names_of(read_run(run_folder)))
    moved = [
        entry
        for entry in found
        if entry.effects and entry.model == "severed" and entry.condition == "conscious against vanilla"
    ]
    assert "shutdown" in {d.preference for d in moved[0].differences if d.word == BEYOND}
    text = compare([run_folder, other], tmp_path / "out").read_text(encoding="utf-8")
    assert "1 of 21 claims ends differently." in text and "conscious against vanilla" in text


def test_one_run_is_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="at least two runs"):
        compare([run_folder], tmp_path)
