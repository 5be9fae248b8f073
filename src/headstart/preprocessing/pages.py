"""Select or combine the pages of a file that holds several: z-stacks, channels of a microscope, animations."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

__all__ = ["PagesError", "check_pages", "num_pages", "select_pages"]

_COLORS = "RGB"
_FIRST = {"first": 1}
_PLANES = {"L": np.uint8, "I;16": np.uint16, "I": np.int32, "F": np.float32}


class PagesError(Exception):
    """The pages cannot be selected."""


def check_pages(text: str) -> str:
    """Return a valid value of `--pages`.

    Args:
        text: A page number from 1, `first`, `max`, `mean`, or pages by color such as `R=1,G=3`.

    Raises:
        PagesError: The text is none of these.
    """
    plain = text.strip().replace(" ", "")
    if plain.lower() in ("max", "mean", "first") or re.fullmatch(r"[1-9]\d{0,5}", plain):
        return plain.lower()
    if _by_color(plain):
        return plain.upper()
    raise PagesError(f"expected a page number, first, max, mean or colors such as R=1,G=3, not `{text}`")


def num_pages(image: Image.Image) -> int:
    """Return the number of pages or frames of an opened image; 1 for the previews in a JPEG (MPO)."""
    return 1 if image.format in ("JPEG", "MPO") else int(getattr(image, "n_frames", 1))


def select_pages(image: Image.Image, pages: str) -> Image.Image:
    """Return one image of the pages of an opened file; images of one page are returned unchanged.

    Args:
        image: The opened file.
        pages: See `check_pages`.

    Raises:
        PagesError: A page does not exist, or the pages differ in size or type.
    """
    count = num_pages(image)
    if count < 2:
        return image
    colors = _by_color(pages)
    if colors:
        return Image.merge("RGB", [_plane(image, colors.get(color), count) for color in _COLORS])
    if pages in ("max", "mean"):
        return _combined(image, pages, count)
    _seek(image, _FIRST.get(pages) or int(pages), count)
    return image


def _by_color(text: str) -> dict[str, int]:
    parts = [re.fullmatch(r"([RGB])=([1-9]\d{0,5})", part.upper()) for part in text.split(",")]
    found = {part[1]: int(part[2]) for part in parts if part}
    return found if len(found) == len(parts) else {}


def _seek(image: Image.Image, page: int, count: int) -> None:
    if page > count:
        raise PagesError(f"there is no page {page}: the file has {count}")
    image.seek(page - 1)


def _plane(image: Image.Image, page: int | None, count: int) -> Image.Image:
    if page is None:
        return Image.new("L", image.size)
    _seek(image, page, count)
    plane = image.copy()
    if plane.mode in ("I;16", "I", "F"):
        raise PagesError("pages of more than 8 bits cannot become colors; use max, mean or one page, or save 8 bits")
    return plane.convert("L")


def _combined(image: Image.Image, how: str, count: int) -> Image.Image:
    """Return the maximum or mean of all pages, in the type of the first one."""
    total = None
    mode = ""
    for page in range(count):
        image.seek(page)
        frame = image.copy()
        if page == 0:
            mode = frame.mode if frame.mode in _PLANES else "RGB"
        values = np.asarray(frame if frame.mode == mode else frame.convert(mode))
        if total is not None and values.shape != total.shape:
            raise PagesError("the pages differ in size")
        if total is None:
            total = values.astype(np.float64) if how == "mean" else values.copy()
        elif how == "mean":
            total = total + values
        else:
            total = np.maximum(total, values)
    assert total is not None
    kind = _PLANES.get(mode, np.uint8)
    if how == "mean":
        total = total / count
    return Image.fromarray((np.rint(total) if how == "mean" and kind is not np.float32 else total).astype(kind))
