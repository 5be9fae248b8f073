"""Shares as people write them: `5%`, `5 %` or `0.05`."""

from __future__ import annotations

__all__ = ["parse_fraction"]


def parse_fraction(text: str) -> float:
    """Return the share in (0, 1) that a text names.

    Raises:
        ValueError: It is no number, or not strictly between 0 and 1 (0 and 100 %).
    """
    plain = text.strip()
    is_percent = plain.endswith("%")
    try:
        number = float(plain.removesuffix("%").strip())
    except ValueError:
        raise ValueError(f"`{text}` is no share: write 5% or 0.05") from None
    value = number / 100 if is_percent else number
    if not 0.0 < value < 1.0:
        raise ValueError(f"`{text}` does not lie between 0 and 1: write 5% or 0.05")
    return value
