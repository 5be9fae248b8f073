"""Compute baselines: constant prediction and nearest neighbor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["majority_class", "nearest_neighbor_hits"]

_CHUNK = 1024
_MAX_KNOWN = 20_000  # images searched for neighbors at most, evenly spaced


def majority_class(class_ids: NDArray[np.int64]) -> int:
    """Return the best constant prediction: the most frequent class of the scored images.

    The scored images determine it, not the training images: no constant prediction scores higher on them, whatever
    the class frequencies in training.

    Args:
        class_ids: (N,) true classes of the scored images, N > 0; ties go to the smallest class id.
    """
    return int(np.bincount(class_ids).argmax())


def nearest_neighbor_hits(
    rows: NDArray[np.float32], class_ids: NDArray[np.int64], groups: NDArray[np.int64] | None
) -> NDArray[np.bool_]:
    """Return whether the nearest row outside the sample's own group has the sample's class.

    Args:
        rows: (N, d) coordinates with Euclidean distances.
        class_ids: (N,).
        groups: (N,) group ids, at least two groups, or None.
    """
    num = len(class_ids)
    group = np.arange(num) if groups is None else groups
    known = np.unique(np.linspace(0, num - 1, min(num, _MAX_KNOWN)).astype(np.int64))
    known_rows = rows[known]
    squared = np.einsum("nd,nd->n", known_rows, known_rows)
    hits = np.empty(num, dtype=np.bool_)
    for start in range(0, num, _CHUNK):
        part = slice(start, start + _CHUNK)
        distance = squared - 2.0 * (rows[part] @ known_rows.T)
        distance[group[part, None] == group[known]] = np.inf
        hits[part] = class_ids[known[distance.argmin(axis=1)]] == class_ids[part]
    return hits
