"""Parse fractions such as `5%`, `5 %` or `0.05`."""

from __future__ import annotations

__all__ = ["parse_fraction"]


def parse_fraction(text: str) -> float:
    """Return a fraction in (0, 1).

    Raises:
        ValueError: The text is not a number, or is outside (0, 1).
    """
    plain = text.strip()
    is_percent = plain.endswith("%")
    try:
        number = float(plain.removesuffix("%").strip())
    except ValueError:
        raise ValueError(f"`{text}` is not a fraction: use e.g. 5% or 0.05") from None
    value = number / 100 if is_percent else number
    if not 0.0 < value < 1.0:
        raise ValueError(f"`{text}` is not between 0 and 1: use e.g. 5% or 0.05")
    return value
