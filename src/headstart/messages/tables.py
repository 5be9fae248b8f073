"""Render per-class metrics as aligned rows for a verbose screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headstart.messages.comparisons import comparison_table
from headstart.messages.values import one_line, shorten
from headstart.types.events import CheckFinished, Event, RunsCompared, ScoreMeasured

__all__ = ["event_table"]

_NAME_WIDTH = 30
_CLASSIFY = ("precision", "recall", "f1", "support")
_DETECT = ("ap50", "ap50_95", "precision", "recall", "threshold", "num_boxes")
_HEADS = {"support": "images", "num_boxes": "boxes", "ap50": "AP50", "ap50_95": "AP50-95"}


def event_table(event: Event) -> list[str]:
    """Return a table with a row per class of a score, comparison or check; empty without classes."""
    if isinstance(event, RunsCompared):
        return _aligned([("", *event.comparison["runs"], "difference"), *comparison_table(event.comparison)])
    if isinstance(event, ScoreMeasured):
        rows: Sequence[Mapping[str, Any]] = event.score.get("per_class") or ()
        keys = _DETECT if "num_boxes" in event.score else _CLASSIFY
        head = ("class", *(_HEADS.get(key, key) for key in keys))
        return _aligned([head, *((row["name"], *(_cell(row[key]) for key in keys)) for row in rows)]) if rows else []
    if isinstance(event, CheckFinished):
        classes: Any = event.evidence.get("classes") or ()
        head = ("class", "boxes", "images", "median side", "5 %", "95 %")
        lines = [
            (
                c["name"],
                f"{sum(c['boxes'].values()):,}",
                f"{c['images']:,}",
                *(f"{side:.0f} px" for side in (c["median_side"], *c["side_range"])),
            )
            for c in classes
        ]
        return _aligned([head, *lines]) if lines else []
    return []


def _cell(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    cut = [[shorten(one_line(row[0]), _NAME_WIDTH), *map(one_line, row[1:])] for row in rows]
    widths = [max(len(row[i]) for row in cut) for i in range(len(cut[0]))]
    lines = []
    for name, *cells in cut:
        right = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *right]))
    return lines
