"""Provide batches for detector training: cached activations or pixels, with the boxes of the same views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.detection.augmentation import ViewBoxes
from headstart.features.view_activations import ViewActivations
from headstart.training.batch_sources import PixelSource
from headstart.types.arrays import Ids

__all__ = ["CachedSource", "ImageSource"]

FindBoxes = Callable[[int, int], ViewBoxes]
"""Maps (sample, view) to its boxes."""


class CachedSource:
    """Cached activations as tensors, with boxes.

    Args:
        views: The cached rows.
        find_boxes: Returns the boxes of a view.
    """

    def __init__(self, views: ViewActivations, find_boxes: FindBoxes) -> None:
        self.views = views
        self._find = find_boxes
        self._known: dict[tuple[int, int], ViewBoxes] = {}

    def announce(self, pairs: Sequence[tuple[int, int]]) -> None:
        """See `DetectSource`."""
        self.views.prepare(pairs)

    def batch(self, samples: Ids, views: Ids) -> tuple[tuple[Any, ...], list[ViewBoxes]]:
        """See `DetectSource`."""
        rows = self.views.rows(samples, [int(v) for v in views])
        parts = tuple(
            torch.from_numpy(np.ascontiguousarray(part)).float().contiguous(memory_format=torch.channels_last)
            for part in self.views.space.layout.unpack(rows).values()
        )
        return parts, [self._boxes(int(s), int(v)) for s, v in zip(samples, views, strict=True)]

    def _boxes(self, sample: int, view: int) -> ViewBoxes:
        if (sample, view) not in self._known:
            self._known[sample, view] = self._find(sample, view)
        return self._known[sample, view]

    def close(self) -> None:
        """Stop the workers."""
        self.views.close()


class ImageSource:
    """Pixels decoded on demand, with boxes, for training the whole network.

    Args:
        make: Maps (sample, view) to (3, H, W) normalized pixels; must be thread-safe.
        find_boxes: Returns the boxes of a view.
        num_threads: Worker threads.
    """

    def __init__(
        self, make: Callable[[int, int], NDArray[np.float32]], find_boxes: FindBoxes, num_threads: int
    ) -> None:
        self._pixels = PixelSource(make, num_threads)
        self._find = find_boxes

    def announce(self, pairs: Sequence[tuple[int, int]]) -> None:
        """See `DetectSource`."""
        self._pixels.announce(pairs)

    def batch(self, samples: Ids, views: Ids) -> tuple[tuple[Any, ...], list[ViewBoxes]]:
        """See `DetectSource`."""
        states, _ = self._pixels.batch(samples, views)
        return states, [self._find(int(s), int(v)) for s, v in zip(samples, views, strict=True)]

    def close(self) -> None:
        """Stop the workers."""
        self._pixels.close()
