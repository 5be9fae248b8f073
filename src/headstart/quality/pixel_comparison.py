"""Compare two images pixel by pixel; used for the few with equal thumbnails."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from headstart.preprocessing.image_spec import ImageError, read_bytes
from headstart.preprocessing.reduced_decoding import decode_reduced

__all__ = ["SamePixels"]


class SamePixels:
    """Check whether images at two positions have equal pixels.

    Args:
        paths: The files.
        max_pixels: As in `ImageSpec`.
    """

    def __init__(self, paths: Sequence[str], max_pixels: int) -> None:
        self._paths = paths
        self._max_pixels = max_pixels

    def __call__(self, first: int, second: int) -> bool:
        """Return True for equal pixels; False if they differ or one is no longer readable."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                a, b = (
                    decode_reduced(read_bytes(self._paths[i]), min_side=1 << 30, max_pixels=self._max_pixels)
                    for i in (first, second)
                )
        except ImageError:
            return False
        if a.image.mode != b.image.mode and {a.image.mode, b.image.mode} <= {"L", "RGB", "P"}:
            return bool(np.array_equal(np.asarray(a.image.convert("RGB")), np.asarray(b.image.convert("RGB"))))
        return a.image.mode == b.image.mode and bool(np.array_equal(np.asarray(a.image), np.asarray(b.image)))
