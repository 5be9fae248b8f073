"""Preprocess images identically in training, evaluation and prediction.

`ImageSpec` is a small JSON value. `read_image` turns a file into an (H, W, 3) uint8 array and `normalize` turns that
into the network's float32 input. Training, evaluation, prediction, serving and the parity check after an export all
use these two functions. They need numpy and Pillow only, so the runtime needs no torch.

Resizing and cropping are a single `resize(box=...)` from source coordinates, so no intermediate size is rounded and no
pixel outside the crop is computed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import (  # explicit plugins, so that opening does not depend on earlier files
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageOps,
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401 (a JPEG of many images: phones)
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from headstart.preprocessing.extra_formats import TooLargeError, open_channels, open_extra
from headstart.preprocessing.packed_files import read_packed
from headstart.preprocessing.pages import PagesError, check_pages, select_pages
from headstart.utils.limits import MAX_PIXELS

# Pillow's remarks on damaged metadata, which does not change the pixels.
warnings.filterwarnings(
    "ignore", "(Corrupt EXIF data|Truncated File Read|Metadata Warning|Image appears to be a malformed MPO)"
)
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # `max_pixels` is the limit here

__all__ = [
    "FORMATS",
    "ImageError",
    "ImageSpec",
    "ResizeMode",
    "decoding",
    "draft_for",
    "fit_image",
    "flatten",
    "normalize",
    "open_image",
    "read_bytes",
    "read_image",
    "too_large_message",
]

_limit_lock = threading.Lock()

ResizeMode = Literal["crop", "cover", "squash", "pad"]

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""Formats that Pillow may open; all others are refused."""

_DEEP_MODES = {"I;16", "I;16L", "I;16B", "I;16N", "I", "F"}
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_MAX_BYTES = 2 << 30
_REDUCING_GAP = 2.0  # large images are first reduced by integer factors, then filtered


class ImageError(Exception):
    """An image is unreadable.

    Not a `HeadstartError`: it is caught per image and reported, and processing continues.

    Args:
        kind: Short stable code: `missing`, `permission`, `empty`, `format`, `truncated`, `damaged`,
            `too-large`, `range`, `pages`, `folder`, `special`, `cloud-placeholder`.
        detail: The reason, without the file name.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """Preprocessing specification: conversion of a file to an array.

    Attributes:
        size_hw: Height and width of the network input, pixels.
        resize_mode: `crop` (resize the short side to `size / crop_fraction`, center crop), `cover` (resize to cover
            the size, center crop), `squash` (resize both sides, aspect ratio lost), `pad` (whole image inside, rest
            filled with `background`).
        crop_fraction: Fraction of the short side that `crop` keeps, in (0, 1].
        interpolation: Pillow filter, `nearest`, `bilinear`, `bicubic` or `lanczos`.
        mean, std: Per channel, on a scale of 0 to 1.
        background: RGB 0-255 of transparent areas and padding.
        intensity_range: (low, high) mapped to 0-255 for 16-bit and float images, one range per dataset;
            None means 0-65535 for integers and refuses floats.
        has_draft: Whether large JPEGs are decoded at a reduced scale (never below the target size).
        max_pixels: Larger images are refused before they are decoded.
        pages: Page or combination of pages of files with several, see `pages.check_pages`; None takes the first.
    """

    size_hw: tuple[int, int] = (224, 224)
    resize_mode: ResizeMode = "crop"
    crop_fraction: float = 0.875
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    background: tuple[int, int, int] = (255, 255, 255)
    intensity_range: tuple[float, float] | None = None
    has_draft: bool = True
    max_pixels: int = MAX_PIXELS
    pages: str | None = None

    def __post_init__(self) -> None:
        for name in ("size_hw", "mean", "std", "background"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.intensity_range is not None:
            object.__setattr__(self, "intensity_range", tuple(self.intensity_range))
        if self.resize_mode not in ("crop", "cover", "squash", "pad"):
            raise ValueError(f"resize_mode must be crop, cover, squash or pad, not {self.resize_mode!r}")
        if self.pages is not None:
            try:
                check_pages(self.pages)
            except PagesError as error:
                raise ValueError(str(error)) from error
        if self.interpolation not in _FILTERS:
            raise ValueError(f"interpolation must be one of {sorted(_FILTERS)}, not {self.interpolation!r}")
        if min(self.size_hw) < 1 or not 0 < self.crop_fraction <= 1 or min(self.std) <= 0:
            raise ValueError("size_hw and std must be positive and crop_fraction in (0, 1]")

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able value for `from_json`."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {k: v for k, v in values.items() if (k, v) != ("pages", None)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ImageSpec:
        """Create a specification from the value of `to_json`.

        Raises:
            ValueError: A key is unknown or a value is invalid.
        """
        unknown = set(value) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"unknown preprocessing settings: {', '.join(sorted(unknown))}")
        return cls(**value)

    def with_(self, **changes: Any) -> ImageSpec:
        """Return a copy with some values replaced."""
        return replace(self, **changes)

    @property
    def digest(self) -> str:
        """Return a hex digest of everything that changes the uint8 or float values."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def read_image(source: str | os.PathLike[str] | bytes, spec: ImageSpec) -> NDArray[np.uint8]:
    """Decode, orient, flatten to RGB, resize and crop one image.

    Args:
        source: A path, or the bytes of a file.
        spec: The preprocessing specification.

    Returns:
        (H, W, 3) uint8 in RGB order, H and W from `spec.size_hw`.

    Raises:
        ImageError: The file is missing, empty, damaged, of an unsupported format or too large.
    """
    with open_image(source, spec.max_pixels, has_channels=spec.pages is not None) as image:
        with decoding():
            if spec.has_draft and image.format in ("JPEG", "MPO"):
                draft_for(image, spec)
            if spec.pages is not None:
                image = _selected(image, spec.pages)
                _check_pixels(image, spec.max_pixels)
            image.load()
        return fit_image(flatten(_orient(image), spec), spec)


