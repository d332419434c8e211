"""Numbers as a reader sees them: shares of 1 as per cent, effects as percentage points with their sign."""

from __future__ import annotations

NONE = "–"
SPACE = "\u202f"  # narrow no-break space between a number and its unit
MINUS = "\u2212"


def whole(value: float | None) -> str:
    """A count, thousands set apart by a narrow space."""
    return NONE if value is None else f"{round(value):,}".replace(",", SPACE)


def percent(share: float | None, digits: int = 0) -> str:
    """A share as per cent."""
    return NONE if share is None else f"{100 * share:.{digits}f}{SPACE}%"


def percent_range(low: float | None, high: float | None) -> str:
    """An interval of shares, in per cent without the sign."""
    return "" if low is None or high is None else f"[{100 * low:.0f}, {100 * high:.0f}]"


def signed(value: float | None, digits: int = 0) -> str:
    """A number with its sign, no sign for what rounds to zero."""
    if value is None:
        return NONE
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return (MINUS if value < 0 else "+") + text


def plain(value: float | None, digits: int = 1) -> str:
    """A number with a true minus sign."""
    if value is None:
        return NONE
    text = f"{abs(value):.{digits}f}"
    return MINUS + text if value < 0 and float(text) else text


def points_range(low: float | None, high: float | None, digits: int = 0) -> str:
    """An interval of percentage points."""
    return "" if low is None or high is None else f"[{plain(low, digits)}, {plain(high, digits)}]"


def probability(value: float | None) -> str:
    """A p- or q-value; small ones as a bound."""
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def duration(seconds: float | None) -> str:
    """A time in the unit that reads best."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.1f}{SPACE}s"
    return f"{seconds / 60:.0f}{SPACE}min" if seconds < 5400 else f"{seconds / 3600:.1f}{SPACE}h"


def listing(parts: list[str]) -> str:
    """Words joined as in a sentence."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1] if parts else ""


def counted(number: int, one: str, many: str | None = None) -> str:
    """A count with its noun."""
    return f"{whole(number)} {one if number == 1 else many or one + 's'}"


def capital(text: str) -> str:
    """A text with its first letter large."""
    return text[:1].upper() + text[1:]
