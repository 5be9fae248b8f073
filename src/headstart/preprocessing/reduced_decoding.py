"""Decodes an image at a reduced scale, and says what was odd about the file.

The whole file is decoded (so that truncated ones are found) but no more pixels are
made than asked for, where the format allows it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from headstart.preprocessing.exif import Exif, read_exif
from headstart.preprocessing.file_signatures import identify_file
from headstart.preprocessing.image_spec import (
    ImageError,
    ImageSpec,
    decoding,
    draft_for,
    fit_image,
    flatten,
    open_image,
    read_image,
)

__all__ = ["DEEP_MODES", "ReducedImage", "decode_for_both", "decode_reduced", "ending_remarks"]

DEEP_MODES = frozenset(("I;16", "I;16L", "I;16B", "I;16N", "I", "F"))
"""Modes of images with more than 8 bits, which need a range."""

_ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
_LUMINANCE_SUM = 3688  # of the table in ITU-T T.81 (1992), annex K.1, which quality 50 is
_MODES = {
    "1": ("one-bit", "black and white only"),
    "P": ("palette", "colors from a palette"),
    "PA": ("palette", "colors from a palette"),
    "CMYK": ("cmyk", "printing colors (CMYK), turned into RGB"),
    "YCbCr": ("other-colors", "YCbCr colors, turned into RGB"),
    "LAB": ("other-colors", "LAB colors, turned into RGB"),
    "HSV": ("other-colors", "HSV colors, turned into RGB"),
    "RGBA": ("transparent", "transparent parts get the background color"),
    "RGBa": ("transparent", "transparent parts get the background color"),
    "LA": ("transparent", "transparent parts get the background color"),
    "La": ("transparent", "transparent parts get the background color"),
    "F": ("float", "floating-point values, mapped by one range for the whole data set"),
}


@dataclass(frozen=True, slots=True)
class ReducedImage:
    """A decoded image.

    Attributes:
        image: Upright, in its own mode.
        format: Pillow's name of the format.
        mode: The mode in the file.
        size_hw: Full height and width, upright, pixels.
        quality: Estimated JPEG quality 1-100, or None.
        exif: What the camera wrote.
        remarks: (kind, detail) of what is odd and was handled.
    """

    image: Image.Image
    format: str
    mode: str
    size_hw: tuple[int, int]
    quality: int | None
    exif: Exif
    remarks: tuple[tuple[str, str], ...]


def decode_reduced(data: bytes, *, min_side: int, max_pixels: int, name: str = "") -> ReducedImage:
    """Decode the bytes of a file.

    Args:
        data: The file.
        min_side: Both sides are left at least this long.
        max_pixels: Larger images are refused before they are decoded.
        name: The file's name, to compare its ending with what it is.

    Raises:
        ImageError: It is no image that can be read; the kind says what it is instead.
    """
    try:
        image = open_image(data, max_pixels)
    except ImageError as error:
        known = identify_file(data) if error.kind in ("format", "damaged") else None
        if known:
            raise ImageError(known[0], f"this is {known[1]}") from error
        raise
    exif = read_exif(image)
    form, mode = image.format or "", image.mode
    width, height = image.size
    remarks = _remarks(image, exif, name)
    quality = _quality(image)
    with decoding():
        if form in ("JPEG", "MPO") and min(width, height) >= 2 * min_side:
            image.draft(None, (min_side, min_side))
        image.load()
    if exif.orientation > 1:
        try:
            image = ImageOps.exif_transpose(image)
        except Exception:  # as `read_image`: a damaged EXIF block leaves the image as stored
            exif = Exif(exif.camera, exif.taken)
    if exif.orientation > 4:
        width, height = height, width
    return ReducedImage(image, form, mode, (height, width), quality, exif, tuple(remarks))


def decode_for_both(
    data: bytes, spec: ImageSpec, *, min_side: int, name: str = ""
) -> tuple[ReducedImage, NDArray[np.uint8]]:
    """`decode_reduced` and `read_image` of the same bytes, decoded once where both ask for the same scale.

    Args:
        data: The file.
        spec: What the network sees.
        min_side: As in `decode_reduced`.
        name: As in `decode_reduced`.

    Returns:
        Exactly what the two functions return.

    Raises:
        ImageError: As in `decode_reduced`.
    """
    reduced = decode_reduced(data, min_side=min_side, max_pixels=spec.max_pixels, name=name)
    if _is_decoded_for(reduced, data, spec):
        return reduced, fit_image(flatten(reduced.image, spec), spec)
    return reduced, read_image(data, spec)


def _is_decoded_for(reduced: ReducedImage, data: bytes, spec: ImageSpec) -> bool:
    """Return whether the pixel contract would have decoded at this scale too."""
    height, width = reduced.size_hw
    if reduced.format not in ("JPEG", "MPO") or not spec.has_draft:
        return reduced.image.size == (width, height)
    if spec.fit != "pad" and min(height, width) < 2 * min(spec.size_hw):
        return reduced.image.size == (width, height)  # too small for any reduction
    with open_image(data, spec.max_pixels) as image:  # the header alone: Pillow itself says what it would do
        draft_for(image, spec)
        wanted = image.size
    return wanted == (reduced.image.size if reduced.exif.orientation <= 4 else reduced.image.size[::-1])


def ending_remarks(form: str, name: str) -> list[tuple[str, str]]:
    """Return whether a file's name ends as its format (Pillow's name) says; no name, no remark."""
    ending = os.path.splitext(name)[1].lower()
    if not name or ending in _ENDINGS.get(form, (ending,)):
        return []
    shown = f"ends in {ending}" if ending else "has no ending"
    return [("wrong-extension", f"{shown} but is {form}; read as what it is")]


def _remarks(image: Image.Image, exif: Exif, name: str) -> list[tuple[str, str]]:
    """Return what is odd about an opened file."""
    form = image.format or ""
    remarks = ending_remarks(form, name)
    if exif.orientation > 1:
        remarks.append(("rotated", "turned upright as the camera says (EXIF)"))
    if getattr(image, "is_animated", False) and form != "MPO":
        if form == "TIFF":
            remarks.append(("stack", f"{getattr(image, 'n_frames', 2)} pages; the first is taken"))
        else:
            remarks.append(("animated", "an animation; the first frame is taken"))
    if image.mode in _MODES:
        remarks.append(_MODES[image.mode])
    elif image.mode in DEEP_MODES:
        remarks.append(("deep", "more than 8 bits a value, mapped by one range for the whole data set"))
    elif "transparency" in image.info:
        remarks.append(_MODES["RGBA"])
    if form == "PNG" and image.mode in ("RGB", "RGBA") and _png_depth(image) == 16:
        remarks.append(("deep-color", "16 bits a color, of which the upper 8 are taken"))
    if form == "TIFF":
        samples = getattr(image, "tag_v2", {}).get(277, 1)
        if isinstance(samples, int) and samples > len(image.getbands()):
            remarks.append(("channels", f"{samples} channels, of which {len(image.getbands())} are taken"))
    return remarks


def _png_depth(image: Image.Image) -> int | None:
    for tile in getattr(image, "tile", []):
        raw = tile[3] if len(tile) > 3 else None
        if isinstance(raw, str):
            return 16 if ";16" in raw else 8
    return None


def _quality(image: Image.Image) -> int | None:
    """Estimated JPEG quality as libjpeg scales the standard's table (the inverse of `jpeg_quality_scaling`)."""
    tables = getattr(image, "quantization", None)
    if not tables or 0 not in tables:
        return None
    percent = 100.0 * float(sum(tables[0])) / _LUMINANCE_SUM
    return max(1, min(100, round(100 - percent / 2 if percent <= 100 else 5000 / percent)))
