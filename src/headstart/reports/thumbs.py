"""Create thumbnails for a page in threads: upright, decoded at a reduced scale, without metadata.

Those of a detector have true boxes (dashed blue) and predicted boxes (orange, with class and score).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from headstart.preprocessing.image_spec import ImageError, ImageSpec, flatten, open_image
from headstart.utils.system import available_cores

__all__ = ["MAX_BYTES", "data_uri", "make_thumbs"]

MAX_BYTES = 6 << 20
"""Maximum total size of the thumbnails of a page in bytes, before base64 encoding."""

_SIDE, _BOX_SIDE = 144, 360  # longer side in pixels, without and with boxes
_QUALITY, _BOX_QUALITY = 74, 80
_MOST_CAPTIONS = 12  # boxes with class and score
_COLORS = {"ground_truth": (0, 114, 178), "predictions": (230, 120, 0)}


def make_thumbs(
    paths: Mapping[int, str | None],
    spec: ImageSpec,
    *,
    boxes: Mapping[str, Mapping[str, Any]] | None = None,
    class_names: Sequence[str] = (),
    max_bytes: int = MAX_BYTES,
) -> dict[int, bytes | None]:
    """Return JPEG thumbnails by position; None for missing or unreadable files and above the size limit.

    Args:
        paths: Path of each image.
        spec: Preprocessing, for background and intensity range.
        boxes: `images` of a detector's report, whose boxes are drawn.
        class_names: Names of the predicted boxes.
        max_bytes: Maximum total size.
    """

    def make(item: tuple[int, str | None]) -> bytes | None:
        i, path = item
        if path is None:
            return None
        return _thumb(path, spec) if boxes is None else _box_thumb(path, spec, boxes[str(i)], class_names)

    with ThreadPoolExecutor(min(8, available_cores()), thread_name_prefix="headstart") as pool:
        thumbs = dict(zip(paths, pool.map(make, paths.items()), strict=True))
    total = 0
    for key, data in thumbs.items():
        total += len(data or b"")
        if total > max_bytes:
            thumbs[key] = None
    return thumbs


def data_uri(data: bytes, kind: str = "jpeg") -> str:
    """Encode image bytes as a data URI."""
    return f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")


def _box_thumb(path: str, spec: ImageSpec, entry: Mapping[str, Any], names: Sequence[str]) -> bytes | None:
    from headstart.quality.box_contact_sheet import small_image
    from headstart.quality.box_drawing import draw_boxes

    height, width = entry["size_hw"]
    try:
        image, scale = small_image(path, (height, width), _BOX_SIDE, spec.intensity_range)
    except ImageError:
        return None
    for kind, color in _COLORS.items():
        rows, is_true = entry[kind], kind == "ground_truth"
        if rows:
            xyxy = np.array([r["xyxy"] for r in rows], dtype=np.float32) * scale
            is_named = not is_true and len(rows) <= _MOST_CAPTIONS
            captions = [f"{names[r['class_id']]} {r['score']:.2f}" if is_named else "" for r in rows]
            image = draw_boxes(image, xyxy, captions, [color] * len(rows), is_dashed=is_true)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_BOX_QUALITY)
    return out.getvalue()


def _thumb(path: str, spec: ImageSpec, side: int = _SIDE) -> bytes | None:
    try:
        with open_image(path, spec.max_pixels) as image:
            if image.format in ("JPEG", "MPO"):
                image.draft("RGB", (side, side))
            image.load()
            upright = _upright(image)
            if upright.width > 4 * side or upright.height > 4 * side:
                upright.thumbnail((4 * side, 4 * side), Image.Resampling.BILINEAR, reducing_gap=1.5)
            small = flatten(upright, spec)
            small.thumbnail((side, side), Image.Resampling.BICUBIC)
            out = io.BytesIO()
            small.save(out, "JPEG", quality=_QUALITY)
            return out.getvalue()
    except (ImageError, OSError, ValueError, SyntaxError, EOFError, MemoryError, ArithmeticError, LookupError):
        return None
    except Image.DecompressionBombError:
        return None


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF: keep the stored orientation, as `read_image`
        return image
