"""Write CSV cells: reversible escapes against formula injection, lists in one cell."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["escape_formula", "join_prediction_set", "unescape_formula"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def escape_formula(cell: str) -> str:
    """Escape a cell that a spreadsheet would run as a formula; `unescape_formula` inverts this."""
    return "'" + cell if cell.startswith((*_FORMULA, "'")) else cell


def unescape_formula(cell: str) -> str:
    """Invert `escape_formula`."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith((*_FORMULA, "'")) else cell


def join_prediction_set(names: Iterable[str]) -> str:
    """Join the classes of a set in one cell, `cat|dog`; bars and backslashes in names are escaped."""
    return "|".join(name.replace("\\", "\\\\").replace("|", "\\|") for name in names)
