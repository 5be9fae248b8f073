"""The check of images with boxes as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from headstart.data.boxes.findings import box_findings
from headstart.data.boxes.judge import BoxHealth
from headstart.data.wording import health_to_json
from headstart.messages.findings import finding_to_json
from headstart.messages.reading import reading_to_json

__all__ = ["box_health_to_json"]


def box_health_to_json(health: BoxHealth) -> dict[str, Any]:
    """The judgement as a JSON-able value."""
    return {
        "schema": 1,
        "task": "detect",
        "layout": health.layout,
        "num_pictures": health.num_pictures,
        "num_boxes": health.num_boxes,
        "num_empty": health.num_empty,
        "classes": [asdict(c) | {"side_range": list(c.side_range)} for c in health.classes],
        "problems": [asdict(p) for p in health.problems],
        "counts": dict(Counter(p.kind for p in health.problems)),
        "pictures": health_to_json(health.pictures),
        "findings": [finding_to_json(f) for f in box_findings(health)],
        **reading_to_json(health.notes),
        "is_dishonest": health.is_dishonest,
    }
