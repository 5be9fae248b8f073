"""Draw boxes with their names on an image; numpy and Pillow only.

Line width and font size grow with the image, and a class has the same color in every image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["color_of", "draw_boxes"]

# Okabe and Ito (2008), distinguishable by color-blind viewers; then a second, darker set.
_COLORS = (
    *((230, 159, 0), (0, 114, 178), (0, 158, 115), (213, 94, 0), (204, 121, 167), (86, 180, 233), (240, 228, 66)),
    *((150, 90, 0), (0, 60, 110), (0, 90, 60), (130, 40, 0), (130, 60, 100)),
)


def color_of(class_id: int) -> tuple[int, int, int]:
    """Return the color of a class, RGB 0-255."""
    return _COLORS[class_id % len(_COLORS)]


def draw_boxes(
    image: Image.Image,
    xyxy: NDArray[Any],
    captions: Sequence[str],
    colors: Sequence[tuple[int, int, int]],
    *,
    is_dashed: bool = False,
) -> Image.Image:
    """Return a copy of an RGB image with boxes on it.

    Args:
        image: The image.
        xyxy: (M, 4) pixels of this image.
        captions: M captions, drawn at the upper edge; an empty one draws none.
        colors: M colors.
        is_dashed: Draw dashed lines, to distinguish true boxes from predicted ones.
    """
    drawn = image.copy()
    pen = ImageDraw.Draw(drawn)
    side = min(image.size)
    line = max(1, round(side / 160))
    font = ImageFont.load_default(max(9, min(48, round(side / 28))))
    areas = [float((b[2] - b[0]) * (b[3] - b[1])) for b in xyxy]
    for i in sorted(range(len(areas)), key=lambda k: -areas[k]):  # small boxes last, so that they stay visible
        x0, y0, x1, y1 = (round(float(v)) for v in xyxy[i])
        x1, y1 = max(x1 - 1, x0), max(y1 - 1, y0)
        if is_dashed:
            _dashed(pen, (x0, y0, x1, y1), colors[i], line)
        else:
            pen.rectangle((x0, y0, x1, y1), outline=colors[i], width=line)
        if captions[i]:
            _caption(pen, captions[i], (x0, y0), colors[i], font, image.size)
    return drawn


def _caption(
    pen: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[int, int],
    color: tuple[int, int, int],
    font: Any,
    size: tuple[int, int],
) -> None:
    """Draw a caption on its color, above the corner if there is room, else inside."""
    text = "".join(c if c.isprintable() else "?" for c in text.encode("utf-8", "replace").decode("utf-8"))
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = round(right - left) + 4, round(bottom - top) + 4
    x = max(0, min(corner[0], size[0] - width))
    y = corner[1] - height if corner[1] >= height else corner[1]
    pen.rectangle((x, y, x + width, y + height), fill=color)
    is_bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140
    pen.text((x + 2 - left, y + 2 - top), text, fill=(0, 0, 0) if is_bright else (255, 255, 255), font=font)


def _dashed(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], color: tuple[int, int, int], line: int) -> None:
    x0, y0, x1, y1 = box
    step = max(6, 4 * line)
    for x in range(x0, x1 + 1, 2 * step):
        for y in (y0, y1):
            pen.line((x, y, min(x + step, x1), y), fill=color, width=line)
    for y in range(y0, y1 + 1, 2 * step):
        for x in (x0, x1):
            pen.line((x, y, x, min(y + step, y1)), fill=color, width=line)
