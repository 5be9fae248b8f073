"""Register one thumbnail to another (shift, scale, brightness) and measure how well their details agree.

Agreement is the correlation of details at three scales over the best three quarters of the image, as
`-log10(1 - correlation)`. A watermark falls into the worst quarter, brightness and contrast cancel, strong compression
costs only the finest scale, which is excluded, and a uniform background shared by two objects has no details.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVELS", "ImageDetails", "align", "correlate_details", "details"]

_BATCH = 256
_GRID = 48  # side of the grid on which details are compared
_BLOCKS = 8
_KEPT_FRACTION = 0.75
LEVELS = ((32, 2), (48, 2), (96, 3))
"""(side, steps) of the registration grids, coarse to fine; the last is the most expensive."""
_RADII = (1, 1, 2, 4)  # smoothing radii, the first on the full grid and the others on the half-size one
_NOISE = 0.003  # mean square in the details caused by rounding to whole gray levels

Array = NDArray[np.float32]


@dataclass(frozen=True)
class ImageDetails:
    """Details of M images, for `correlate_details`.

    Attributes:
        blocks: (M, 3, 64, 36) float32, details of three scales, fine to coarse, in 8 x 8 blocks.
        power: (M, 3, 64) sums of squares of the blocks.
        is_saturated: (M, 64) blocks that are largely white or black, or None if not computed.
    """

    blocks: Array
    power: Array
    is_saturated: NDArray[np.bool_] | None

    @staticmethod
    def join(parts: Sequence[ImageDetails]) -> ImageDetails:
        """Concatenate the details of several sets of images."""
        saturated = [p.is_saturated for p in parts if p.is_saturated is not None]
        return ImageDetails(
            np.concatenate([p.blocks for p in parts]),
            np.concatenate([p.power for p in parts]),
            np.concatenate(saturated) if len(saturated) == len(parts) else None,
        )

    def take(self, index: NDArray[np.int64]) -> ImageDetails:
        """Return the details of some of the images."""
        return ImageDetails(
            self.blocks[index], self.power[index], None if self.is_saturated is None else self.is_saturated[index]
        )


def details(images: NDArray[np.uint8], boxes: NDArray[np.float64] | None = None) -> ImageDetails:
    """Compute details of whole images, or of a box of each.

    Args:
        images: (M, S, S) gray.
        boxes: (M, 4) top, left, height, width as fractions; None for the whole image.
    """
    current = images.astype(np.float32)
    if boxes is not None:
        current = _warp(current, boxes, current.shape[1])
    smooth = []
    for operator in _smoothers(images.shape[1]):
        current = _both_ways(operator, current)
        smooth.append(current)
    count, side = len(images), _GRID // _BLOCKS
    blocks = np.empty((count, len(smooth) - 1, _BLOCKS**2, side * side), dtype=np.float32)
    for k, (fine, coarse) in enumerate(pairwise(smooth)):
        parts = (fine - coarse).reshape(count, _BLOCKS, side, _BLOCKS, side).transpose(0, 1, 3, 2, 4)
        blocks[:, k] = parts.reshape(count, _BLOCKS**2, -1)
    saturated = None
    if boxes is None:
        ends = ((images - np.uint8(3)) >= 250).astype(np.float32)  # 253 and above, or (wrapped round) 2 and below
        saturated = _both_ways(_block_means(images.shape[1], _BLOCKS), ends).reshape(count, -1) > 0.2
    return ImageDetails(blocks, np.einsum("mkbp,mkbp->mkb", blocks, blocks), saturated)


def correlate_details(first: ImageDetails, second: ImageDetails) -> Array:
    """Measure how well the details of pairs agree.

    Returns:
        (M,) mean of -log10(1 - correlation) over the scales: about 0 for unrelated images, 1 for a
        correlation of 0.9, above 3 for duplicates.
    """
    aa, bb = first.power, second.power
    ab = np.einsum("mkbp,mkbp->mkb", first.blocks, second.blocks)
    num_kept = int(_KEPT_FRACTION * aa.shape[2])
    gain = ab.sum(axis=2) / (aa.sum(axis=2) + 1e-9)
    sums: tuple[NDArray[np.floating], ...] = (aa, bb, ab)
    for _ in range(2):
        rest = bb - 2 * gain[..., None] * ab + gain[..., None] ** 2 * aa
        if first.is_saturated is not None and second.is_saturated is not None:
            # Where only one image is over- or underexposed, brightening has clipped the details.
            rest = np.where((first.is_saturated != second.is_saturated)[:, None], np.inf, rest)
        order = np.argpartition(rest, num_kept, axis=2)[:, :, :num_kept]
        sums = tuple(np.take_along_axis(x, order, axis=2).sum(axis=2, dtype=np.float64) for x in (aa, bb, ab))
        gain = sums[2] / (sums[0] + 1e-9)
    floor = _NOISE * num_kept * first.blocks.shape[3]
    correlation = sums[2] / np.sqrt((sums[0] + floor) * (sums[1] + floor))
    return np.asarray(-np.log10(1 - np.clip(correlation, 0, 0.99999)).mean(axis=1), dtype=np.float32)


def align(
    whole: NDArray[np.uint8], part: NDArray[np.uint8], boxes: NDArray[np.float64], level: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Refine the position of `part` in `whole` by least squares on gray values (Lucas and Kanade, 1981).

    Shift and scale of both axes are fitted jointly with brightness and contrast.

    Args:
        whole: (M, S, S) gray.
        part: (M, S, S) gray.
        boxes: (M, 4) initial top, left, height, width of `part` in `whole`, as fractions.
        level: Index into `LEVELS`.

    Returns:
        (M, 4) boxes, unchanged where the fit does not improve; and (M,) residual: 1 - the correlation of gray
        values.
    """
    out, left = np.empty_like(boxes), np.empty(len(boxes))
    for start in range(0, len(boxes), _BATCH):
        rows = slice(start, start + _BATCH)
        out[rows], left[rows] = _align(whole[rows], part[rows], boxes[rows], *LEVELS[level])
    return out, left


