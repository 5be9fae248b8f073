"""Small images for a page: decoded in threads at a reduced scale, upright, without the camera's data.

An image that cannot be opened is None and the page says so; the report is written all the same.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from PIL import Image, ImageOps

from headstart.preprocessing.image_spec import ImageError, ImageSpec, flatten, open_image
from headstart.system import available_cores

__all__ = ["MAX_BYTES", "data_uri", "make_thumbs"]

MAX_BYTES = 6 << 20
"""All thumbnails of a page together; encoded as text they are a third longer."""

_SIDE = 144
_QUALITY = 74


def make_thumbs(
    paths: Mapping[int, str | None], spec: ImageSpec, *, side: int = _SIDE, max_bytes: int = MAX_BYTES
) -> dict[int, bytes | None]:
    """JPEG thumbnails by position; None where a file is gone or cannot be read, or the page would grow too large.

    Args:
        paths: Where each image lies.
        spec: For the background of transparent parts and the range of deep images.
        side: The longer side, pixels.
        max_bytes: What all of them may take.
    """

    def make(path: str | None) -> bytes | None:
        return None if path is None else _thumb(path, spec, side)

    with ThreadPoolExecutor(min(8, available_cores()), thread_name_prefix="headstart") as pool:
        made = dict(zip(paths, pool.map(make, paths.values()), strict=True))
    total = 0
    for key, data in made.items():
        total += len(data or b"")
        if total > max_bytes:
            made[key] = None
    return made


def data_uri(data: bytes, kind: str = "jpeg") -> str:
    """Return the bytes of an image as text that a page can hold."""
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
    except Exception:  # as `read_image`: a damaged EXIF block leaves the image as stored
        return image
