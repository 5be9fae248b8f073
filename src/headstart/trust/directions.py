"""The leading directions of normalised rows and what of a row lies off them.

The one decision: a randomised decomposition with a fixed seed, since only the space that the directions span
matters and an exact one costs ten times as much.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_DIRECTIONS", "leading_directions", "squared_rest"]

MAX_DIRECTIONS = 128
"""From 64 on more of them change little (`benchmarks/bench_trust.py`), and a bundle should stay small."""

_LEAST_REST = 1e-6  # of rows of length 1 to 2: what float32 cannot tell from nothing

Rows = NDArray[np.floating[Any]]


def leading_directions(
    rows: Rows, count: int | None = None, *, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean (D,) and orthonormal leading directions (D, r) of rows.

    Args:
        rows: (N, D).
        count: r; by default 128.  Never more than half of the rows or a quarter of the features.
        seed: Of the start; the result is the same each time.

    Source: Halko, Martinsson and Tropp (2011), randomised subspace iteration.
    """
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = rows.astype(np.float32) - mean
    num, width = centred.shape
    wanted = min(MAX_DIRECTIONS if count is None else count, max(1, num // 2), max(1, width // 4))
    extra = min(wanted + 16, num, width)
    basis = np.random.default_rng(seed).normal(size=(width, extra)).astype(np.float32)
    for _ in range(4):
        basis = np.linalg.qr(centred.T @ (centred @ basis))[0]
    small = centred @ basis
    _, vectors = np.linalg.eigh(small.T @ small)
    return mean, np.ascontiguousarray((basis @ vectors[:, ::-1])[:, :wanted], dtype=np.float32)


def squared_rest(rows: Rows, mean: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) squared length of what is left of each row after its projection on the directions, above 0."""
    centred = rows.astype(np.float32) - mean
    total = np.einsum("nd,nd->n", centred, centred, dtype=np.float64)
    inside = centred @ directions
    rest = total - np.einsum("nr,nr->n", inside, inside, dtype=np.float64)
    return np.asarray(np.maximum(rest, _LEAST_REST), dtype=np.float64)
