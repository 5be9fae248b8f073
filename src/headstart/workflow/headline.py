"""Name files and say where a report is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headstart.messages.numbers import pluralize
from headstart.messages.values import one_line
from headstart.records import Problem

__all__ = ["name_files", "not_kept_line", "report_line"]

_FIRST = 10


def report_line(num_shown: int, folder: Path) -> str:
    """Where the report is, and what of a person's data is in it."""
    if num_shown:
        holds = f"shows {pluralize(num_shown, 'image')} of yours by file name; --no-pictures leaves both out"
    else:
        holds = "no photographs, no file names in it or the files beside it; tables such as predictions.csv name files"
    return f"Report ({holds}): {folder / 'report.html'}"


def not_kept_line(what: str, reason: str) -> str:
    """That the disk refused what would have saved time."""
    return f"{what} could not be kept ({reason}); the result is the same, it only takes longer."


def name_files(problems: Sequence[Problem]) -> list[str]:
    """The first ten by name and reason, then a count."""
    lines = [f"  {one_line(p.name)}: {p.detail}" for p in problems[:_FIRST]]
    if len(problems) > _FIRST:
        lines.append(f"  ... and {len(problems) - _FIRST:,} more")
    return lines
