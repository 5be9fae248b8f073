"""Where an image lies in what the network sees: one map for boxes there and back, numpy only.

A view is a window onto the image, so scaling, cropping, placing and padding are one
affine map of each axis, and training, evaluation and the runtime all move boxes through the same few lines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.preprocessing.augmentation import Augment
from headstart.preprocessing.image_spec import ImageSpec

__all__ = ["MIN_SIDE", "MIN_VISIBLE", "Frame", "clip_boxes", "draw_frame", "plain_frame"]

MIN_VISIBLE = 0.3
"""Share of a box's area that must be left after a view's crop; what is left of others is neither learned nor denied."""

MIN_SIDE = 3.0
"""Shortest side in network pixels of a box that is learned."""

_RATIO = 0.3  # largest change of proportions, as a share of the zoom's strength (log scale)


@dataclass(frozen=True, slots=True)
class Frame:
    """An axis-wise affine map from the upright image to the network's input, both in pixels.

    Attributes:
        left, upper: The image's point that lies at the input's upper left corner, before mirroring.
        scale_x, scale_y: Input pixels for each pixel of the image.
        size_hw: Of the input.
        is_flipped, is_vflipped: Whether the input is mirrored left to right, top to bottom.
    """

    left: float
    upper: float
    scale_x: float
    scale_y: float
    size_hw: tuple[int, int]
    is_flipped: bool = False
    is_vflipped: bool = False

    def to_input(self, xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return (M, 4) boxes of the image in input pixels; they may reach outside."""
        boxes = np.asarray(xyxy, dtype=np.float64).reshape(-1, 4)
        out = np.empty_like(boxes)
        out[:, 0::2] = (boxes[:, 0::2] - self.left) * self.scale_x
        out[:, 1::2] = (boxes[:, 1::2] - self.upper) * self.scale_y
        return self._mirrored(out).astype(np.float32)

    def to_image(self, xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return (M, 4) boxes of the input in pixels of the image."""
        boxes = self._mirrored(np.asarray(xyxy, dtype=np.float64).reshape(-1, 4))
        out = np.empty_like(boxes)
        out[:, 0::2] = boxes[:, 0::2] / self.scale_x + self.left
        out[:, 1::2] = boxes[:, 1::2] / self.scale_y + self.upper
        return out.astype(np.float32)

    def _mirrored(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        out = boxes.copy()
        if self.is_flipped:
            out[:, [0, 2]] = self.size_hw[1] - boxes[:, [2, 0]]
        if self.is_vflipped:
            out[:, [1, 3]] = self.size_hw[0] - boxes[:, [3, 1]]
        return out


def plain_frame(image_hw: tuple[int, int], spec: ImageSpec) -> Frame:
    """Return the map of the image as prediction sees it.

    Args:
        image_hw: Height and width of the upright image.
        spec: The pixel contract; its `fit` is `squash` or `pad`, which show the whole image.

    Raises:
        ValueError: Another `fit`, which would cut objects off.
    """
    height, width = spec.size_hw
    if spec.fit == "squash":
        return Frame(0.0, 0.0, width / image_hw[1], height / image_hw[0], spec.size_hw)
    if spec.fit != "pad":
        raise ValueError(f"a detector sees the whole image: fit is squash or pad, not {spec.fit}")
    scale = min(width / image_hw[1], height / image_hw[0])  # the same rounding as `fit_image`
    inner_w, inner_h = max(1, round(image_hw[1] * scale)), max(1, round(image_hw[0] * scale))
    scale_x, scale_y = inner_w / image_hw[1], inner_h / image_hw[0]
    return Frame(
        -((width - inner_w) // 2) / scale_x, -((height - inner_h) // 2) / scale_y, scale_x, scale_y, spec.size_hw
    )


def draw_frame(
    image_hw: tuple[int, int], spec: ImageSpec, augment: Augment, draws: NDArray[np.float64] | None
) -> Frame:
    """Return the map of one view.

    Args:
        image_hw: Height and width of the upright image.
        spec: The pixel contract.
        augment: `zoom` z draws the scale between 1 - z and 1 + z (evenly on a log scale) with a slight change
            of proportions; the window lies anywhere in the image, or the image anywhere in a larger window;
            `shift`, `flip` and `vflip` as for whole images.
        draws: (20,) of the view's generator; None is the image itself.
    """
    plain = plain_frame(image_hw, spec)
    if draws is None:
        return plain
    low, high = math.log1p(-augment.zoom), math.log1p(augment.zoom)
    zoom = math.exp(low + (high - low) * draws[0])
    ratio = math.exp(_RATIO * augment.zoom * (2.0 * draws[1] - 1.0))
    scale_x, scale_y = plain.scale_x * zoom * ratio, plain.scale_y * zoom / ratio
    height, width = spec.size_hw
    window_w, window_h = width / scale_x, height / scale_y
    whole_w, whole_h = width / plain.scale_x, height / plain.scale_y
    moved = augment.shift * (2.0 * draws[10:12] - 1.0)
    left = plain.left + draws[2] * (whole_w - window_w) + float(moved[0]) * whole_w
    upper = plain.upper + draws[3] * (whole_h - window_h) + float(moved[1]) * whole_h
    is_flipped, is_vflipped = bool(draws[5] < augment.flip), bool(draws[6] < augment.vflip)
    return Frame(left, upper, scale_x, scale_y, spec.size_hw, is_flipped, is_vflipped)


def clip_boxes(
    xyxy: NDArray[np.floating], size_hw: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return boxes cut at the input's edges.

    Args:
        xyxy: (M, 4) boxes in input pixels.
        size_hw: Of the input.

    Returns:
        (M, 4) clipped boxes; (M,) which are learned: at least `MIN_VISIBLE` of the area is left and both sides are
        at least `MIN_SIDE`; (M,) which are remains of others: there to be seen, but too little to be asked for.
    """
    boxes = np.asarray(xyxy, dtype=np.float32).reshape(-1, 4)
    height, width = size_hw
    clipped = np.clip(boxes, 0.0, np.array([width, height, width, height], dtype=np.float32))
    sides = clipped[:, 2:] - clipped[:, :2]
    area = np.prod(sides.astype(np.float64), axis=1)
    whole = np.prod((boxes[:, 2:] - boxes[:, :2]).astype(np.float64), axis=1)
    is_kept = (area >= MIN_VISIBLE * whole) & (sides.min(axis=1, initial=np.inf) >= MIN_SIDE) & (whole > 0)
    return clipped, is_kept, (area > 0) & ~is_kept