def _selected(image: Image.Image, pages: str) -> Image.Image:
    try:
        return select_pages(image, pages)
    except PagesError as error:
        raise ImageError("pages", str(error)) from error


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Convert errors during decoding to `ImageError`.

    Raises:
        ImageError: The image is too large, truncated or damaged.
    """
    try:
        yield
    except Image.DecompressionBombError as error:
        raise ImageError("too-large", str(error)) from error
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, ArithmeticError, LookupError) as error:
        kind = "truncated" if "truncated" in str(error).lower() else "damaged"
        raise ImageError(kind, f"cannot decode the image data ({error})") from error


def open_image(source: str | os.PathLike[str] | bytes, max_pixels: int, *, has_channels: bool = False) -> Image.Image:
    """Open an image without decoding it; only `FORMATS`, up to `max_pixels`.

    Args:
        source: A path, or the bytes of a file.
        max_pixels: Larger images are refused.
        has_channels: Whether a TIFF of more than 4 channels is opened, with its channels as pages.

    Raises:
        ImageError: As in `read_image`.
    """
    data = source if isinstance(source, bytes) else read_bytes(source)
    if not data:
        raise ImageError("empty", "the file is empty (0 bytes)")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and max_pixels > 2 * limit:
        Image.MAX_IMAGE_PIXELS = max_pixels // 2 + 1  # set by the user; Pillow refuses at twice its own limit
    try:
        image: Image.Image = _open(data)
    except UnidentifiedImageError as error:
        image = _opened_by_extra(data, max_pixels, has_channels, error)
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, ArithmeticError) as error:
        raise ImageError("damaged", f"damaged image header ({error})") from error
    _check_pixels(image, max_pixels)
    return image


def _check_pixels(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise ImageError("too-large", too_large_message(image.width, image.height, max_pixels))


def too_large_message(width: int, height: int, max_pixels: int) -> str:
    """Return why an image is refused, with the option that reads it."""
    return f"{width} x {height} pixels exceed the limit of {max_pixels:,}; a larger --max-pixels reads it"


def _open(data: bytes) -> Image.Image:
    """Open an image of any size; the caller checks the size before decoding.

    Pillow's own check reads the same header, but its error does not hold the size.
    """
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        with _limit_lock:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                return Image.open(io.BytesIO(data), formats=FORMATS)
            finally:
                Image.MAX_IMAGE_PIXELS = limit


def _opened_by_extra(data: bytes, max_pixels: int, has_channels: bool, error: UnidentifiedImageError) -> Image.Image:
    """Open an image of an optional format.

    Raises:
        ImageError: It is none, damaged or too large.
    """
    try:
        image = open_extra(data, max_pixels) or (open_channels(data, max_pixels) if has_channels else None)
    except UnidentifiedImageError:
        image = None
    except TooLargeError as problem:
        width, height = problem.args
        raise ImageError("too-large", too_large_message(width, height, max_pixels)) from problem
    except (OSError, ValueError, SyntaxError, EOFError, LookupError, ArithmeticError) as problem:
        raise ImageError("damaged", str(problem)) from problem
    if image is None:
        raise ImageError("format", "not an image in a supported format") from error
    return image


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read the bytes of a file.

    Raises:
        ImageError: The file is missing, a folder or not readable, or opening it would block (a pipe, a file that a
            cloud would have to download first) or fill the memory.
    """
    _check_path(path)
    try:
        packed = read_packed(path)
        if packed is not None:
            return packed
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise ImageError("missing", "no such file") from error
    except IsADirectoryError as error:
        raise ImageError("folder", "a folder, not an image") from error
    except PermissionError as error:
        kind, detail = "permission", "permission denied"
        raise ImageError(kind, detail) from error
    except OSError as error:
        raise ImageError("unreadable", f"cannot read the file ({error.strerror or error})") from error


