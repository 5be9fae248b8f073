"""Create thumbnails with true boxes (dashed blue) and predicted boxes (orange, with class and score)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from headstart.preprocessing.image_spec import ImageError, ImageSpec
from headstart.quality.box_contact_sheet import small_image
from headstart.quality.box_drawing import draw_boxes
from headstart.reports.thumbs import MAX_BYTES

__all__ = ["GROUND_TRUTH_COLOR", "PREDICTION_COLOR", "make_box_thumbs"]

GROUND_TRUTH_COLOR, PREDICTION_COLOR = (0, 114, 178), (230, 120, 0)

_SIDE = 360
_QUALITY = 80


def make_box_thumbs(
    report: Mapping[str, Any], paths: Mapping[int, str | None], spec: ImageSpec, *, side: int = _SIDE
) -> dict[int, bytes | None]:
    """Return JPEG bytes by position; None for missing files and above the size limit of the page.

    Args:
        report: From `summarize`.
        paths: Path of each image.
        spec: Preprocessing, for the intensity range.
        side: Longer side in pixels.
    """
    thumbs: dict[int, bytes | None] = {}
    total = 0
    for key, entry in report["images"].items():
        path = paths.get(int(key))
        data = None if path is None else _thumb(entry, path, report["class_names"], spec, side)
        total += len(data or b"")
        thumbs[int(key)] = data if total <= MAX_BYTES else None
    return thumbs


def _thumb(entry: Mapping[str, Any], path: str, names: list[str], spec: ImageSpec, side: int) -> bytes | None:
    height, width = entry["size_hw"]
    try:
        image, scale = small_image(path, (height, width), side, spec.intensity_range)
    except ImageError:
        return None
    for rows, color, is_true in (
        (entry["ground_truth"], GROUND_TRUTH_COLOR, True),
        (entry["predictions"], PREDICTION_COLOR, False),
    ):
        if rows:
            xyxy = np.array([r["xyxy"] for r in rows], dtype=np.float32) * scale
            captions = ["" if is_true or len(rows) > 12 else f"{names[r['class_id']]} {r['score']:.2f}" for r in rows]
            image = draw_boxes(image, xyxy, captions, [color] * len(rows), is_dashed=is_true)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()
