"""Draw contact sheets: images by class, or pairs side by side, with their names.

Unreadable images appear as a tile with the reason.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from headstart.messages.numbers import pluralize, pluralize_is
from headstart.preprocessing.augmentation import Augment, make_view, view_rng
from headstart.preprocessing.image_spec import ImageError, ImageSpec, read_bytes, read_image
from headstart.types.records import Samples

__all__ = ["Tile", "draw_by_class", "draw_pairs", "draw_sheet", "draw_views", "image_tile"]

_INK, _PAPER, _FAINT, _WARNING = (20, 20, 20), (255, 255, 255), (110, 110, 110), (170, 30, 30)
_GAP, _TEXT, _HEADING = 8, 13, 17
_MAX_TILES = 2000


@dataclass(frozen=True)
class Tile:
    """One image of a sheet.

    Attributes:
        image: RGB, or None for an unreadable image.
        caption: Text below the image.
        problem: Why there is no image.
    """

    image: Image.Image | None
    caption: str
    problem: str = ""


def draw_by_class(
    samples: Samples,
    *,
    per_class: int = 8,
    seed: int = 0,
    side: int = 128,
    preprocessed: ImageSpec | None = None,
    max_classes: int = 50,
) -> Image.Image:
    """Draw random images of each class, one row per class.

    Args:
        samples: The images.
        per_class: Images per class.
        seed: Random seed.
        side: Tile size in pixels.
        preprocessed: Preprocess images with this specification, as for the network, at its size.
        max_classes: Maximum number of classes; the heading states how many are not shown.
    """
    rng = np.random.default_rng(seed)
    rows = []
    names: Sequence[str | None] = samples.class_names or (None,)
    for k, name in enumerate(names[:max_classes]):
        members = np.flatnonzero(samples.class_ids == k) if name is not None else np.arange(len(samples))
        chosen = np.sort(rng.permutation(members)[:per_class])
        tiles = [_sample_tile(samples, int(i), side, preprocessed) for i in chosen]
        rows.append((f"{name or 'images'}: {len(tiles)} of {len(members):,}", tiles))
    left = len(names) - max_classes
    classes = pluralize(len(samples.class_names), "class", "classes")
    title = f"{pluralize(len(samples), 'image')}, {classes}, drawn with seed {seed}"
    if preprocessed is not None:
        height, width = preprocessed.size_hw
        title += f", as the network sees them ({width} x {height}, {preprocessed.resize_mode})"
    return draw_sheet(
        rows, title=title + (f"; {pluralize_is(left, 'class', 'classes')} not shown" if left > 0 else ""), side=side
    )


def draw_views(
    samples: Samples, spec: ImageSpec, augment: Augment, *, count: int = 7, num_images: int = 8, seed: int = 0
) -> Image.Image:
    """Draw random images, each with some of its augmented views, one row per image.

    Args:
        samples: The images.
        spec: The preprocessing specification.
        augment: Augmentation strength.
        count: Views per image; the first ones that training with this seed caches.
        num_images: Number of images, drawn from all classes in turn.
        seed: Random seed of the selection and of the views.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for i in _in_turn(samples, num_images, rng):
        sample = samples[i]
        heading = f"{sample.label}: {sample.name}" if sample.label else sample.name
        try:
            data = read_bytes(sample.path)
            digest = hashlib.sha256(data).digest()
            tiles = [image_tile(read_image(data, spec), "original")]
            for view in range(count):
                tiles.append(image_tile(make_view(data, spec, augment, view_rng(digest, view, seed)), f"view {view}"))
        except ImageError as error:
            tiles = [Tile(None, "", error.detail)]
        rows.append((heading, tiles))
    title = f"views of {pluralize(len(rows), 'image')}, seed {seed}: {augment.to_text()}"
    return draw_sheet(rows, title=title, side=max(spec.size_hw))


