"""Draws contact sheets: pairs of copies side by side, and random pictures by class.

The one decision: a sheet is one plain picture that any viewer opens; a picture that cannot be read becomes a
grey tile with the reason.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from headstart.data.wording import one_line
from headstart.errors import DataError, UsageError
from headstart.pixels.reduced import decode_reduced
from headstart.pixels.spec import PictureError, PixelSpec, flatten, read_bytes
from headstart.records import Health, PicturePair, Samples

__all__ = ["class_sheet", "pair_sheet", "save_sheet"]

_TILE, _GAP, _LINE = 160, 6, 13
_MOST_PAIRS, _PAIRS_A_ROW = 60, 3
_MOST_CLASSES = 40

Reader = Callable[[str], NDArray[np.uint8]]
"""Turns a path into (H, W, 3) uint8."""


def pair_sheet(samples: Samples, health: Health, *, value_range: tuple[float, float] | None = None) -> Image.Image:
    """Pairs of copies side by side, leaks and conflicts first, at most 60.

    Raises:
        DataError: There is no pair to show.
    """
    pairs = list(dict.fromkeys((*health.leaks, *health.label_conflicts, *health.duplicates, *health.near_duplicates)))
    if not pairs:
        raise DataError("There are no copies to show.", hint="`headstart show` draws random pictures by class")
    pairs = pairs[:_MOST_PAIRS]
    read = _reader(value_range or health.value_range)
    width, height = 2 * _TILE + 3 * _GAP, _TILE + 3 * _LINE + _GAP
    rows = -(-len(pairs) // _PAIRS_A_ROW)
    sheet = Image.new("RGB", (_PAIRS_A_ROW * width, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    font = _font()
    for k, pair in enumerate(pairs):
        left, top = k % _PAIRS_A_ROW * width + _GAP, k // _PAIRS_A_ROW * height + _GAP
        draw.text((left, top), _pair_title(pair), fill="black", font=font)
        for side, (index, name) in enumerate(((pair.index_a, pair.a), (pair.index_b, pair.b))):
            x = left + side * (_TILE + _GAP)
            sheet.paste(_tile(samples.items[index].path, read), (x, top + _LINE))
            draw.text((x, top + _LINE + _TILE), _short(name, font), fill="black", font=font)
    return sheet


def class_sheet(
    samples: Samples,
    *,
    per_class: int = 8,
    seed: int = 0,
    read: Reader | None = None,
    value_range: tuple[float, float] | None = None,
) -> Image.Image:
    """Random pictures, one row a class.

    Args:
        samples: The pictures.
        per_class: Pictures a class.
        seed: Of the choice.
        read: How a path becomes pixels: give `lambda p: read_picture(p, spec)` for what the network sees.
        value_range: What 16-bit and float pictures are mapped from.
    """
    rng = np.random.default_rng(seed)
    names = list(samples.class_names)[:_MOST_CLASSES] or [""]
    reader = read or _reader(value_range)
    height = _TILE + _LINE + _GAP
    sheet = Image.new("RGB", (per_class * (_TILE + _GAP) + _GAP, len(names) * height), "white")
    draw = ImageDraw.Draw(sheet)
    font = _font()
    for row, name in enumerate(names):
        inside = [s for s in samples if (s.label or "") == name]
        chosen = sorted(rng.choice(len(inside), min(per_class, len(inside)), replace=False)) if inside else []
        draw.text((_GAP, row * height), f"{one_line(name) or 'pictures'} ({len(inside)})", fill="black", font=font)
        for column, k in enumerate(chosen):
            tile = _tile(inside[int(k)].path, reader)
            sheet.paste(tile, (_GAP + column * (_TILE + _GAP), row * height + _LINE))
    return sheet


def save_sheet(sheet: Image.Image, path: str | os.PathLike[str]) -> None:
    """Writes a sheet as PNG or JPEG.

    Raises:
        UsageError: The ending is neither, or the place cannot be written.
    """
    if Path(path).suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"A sheet is written as .png or .jpg, not `{os.fspath(path)}`.")
    try:
        sheet.save(path)
    except OSError as error:
        raise UsageError(f"`{os.fspath(path)}` cannot be written ({error.strerror or error}).") from error


def _reader(value_range: tuple[float, float] | None) -> Reader:
    spec = PixelSpec(value_range=value_range)

    def read(path: str) -> NDArray[np.uint8]:
        seen = decode_reduced(read_bytes(path), min_side=_TILE, max_pixels=spec.max_pixels)
        return np.asarray(flatten(seen.image, spec))

    return read


def _tile(path: str, read: Reader) -> Image.Image:
    tile = Image.new("RGB", (_TILE, _TILE), (225, 225, 225))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.fromarray(read(path))
    except PictureError as error:
        ImageDraw.Draw(tile).text((4, _TILE // 2), _short(error.kind, _font()), fill="black", font=_font())
        return tile
    picture.thumbnail((_TILE, _TILE))
    tile.paste(picture, ((_TILE - picture.width) // 2, (_TILE - picture.height) // 2))
    return tile


def _pair_title(pair: PicturePair) -> str:
    parts = [pair.kind, f"{pair.similarity:.3f}"]
    if pair.split_a != pair.split_b:
        parts.append(f"LEAK {pair.split_a} / {pair.split_b}")
    if pair.label_a != pair.label_b:
        parts.append(f"LABELS {one_line(pair.label_a or '')} / {one_line(pair.label_b or '')}")
    return "  ".join(parts)[:54]


def _short(name: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    text = one_line(name)
    while len(text) > 4 and font.getlength(text) > _TILE:
        text = "..." + text[4:]
    return text


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=10)
