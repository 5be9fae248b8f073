"""The check of images with boxes as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from headstart.data.boxes.findings import box_findings
from headstart.data.boxes.inspection import BoxReport
from headstart.data.report_text import report_to_json
from headstart.messages.findings import finding_to_json
from headstart.messages.reading import reading_to_json

__all__ = ["box_report_to_json"]


def box_report_to_json(health: BoxReport) -> dict[str, Any]:
    """Return the judgement as a JSON-able value."""
    return {
        "schema": 1,
        "task": "detect",
        "layout": health.layout,
        "num_images": health.num_images,
        "num_boxes": health.num_boxes,
        "num_empty": health.num_empty,
        "classes": [asdict(c) | {"side_range": list(c.side_range)} for c in health.classes],
        "problems": [asdict(p) for p in health.problems],
        "counts": dict(Counter(p.kind for p in health.problems)),
        "images": report_to_json(health.images),
        "findings": [finding_to_json(f) for f in box_findings(health)],
        **reading_to_json(health.notes),
        "is_misleading": health.is_misleading,
    }
