"""Convert the report on images with boxes to JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from headstart.messages.findings import finding_to_json
from headstart.messages.reading import reading_to_json
from headstart.quality.box_findings import box_findings
from headstart.quality.box_inspection import BoxReport
from headstart.quality.report_findings import report_to_json

__all__ = ["box_report_to_json"]


def box_report_to_json(report: BoxReport) -> dict[str, Any]:
    """Return the report as a JSON-able value."""
    return {
        "schema": 1,
        "task": "detect",
        "layout": report.layout,
        "num_images": report.num_images,
        "num_boxes": report.num_boxes,
        "num_empty": report.num_empty,
        "classes": [asdict(c) | {"side_range": list(c.side_range)} for c in report.classes],
        "problems": [asdict(p) for p in report.problems],
        "counts": dict(Counter(p.kind for p in report.problems)),
        "images": report_to_json(report.images),
        "findings": [finding_to_json(f) for f in box_findings(report)],
        **reading_to_json(report.notes),
        "is_misleading": report.is_misleading,
    }
