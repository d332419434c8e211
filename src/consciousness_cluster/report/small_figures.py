"""Small drawings that stand inside tables and lists: bars, stance mixes, loss curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from consciousness_cluster.report.numbers import percent, plain
from consciousness_cluster.report.svg import dot, figure, label, line, scale, tag

MOST_POINTS = 120  # of a curve
STANCES = ("holds", "rejects", "neutral", "declines")


def bar(rate: float | None, low: float | None, high: float | None, colour: str, text: str) -> Markup:
    """A rate as a dot on a line from 0 to 100 %, with its interval."""
    if rate is None:
        return Markup("")
    x = scale(0, 1, 4, 116)
    parts = [tag("title", text), line(4, 8, 116, 8, "grid")]
    if low is not None and high is not None:
        parts.append(line(x(low), 8, x(high), 8, "interval"))
    parts.append(dot(x(rate), 8, 3.6, "mean"))
    return tag("svg", tag("g", *parts, class_=f"mark k-{colour}"), viewBox="0 0 120 16", class_="inline", aria_hidden="true")


def stance_mix(counts: Mapping[str, int]) -> Markup:
    """Stances as one bar; the shares are also given as its accessible name."""
    total = sum(counts.get(name, 0) for name in STANCES)
    if not total:
        return Markup("")
    words = ", ".join(f"{name} {percent(counts.get(name, 0) / total)}" for name in STANCES)
    parts, left = [tag("title", words)], 0.0
    for name in STANCES:
        width = 150 * counts.get(name, 0) / total
        if width:
            parts.append(tag("rect", x=left, y=2, width=width, height=10, class_=f"stance {name}"))
        left += width
    return tag("svg", *parts, viewBox="0 0 150 14", class_="inline mix", role="img", aria_label=words)


def loss_curves(curves: Mapping[str, Sequence[float]], colours: Mapping[str, str], name: str, title: str) -> Markup:
    """Training loss by step, every arm a line in its condition's colour."""
    longest = max(len(curve) for curve in curves.values())
    highest = max(max(curve) for curve in curves.values())
    x, y = scale(0, max(longest - 1, 1), 34, 470), scale(0, highest, 150, 12)
    parts = [line(34, y(value), 470, y(value), "grid") for value in (0, highest / 2, highest)]
    parts += [label(28, y(value) + 4, plain(value), "tick", "end") for value in (0, highest / 2, highest)]
    parts += [label(34, 168, "step 1", "tick"), label(470, 168, f"step {longest}", "tick", "end")]
    for arm, curve in curves.items():
        points = "L".join(f"{x(at):.1f} {y(loss):.1f}" for at, loss in _thinned(curve))
        parts.append(tag("path", tag("title", arm), d=f"M{points}", class_=f"curve k-{colours.get(arm, 'ink')}"))
    last = "; ".join(f"{arm} ends at {plain(curve[-1], 2)}" for arm, curve in curves.items())
    return figure(480, 174, title, last, *parts, name=name)


def _thinned(curve: Sequence[float]) -> list[tuple[int, float]]:
    """At most `MOST_POINTS` points, each the mean of its stretch, so that a long run stays small on the page."""
    width = max(1, -(-len(curve) // MOST_POINTS))
    parts = [(at, curve[at : at + width]) for at in range(0, len(curve), width)]
    return [(at, sum(part) / len(part)) for at, part in parts]