def _in_turn(samples: Samples, count: int, rng: np.random.Generator) -> list[int]:
    """Return random positions, cycling through the classes."""
    order = rng.permutation(len(samples))
    num_drawn: Counter[int] = Counter()
    turns = []
    for i in order:
        k = int(samples.class_ids[i])
        turns.append((num_drawn[k], k, int(i)))
        num_drawn[k] += 1
    return [i for _, _, i in sorted(turns)[:count]]


def draw_pairs(
    samples: Samples, pairs: Sequence[tuple[int, int, str]], *, side: int = 160, title: str = "pairs"
) -> Image.Image:
    """Draw pairs of images side by side.

    Args:
        samples: The images.
        pairs: (first, second, heading), positions in `samples`.
        side: Tile size in pixels.
        title: Title of the sheet.
    """
    rows = []
    for first, second, heading in pairs[: _MAX_TILES // 2]:
        rows.append((heading, [_sample_tile(samples, i, side, None) for i in (first, second)]))
    return draw_sheet(rows, title=title, side=side)


def draw_sheet(rows: Sequence[tuple[str, Sequence[Tile]]], *, title: str, side: int) -> Image.Image:
    """Draw rows of tiles, each with a heading, on white.

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("a sheet needs at least one row")
    columns = max(1, max(len(tiles) for _, tiles in rows))
    cell_h = side + _TEXT + _GAP
    width = max(columns * (side + _GAP) + _GAP, 420)
    height = _HEADING + 3 * _GAP + len(rows) * (_HEADING + _GAP + cell_h)
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    small, large = _font(_TEXT - 2), _font(_HEADING - 2)
    pen.text((_GAP, _GAP), _fit_text(title, large, width - 2 * _GAP), fill=_INK, font=large)
    top = _HEADING + 2 * _GAP
    for heading, tiles in rows:
        pen.text((_GAP, top), _fit_text(heading, large, width - 2 * _GAP), fill=_INK, font=large)
        top += _HEADING + _GAP // 2
        for column, tile in enumerate(tiles):
            left = _GAP + column * (side + _GAP)
            _draw_tile(sheet, pen, tile, (left, top), side, small)
        top += cell_h + _GAP // 2
    return sheet


def image_tile(pixels: NDArray[np.uint8], caption: str) -> Tile:
    """Return a tile from (H, W, 3) uint8 pixels."""
    return Tile(Image.fromarray(pixels), caption)


def _sample_tile(samples: Samples, i: int, side: int, preprocessed: ImageSpec | None) -> Tile:
    sample = samples[i]
    spec = preprocessed or ImageSpec(size_hw=(side, side), resize_mode="pad", background=(235, 235, 235))
    caption = sample.name.rpartition("/")[2]
    try:
        return image_tile(read_image(sample.path, spec), caption)
    except ImageError as error:
        return Tile(None, caption, error.detail)


def _draw_tile(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, tile: Tile, corner: tuple[int, int], side: int, font: Any
) -> None:
    left, top = corner
    if tile.image is None:
        pen.rectangle((left, top, left + side - 1, top + side - 1), outline=_WARNING)
        for line, words in enumerate(_wrap(tile.problem, font, side - 8)[: side // _TEXT - 1]):
            pen.text((left + 4, top + 4 + line * _TEXT), words, fill=_WARNING, font=font)
    else:
        image = tile.image
        image.thumbnail((side, side))
        sheet.paste(image, (left + (side - image.width) // 2, top + (side - image.height) // 2))
    pen.text((left, top + side + 1), _fit_text(tile.caption, font, side), fill=_FAINT, font=font)


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _clean(text: str) -> str:
    """Replace unprintable characters."""
    plain = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c.isprintable() else "?" for c in plain)


def _fit_text(text: str, font: Any, width: int) -> str:
    """Return the text, shortened in the middle to fit `width` pixels."""
    text = _clean(text)
    if font.getlength(text) <= width:
        return text
    for keep in range(len(text) - 1, 1, -1):
        short = f"{text[: (keep + 1) // 2]}...{text[-(keep // 2) :]}"
        if font.getlength(short) <= width:
            return short
    return "..."


def _wrap(text: str, font: Any, width: int) -> list[str]:
    lines = [""]
    for word in _clean(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
