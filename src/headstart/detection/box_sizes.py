"""How large boxes are once images have been brought to the network's size, and what follows for size and levels.

It is counted before anything is trained, because a box that is a few pixels wide to the network
cannot be learned by any number of epochs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Boxes
from headstart.detection.image_frames import plain_frame
from headstart.preprocessing.image_spec import ImageSpec
from headstart.types import Evidence

__all__ = ["BOUNDS", "BoxSizes", "choose_finest", "choose_size", "measure_sizes"]

BOUNDS = (8, 16, 32, 96)
"""Bounds of the table's columns, input pixels of a box's shorter side."""

_TINY = 8.0
_MOST_TINY = 0.2  # share of tiny boxes from which it is warned
_SMALL_SHARE = 0.02  # boxes left out of account when size and levels are chosen
_LARGEST = 1024


@dataclass(frozen=True, slots=True)
class BoxSizes:
    """The table of box sizes after resizing.

    Attributes:
        size_hw: Of the network's input.
        names: Classes.
        counts: For each class, boxes whose shorter side is below 8, 16, 32, 96 input pixels, and the rest.
        tiny_fraction: Share of all boxes with a shorter side under 8 pixels.
        better_size: The side at which at most 20 % would be that small, or None where that is so already.
        time_factor: How much longer an epoch takes at that side.
    """

    size_hw: tuple[int, int]
    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    tiny_fraction: float
    better_size: int | None
    time_factor: float

    def totals(self) -> dict[str, int]:
        """Return the boxes of all classes by the range of their shorter side in input pixels, e.g. `8-16`."""
        ends = (0, *BOUNDS)
        ranges = [*(f"{a}-{b}" for a, b in pairwise(ends)), f"{ends[-1]}+"]
        return dict(zip(ranges, (sum(column) for column in zip(*self.counts, strict=True)), strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def short_sides(boxes: Sequence[Boxes], sizes_hw: NDArray[np.int64], spec: ImageSpec) -> NDArray[np.float64]:
    """Return (M,) shorter side of every box of all images, input pixels."""
    sides = []
    for one, size in zip(boxes, sizes_hw, strict=True):
        moved = plain_frame((int(size[0]), int(size[1])), spec).to_input(one.xyxy).astype(np.float64)
        sides.append((moved[:, 2:] - moved[:, :2]).min(axis=1, initial=np.inf))
    return np.concatenate(sides) if sides else np.zeros(0)


def measure_sizes(
    boxes: Sequence[Boxes], sizes_hw: NDArray[np.int64], class_names: Sequence[str], spec: ImageSpec
) -> BoxSizes:
    """Return the table, and the size that would mend it.

    Args:
        boxes: Of the training images.
        sizes_hw: (N, 2) of the upright images.
        class_names: Names by class id.
        spec: The pixel contract.
    """
    sides = short_sides(boxes, sizes_hw, spec)
    ids = np.concatenate([b.class_ids for b in boxes]) if boxes else np.zeros(0, dtype=np.int64)
    column = np.digitize(sides, BOUNDS)
    counts = tuple(
        tuple(int(c) for c in np.bincount(column[ids == k], minlength=len(BOUNDS) + 1)) for k in range(len(class_names))
    )
    tiny = float((sides < _TINY).mean()) if len(sides) else 0.0
    better: int | None = None
    factor = 1.0
    if tiny > _MOST_TINY:
        side = max(spec.size_hw)
        needed = side * _TINY / max(float(np.quantile(sides, _MOST_TINY)), 1e-3)
        better = min(_LARGEST, math.ceil(needed / 32) * 32)
        factor = (better / side) ** 2
    return BoxSizes(spec.size_hw, tuple(class_names), counts, tiny, better, factor)


def choose_size(boxes: Sequence[Boxes], sizes_hw: NDArray[np.int64], spec: ImageSpec) -> tuple[int, Evidence]:
    """Return the side of the network's input where nobody says it, and the box sizes behind it.

    Source: `benchmarks/bench_detect.py`.
    """
    sides = short_sides(boxes, sizes_hw, spec.with_(size_hw=(320, 320)))
    small = float(np.quantile(sides, _SMALL_SHARE)) if len(sides) else 320.0
    return 416 if small < 32.0 else 320, {"share_smaller": _SMALL_SHARE, "side_pixels": small, "image_size": 320}


def choose_finest(boxes: Sequence[Boxes], sizes_hw: NDArray[np.int64], spec: ImageSpec) -> tuple[int, Evidence]:
    """Return the stride of the finest pyramid level and the box sizes behind it: a box spans three places each way."""
    sides = short_sides(boxes, sizes_hw, spec)
    small = float(np.quantile(sides, _SMALL_SHARE)) if len(sides) else float(max(spec.size_hw))
    evidence: Evidence = {"share_smaller": _SMALL_SHARE, "side_pixels": small, "image_size": max(spec.size_hw)}
    return 16 if small >= 48.0 else 8, evidence
