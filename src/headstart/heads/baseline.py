"""What the simplest method gets right: the class of the nearest other picture, outside the sample's group."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["nearest_neighbour_hits"]

_CHUNK = 1024


def nearest_neighbour_hits(
    rows: NDArray[np.float32], class_ids: NDArray[np.int64], groups: NDArray[np.int64] | None
) -> NDArray[np.bool_]:
    """Whether the nearest row outside the sample's own group has the sample's class.

    Args:
        rows: (N, d) coordinates with Euclidean distances.
        class_ids: (N,).
        groups: (N,), at least two different, or None where every sample stands alone.
    """
    group = np.arange(len(class_ids)) if groups is None else groups
    squared = np.einsum("nd,nd->n", rows, rows)
    hits = np.empty(len(class_ids), dtype=np.bool_)
    for start in range(0, len(class_ids), _CHUNK):
        part = slice(start, start + _CHUNK)
        distance = squared - 2.0 * (rows[part] @ rows.T)
        distance[group[part, None] == group] = np.inf
        hits[part] = class_ids[distance.argmin(axis=1)] == class_ids[part]
    return hits
