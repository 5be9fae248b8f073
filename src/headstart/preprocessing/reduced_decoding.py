"""Decode images at a reduced scale, and report unusual properties of the file.

The whole file is decoded (which detects truncated files), but no more pixels than needed where the format allows it.
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

__all__ = ["DEEP_MODES", "ReducedImage", "decode_for_both", "decode_reduced", "extension_notes"]

DEEP_MODES = frozenset(("I;16", "I;16L", "I;16B", "I;16N", "I", "F"))
"""Modes of images with more than 8 bits, which need an intensity range."""

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
_LUMINANCE_SUM = 3688  # of the quality-50 table in ITU-T T.81 (1992), annex K.1
_MODES = {
    "1": ("one-bit", "black and white only"),
    "P": ("palette", "palette colors"),
    "PA": ("palette", "palette colors"),
    "CMYK": ("cmyk", "CMYK colors, converted to RGB"),
    "YCbCr": ("other-colors", "YCbCr colors, converted to RGB"),
    "LAB": ("other-colors", "LAB colors, converted to RGB"),
    "HSV": ("other-colors", "HSV colors, converted to RGB"),
    "RGBA": ("transparent", "transparent areas get the background color"),
    "RGBa": ("transparent", "transparent areas get the background color"),
    "LA": ("transparent", "transparent areas get the background color"),
    "La": ("transparent", "transparent areas get the background color"),
    "F": ("float", "floating-point values, mapped by one range for the whole dataset"),
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
        exif: EXIF data.
        notes: (kind, detail) of unusual properties that were handled.
    """

    image: Image.Image
    format: str
    mode: str
    size_hw: tuple[int, int]
    quality: int | None
    exif: Exif
    notes: tuple[tuple[str, str], ...]


def decode_reduced(data: bytes, *, min_side: int, max_pixels: int, name: str = "") -> ReducedImage:
    """Decode the bytes of a file.

    Args:
        data: The file.
        min_side: Minimum length of both sides after reduction.
        max_pixels: Larger images are refused before they are decoded.
        name: The file name, to compare its extension with the format.

    Raises:
        ImageError: The image is unreadable; the kind states why.
    """
    try:
        image = open_image(data, max_pixels)
    except ImageError as error:
        signature = identify_file(data) if error.kind in ("format", "damaged") else None
        if signature:
            raise ImageError(signature[0], f"this is {signature[1]}") from error
        raise
    exif = read_exif(image)
    form, mode = image.format or "", image.mode
    width, height = image.size
    notes = _notes(image, exif, name)
    quality = _quality(image)
    with decoding():
        if form in ("JPEG", "MPO") and min(width, height) >= 2 * min_side:
            image.draft(None, (min_side, min_side))
        image.load()
    if exif.orientation > 1:
        try:
            image = ImageOps.exif_transpose(image)
        except Exception:  # as in `read_image`: a damaged EXIF block leaves the image as stored
            exif = Exif(exif.camera, exif.taken)
    if exif.orientation > 4:
        width, height = height, width
    return ReducedImage(image, form, mode, (height, width), quality, exif, tuple(notes))


def decode_for_both(
    data: bytes, spec: ImageSpec, *, min_side: int, name: str = ""
) -> tuple[ReducedImage, NDArray[np.uint8]]:
    """Return `decode_reduced` and `read_image` of the same bytes, decoded once if both need the same scale.

    Args:
        data: The file.
        spec: The preprocessing specification.
        min_side: As in `decode_reduced`.
        name: As in `decode_reduced`.

    Returns:
        The results of both functions.

    Raises:
        ImageError: As in `decode_reduced`.
    """
    reduced = decode_reduced(data, min_side=min_side, max_pixels=spec.max_pixels, name=name)
    if _is_decoded_for(reduced, data, spec):
        return reduced, fit_image(flatten(reduced.image, spec), spec)
    return reduced, read_image(data, spec)


def _is_decoded_for(reduced: ReducedImage, data: bytes, spec: ImageSpec) -> bool:
    """Return whether `read_image` would decode at this scale too."""
    height, width = reduced.size_hw
    if reduced.format not in ("JPEG", "MPO") or not spec.has_draft:
        return reduced.image.size == (width, height)
    if spec.resize_mode != "pad" and min(height, width) < 2 * min(spec.size_hw):
        return reduced.image.size == (width, height)  # too small for any reduction
    with open_image(data, spec.max_pixels) as image:  # header only: ask Pillow for its reduction
        draft_for(image, spec)
        size = image.size
    return size == (reduced.image.size if reduced.exif.orientation <= 4 else reduced.image.size[::-1])


def extension_notes(form: str, name: str) -> list[tuple[str, str]]:
    """Return a note if the extension of a file does not match its format (Pillow's name)."""
    ending = os.path.splitext(name)[1].lower()
    if not name or ending in _ENDINGS.get(form, (ending,)):
        return []
    shown = f"extension {ending}" if ending else "no extension"
    return [("wrong-extension", f"{shown} but the format is {form}; read by its format")]


def _notes(image: Image.Image, exif: Exif, name: str) -> list[tuple[str, str]]:
    """Return unusual properties of an opened file."""
    form = image.format or ""
    notes = extension_notes(form, name)
    if exif.orientation > 1:
        notes.append(("rotated", "rotated upright by EXIF orientation"))
    if getattr(image, "is_animated", False) and form != "MPO":
        if form == "TIFF":
            notes.append(("stack", f"{getattr(image, 'n_frames', 2)} pages; only the first is used"))
        else:
            notes.append(("animated", "an animation; only the first frame is used"))
    if image.mode in _MODES:
        notes.append(_MODES[image.mode])
    elif image.mode in DEEP_MODES:
        notes.append(("deep", "more than 8 bits per value, mapped by one range for the whole dataset"))
    elif "transparency" in image.info:
        notes.append(_MODES["RGBA"])
    if form == "PNG" and image.mode in ("RGB", "RGBA") and _png_depth(image) == 16:
        notes.append(("deep-color", "16 bits per channel, of which the upper 8 are used"))
    if form == "TIFF":
        samples = getattr(image, "tag_v2", {}).get(277, 1)
        if isinstance(samples, int) and samples > len(image.getbands()):
            notes.append(("channels", f"{samples} channels, of which {len(image.getbands())} are used"))
    return notes


def _png_depth(image: Image.Image) -> int | None:
    for tile in getattr(image, "tile", []):
        raw = tile[3] if len(tile) > 3 else None
        if isinstance(raw, str):
            return 16 if ";16" in raw else 8
    return None


def _quality(image: Image.Image) -> int | None:
    """Estimate the JPEG quality as libjpeg scales the standard table (the inverse of `jpeg_quality_scaling`)."""
    tables = getattr(image, "quantization", None)
    if not tables or 0 not in tables:
        return None
    percent = 100.0 * float(sum(tables[0])) / _LUMINANCE_SUM
    return max(1, min(100, round(100 - percent / 2 if percent <= 100 else 5000 / percent)))