def _check_path(path: str | os.PathLike[str]) -> None:
    """Refuse paths that must not be opened: pipes, cloud placeholders and huge files.

    Raises:
        ImageError: The path is one of them.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return  # reading reports the reason
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise ImageError("special", "a pipe, socket or device, not a file")
    is_away = getattr(status, "st_flags", 0) & 0x40000000 or getattr(status, "st_file_attributes", 0) & 0x441000
    if is_away:  # SF_DATALESS of macOS; OFFLINE and RECALL_ON_OPEN or _DATA_ACCESS of Windows
        raise ImageError("cloud-placeholder", "stored in the cloud only; make it available offline")
    if status.st_size > _MAX_BYTES:
        raise ImageError("too-large", f"the file size of {status.st_size / 1e9:.1f} GB exceeds the limit of 2 GB")


def flatten(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Convert any mode to RGB: deep images through one range, transparency onto the background.

    Raises:
        ImageError: A float image without a range.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _DEEP_MODES:
        if spec.intensity_range is None and image.mode == "F":
            raise ImageError("range", "a floating-point image needs a range: --intensity-range LOW,HIGH")
        low, high = spec.intensity_range or (0.0, 65535.0)
        values = np.asarray(image, dtype=np.float32)
        scaled = np.clip((np.nan_to_num(values, posinf=high, neginf=low) - low) * (255.0 / (high - low)), 0, 255)
        return Image.fromarray(np.rint(scaled).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (*spec.background, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def fit_image(image: Image.Image, spec: ImageSpec) -> NDArray[np.uint8]:
    """Resize and crop an RGB image to `spec.size_hw`: (H, W, 3) uint8."""
    height, width = spec.size_hw
    resample = _FILTERS[spec.interpolation]
    if image.size == (width, height) and (spec.resize_mode != "crop" or spec.crop_fraction == 1):
        return np.asarray(image)
    if spec.resize_mode == "squash":
        image = image.resize((width, height), resample, reducing_gap=_REDUCING_GAP)
    elif spec.resize_mode == "pad":
        scale = min(width / image.width, height / image.height)
        inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        small = image.resize(inner, resample, reducing_gap=_REDUCING_GAP)
        image = Image.new("RGB", (width, height), spec.background)
        image.paste(small, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    else:
        box = _crop_box(image.width, image.height, spec)
        image = image.resize((width, height), resample, box=box, reducing_gap=_REDUCING_GAP)
    return np.asarray(image)


def normalize(pixels: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.float32]:
    """Normalize decoded images to the network's input.

    Args:
        pixels: (H, W, 3) or (B, H, W, 3) uint8, RGB.
        spec: The preprocessing specification.

    Returns:
        (3, H, W) or (B, 3, H, W) float32, contiguous, `(value / 255 - mean) / std`.
    """
    scale, shift = _affine(spec.mean, spec.std)
    moved = np.moveaxis(pixels, -1, -3)
    out = np.empty(moved.shape, dtype=np.float32)
    np.multiply(moved, scale, out=out, casting="unsafe")
    out += shift
    return out


@lru_cache(maxsize=16)
def _affine(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    m, s = np.array(mean, dtype=np.float64), np.array(std, dtype=np.float64)
    scale = (1.0 / (255.0 * s)).astype(np.float32).reshape(3, 1, 1)
    shift = (-m / s).astype(np.float32).reshape(3, 1, 1)
    return scale, shift


def _crop_box(width: int, height: int, spec: ImageSpec) -> tuple[float, float, float, float]:
    """Return the visible part of the source, in source coordinates (left, upper, right, lower)."""
    out_h, out_w = spec.size_hw
    fraction = spec.crop_fraction if spec.resize_mode == "crop" else 1.0
    scale = min(width / out_w, height / out_h) * fraction
    box_w, box_h = out_w * scale, out_h * scale
    left, upper = max((width - box_w) / 2, 0.0), max((height - box_h) / 2, 0.0)
    return left, upper, min(left + box_w, width), min(upper + box_h, height)


def draft_for(image: Image.Image, spec: ImageSpec) -> None:
    """Let libjpeg decode at 1/2, 1/4 or 1/8 if that is still at least the size needed."""
    out_h, out_w = spec.size_hw
    if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):
        out_h, out_w = out_w, out_h
    fraction = spec.crop_fraction if spec.resize_mode == "crop" else 1.0
    ratios = (out_w / image.width, out_h / image.height)
    scale = (min(ratios) if spec.resize_mode == "pad" else max(ratios)) / fraction
    if spec.resize_mode == "squash":
        image.draft(None, (out_w, out_h))
    elif scale < 1:
        # Pillow uses the largest reduction that keeps both sides at least as long as requested.
        image.draft(None, (int(np.ceil(image.width * scale)), int(np.ceil(image.height * scale))))


def _orient(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a damaged EXIF block leaves the image as stored."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF is read by many parsers in Pillow, and a damaged block does not make an image unreadable
        return image
