"""Cells of a table that a spreadsheet may open: a text that looks like a formula is never run.

An apostrophe goes in front, which spreadsheets take as "this is text", and reading
takes it back, so that a name survives the round trip.
"""

from __future__ import annotations

__all__ = ["escape_formula", "unescape_formula"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def escape_formula(cell: str) -> str:
    """Keep a spreadsheet from running a cell as a formula; `unescape_formula` takes it back."""
    return "'" + cell if cell.startswith((*_FORMULA, "'")) else cell


def unescape_formula(cell: str) -> str:
    """Return the text that `escape_formula` was given."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith((*_FORMULA, "'")) else cell
