"""Compute baselines: constant prediction and nearest neighbor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["majority_class", "nearest_neighbor_hits"]

_CHUNK = 1024
_MOST_KNOWN = 20_000  # images that the nearest is looked for among, spread evenly where there are more


def majority_class(class_ids: NDArray[np.int64]) -> int:
    """Return the best constant answer: the most frequent class of the very images that are scored.

    It is chosen on the scored images, not on the training images: no answer that ignores the image does better on
    them, so a score below it is worse than looking at nothing, whatever the shares of the classes in training are.

    Args:
        class_ids: (N,) true classes of the scored images, N > 0; of equally frequent classes the first is taken.
    """
    return int(np.bincount(class_ids).argmax())


def nearest_neighbor_hits(
    rows: NDArray[np.float32], class_ids: NDArray[np.int64], groups: NDArray[np.int64] | None
) -> NDArray[np.bool_]:
    """Return whether the nearest row outside the sample's own group has the sample's class.

    Args:
        rows: (N, d) coordinates with Euclidean distances.
        class_ids: (N,).
        groups: (N,), at least two different, or None without groups.
    """
    num = len(class_ids)
    group = np.arange(num) if groups is None else groups
    known = np.unique(np.linspace(0, num - 1, min(num, _MOST_KNOWN)).astype(np.int64))
    known_rows = rows[known]
    squared = np.einsum("nd,nd->n", known_rows, known_rows)
    hits = np.empty(num, dtype=np.bool_)
    for start in range(0, num, _CHUNK):
        part = slice(start, start + _CHUNK)
        distance = squared - 2.0 * (rows[part] @ known_rows.T)
        distance[group[part, None] == group[known]] = np.inf
        hits[part] = class_ids[known[distance.argmin(axis=1)]] == class_ids[part]
    return hits
