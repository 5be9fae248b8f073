"""Turn arrays of pixel values into the bytes of lossless image files."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.errors import DataError

__all__ = ["ArrayLayout", "PixelScale", "array_layout", "choose_scale", "encode_pixels", "has_colors"]

ArrayLayout: TypeAlias = tuple[int, ...]
"""Order of the axes of one image: (height, width), (height, width, channels) or (pages, height, width)."""

PixelScale: TypeAlias = Literal["bytes", "unit", "bool", "deep", "float"]
"""How all values of a dataset become pixel values: 0-255 as they are, 0-1 or Boolean times 255, 16 bits, or float."""

_MAX_CHANNELS = 4


def array_layout(shape: tuple[int, ...]) -> tuple[str, ArrayLayout] | None:
    """Return how an array holds N images.

    Args:
        shape: Shape of the array, e.g. (N, 28, 28) or (N, 3, 32, 32).

    Returns:
        `gray`, `color`, `color-first` or `pages`, and the order of the axes of one image; None without images. The
        pages of a stack are its shortest axis, the first of equal ones.
    """
    inner = shape[1:]
    if len(inner) == 2 and min(inner) > _MAX_CHANNELS:
        return "gray", (0, 1)
    if len(inner) != 3 or sorted(inner)[1] <= _MAX_CHANNELS:
        return None
    if inner[2] <= _MAX_CHANNELS:
        return "color", (0, 1, 2)
    if inner[0] <= _MAX_CHANNELS:
        return "color-first", (1, 2, 0)
    pages = inner.index(min(inner))
    return "pages", (pages, *(axis for axis in range(3) if axis != pages))


def has_colors(shape: tuple[int, ...]) -> bool:
    """Return whether the images of an array have several channels."""
    found = array_layout(shape)
    return found is not None and found[0].startswith("color") and shape[1 + found[1][2]] > 1


def choose_scale(arrays: Iterable[NDArray[Any]], names: str, *, is_color: bool) -> PixelScale:
    """Return the rule that fits the values of all arrays of a dataset.

    Args:
        arrays: Arrays of images.
        names: Their names, for messages.
        is_color: Whether any has several channels.

    Raises:
        DataError: Values are not finite, or colors are neither 0 to 255 nor 0 to 1.
    """
    low, high, is_whole, kinds = np.inf, -np.inf, True, set()
    for array in arrays:
        kinds.add(array.dtype.kind if array.dtype.itemsize != 2 else f"{array.dtype.kind}2")
        if array.dtype == np.uint8:
            low, high = min(low, 0.0), max(high, 255.0)
        elif array.dtype.kind in "iuf":
            for part in _parts(array):
                low, high = min(low, float(part.min())), max(high, float(part.max()))
                is_whole = is_whole and (part.dtype.kind != "f" or bool((np.floor(part) == part).all()))
    if kinds == {"b"}:
        return "bool"
    if not np.isfinite([low, high]).all():
        raise DataError(
            f"{names} has values that are not finite numbers; expected pixel values such as 0 to 255.",
            hint="replace NaN and infinity, or leave these images out",
        )
    if not kinds & {"f", "f2"}:
        if low >= 0 and high <= 255 and not kinds & {"u2", "i2"}:
            return "bytes"
        if low >= 0 and high <= 65535 and not is_color:
            return "deep"
    elif low >= 0 and high <= 1:
        return "unit"
    elif low >= 0 and high <= 255 and (is_whole or is_color):
        return "bytes"
    if is_color:
        raise DataError(
            f"{names} has values from {low:.4g} to {high:.4g}; expected colors from 0 to 255 or 0 to 1.",
            hint="save the images before they are normalized, as uint8",
        )
    return "float"


def _parts(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    step = max(1, (16 << 20) // max(1, array[:1].nbytes))
    return (array[i : i + step] for i in range(0, len(array), step))


def encode_pixels(values: NDArray[Any], layout: str, order: ArrayLayout, scale: PixelScale) -> tuple[bytes, str]:
    """Return the bytes of a lossless image file, and its extension.

    Args:
        values: One image.
        layout, order: See `array_layout`.
        scale: See `choose_scale`.
    """
    pixels = _scaled(values.transpose(order), scale)
    if layout.startswith("color") and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if layout != "pages" and pixels.dtype == np.uint8 and (pixels.ndim == 2 or pixels.shape[2] == 3):
        code, suffix = ("P5", ".pgm") if pixels.ndim == 2 else ("P6", ".ppm")
        head = f"{code}\n{pixels.shape[1]} {pixels.shape[0]}\n255\n"  # ten times faster than an encoder of Pillow
        return head.encode() + np.ascontiguousarray(pixels).tobytes(), suffix
    frames = list(pixels) if layout == "pages" else [pixels]
    first, *rest = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    buffer = io.BytesIO()
    first.save(buffer, format="TIFF", save_all=bool(rest), append_images=rest)
    return buffer.getvalue(), ".tif"


def _scaled(values: NDArray[Any], scale: PixelScale) -> NDArray[Any]:
    if scale in ("unit", "bool"):
        return np.rint(values.astype(np.float32) * 255).astype(np.uint8)
    if scale == "float":
        return values.astype(np.float32)
    whole = np.rint(values) if values.dtype.kind == "f" else values
    return whole.astype(np.uint8 if scale == "bytes" else np.uint16)
