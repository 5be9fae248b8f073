"""Cells of a table that a spreadsheet may open: a text that looks like a formula is never run.

The one decision: an apostrophe goes in front, which spreadsheets take as "this is text", and reading
takes it back, so that a name survives the round trip.
"""

from __future__ import annotations

__all__ = ["guard_cell", "unguard_cell"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def guard_cell(cell: str) -> str:
    """Keeps a spreadsheet from running a cell as a formula; `unguard_cell` takes it back."""
    return "'" + cell if cell.startswith((*_FORMULA, "'")) else cell


def unguard_cell(cell: str) -> str:
    """The text that `guard_cell` was given."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith((*_FORMULA, "'")) else cell
