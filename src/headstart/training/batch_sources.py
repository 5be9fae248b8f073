"""Provide training batches: cached activations, or pixels decoded on demand.

The view of an image in a step depends on seed, epoch and position only, not on the source.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.features.view_activations import PLAIN, ViewActivations
from headstart.types.arrays import Ids

__all__ = ["ActivationSource", "Batch", "PixelSource", "SizedSource", "Source", "epoch_order", "view_of"]

Batch = tuple[tuple[Any, ...], dict[str, Any]]
"""States at the cut and the pooled features before it, float32 tensors with B first."""


class Source(Protocol):
    """Protocol of a batch source; `view` is `PLAIN` or the number of a cached view."""

    def announce(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Announce the (sample, view) pairs of the next batches, in order."""
        ...

    def batch(self, samples: Ids, views: Ids) -> Batch:
        """Return one batch."""
        ...


def epoch_order(train: Ids, epoch: int, seed: int, labels: Ids | None = None) -> Ids:
    """Return the order of the training images in one epoch.

    Args:
        train: The images.
        epoch: Epoch number, from 0.
        seed: Random seed of the training.
        labels: Their classes, for balanced sampling: large classes are subsampled, small ones oversampled.
    """
    rng = np.random.default_rng([seed, 7, epoch])
    if labels is None:
        return np.asarray(rng.permutation(train))
    classes = rng.permutation(np.unique(labels))
    counts = np.full(len(classes), len(train) // len(classes)) + (np.arange(len(classes)) < len(train) % len(classes))
    chosen = []
    for k, count in zip(classes, counts, strict=True):
        own = train[labels == k]
        whole = np.tile(own, int(count) // len(own))
        chosen += [whole, rng.permutation(own)[: int(count) % len(own)]]
    return np.asarray(rng.permutation(np.concatenate(chosen)))


def view_of(epoch: int, num_views: int) -> int:
    """Return the view shown in an epoch."""
    return PLAIN if num_views == 0 else 1 + epoch % num_views


class ActivationSource:
    """Cached activations as tensors.

    Args:
        views: The cached rows.
        num_states: Number of state tensors per row; the rest are pooled features.
    """

    def __init__(self, views: ViewActivations, num_states: int) -> None:
        self.views = views
        self._num_states = num_states

    def announce(self, pairs: Sequence[tuple[int, int]]) -> None:
        """See `Source`."""
        self.views.prepare(pairs)

    def batch(self, samples: Ids, views: Ids) -> Batch:
        """See `Source`."""
        rows = self.views.rows(samples, [int(v) for v in views])
        parts = self.views.space.layout.unpack(rows)
        names = list(parts)
        tensors = [torch.from_numpy(np.ascontiguousarray(part)).float() for part in parts.values()]
        states = tuple(
            t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in tensors[: self._num_states]
        )
        return states, dict(zip(names[self._num_states :], tensors[self._num_states :], strict=True))


class SizedSource:
    """Training views at one size, and unaugmented images at the size of prediction.

    Args:
        views: Source of views.
        plain: Source of `PLAIN`.
    """

    def __init__(self, views: ActivationSource, plain: ActivationSource) -> None:
        self.views, self.plain = views, plain

    def announce(self, pairs: Sequence[tuple[int, int]]) -> None:
        """See `Source`."""
        self.views.announce([p for p in pairs if p[1] != PLAIN])
        self.plain.announce([p for p in pairs if p[1] == PLAIN])

    def batch(self, samples: Ids, views: Ids) -> Batch:
        """See `Source`; all images of a batch have one size."""
        return (self.plain if views[0] == PLAIN else self.views).batch(samples, views)


class PixelSource:
    """Pixels of views, prepared by threads a few batches ahead.

    Args:
        make: Maps (sample, view) to (3, H, W) float32 normalized pixels; must be thread-safe.
        num_threads: Worker threads.
        ahead: Largest number of prepared images.
    """

    def __init__(self, make: Callable[[int, int], NDArray[np.float32]], num_threads: int, ahead: int = 128) -> None:
        self._make = make
        self._ahead = ahead
        self._pool = ThreadPoolExecutor(max(1, num_threads), thread_name_prefix="pixels")
        self._started: OrderedDict[tuple[int, int], Future[NDArray[np.float32]]] = OrderedDict()
        self._coming: list[tuple[int, int]] = []

    def announce(self, pairs: Sequence[tuple[int, int]]) -> None:
        """See `Source`; cancels images that are no longer needed."""
        wanted = set(pairs)
        for pair in [p for p in self._started if p not in wanted]:
            self._started.pop(pair).cancel()
        self._coming = list(reversed(pairs))

    def batch(self, samples: Ids, views: Ids) -> Batch:
        """See `Source`."""
        wanted = [(int(s), int(v)) for s, v in zip(samples, views, strict=True)]
        futures = []
        for pair in wanted:
            is_started = pair in self._started
            futures.append(self._started.pop(pair) if is_started else self._pool.submit(self._make, *pair))
        while self._coming and len(self._started) < self._ahead:
            pair = self._coming.pop()
            if pair not in self._started and pair not in wanted:
                self._started[pair] = self._pool.submit(self._make, *pair)
        pixels = np.stack([f.result() for f in futures])
        return (torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last),), {}

    def close(self) -> None:
        """Stop the workers."""
        self._pool.shutdown(wait=True, cancel_futures=True)
