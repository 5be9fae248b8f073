"""Draw a detection dataset without download: 300 images with objects of six shapes on clutter."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["SHAPES", "draw_boxes"]

SHAPES = ("disc", "square", "triangle", "cross", "ring", "star")
_SIZE = (400, 300)


def draw_boxes(root: Path, count: int = 300, seed: int = 0) -> Path:
    """Draw the images and `boxes.csv` into a folder, unless `boxes.csv` exists.

    Args:
        root: The folder.
        count: Number of images; every tenth has no object.
        seed: Random seed.
    """
    table = root / "boxes.csv"
    if table.exists():
        return root
    root.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[object, ...]] = [("image", "label", "xmin", "ymin", "xmax", "ymax")]
    for i in range(count):
        name = f"{i:03d}.jpg"
        image, boxes = _draw(np.random.default_rng([seed, i]), has_objects=i % 10 != 9)
        image.save(root / name, quality=88)
        rows += [(name, *box) for box in boxes] or [(name, "", "", "", "", "")]
    with open(table, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def _draw(rng: np.random.Generator, *, has_objects: bool) -> tuple[Image.Image, list[tuple[str, int, int, int, int]]]:
    width, height = _SIZE
    small = rng.integers(40, 200, (6, 8, 3)).astype(np.uint8)
    image = Image.fromarray(small).resize(_SIZE, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(8, 16))):  # clutter: lines
        ends = [int(v) for v in rng.integers(0, [width, height, width, height])]
        pen.line(ends, fill=_color(rng), width=int(rng.integers(1, 4)))
    boxes: list[tuple[str, int, int, int, int]] = []
    for _ in range(int(rng.integers(1, 5)) if has_objects else 0):
        side = int(rng.integers(36, 120))
        x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
        box = (x, y, x + side, y + side)
        if any(min(box[2], b[3]) > max(box[0], b[1]) and min(box[3], b[4]) > max(box[1], b[2]) for b in boxes):
            continue
        shape = SHAPES[int(rng.integers(len(SHAPES)))]
        _shape(pen, shape, box, _color(rng))
        boxes.append((shape, *box))
    pixels = np.asarray(image).astype(np.int16) + rng.normal(0, 10, (height, width, 3)).astype(np.int16)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), boxes


def _shape(pen: ImageDraw.ImageDraw, shape: str, box: tuple[int, int, int, int], color: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = box
    side, middle_x, middle_y = x1 - x0, (x0 + x1) / 2, (y0 + y1) / 2
    if shape == "disc":
        pen.ellipse(box, fill=color)
    elif shape == "square":
        pen.rectangle(box, fill=color)
    elif shape == "ring":
        pen.ellipse(box, outline=color, width=max(3, side // 6))
    elif shape == "triangle":
        pen.polygon([(middle_x, y0), (x1, y1), (x0, y1)], fill=color)
    elif shape == "cross":
        arm = side / 6
        pen.rectangle((middle_x - arm, y0, middle_x + arm, y1), fill=color)
        pen.rectangle((x0, middle_y - arm, x1, middle_y + arm), fill=color)
    else:
        turns = np.arange(10) * np.pi / 5 - np.pi / 2
        reach = np.where(np.arange(10) % 2, 0.4, 1.0) * side / 2
        points = zip(middle_x + reach * np.cos(turns), middle_y + reach * np.sin(turns), strict=True)
        pen.polygon([(float(x), float(y)) for x, y in points], fill=color)


def _color(rng: np.random.Generator) -> tuple[int, int, int]:
    r, g, b = (int(v) for v in rng.integers(0, 256, 3))
    return r, g, b
