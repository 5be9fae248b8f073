"""Convert images in files or memory to uint8 network inputs.

Images in memory use the same functions as files except decoding, so results are equal unless the file is decoded at a
reduced scale.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from headstart.data.formats import EXPORT_STEPS
from headstart.errors import UsageError
from headstart.preprocessing.image_spec import ImageError, ImageSpec, fit_image, flatten, read_image
from headstart.types.records import Problem

__all__ = ["Source", "as_sources", "name_of", "to_pixels"]

Source: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8] | Problem"
"""One image; a `Problem` is one that is known to be of no use, and keeps its place in the order."""


def as_sources(sources: Any) -> Iterator[Source]:
    """Iterate lazily over one or many images.

    Args:
        sources: A path, bytes, a PIL image, an (H, W, 3) array; an iterable of those; an (N, H, W, 3) array.

    Raises:
        UsageError: Something in it is no image; raised when its turn comes.
    """
    if isinstance(sources, (str, os.PathLike, bytes, Image.Image, Problem)):
        yield sources
        return
    if isinstance(sources, np.ndarray) and sources.ndim != 4:
        yield _check(sources, 0)
        return
    if not isinstance(sources, Iterable):
        raise UsageError(f"an image is a path, bytes, a PIL image or an (H, W, 3) array, not {_kind(sources)}.")
    for index, source in enumerate(sources):
        yield _check(source, index)


def name_of(source: Source, index: int) -> str:
    """Return the path as given; `#3` for the fourth image in memory."""
    if isinstance(source, Problem):
        return source.name
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else f"#{index}"


def to_pixels(source: Source, spec: ImageSpec, channel_order: Literal["rgb", "bgr"] = "rgb") -> NDArray[np.uint8]:
    """Convert one image to (H, W, 3) uint8 RGB.

    Args:
        source: A path, the bytes of a file, a PIL image, or an (H, W, 3) uint8 array.
        spec: The pixel contract.
        channel_order: Of arrays.

    Raises:
        ImageError: As in `read_image`.
    """
    if isinstance(source, Problem):
        raise ImageError(source.kind, source.detail)
    if isinstance(source, (str, os.PathLike, bytes)):
        try:
            return read_image(source, spec)
        except ImageError as error:
            raise _with_step(error, source) from error
    if isinstance(source, Image.Image):
        image = _orient(source)
    else:
        rgb = source if channel_order == "rgb" else source[..., ::-1]
        image = Image.fromarray(np.ascontiguousarray(rgb))
    if image.width * image.height > spec.max_pixels:
        raise ImageError("too-large", f"{image.width} x {image.height} pixels are more than {spec.max_pixels:,}")
    if min(image.size) < 1:
        raise ImageError("empty", "the image has no pixels")
    return fit_image(flatten(image, spec), spec)


def _with_step(error: ImageError, source: str | os.PathLike[str] | bytes) -> ImageError:
    """Add the conversion step for an unsupported format, if the file name reveals it."""
    if error.kind == "format" and not isinstance(source, bytes):
        extension = os.path.splitext(os.fspath(source))[1].lower()
        if extension in EXPORT_STEPS:
            return ImageError(error.kind, f"{extension} cannot be read here: {EXPORT_STEPS[extension]}")
    return error


def _orient(image: Image.Image) -> Image.Image:
    try:
        image.load()  # a lazily opened image is decoded here
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise ImageError("damaged", f"the image data cannot be decoded ({error})") from error
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block leaves the image as stored, as for files
        return image


def _check(source: Any, index: int) -> Source:
    if isinstance(source, np.ndarray):
        if source.ndim == 3 and source.shape[-1] == 3 and source.dtype == np.uint8:
            return source
        raise UsageError(
            f"image {index} is an array {source.shape} of {source.dtype}; (H, W, 3) of uint8 is expected.",
            hint="scale to 0..255 and convert with .astype('uint8'); repeat a gray image to three channels",
        )
    if isinstance(source, (str, os.PathLike, bytes, Image.Image, Problem)):
        return source
    raise UsageError(f"image {index} is {_kind(source)}; a path, bytes, PIL image or array is expected.")


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
