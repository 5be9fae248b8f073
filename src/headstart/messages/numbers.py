"""Format fractions, differences and counts."""

from __future__ import annotations

import math

__all__ = ["percent", "pluralize", "pluralize_is", "signed", "signed_points"]

UNKNOWN = "not measured"


def percent(fraction: float | None, digits: int = 1) -> str:
    """Return a fraction as percent, e.g. `81.5 %`; `not measured` for None and NaN.

    Only 0 and 1 are shown as `0.0 %` and `100.0 %`; fractions close to them become `<0.1 %` and `>99.9 %`.
    """
    if fraction is None or not math.isfinite(fraction):
        return UNKNOWN
    text, least = f"{100 * fraction:.{digits}f}", 10.0**-digits
    if 0.0 < fraction < 1.0 and float(text) <= 0.0:
        return f"<{least:.{digits}f} %"
    if 0.0 < fraction < 1.0 and float(text) >= 100.0:
        return f">{100 - least:.{digits}f} %"
    return f"{text} %"


def signed_points(difference: float, digits: int = 1) -> str:
    """Return a difference of two fractions in percentage points with its sign, e.g. `+1.5`; `0.0` has none."""
    return signed(100 * difference, digits)


def pluralize(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun, e.g. `1 image`, `2,000 images`, `2 boxes`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def pluralize_is(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun and verb, e.g. `1 image is`, `2,000 images are`."""
    return f"{pluralize(number, singular, plural)} {'is' if number == 1 else 'are'}"


def signed(number: float, digits: int = 3) -> str:
    """Return a difference with its sign, e.g. `-0.013`; `0.000` has none."""
    value = round(number, digits)
    return f"{value:+.{digits}f}" if value else f"{0.0:.{digits}f}"
