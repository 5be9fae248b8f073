"""Reduce outlines, masks and rotated boxes to the corners of their bounding box."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.draft import Values, number

__all__ = ["bounds", "circle_bounds", "mask_bounds", "rotated_bounds"]


def bounds(outline: Any) -> Values | None:
    """Return xmin, ymin, xmax, ymax of an outline, or None if it is no outline of at least two points.

    Args:
        outline: Points in any usual nesting: `[x, y, x, y ...]`, `[[x, y] ...]`, `[{"x": x, "y": y} ...]`, or a list of
            such lists (one per part).
    """
    try:
        points = list(_points(outline))
    except (TypeError, ValueError):
        return None
    if len(points) < 2 or not all(map(math.isfinite, (v for point in points for v in point))):
        return None
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def rotated_bounds(center_x: float, center_y: float, width: float, height: float, radians: float) -> Values:
    """Return the bounds of a rotated box."""
    cos, sin = abs(math.cos(radians)), abs(math.sin(radians))
    half_x, half_y = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    return center_x - half_x, center_y - half_y, center_x + half_x, center_y + half_y


def circle_bounds(center_x: float, center_y: float, radius_x: float, radius_y: float) -> Values:
    """Return the bounds of a circle or ellipse."""
    return center_x - radius_x, center_y - radius_y, center_x + radius_x, center_y + radius_y


def mask_bounds(mask: Any) -> Values | None:
    """Return the bounds of a COCO mask `{"size": [height, width], "counts": runs}`, or None if it is empty or none.

    Runs alternate between background and object down the columns, as a list or in COCO's text form.
    """
    if not isinstance(mask, dict) or not isinstance(mask.get("size"), list) or not mask["size"]:
        return None
    height, counts = number(mask["size"][0]), mask.get("counts")
    if isinstance(counts, str):
        counts = _uncompressed(counts)
    if not height or height < 1 or not isinstance(counts, list):
        return None
    runs = [number(count) for count in counts]
    if any(run is None or not 0 <= run < 1e12 for run in runs):
        return None
    return _run_bounds(np.array(runs, dtype=np.int64), int(height))


def _run_bounds(runs: NDArray[np.int64], height: int) -> Values | None:
    ends = np.cumsum(runs)
    starts, stops = ends[:-1][::2], ends[1::2]
    kept = stops > starts[: len(stops)]
    starts, stops = starts[: len(stops)][kept], stops[kept] - 1  # first and last pixel of each run of the object
    if not len(starts):
        return None
    is_whole = starts // height != stops // height  # runs on into the next column
    top = 0 if is_whole.any() else int((starts % height).min())
    bottom = height if is_whole.any() else int((stops % height).max()) + 1
    return float((starts // height).min()), float(top), float((stops // height).max() + 1), float(bottom)


def _uncompressed(text: str) -> list[int]:
    """Return the run lengths of COCO's text form: differences to the run two before, five bits per character."""
    runs: list[int] = []
    value = shift = 0
    for char in text:
        bits = ord(char) - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            value -= (1 << shift) if bits & 0x10 else 0
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    return runs


def _points(outline: Any) -> Iterator[tuple[float, float]]:
    """Yield the points of an outline.

    Raises:
        TypeError, ValueError: It is none.
    """
    if isinstance(outline, dict) and {"x", "y"} <= set(outline):
        yield _number(outline["x"]), _number(outline["y"])
    elif isinstance(outline, Sequence) and not isinstance(outline, str):
        if not outline:
            return
        if all(isinstance(part, (list, tuple, dict)) for part in outline):
            for part in outline:
                yield from _points(part)
        elif len(outline) % 2:
            raise ValueError("odd number of coordinates")
        else:
            yield from list(pairwise(map(_number, outline)))[::2]
    else:
        raise TypeError("not an outline")


def _number(value: Any) -> float:
    read = number(value)
    if read is None:
        raise ValueError("not a number")
    return read
