"""Format lists of files."""

from __future__ import annotations

from collections.abc import Sequence

from headstart.messages.values import one_line
from headstart.types.records import Problem

__all__ = ["list_files"]

_MAX_FILES = 10


def list_files(problems: Sequence[Problem]) -> list[str]:
    """Return the first ten files with their problems, then the count of the rest."""
    lines = [f"  {one_line(p.name)}: {p.detail}" for p in problems[:_MAX_FILES]]
    if len(problems) > _MAX_FILES:
        lines.append(f"  ... and {len(problems) - _MAX_FILES:,} more")
    return lines
