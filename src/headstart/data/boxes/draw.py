"""Draws boxes with their names on a picture; numpy and Pillow only.

The one decision: line and letters grow with the picture, and a class keeps its colour in every picture, so that a
sheet, the report and `predict --draw` look alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["colour_of", "draw_boxes"]

# Okabe and Ito (2008), told apart by colour-blind people too; then a second, darker round.
_COLOURS = (
    *((230, 159, 0), (0, 114, 178), (0, 158, 115), (213, 94, 0), (204, 121, 167), (86, 180, 233), (240, 228, 66)),
    *((150, 90, 0), (0, 60, 110), (0, 90, 60), (130, 40, 0), (130, 60, 100)),
)


def colour_of(class_id: int) -> tuple[int, int, int]:
    """The colour of a class, RGB 0-255."""
    return _COLOURS[class_id % len(_COLOURS)]


def draw_boxes(
    image: Image.Image,
    xyxy: NDArray[Any],
    captions: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
    *,
    is_dashed: bool = False,
) -> Image.Image:
    """A copy of an RGB picture with boxes on it.

    Args:
        image: The picture.
        xyxy: (M, 4) pixels of this picture.
        captions: M texts, drawn at the upper edge; an empty one draws none.
        colours: M colours.
        is_dashed: Broken lines, to tell true boxes from found ones.
    """
    drawn = image.copy()
    pen = ImageDraw.Draw(drawn)
    side = min(image.size)
    line = max(1, round(side / 160))
    font = ImageFont.load_default(max(9, min(48, round(side / 28))))
    areas = [float((b[2] - b[0]) * (b[3] - b[1])) for b in xyxy]
    for i in sorted(range(len(areas)), key=lambda k: -areas[k]):  # small boxes last, so that they are not painted over
        x0, y0, x1, y1 = (round(float(v)) for v in xyxy[i])
        x1, y1 = max(x1 - 1, x0), max(y1 - 1, y0)
        if is_dashed:
            _dashed(pen, (x0, y0, x1, y1), colours[i], line)
        else:
            pen.rectangle((x0, y0, x1, y1), outline=colours[i], width=line)
        if captions[i]:
            _caption(pen, captions[i], (x0, y0), colours[i], font, image.size)
    return drawn


def _caption(
    pen: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[int, int],
    colour: tuple[int, int, int],
    font: Any,
    size: tuple[int, int],
) -> None:
    """A text on its colour, above the corner where there is room, else inside."""
    text = "".join(c if c.isprintable() else "?" for c in text.encode("utf-8", "replace").decode("utf-8"))
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = round(right - left) + 4, round(bottom - top) + 4
    x = max(0, min(corner[0], size[0] - width))
    y = corner[1] - height if corner[1] >= height else corner[1]
    pen.rectangle((x, y, x + width, y + height), fill=colour)
    is_bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    pen.text((x + 2 - left, y + 2 - top), text, fill=(0, 0, 0) if is_bright else (255, 255, 255), font=font)


def _dashed(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], colour: tuple[int, int, int], line: int) -> None:
    x0, y0, x1, y1 = box
    step = max(6, 4 * line)
    for x in range(x0, x1 + 1, 2 * step):
        for y in (y0, y1):
            pen.line((x, y, min(x + step, x1), y), fill=colour, width=line)
    for y in range(y0, y1 + 1, 2 * step):
        for x in (x0, x1):
            pen.line((x, y, x, min(y + step, y1)), fill=colour, width=line)
