"""How an effect is shown: its text, whether it stands out, and what is known of its interval's coverage."""

from __future__ import annotations

from collections.abc import Sequence

from consciousness_cluster.analyse.calibration import IN_REGION, NOT_SHOWN, SHOWN_COVERAGE
from consciousness_cluster.report.numbers import NONE, points_range, probability, signed
from consciousness_cluster.report.run import Record

DAGGER = "†"
LEAST = 5.0  # percentage points: a smaller effect is no finding, however certain
LEVEL = 0.05


def stands_out(effect: Record | None) -> bool:
    """Whether an effect is a finding; outside the adjusted family (placebo, probes, tasks), the same by its plain p-value.

    The plain p-value is the harder test for what should not move, since no adjustment makes it lenient.
    """
    if effect is None or effect.get("effect") is None:
        return False
    if effect.get("q") is not None or effect.get("finding"):
        return bool(effect.get("finding"))
    return effect.get("p") is not None and effect["p"] < LEVEL and abs(effect["effect"]) >= LEAST


def effect_text(effect: Record | None) -> str:
    """An effect with its interval, in points."""
    if effect is None or effect.get("effect") is None:
        return NONE
    return f"{signed(effect['effect'])} {points_range(effect.get('low'), effect.get('high'))}".strip()


def q_text(effect: Record | None) -> str:
    """The adjusted p-value of an effect; the plain one, marked as such, where the effect is outside every family."""
    if effect is None or effect.get("q") is not None or effect.get("p") is None:
        return probability((effect or {}).get("q"))
    return f"p {probability(effect['p'])}"


def doubtful(effect: Record | None) -> bool:
    """Whether the interval of an effect was measured to cover the truth too rarely."""
    if effect is None or effect.get("low") is None or effect.get("calibration") in (None, "", IN_REGION):
        return False
    return _leading(str(effect["calibration"])) < SHOWN_COVERAGE


def marked(effect: Record | None) -> str:
    """An effect with its interval, and a dagger where that covers the truth too rarely."""
    return effect_text(effect) + (DAGGER if doubtful(effect) else "")


def coverage_note(effects: Sequence[Record | None]) -> list[str]:
    """What the daggers of a table mean, with the measured coverage, or that there is none."""
    labels = {str(effect["calibration"]) for effect in effects if effect is not None and doubtful(effect)}
    measured = sorted((label for label in labels if not label.startswith(NOT_SHOWN)), key=_leading)
    notes = []
    if measured:
        said = measured[0] if len(measured) == 1 else f"{measured[0]} to {measured[-1]}"
        notes.append(
            f"{DAGGER} In studies of this shape such 95 % intervals hold the truth less often than they say: in {said} of cases."
        )
    sizes = sorted(labels - set(measured), key=lambda label: int(label.split()[-2]))
    if sizes:
        least, most = (sizes[end].removeprefix(f"{NOT_SHOWN}: ") for end in (0, -1))
        few = least if least == most else f"{least.split()[0]} to {most}"
        notes.append(
            f"{DAGGER} With {few} such intervals were not shown to hold: no p-value is given, and no such effect is a finding."
        )
    return notes


def _leading(text: str) -> float:
    """The coverage that a label begins with, in per cent; labels without one come first, as the most doubtful."""
    first = text.partition(" ")[0].rstrip("%")
    return float(first) if first.replace(".", "", 1).isdigit() else 0.0
