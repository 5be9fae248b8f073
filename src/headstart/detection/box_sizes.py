"""Measure box sizes at the network's input size, and choose input size and pyramid levels from them.

Boxes of a few input pixels cannot be learned, so this is checked before training.
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
from headstart.types.codes import Evidence

__all__ = ["BOUNDS", "BoxSizes", "choose_finest", "choose_size", "measure_sizes"]

BOUNDS = (8, 16, 32, 96)
"""Bin edges of a box's shorter side, input pixels."""

_TINY = 8.0
_MAX_TINY = 0.2  # fraction of tiny boxes above which a warning is emitted
_SMALL_FRACTION = 0.02  # quantile of box sizes used to choose size and levels
_MAX_SIZE = 1024


@dataclass(frozen=True, slots=True)
class BoxSizes:
    """Distribution of box sizes after resizing.

    Attributes:
        size_hw: Input size of the network.
        names: Class names.
        counts: Per class, number of boxes by shorter side: below 8, 16, 32, 96 input pixels, and the rest.
        tiny_fraction: Fraction of all boxes with a shorter side under 8 pixels.
        better_size: Input size at which at most 20 % are that small; None where this is already the case.
        time_factor: Relative duration of an epoch at that size.
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
    """Return (M,) shorter sides of all boxes, input pixels."""
    sides = []
    for image_boxes, size in zip(boxes, sizes_hw, strict=True):
        moved = plain_frame((int(size[0]), int(size[1])), spec).to_input(image_boxes.xyxy).astype(np.float64)
        sides.append((moved[:, 2:] - moved[:, :2]).min(axis=1, initial=np.inf))
    return np.concatenate(sides) if sides else np.zeros(0)


def measure_sizes(
    boxes: Sequence[Boxes], sizes_hw: NDArray[np.int64], class_names: Sequence[str], spec: ImageSpec
) -> BoxSizes:
    """Measure the distribution of box sizes, and a better input size where many are tiny.

    Args:
        boxes: Boxes of the training images.
        sizes_hw: (N, 2) sizes of the upright images.
        class_names: Names by class id.
        spec: The preprocessing specification.
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
    if tiny > _MAX_TINY:
        side = max(spec.size_hw)
        needed = side * _TINY / max(float(np.quantile(sides, _MAX_TINY)), 1e-3)
        better = min(_MAX_SIZE, math.ceil(needed / 32) * 32)
        factor = (better / side) ** 2
    return BoxSizes(spec.size_hw, tuple(class_names), counts, tiny, better, factor)


def choose_size(boxes: Sequence[Boxes], sizes_hw: NDArray[np.int64], spec: ImageSpec) -> tuple[int, Evidence]:
    """Return the default input size, and the box sizes behind the choice.

    Source: `benchmarks/bench_detect.py`.
    """
    sides = short_sides(boxes, sizes_hw, spec.with_(size_hw=(320, 320)))
    small = float(np.quantile(sides, _SMALL_FRACTION)) if len(sides) else 320.0
    return 416 if small < 32.0 else 320, {"smaller_fraction": _SMALL_FRACTION, "side_pixels": small, "image_size": 320}


def choose_finest(boxes: Sequence[Boxes], sizes_hw: NDArray[np.int64], spec: ImageSpec) -> tuple[int, Evidence]:
    """Return the stride of the finest pyramid level (a box spans three anchor points), and the box sizes behind it."""
    sides = short_sides(boxes, sizes_hw, spec)
    small = float(np.quantile(sides, _SMALL_FRACTION)) if len(sides) else float(max(spec.size_hw))
    evidence: Evidence = {"smaller_fraction": _SMALL_FRACTION, "side_pixels": small, "image_size": max(spec.size_hw)}
    return 16 if small >= 48.0 else 8, evidence
