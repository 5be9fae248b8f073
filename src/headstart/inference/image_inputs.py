"""Convert images in files or memory to uint8 network inputs.

Images in memory are preprocessed by the same functions as files, so results are equal unless a file is decoded at
reduced scale.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from headstart.data.formats import EXPORT_STEPS
from headstart.data.memory import check_array, encode_image, images_of, is_image
from headstart.preprocessing.file_signatures import identify_file
from headstart.preprocessing.image_spec import (
    ImageError,
    ImageSpec,
    fit_image,
    flatten,
    open_image,
    read_bytes,
    read_image,
    too_large_message,
)
from headstart.types.records import Problem

__all__ = ["NamedPath", "Source", "as_sources", "is_stream", "name_of", "read_source", "to_pixels", "upright_size"]

_SWAPPING = {5, 6, 7, 8}  # EXIF orientations that swap width and height
_ORIENTATION = 0x0112

Source: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8] | Problem"
"""One image, or a `Problem` in place of an image that is known to be unusable."""


def as_sources(sources: Any) -> Iterator[Source]:
    """Iterate lazily over one or many images.

    Args:
        sources: A path, bytes, an open file, a PIL image or an (H, W, 3) or (H, W) array; an iterable of these; an
            (N, H, W, 3) array; or an object with a column of images, see `data.memory`.

    Raises:
        UsageError: An item is not an image; raised when the iterator reaches it.
    """
    if isinstance(sources, Problem):
        yield sources
        return
    is_single = isinstance(sources, np.ndarray) and sources.dtype.kind not in "OUS" and sources.ndim < 3
    for index, source in enumerate([sources] if is_single else images_of(sources)):
        yield _check(source, index)


def is_stream(sources: Any) -> bool:
    """Return whether images arrive one by one, e.g. from a generator; an open file is a single image."""
    return isinstance(sources, Iterator) and not is_image(sources)


def name_of(source: Source, index: int) -> str:
    """Return the path as given; `#3` for the fourth image in memory."""
    if isinstance(source, Problem):
        return source.name
    if isinstance(source, NamedPath):
        return source.name
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else f"#{index}"


class NamedPath(str):
    """The path of an image in a container.

    Attributes:
        name: Name of the image, e.g. `data.npz#12`.
    """

    name: str

    @classmethod
    def of(cls, path: str, name: str) -> NamedPath:
        """Return a path with a name."""
        named = cls(path)
        named.name = name
        return named


def read_source(
    source: Source, spec: ImageSpec, channel_order: Literal["rgb", "bgr"], *, needs_size: bool
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return the pixels of an image, see `to_pixels`, and if needed its upright size, else (0, 0)."""
    if not needs_size:
        return to_pixels(source, spec, channel_order), (0, 0)
    data = read_bytes(source) if isinstance(source, (str, os.PathLike)) else source  # files are read once
    size_hw = upright_size(data, spec.max_pixels)
    return to_pixels(data, spec, channel_order), size_hw


def upright_size(source: Source, max_pixels: int) -> tuple[int, int]:
    """Return height and width of an image with EXIF orientation applied; files are not decoded.

    Raises:
        ImageError: The image cannot be opened.
    """
    if isinstance(source, Problem):
        raise ImageError(source.kind, source.detail)
    if isinstance(source, np.ndarray):
        return int(source.shape[0]), int(source.shape[1])
    if isinstance(source, Image.Image):
        return _upright(source)
    with open_image(source if isinstance(source, bytes) else os.fspath(source), max_pixels) as image:
        return _upright(image)


def to_pixels(source: Source, spec: ImageSpec, channel_order: Literal["rgb", "bgr"] = "rgb") -> NDArray[np.uint8]:
    """Convert one image to (H, W, 3) uint8 RGB.

    Args:
        source: A path, the bytes of a file, a PIL image, or an (H, W, 3) uint8 array.
        spec: Image spec.
        channel_order: Channel order of arrays.

    Raises:
        ImageError: The image is unreadable or too large, see `read_image`.
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
        rgb = source if channel_order == "rgb" or source.ndim == 2 else source[..., ::-1]
        image = Image.fromarray(np.ascontiguousarray(rgb))
    if image.width * image.height > spec.max_pixels:
        raise ImageError("too-large", too_large_message(image.width, image.height, spec.max_pixels))
    if min(image.size) < 1:
        raise ImageError("empty", "the image has no pixels")
    return fit_image(flatten(image, spec), spec)


def _upright(image: Image.Image) -> tuple[int, int]:
    try:
        is_swapped = image.getexif().get(_ORIENTATION) in _SWAPPING
    except Exception:  # a damaged EXIF block is ignored, as in `open_image`
        is_swapped = False
    return (image.width, image.height) if is_swapped else (image.height, image.width)


def _with_step(error: ImageError, source: str | os.PathLike[str] | bytes) -> ImageError:
    """For an unsupported format known by its suffix or first bytes, state how to convert it."""
    if error.kind != "format":
        return error
    if not isinstance(source, bytes):
        extension = os.path.splitext(os.fspath(source))[1].lower()
        if extension in EXPORT_STEPS:
            return ImageError(error.kind, f"{extension} cannot be read here: {EXPORT_STEPS[extension]}")
    found = identify_file(source if isinstance(source, bytes) else read_bytes(source))
    return error if found is None else ImageError(*found)


def _orient(image: Image.Image) -> Image.Image:
    try:
        image.load()  # a lazily opened image is decoded here
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise ImageError("damaged", f"the image data cannot be decoded ({error})") from error
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block is ignored, as for files
        return image


def _check(source: Any, index: int) -> Source:
    if isinstance(source, np.ndarray):
        return check_array(source, f"image {index}")
    if isinstance(source, (str, os.PathLike, bytes, Image.Image, Problem)):
        return source
    return encode_image(source, f"image {index}")
