"""Read the EXIF fields that identify the origin of an image.

Damaged EXIF blocks are common, so no function raises an error.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime

from PIL import Image

__all__ = ["Exif", "read_exif"]

_MAKE, _MODEL, _ORIENTATION, _CHANGED, _MORE, _TAKEN, _SERIAL = 0x010F, 0x0110, 0x0112, 0x0132, 0x8769, 0x9003, 0xA431


@dataclass(frozen=True, slots=True)
class Exif:
    """EXIF fields of one image.

    Attributes:
        camera: Maker and model, or None.
        taken: Seconds since 1970 by the camera's clock, or None.
        orientation: 1 (upright) to 8.
    """

    camera: str | None = None
    taken: float | None = None
    orientation: int = 1


def read_exif(image: Image.Image) -> Exif:
    """Read EXIF from an opened image, decoded or not; a damaged block gives its readable fields."""
    if image.format not in ("JPEG", "MPO", "PNG", "TIFF", "WEBP"):
        return Exif()
    if image.format in ("JPEG", "MPO", "PNG", "WEBP") and "exif" not in image.info:
        return Exif()  # avoids the slow parser
    camera, taken, orientation = None, None, 1
    try:
        block = image.getexif()
        words = [str(block.get(t) or "").strip("\x00 ") for t in (_MAKE, _MODEL)]
        camera = " ".join(w for w in dict.fromkeys(words) if w and w.isprintable()) or None
        stated = block.get(_ORIENTATION, 1)
        orientation = stated if isinstance(stated, int) and 1 <= stated <= 8 else 1
        more = block.get_ifd(_MORE)
        if image.format != "TIFF" or more.get(_TAKEN):
            taken = _seconds(more.get(_TAKEN) or block.get(_CHANGED))
        if camera and isinstance(more.get(_SERIAL), str):
            camera = f"{camera} {more[_SERIAL].strip()}"
    except Exception:  # Pillow reads EXIF with many parsers, and a damaged block does not make an image unreadable
        return Exif(camera, taken, orientation)
    return Exif(camera, taken, orientation)


def _seconds(text: object) -> float | None:
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return datetime.strptime(str(text).strip("\x00 ")[:19], "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    return None
