"""Small pictures with true and found boxes for a detector's page.

The one decision: true boxes are broken lines in blue and found boxes whole lines in orange with name and score,
whatever the class, since the question on this page is what was found of what is there.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from headstart.data.boxes.draw import draw_boxes
from headstart.data.boxes.sheet import small_picture
from headstart.pixels.spec import PictureError, PixelSpec
from headstart.reports.thumbs import MAX_BYTES

__all__ = ["FOUND_COLOUR", "TRUE_COLOUR", "make_box_thumbs"]

TRUE_COLOUR, FOUND_COLOUR = (0, 114, 178), (230, 120, 0)

_SIDE = 360
_QUALITY = 80


def make_box_thumbs(
    report: Mapping[str, Any], paths: Mapping[int, str | None], spec: PixelSpec, *, side: int = _SIDE
) -> dict[int, bytes | None]:
    """JPEG bytes by position; None where a file is gone, or the page would grow too large.

    Args:
        report: From `summarise_detection`.
        paths: Where each picture lies.
        spec: For the range of deep pictures.
        side: The longer side, pixels.
    """
    made: dict[int, bytes | None] = {}
    total = 0
    for key, entry in report["pictures"].items():
        path = paths.get(int(key))
        data = None if path is None else _thumb(entry, path, report["class_names"], spec, side)
        total += len(data or b"")
        made[int(key)] = data if total <= MAX_BYTES else None
    return made


def _thumb(entry: Mapping[str, Any], path: str, names: list[str], spec: PixelSpec, side: int) -> bytes | None:
    height, width = entry["size_hw"]
    try:
        image, scale = small_picture(path, (height, width), side, spec.value_range)
    except PictureError:
        return None
    for rows, colour, is_true in ((entry["truth"], TRUE_COLOUR, True), (entry["found"], FOUND_COLOUR, False)):
        if rows:
            xyxy = np.array([r["xyxy"] for r in rows], dtype=np.float32) * scale
            captions = ["" if is_true or len(rows) > 12 else f"{names[r['class_id']]} {r['score']:.2f}" for r in rows]
            image = draw_boxes(image, xyxy, captions, [colour] * len(rows), is_dashed=is_true)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()
