"""Create thumbnails for a page in threads: upright, decoded at a reduced scale, without metadata."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from PIL import Image, ImageOps

from headstart.preprocessing.image_spec import ImageError, ImageSpec, flatten, open_image
from headstart.utils.system import available_cores

__all__ = ["MAX_BYTES", "data_uri", "make_thumbs"]

MAX_BYTES = 6 << 20
"""Maximum total size of the thumbnails of a page in bytes, before base64 encoding."""

_SIDE = 144
_QUALITY = 74


def make_thumbs(
    paths: Mapping[int, str | None], spec: ImageSpec, *, side: int = _SIDE, max_bytes: int = MAX_BYTES
) -> dict[int, bytes | None]:
    """Return JPEG thumbnails by position; None for missing or unreadable files and above the size limit.

    Args:
        paths: Path of each image.
        spec: Preprocessing, for background and intensity range.
        side: Longer side in pixels.
        max_bytes: Maximum total size.
    """

    def make(path: str | None) -> bytes | None:
        return None if path is None else _thumb(path, spec, side)

    with ThreadPoolExecutor(min(8, available_cores()), thread_name_prefix="headstart") as pool:
        thumbs = dict(zip(paths, pool.map(make, paths.values()), strict=True))
    total = 0
    for key, data in thumbs.items():
        total += len(data or b"")
        if total > max_bytes:
            thumbs[key] = None
    return thumbs


def data_uri(data: bytes, kind: str = "jpeg") -> str:
    """Encode image bytes as a data URI."""
    return f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")


def _thumb(path: str, spec: ImageSpec, side: int) -> bytes | None:
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
