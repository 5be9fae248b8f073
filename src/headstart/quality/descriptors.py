"""Describe thumbnails by low-frequency DCT coefficients that barely change when an image is edited slightly.

A perceptual hash (pHash: Zauner, 2010) keeps only the signs of these coefficients. Signs lose too much: cropping 8 %
flips 14 of 64 bits, while the coefficients of the matching window of the original still agree. So each image is
described as a whole and through windows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["FLIP", "HALVES", "WINDOWS", "Box", "Whitener", "describe_thumbnails"]

_SIZE = 8  # coefficients per side, as in pHash
_BATCH = 512

Box = tuple[float, float, float, float]
"""(top, left, height, width) as fractions of the image."""

WINDOWS: tuple[Box, ...] = (
    (0.0, 0.0, 1.0, 1.0),
    *((y, x, 0.96, 0.96) for y in (0.0, 0.04) for x in (0.0, 0.04)),
    (0.04, 0.04, 0.92, 0.92),
    *((y, x, 0.92, 0.92) for y in (0.0, 0.08) for x in (0.0, 0.08)),
    (0.08, 0.08, 0.84, 0.84),
)
"""Windows that a crop may keep; the first is the whole image."""

HALVES: tuple[Box, ...] = ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 0.5, 1.0))
"""Upper and lower half: text added to a duplicate leaves one of them unchanged."""

_signs = np.ones((_SIZE, _SIZE), dtype=np.float32)
_signs[:, 1::2] = -1
FLIP: NDArray[np.float32] = _signs.reshape(-1)[1:]
"""(63,) factor that turns a descriptor into that of the horizontally flipped image."""


def describe_thumbnails(thumbnails: NDArray[np.uint8], window: Box = WINDOWS[0]) -> NDArray[np.float32]:
    """Compute low-frequency DCT coefficients of one window of each thumbnail, without the mean.

    Args:
        thumbnails: (N, S, S) gray.
        window: (top, left, height, width) as fractions of the image.

    Returns:
        (N, 63), rows of length 1, or 0 for a uniform window.
    """
    top, left, height, width = window
    rows, columns = _cosines(thumbnails.shape[1], top, height), _cosines(thumbnails.shape[2], left, width)
    out = np.empty((len(thumbnails), _SIZE * _SIZE - 1), dtype=np.float32)
    for start in range(0, len(thumbnails), _BATCH):
        part = thumbnails[start : start + _BATCH].astype(np.float32)
        coefficients = np.matmul(np.matmul(rows, part), columns.T)  # (n, 8, 8)
        out[start : start + _BATCH] = coefficients.reshape(len(part), -1)[:, 1:]
    return _unit(out, 40.0)


class Whitener:
    """Standardize descriptors so that what all images of a dataset share does not count.

    Args:
        descriptions: (N, 63) descriptors of whole images.
    """

    def __init__(self, descriptions: NDArray[np.float32]) -> None:
        used = descriptions[np.abs(descriptions).sum(axis=1) > 0]
        if len(used) < 8:  # too few for statistics
            self.mean = np.zeros(descriptions.shape[1], dtype=np.float32)
            self.scale = np.ones(descriptions.shape[1], dtype=np.float32)
            return
        self.mean = used.mean(axis=0)
        deviation = used.std(axis=0)
        self.scale = deviation + 0.3 * np.sqrt((deviation**2).mean()) + 1e-6

    def __call__(self, descriptions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, 63) rows of length 1; zero rows stay zero."""
        out = (descriptions - self.mean) / self.scale
        out[np.abs(descriptions).sum(axis=1) == 0] = 0
        return _unit(out, 0.0)


def _cosines(num_pixels: int, start: float, size: float) -> NDArray[np.float32]:
    """Return an (8, num_pixels) operator: linear sampling of a window at 64 points, then the first 8 DCT-II terms."""
    points = 64
    position = (start + size * (np.arange(points) + 0.5) / points) * num_pixels - 0.5
    low = np.clip(np.floor(position).astype(np.int64), 0, num_pixels - 1)
    high = np.minimum(low + 1, num_pixels - 1)
    fraction = np.clip(position - low, 0, 1)
    sampler = np.zeros((points, num_pixels))
    np.add.at(sampler, (np.arange(points), low), 1 - fraction)
    np.add.at(sampler, (np.arange(points), high), fraction)
    basis = np.cos(np.pi * np.arange(_SIZE)[:, None] * (2 * np.arange(points) + 1) / (2 * points))
    basis[0] *= np.sqrt(0.5)
    return np.asarray(basis @ sampler, dtype=np.float32)


def _unit(rows: NDArray[np.float32], least: float) -> NDArray[np.float32]:
    """Normalize rows to length 1; rows shorter than `least` (almost no contrast) become 0."""
    length = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    return np.where(length > max(least, 1e-9), rows / np.maximum(length, 1e-9), 0).astype(np.float32)
