"""Numbers as a reader sees them, and small drawings."""

from __future__ import annotations

import ast
from pathlib import Path
from xml.etree import ElementTree

import pytest

from consciousness_cluster.analyse.calibration import NOT_SHOWN, SHOWN_COVERAGE
from consciousness_cluster.analyse.corrected import MEAN, METHODS, NOT_YET
from consciousness_cluster.analyse.equivalence import EQUIVALENT
from consciousness_cluster.analyse.power import OUT_OF_REACH
from consciousness_cluster.report import corrected
from consciousness_cluster.report.effects import coverage_note, marked, q_text, stands_out
from consciousness_cluster.report.numbers import (
    counted,
    duration,
    listing,
    percent,
    plain,
    points_range,
    probability,
    signed,
    whole,
)
from consciousness_cluster.report.small_figures import loss_curves, stance_mix
from consciousness_cluster.report.summary import effect_size
from consciousness_cluster.report.svg import scale, tag
from consciousness_cluster.report.table import shown

NARROW = "\u202f"


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (percent(0.123), f"12{NARROW}%"), (percent(None), "–"), (signed(4.6), "+5"), (signed(-4.6), "−5"), (signed(-0.2), "0"),
        (plain(-0.04), "0.0"), (plain(-1.25, 2), "−1.25"), (points_range(-3.2, 4.0), "[−3, 4]"), (points_range(None, 1.0), ""),
        (probability(0.0004), "< 0.001"), (probability(0.0421), "0.042"), (probability(0.421), "0.42"),
        (whole(1234567), f"1{NARROW}234{NARROW}567"),
        (listing([]), ""), (listing(["a"]), "a"), (listing(["a", "b", "c"]), "a, b and c"), (counted(1, "arm"), "1 arm"),
        (counted(2, "arm"), "2 arms"), (shown(float("inf")), "none within reach"), (effect_size(float("inf")), "none within reach"),
        (effect_size(12.4), "12 points"),
        (duration(3.21), f"3.2{NARROW}s"), (duration(300), f"5{NARROW}min"), (duration(7200), f"2.0{NARROW}h"),
    ],
)  # fmt: skip
def test_numbers(said: str, wanted: str) -> None:
    assert said == wanted


def test_an_effect_stands_out_by_q_in_the_family_and_by_p_outside() -> None:
    inside = {"effect": 12.0, "p": 0.01, "q": 0.2, "finding": False}
    outside = {"effect": 12.0, "p": 0.01, "q": None, "finding": False}
    small = {"effect": 4.0, "p": 0.001, "q": None, "finding": False}
    assert [stands_out(effect) for effect in (inside, outside, small, None)] == [False, True, False, False]
    assert (q_text(inside), q_text(outside)) == ("0.20", "p 0.010")


def test_a_dagger_marks_intervals_that_cover_too_rarely() -> None:
    effects = [
        {"effect": 1.0, "low": 0.0, "high": 2.0, "calibration": label} for label in ("in region", "97.1 %", "91.2 %", "88.0 %")
    ]
    assert [marked(effect).endswith("†") for effect in effects] == [False, False, True, True]
    assert "88.0 % to 91.2 %" in coverage_note(effects)[0]


def test_a_dagger_marks_intervals_of_too_few_items() -> None:
    few = [
        {"effect": 50.0, "low": 9.0, "high": 90.0, "calibration": label}
        for label in ("not shown: 2 items", "not shown: 4 items")
    ]
    assert all(marked(effect).endswith("†") and not stands_out(effect) for effect in few)
    [said] = coverage_note(few)
    assert "With 2 to 4 items such intervals were not shown to hold" in said
    assert len(coverage_note([*few, {**few[0], "calibration": "88.0 %"}])) == 2


def test_drawings_are_well_formed_and_escape_text() -> None:
    drawing = loss_curves({"a<b": [2.0, 1.0, 0.5], "c": [1.0] * 1000}, {"a<b": "blue"}, "loss", "Loss & co")
    root = ElementTree.fromstring(drawing)
    assert root[0].text == "Loss & co"
    curve = next(element for element in root.iter("path") if element.get("class") == "curve k-ink")
    assert (curve.get("d") or "").count(" ") <= 125  # a long curve is thinned


def test_the_stance_mix_fills_its_width() -> None:
    root = ElementTree.fromstring(stance_mix({"holds": 3, "rejects": 1, "neutral": 0, "declines": 4}))
    assert sum(float(element.get("width") or 0) for element in root.iter("rect")) == pytest.approx(150, abs=0.2)
    assert root.get("aria-label") == f"holds 38{NARROW}%, rejects 12{NARROW}%, neutral 0{NARROW}%, declines 50{NARROW}%"


def test_scale_keeps_what_lies_outside_on_the_edge() -> None:
    x = scale(0, 1, 10, 110)
    assert (x(0.5), x(-1), x(2)) == (60, 10, 110)


def test_attributes_are_escaped() -> None:
    assert str(tag("a", "x", href='"><script>')) == '<a href="&#34;&gt;&lt;script&gt;">x</a>'


def test_what_the_tables_say_is_said_in_one_place() -> None:
    """Words and limits of the estimates are imported by the page and the commands, so that they cannot come apart."""
    stated = {NOT_SHOWN, SHOWN_COVERAGE, MEAN, *METHODS, NOT_YET, EQUIVALENT, OUT_OF_REACH}
    root = Path(corrected.__file__).parents[1]
    for path in [*(root / "report").glob("*.py"), *(root / "cli").glob("*.py")]:
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        found = {node.value for node in tree if isinstance(node, ast.Constant) and isinstance(node.value, str | float)}
        again = found & stated
        # A method's name in words is the same as its name in the tables.
        assert again <= ({"prediction-powered"} if path.name == "corrected.py" else set()), (path.name, again)
