"""Contact sheets: images by class, or pairs side by side, with their names, as one image to look at.

What cannot be read is shown as a tile that says so, never left out, so that a sheet
shows what there is.
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
from headstart.records import Samples

__all__ = ["Tile", "draw_by_class", "draw_pairs", "draw_sheet", "draw_views", "image_tile"]

_INK, _PAPER, _FAINT, _WARNING = (20, 20, 20), (255, 255, 255), (110, 110, 110), (170, 30, 30)
_GAP, _TEXT, _HEADING = 8, 13, 17
_MOST_TILES = 2000


@dataclass(frozen=True)
class Tile:
    """One image of a sheet.

    Attributes:
        image: RGB, or None where it cannot be read.
        caption: Under it.
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
    as_seen: ImageSpec | None = None,
    max_classes: int = 50,
) -> Image.Image:
    """Return random images of each class, one row a class.

    Args:
        samples: The images.
        per_class: How many of each.
        seed: Of the draw.
        side: Of a tile, pixels.
        as_seen: Show them exactly as a network with this pixel contract gets them, at that size.
        max_classes: So many classes at most; the heading says how many are not shown.
    """
    rng = np.random.default_rng(seed)
    rows = []
    names: Sequence[str | None] = samples.class_names or (None,)
    for k, name in enumerate(names[:max_classes]):
        members = np.flatnonzero(samples.class_ids == k) if name is not None else np.arange(len(samples))
        chosen = np.sort(rng.permutation(members)[:per_class])
        tiles = [_sample_tile(samples, int(i), side, as_seen) for i in chosen]
        rows.append((f"{name or 'images'}: {len(tiles)} of {len(members):,}", tiles))
    left = len(names) - max_classes
    classes = pluralize(len(samples.class_names), "class", "classes")
    title = f"{pluralize(len(samples), 'image')}, {classes}, drawn with seed {seed}"
    if as_seen is not None:
        height, width = as_seen.size_hw
        title += f", as the network sees them ({width} x {height}, {as_seen.fit})"
    return draw_sheet(
        rows, title=title + (f"; {pluralize_is(left, 'class', 'classes')} not shown" if left > 0 else ""), side=side
    )


def draw_views(
    samples: Samples, spec: ImageSpec, augment: Augment, *, count: int = 7, num_images: int = 8, seed: int = 0
) -> Image.Image:
    """Return random images, each as it is seen and in some of its augmented views, one row an image.

    Args:
        samples: The images.
        spec: The pixel contract.
        augment: How strongly views differ.
        count: Views of each; they are the first ones that training with this seed stores.
        num_images: How many images, drawn from all classes in turn.
        seed: Of the draw and of the views.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for i in _in_turn(samples, num_images, rng):
        sample = samples[i]
        heading = f"{sample.label}: {sample.name}" if sample.label else sample.name
        try:
            data = read_bytes(sample.path)
            digest = hashlib.sha256(data).digest()
            tiles = [image_tile(read_image(data, spec), "as it is")]
            for view in range(count):
                tiles.append(image_tile(make_view(data, spec, augment, view_rng(digest, view, seed)), f"view {view}"))
        except ImageError as error:
            tiles = [Tile(None, "", error.detail)]
        rows.append((heading, tiles))
    title = f"views of {pluralize(len(rows), 'image')}, seed {seed}: {augment.to_text()}"
    return draw_sheet(rows, title=title, side=max(spec.size_hw))


def _in_turn(samples: Samples, count: int, rng: np.random.Generator) -> list[int]:
    """Return positions drawn at random, one of each class, then another of each."""
    order = rng.permutation(len(samples))
    seen: Counter[int] = Counter()
    turns = []
    for i in order:
        k = int(samples.class_ids[i])
        turns.append((seen[k], k, int(i)))
        seen[k] += 1
    return [i for _, _, i in sorted(turns)[:count]]


def draw_pairs(
    samples: Samples, pairs: Sequence[tuple[int, int, str]], *, side: int = 160, title: str = "pairs"
) -> Image.Image:
    """Return pairs of images side by side.

    Args:
        samples: The images.
        pairs: (first, second, what is said of them), positions in `samples`.
        side: Of a tile, pixels.
        title: Over the sheet.
    """
    rows = []
    for first, second, words in pairs[: _MOST_TILES // 2]:
        rows.append((words, [_sample_tile(samples, i, side, None) for i in (first, second)]))
    return draw_sheet(rows, title=title, side=side)


def draw_sheet(rows: Sequence[tuple[str, Sequence[Tile]]], *, title: str, side: int) -> Image.Image:
    """Return rows of tiles with a heading each, on white.

    Raises:
        ValueError: There is nothing to draw.
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
    """Return a tile of (H, W, 3) uint8."""
    return Tile(Image.fromarray(pixels), caption)


def _sample_tile(samples: Samples, i: int, side: int, as_seen: ImageSpec | None) -> Tile:
    sample = samples[i]
    spec = as_seen or ImageSpec(size_hw=(side, side), fit="pad", background=(235, 235, 235))
    caption = sample.name.rpartition("/")[2]
    try:
        return image_tile(read_image(sample.path, spec), caption)
    except ImageError as error:
        return Tile(None, caption, error.detail)


def _draw_tile(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, tile: Tile, place: tuple[int, int], side: int, font: Any
) -> None:
    left, top = place
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
    """Return what can be drawn: no line breaks, no half characters of odd file names."""
    plain = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c.isprintable() else "?" for c in plain)


def _fit_text(text: str, font: Any, width: int) -> str:
    """Return the text, shortened in the middle until it fits."""
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
