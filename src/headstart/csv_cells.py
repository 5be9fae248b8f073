"""Escape CSV cells against formula injection with a leading apostrophe, reversibly."""

from __future__ import annotations

__all__ = ["escape_formula", "unescape_formula"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def escape_formula(cell: str) -> str:
    """Escape a cell that a spreadsheet would run as a formula; `unescape_formula` inverts this."""
    return "'" + cell if cell.startswith((*_FORMULA, "'")) else cell


def unescape_formula(cell: str) -> str:
    """Invert `escape_formula`."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith((*_FORMULA, "'")) else cell
