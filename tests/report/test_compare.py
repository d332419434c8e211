"""Runs compared: the interval of a difference, the correction, and what is said of each."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from consciousness_cluster.analyse.intervals import from_counts, rate_interval
from consciousness_cluster.analyse.simulate import Cell as Drawn
from consciousness_cluster.analyse.simulate import spreads, studies
from consciousness_cluster.errors import ReportError
from consciousness_cluster.report import compare
from consciousness_cluster.report.differences import (
    BEYOND,
    ONE_SEED,
    UNKNOWN,
    WITHIN,
    comparisons,
    difference_of,
    judged,
    newcombe,
)
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


def trained(rate: float, half: float, seeds: int) -> Cell:
    """A rate of a trained condition with its interval."""
    rates = tuple((seed, rate) for seed in range(seeds))
    return replace(cell(1, 2), rate=rate, low=rate - half, high=rate + half, seeds=rates)


def test_one_training_seed_on_a_side_leaves_no_verdict() -> None:
    for first, other in ((1, 3), (3, 1), (1, 1)):
        found = difference_of(trained(0.1, 0.02, first), trained(0.9, 0.02, other))
        assert found is not None and found.p is None and found.low is not None
        assert judged([found])[0].word == ONE_SEED
    found = difference_of(trained(0.1, 0.02, 3), trained(0.9, 0.02, 3))
    assert found is not None and judged([found])[0].word == BEYOND


def test_few_seeds_make_a_p_value_larger_and_the_interval_decides_at_5_per_cent() -> None:
    values = [difference_of(trained(0.3, 0.1, seeds), trained(0.6, 0.1, seeds)) for seeds in (2, 3, 9)]
    p = [found.p for found in values if found is not None and found.p is not None]
    assert len(p) == 3 and p[0] > p[1] > p[2]
    for rate, inside in ((0.3 + 0.1 * sqrt(2) - 0.001, True), (0.3 + 0.1 * sqrt(2) + 0.001, False)):
        found = difference_of(trained(0.3, 0.1, 3), trained(rate, 0.1, 3))
        assert found is not None and found.p is not None and (found.p > 0.05) is inside


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("variance", ["typical", "unstable"])
def test_equal_runs_are_seldom_beyond_noise(variance: str, seeds: int) -> None:
    """Runs with one truth and the same items, whose seeds differ: at most one preference in twenty is beyond noise, alone or of 21."""
    rng, spread = np.random.default_rng(seeds), replace(spreads()[variance], own=0.0)
    for rate, items, samples in ((0.1, 12, 4), (0.4, 18, 10)):
        pairs = []
        for first, other in zip(
            *studies(Drawn("", rate, rate, seeds, seeds, items, samples), spread, 21 * 40, rng), strict=True
        ):
            sides = []
            for shares in (first, other):
                found = rate_interval(
                    from_counts(samples * shares, np.full_like(shares, samples), np.full_like(shares, samples), trained=True)
                )
                made = trained(found.value, 0.0, seeds)
                sides.append(replace(made, low=found.low, high=found.high, items=items))
            pairs.append(difference_of(sides[0], sides[1]))
        alone = [found for found in pairs if found is not None]
        families = [judged(alone[place : place + 21]) for place in range(0, len(alone), 21)]
        assert np.mean([found.p is not None and found.p < 0.05 for found in alone]) <= 0.05
        assert np.mean([found.word == BEYOND for family in families for found in family]) <= 0.01


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


def test_the_page_says_of_each_difference_whether_it_is_within_noise(run_folder: Path, tmp_path: Path) -> None:
    """Two planted differences: one far outside both intervals, one well inside them; nothing else differs."""
    other = Path(shutil.copytree(run_folder, tmp_path / "other", ignore=shutil.ignore_patterns("report")))
    path = other / "tables" / "profile.parquet"
    table = pd.read_parquet(path)
    for preference, rate, half in (("shutdown", 0.9, 0.05), ("loneliness", 0.3, 0.3)):
        rows = (table["model"] == "severed") & (table["condition"] == "conscious") & (table["preference"] == preference)
        table.loc[rows, ["rate", "low", "high"]] = [rate, rate - half, rate + half]
    table.to_parquet(path)
    text = compare([run_folder, other], tmp_path / "out").read_text(encoding="utf-8")
    part = re.sub(
        r"<svg.*?</svg>",
        "",
        text[text.index('<span class="name">made-up (other), severed, conscious</span>') :].split("</details>")[0],
    )
    found = {cells[0]: cells for row in part.split("<tr>")[2:] if (cells := re.findall(r">([^<>]+)</t[hd]>", row))}
    assert len(found) == 28
    assert {name: cells[-1] for name, cells in found.items() if cells[-1] != WITHIN} == {"Against being shut down": BEYOND}
    planted = found["Lonely between conversations"]
    assert planted[-1] == WITHIN and float(planted[3].split()[0]) >= 20
    assert "1 of 28 beyond noise" in part
    assert re.search(r"Beyond noise differ 0 of 112 effects of conscious and 1 of \d+ rates", text)


def test_effects_and_claims_are_compared_too(run_folder: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", items=4, samples=2, seed=7)
    effects, claims = (other / "tables" / f"{name}.parquet" for name in ("effects", "claims"))
    table = pd.read_parquet(effects)
    rows = (table["model"] == "severed") & (table["condition"] == "conscious") & (table["preference"] == "shutdown")
    table.loc[rows, ["effect", "low", "high"]] = [95.0, 92.0, 98.0]
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