@lru_cache(maxsize=4)
def _smoothers(side: int) -> tuple[Array, ...]:
    """Return operators to apply in sequence: (48, side) smooths and halves, then (48, 48)."""
    out = []
    for radius, size in zip(_RADII, (side, _GRID, _GRID, _GRID), strict=True):
        box = np.zeros((size, size))
        for shift in range(-radius, radius + 1):
            np.add.at(box, (np.arange(size), np.clip(np.arange(size) + shift, 0, size - 1)), 1 / (2 * radius + 1))
        twice = box @ box
        if size != _GRID:
            twice = np.repeat(np.eye(_GRID), size // _GRID, axis=1) / (size // _GRID) @ twice
        out.append(np.asarray(twice, dtype=np.float32))
    return tuple(out)


@lru_cache(maxsize=8)
def _block_means(size: int, side: int) -> Array:
    """Return a (side, size) operator that averages blocks of size / side pixels."""
    return np.asarray(np.repeat(np.eye(side), size // side, axis=1) / (size // side), dtype=np.float32)


def _both_ways(operator: Array, images: Array) -> Array:
    """Apply an operator (side, S) along both axes of (M, S, S); returns (M, side, side)."""
    count, size, _ = images.shape
    if len(operator) == size and (operator == np.eye(size)).all():
        return images
    across = (images.reshape(count * size, size) @ operator.T).reshape(count, size, len(operator))
    return np.asarray(np.matmul(operator, across), dtype=np.float32)


def _warp(images: Array, boxes: NDArray[np.float64], side: int) -> Array:
    """Sample a box of each image onto a `side` x `side` grid linearly; outside pixels repeat the edge."""
    size = images.shape[1]
    center = (np.arange(side) + 0.5) / side
    operators = []
    for axis in (0, 1):
        position = (boxes[:, axis, None] + boxes[:, axis + 2, None] * center) * size - 0.5  # (M, side)
        position = np.clip(position, 0, size - 1)
        low = np.minimum(position.astype(np.int64), size - 2)
        fraction = (position - low).astype(np.float32)
        matrix = np.zeros((len(boxes), side, size), dtype=np.float32)
        np.put_along_axis(matrix, low[:, :, None], 1 - fraction[:, :, None], axis=2)
        np.put_along_axis(matrix, low[:, :, None] + 1, fraction[:, :, None], axis=2)
        operators.append(matrix)
    out: Array = np.matmul(np.matmul(operators[0], images), operators[1].transpose(0, 2, 1))
    return out


def _align(
    whole: NDArray[np.uint8], part: NDArray[np.uint8], boxes: NDArray[np.float64], side: int, steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    count = len(whole)
    shrink = _block_means(whole.shape[1], side)
    large = _both_ways(shrink, whole.astype(np.float32))
    target = _both_ways(shrink, part.astype(np.float32)).reshape(count, -1)
    target = target - target.mean(axis=1, keepdims=True)
    power = np.sqrt((target * target).sum(axis=1)) + 1e-6
    center = ((np.arange(side) + 0.5) / side).astype(np.float32)
    best, best_error, current = boxes.copy(), np.full(count, np.inf), boxes.copy()
    for _ in range(steps + 1):
        moved = _warp(large, current, side)
        down, across = np.zeros_like(moved), np.zeros_like(moved)
        down[:, 1:-1] = (moved[:, 2:] - moved[:, :-2]) / 2
        across[:, :, 1:-1] = (moved[:, :, 2:] - moved[:, :, :-2]) / 2
        columns = np.stack([moved, down, across, down * center[:, None], across * center], axis=1)
        columns = columns.reshape(count, 5, -1)
        columns -= columns.mean(axis=2, keepdims=True)  # brightness
        gram = np.matmul(columns, columns.transpose(0, 2, 1))
        right = np.matmul(columns, target[:, :, None])[:, :, 0]
        scale = np.sqrt(np.maximum(np.einsum("mii->mi", gram), 1e-6))
        error = 1 - right[:, 0] / (scale[:, 0] * power)
        better = error < best_error
        best[better], best_error[better] = current[better], error[better]
        gram = gram / (scale[:, :, None] * scale[:, None, :]) + 1e-4 * np.eye(5, dtype=np.float32)
        fit = np.linalg.solve(gram, (right / scale)[:, :, None])[:, :, 0] / scale
        gain = np.where(np.abs(fit[:, :1]) > 0.2, fit[:, :1], 1.0)
        # Slopes are per pixel and boxes are fractions; the columns move top, left, height, width.
        step = np.clip(fit[:, 1:] / gain / side, -0.03, 0.03)
        current = np.clip(current + step, [-0.2, -0.2, 0.7, 0.7], [0.3, 0.3, 1.3, 1.3])
    return best, best_error
