"""Name files."""

from __future__ import annotations

from collections.abc import Sequence

from headstart.messages.values import one_line
from headstart.records import Problem

__all__ = ["name_files"]

_FIRST = 10


def name_files(problems: Sequence[Problem]) -> list[str]:
    """Return the first ten by name and reason, then a count."""
    lines = [f"  {one_line(p.name)}: {p.detail}" for p in problems[:_FIRST]]
    if len(problems) > _FIRST:
        lines.append(f"  ... and {len(problems) - _FIRST:,} more")
    return lines
