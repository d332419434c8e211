"""Inline SVG from small pure functions. Markup escapes the text; colours are the style sheet's, so that both themes work."""

from __future__ import annotations

import math
from collections.abc import Callable

from markupsafe import Markup

Scale = Callable[[float], float]


def tag(name: str, /, *children: str | Markup, **attributes: object) -> Markup:
    """One element. `class_` becomes `class`, underscores become hyphens, numbers lose needless digits, None is left out."""
    pairs = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _value(value))
        for key, value in attributes.items()
        if value is not None
    )
    if not children:
        return Markup("<{}{}/>").format(name, pairs)
    return Markup("<{}{}>{}</{}>").format(name, pairs, Markup("").join(children), name)


def _value(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def scale(low: float, high: float, left: float, right: float) -> Scale:
    """Linear map of [low, high] to [left, right]; values outside are put on the edge."""
    return lambda value: left + (min(max(value, low), high) - low) / (high - low) * (right - left)


def figure(width: float, height: float, title: str, description: str, *children: Markup, name: str, class_: str = "") -> Markup:
    """An accessible SVG image: labelled by its title, described by its description."""
    return tag(
        "svg",
        tag("title", title, id=f"{name}-t"),
        tag("desc", description, id=f"{name}-d"),
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"{name}-t",
        aria_describedby=f"{name}-d",
        class_=f"figure {class_}".strip(),
        style=f"max-width:{width:g}px",
    )


def label(x: float, y: float, text: str, class_: str = "", anchor: str | None = None) -> Markup:
    """A line of text."""
    return tag("text", text, x=float(x), y=float(y), class_=class_ or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("path", d=f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}", class_=class_)


def dot(x: float, y: float, radius: float, class_: str) -> Markup:
    """A filled circle."""
    return tag("circle", cx=float(x), cy=float(y), r=float(radius), class_=class_)


def shape(x: float, y: float, radius: float, corners: int, class_: str) -> Markup:
    """A regular shape standing on its middle, for values that are not ours: 3 corners a triangle, 4 a diamond."""
    turns = [2 * math.pi * at / corners - math.pi / 2 for at in range(corners)]
    points = "L".join(f"{x + radius * math.cos(turn):.1f} {y + radius * math.sin(turn):.1f}" for turn in turns)
    return tag("path", d=f"M{points}z", class_=class_)
