"""Measure box sizes at the network's input size, and choose input size and pyramid levels from them.

Boxes of a few input pixels cannot be learned, so this is checked before training.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.backbones.cards import find_card
from headstart.data.boxes.records import Boxes
from headstart.detection.image_frames import plain_frame
from headstart.preprocessing.image_spec import ImageSpec
from headstart.types.codes import DecisionReason, Evidence, Finding, FindingKind, Severity
from headstart.types.records import Decision
from headstart.utils.limits import MAX_IMAGE_SIZE

if TYPE_CHECKING:
    from headstart.config.settings import TrainSettings

__all__ = ["BOUNDS", "BoxSizes", "choose_finest", "choose_size", "choose_spec", "measure_sizes"]

BOUNDS = (8, 16, 32, 96)
"""Bin edges of a box's shorter side, input pixels."""

_TINY = 8.0
_MAX_TINY = 0.2  # fraction of tiny boxes above which a warning is emitted
_SMALL_FRACTION = 0.02  # quantile of box sizes used to choose size and levels
_MULTIPLE = 32  # the input size is a multiple of the largest stride


@dataclass(frozen=True, slots=True)
class BoxSizes:
    """Distribution of box sizes after resizing.

    Attributes:
        size_hw: Input size of the network.
        names: Class names.
        counts: Per class, number of boxes by shorter side: below 8, 16, 32, 96 input pixels, and the rest.
        tiny_fraction: Fraction of all boxes with a shorter side under 8 pixels.
        better_size: Smallest input size at which at most 20 % are that small; None where this is already the case, or
            where no input size suffices.
        time_factor: Relative duration of an epoch at that size; 1 without one.
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

    def findings(self) -> tuple[Finding, ...]:
        """Return a warning if more than 20 % of the boxes are tiny."""
        if self.tiny_fraction <= _MAX_TINY:
            return ()
        evidence: Evidence = {
            "tiny_fraction": self.tiny_fraction,
            "size": max(self.size_hw),
            "better_size": self.better_size,
            "max_size": MAX_IMAGE_SIZE,
            "time_factor": self.time_factor,
        }
        return (Finding(FindingKind.SMALL_BOXES, Severity.WARNING, evidence),)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def choose_spec(
    settings: TrainSettings, boxes: Sequence[Boxes], sizes_hw: NDArray[np.int64]
) -> tuple[ImageSpec, list[Decision]]:
    """Return the image spec of a detector; an unset size is chosen from the boxes and rounded up to a multiple of 32.

    Args:
        settings: The settings.
        boxes: Boxes of the training images.
        sizes_hw: (N, 2) sizes of the upright images.
    """
    card = find_card(settings.backbone)
    is_whole = settings.resize_mode in ("squash", "pad")
    own: dict[str, Any] = {
        "resize_mode": settings.resize_mode if is_whole else "squash",
        "max_pixels": settings.max_pixels,
        "intensity_range": settings.intensity_range,
    }
    decisions = [] if is_whole else [Decision("resize_mode", "squash", DecisionReason.WHOLE_IMAGE_FOR_BOXES)]
    if settings.image_size is None:
        base = card.image_spec(None if card.is_fixed_size else max(card.min_size, 320)).with_(**own)
        size, sides = choose_size(boxes, sizes_hw, base)
        decisions.append(Decision("image_size", size, DecisionReason.BOX_SIZES, evidence=sides))
    else:
        size = _round_up(settings.image_size)
        if size != settings.image_size:
            evidence: Evidence = {"requested": settings.image_size, "multiple": _MULTIPLE}
            decisions.append(Decision("image_size", size, DecisionReason.SIZE_ROUNDED_UP, evidence=evidence))
    return card.image_spec(size).with_(**own), decisions


def measure_sizes(
    boxes: Sequence[Boxes], sizes_hw: NDArray[np.int64], class_names: Sequence[str], spec: ImageSpec
) -> BoxSizes:
    """Measure the distribution of box sizes, and a better input size where many are tiny; crowds are not counted.

    Args:
        boxes: Boxes of the training images.
        sizes_hw: (N, 2) sizes of the upright images.
        class_names: Names by class id.
        spec: The preprocessing specification.
    """
    sides = _short_sides(boxes, sizes_hw, spec)
    ids = np.concatenate([np.zeros(0, dtype=np.int64), *(b.class_ids[~b.is_crowd] for b in boxes)])
    column = np.digitize(sides, BOUNDS)
    counts = tuple(
        tuple(int(c) for c in np.bincount(column[ids == k], minlength=len(BOUNDS) + 1)) for k in range(len(class_names))
    )
    tiny = _tiny_fraction(sides)
    if tiny <= _MAX_TINY:
        return BoxSizes(spec.size_hw, tuple(class_names), counts, tiny, None, 1.0)
    side = max(spec.size_hw)
    larger = range(_round_up(side + 1), MAX_IMAGE_SIZE + 1, _MULTIPLE)
    position = bisect_left(larger, True, key=lambda size: _is_enough(boxes, sizes_hw, spec.with_(size_hw=(size, size))))
    better = larger[position] if position < len(larger) else None
    factor = 1.0 if better is None else (better / side) ** 2
    return BoxSizes(spec.size_hw, tuple(class_names), counts, tiny, better, factor)


def choose_size(boxes: Sequence[Boxes], sizes_hw: NDArray[np.int64], spec: ImageSpec) -> tuple[int, Evidence]:
    """Return the default input size, and the box sizes behind the choice.

    Source: `benchmarks/bench_detect.py`.
    """
    sides = _short_sides(boxes, sizes_hw, spec.with_(size_hw=(320, 320)))
    small = float(np.quantile(sides, _SMALL_FRACTION)) if len(sides) else 320.0
    return 416 if small < 32.0 else 320, {"smaller_fraction": _SMALL_FRACTION, "side_pixels": small, "image_size": 320}


def choose_finest(boxes: Sequence[Boxes], sizes_hw: NDArray[np.int64], spec: ImageSpec) -> tuple[int, Evidence]:
    """Return the stride of the finest pyramid level (a box spans three anchor points), and the box sizes behind it."""
    sides = _short_sides(boxes, sizes_hw, spec)
    small = float(np.quantile(sides, _SMALL_FRACTION)) if len(sides) else float(max(spec.size_hw))
    evidence: Evidence = {"smaller_fraction": _SMALL_FRACTION, "side_pixels": small, "image_size": max(spec.size_hw)}
    return 16 if small >= 48.0 else 8, evidence


def _short_sides(boxes: Sequence[Boxes], sizes_hw: NDArray[np.int64], spec: ImageSpec) -> NDArray[np.float64]:
    """Return (M,) shorter sides of all boxes except crowds, input pixels."""
    sides = [np.zeros(0)]
    for image_boxes, size in zip(boxes, sizes_hw, strict=True):
        objects = image_boxes.xyxy[~image_boxes.is_crowd]
        moved = plain_frame((int(size[0]), int(size[1])), spec).to_input(objects).astype(np.float64)
        sides.append((moved[:, 2:] - moved[:, :2]).min(axis=1, initial=np.inf))
    return np.concatenate(sides)


def _is_enough(boxes: Sequence[Boxes], sizes_hw: NDArray[np.int64], spec: ImageSpec) -> bool:
    """Return whether at most 20 % of the boxes are tiny at an input size."""
    return _tiny_fraction(_short_sides(boxes, sizes_hw, spec)) <= _MAX_TINY


def _tiny_fraction(sides: NDArray[np.float64]) -> float:
    return float((sides < _TINY).mean()) if len(sides) else 0.0


def _round_up(size: int) -> int:
    return -(-size // _MULTIPLE) * _MULTIPLE
