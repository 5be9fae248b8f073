"""Map boxes between an image and the network's input; numpy only.

Scaling, cropping, shifting and padding are one affine map per axis, shared by training, evaluation and the runtime.
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
"""Minimum visible fraction of a box's area in a view; boxes below it are ignored in the loss."""

MIN_SIDE = 3.0
"""Minimum side of a training box in input pixels."""

_RATIO = 0.3  # maximum change of aspect ratio, relative to the zoom strength (log scale)


@dataclass(frozen=True, slots=True)
class Frame:
    """Axis-wise affine map from the upright image to the network's input, both in pixels.

    Attributes:
        left, upper: Image point at the upper left corner of the input, before flipping.
        scale_x, scale_y: Input pixels per image pixel.
        size_hw: Input size.
        is_flipped, is_vflipped: Whether the input is flipped horizontally, vertically.
    """

    left: float
    upper: float
    scale_x: float
    scale_y: float
    size_hw: tuple[int, int]
    is_flipped: bool = False
    is_vflipped: bool = False

    def to_input(self, xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return (M, 4) image boxes in input pixels; they may exceed the input."""
        boxes = np.asarray(xyxy, dtype=np.float64).reshape(-1, 4)
        out = np.empty_like(boxes)
        out[:, 0::2] = (boxes[:, 0::2] - self.left) * self.scale_x
        out[:, 1::2] = (boxes[:, 1::2] - self.upper) * self.scale_y
        return self._flip(out).astype(np.float32)

    def to_image(self, xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return (M, 4) input boxes in image pixels."""
        boxes = self._flip(np.asarray(xyxy, dtype=np.float64).reshape(-1, 4))
        out = np.empty_like(boxes)
        out[:, 0::2] = boxes[:, 0::2] / self.scale_x + self.left
        out[:, 1::2] = boxes[:, 1::2] / self.scale_y + self.upper
        return out.astype(np.float32)

    def _flip(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        out = boxes.copy()
        if self.is_flipped:
            out[:, [0, 2]] = self.size_hw[1] - boxes[:, [2, 0]]
        if self.is_vflipped:
            out[:, [1, 3]] = self.size_hw[0] - boxes[:, [3, 1]]
        return out


def plain_frame(image_hw: tuple[int, int], spec: ImageSpec) -> Frame:
    """Return the frame of the unaugmented image, as in prediction.

    Args:
        image_hw: Height and width of the upright image.
        spec: The preprocessing specification; `resize_mode` must be `squash` or `pad`, which keep the whole image.

    Raises:
        ValueError: Another `resize_mode`, which would crop objects.
    """
    height, width = spec.size_hw
    if spec.resize_mode == "squash":
        return Frame(0.0, 0.0, width / image_hw[1], height / image_hw[0], spec.size_hw)
    if spec.resize_mode != "pad":
        raise ValueError(f"a detector needs the whole image: resize_mode must be squash or pad, not {spec.resize_mode}")
    scale = min(width / image_hw[1], height / image_hw[0])  # the same rounding as `fit_image`
    inner_w, inner_h = max(1, round(image_hw[1] * scale)), max(1, round(image_hw[0] * scale))
    scale_x, scale_y = inner_w / image_hw[1], inner_h / image_hw[0]
    return Frame(
        -((width - inner_w) // 2) / scale_x, -((height - inner_h) // 2) / scale_y, scale_x, scale_y, spec.size_hw
    )


def draw_frame(
    image_hw: tuple[int, int], spec: ImageSpec, augment: Augment, draws: NDArray[np.float64] | None
) -> Frame:
    """Draw the frame of one view.

    Args:
        image_hw: Height and width of the upright image.
        spec: The preprocessing specification.
        augment: `zoom` z draws the scale from [1 - z, 1 + z] (log-uniform) with a slight change of aspect ratio, at a
            random position; `shift`, `flip` and `vflip` as for whole images.
        draws: (20,) random numbers of the view; None for the unaugmented image.
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
    """Clip boxes to the input.

    Args:
        xyxy: (M, 4) boxes in input pixels.
        size_hw: Input size.

    Returns:
        (M, 4) clipped boxes; (M,) whether a box is kept for training: at least `MIN_VISIBLE` of the area visible and
        both sides at least `MIN_SIDE`; (M,) whether it is truncated: visible, but below these limits.
    """
    boxes = np.asarray(xyxy, dtype=np.float32).reshape(-1, 4)
    height, width = size_hw
    clipped = np.clip(boxes, 0.0, np.array([width, height, width, height], dtype=np.float32))
    sides = clipped[:, 2:] - clipped[:, :2]
    area = np.prod(sides.astype(np.float64), axis=1)
    whole = np.prod((boxes[:, 2:] - boxes[:, :2]).astype(np.float64), axis=1)
    is_kept = (area >= MIN_VISIBLE * whole) & (sides.min(axis=1, initial=np.inf) >= MIN_SIDE) & (whole > 0)
    return clipped, is_kept, (area > 0) & ~is_kept
