"""Compute principal directions of normalized rows, and residual norms, with a seeded randomized SVD."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.folds import draw_folds
from headstart.types.arrays import Rows

__all__ = [
    "MAX_DIRECTIONS",
    "MIN_RESIDUAL",
    "centered_products",
    "leading_directions",
    "out_of_fold_residual",
    "squared_residual",
]

MAX_DIRECTIONS = 128
"""Maximum number of directions, which keeps bundles small; more than 64 have little effect
(`benchmarks/bench_uncertainty.py`)."""

FOLDED_ROWS = 700
"""Up to this many rows, directions are refitted in folds; with more, leverages give nearly the same result."""

_GAPS = 1.35  # gap from 10 folds to all rows, in units of the gap from 5 to 10 folds; 1.07 to 1.60 on five datasets
_LEVERAGE_POWER = 1.125  # 1 for fixed directions; larger because each row also rotates the directions slightly

MIN_RESIDUAL = 1e-6
"""Minimum squared residual norm: the float32 resolution for rows of norm 1 to 2."""


def leading_directions(
    rows: Rows, count: int | None = None, *, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute the mean (D,) and orthonormal principal directions (D, r) of rows.

    Args:
        rows: (N, D).
        count: Maximum r, by default 128; r is also at most N / 2 and D / 4.
        seed: Random seed of the initial basis.

    Source: Halko, Martinsson and Tropp (2011), randomized subspace iteration.
    """
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    centered = rows.astype(np.float32) - mean
    num, width = centered.shape
    rank = min(MAX_DIRECTIONS if count is None else count, max(1, num // 2), max(1, width // 4))
    extra = min(rank + 16, num, width)
    basis: NDArray[np.floating] = np.random.default_rng(seed).normal(size=(width, extra)).astype(np.float32)
    for _ in range(4):
        basis = np.linalg.qr(centered.T @ (centered @ basis))[0]
    small = centered @ basis
    _, vectors = np.linalg.eigh(small.T @ small)
    return mean, np.ascontiguousarray((basis @ vectors[:, ::-1])[:, :rank], dtype=np.float32)


def squared_residual(rows: Rows, mean: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (N,) positive squared norms of the rows' residuals outside the directions."""
    centered = rows.astype(np.float32) - mean
    total = np.einsum("nd,nd->n", centered, centered, dtype=np.float64)
    inside = centered @ directions
    residual = total - np.einsum("nr,nr->n", inside, inside, dtype=np.float64)
    return np.asarray(np.maximum(residual, MIN_RESIDUAL), dtype=np.float64)


def out_of_fold_residual(
    rows: Rows,
    class_ids: NDArray[np.int64],
    mean: NDArray[np.float32],
    directions: NDArray[np.float32],
    *,
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Estimate (N,) squared residual norms of the training rows as if they were new images.

    Args:
        rows: (N, D).
        class_ids: (N,) labels, for stratified folds.
        mean, directions: Mean and directions fitted on these rows.
        groups: (N,) group ids; a group is held out as a whole.
        seed: Random seed of the folds.

    Compared with new images, the mean logarithm is biased by a tenth of its standard deviation at 60 to 150 rows, and
    by less than a thirtieth from 500 rows on. Source: Gabriel (2002), leverages in a decomposition.
    """
    if len(rows) <= FOLDED_ROWS:
        tenth = _cross_fitted(rows, class_ids, directions.shape[1], 10, groups, seed)
        fifth = _cross_fitted(rows, class_ids, directions.shape[1], 5, groups, seed)
        # Directions fitted on 9/10 of the rows leave larger residuals than those fitted on all rows. The gap to 4/5 of
        # the rows measures by how much.
        gap = max(0.0, float((np.log(fifth) - np.log(tenth)).mean()))
        return np.asarray(tenth * np.exp(-_GAPS * gap), dtype=np.float64)
    centered = rows.astype(np.float32) - mean
    scores = centered @ directions
    residual = centered - scores @ directions.T
    scores /= np.maximum(np.linalg.norm(scores, axis=0), MIN_RESIDUAL)
    squared = np.einsum("nd,nd->n", residual, residual, dtype=np.float64)
    leverage = 1.0 / len(rows) + np.einsum("nr,nr->n", scores, scores, dtype=np.float64)
    kept = np.maximum(1.0 - leverage, 0.1)
    squared /= kept**2
    if groups is not None:
        order = np.argsort(groups, kind="stable")
        for index in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
            if len(index) > 1:
                hat = scores[index].astype(np.float64) @ scores[index].T.astype(np.float64) + 1.0 / len(rows)
                values, vectors = np.linalg.eigh(hat)
                rotated = vectors.T @ residual[index]
                rotated /= np.maximum(1.0 - values, 0.1)[:, None]
                squared[index] = ((vectors @ rotated) ** 2).sum(axis=1)
    squared *= kept ** (2.0 - 2.0 * _LEVERAGE_POWER)
    return np.asarray(np.maximum(squared, MIN_RESIDUAL), dtype=np.float64)


def _cross_fitted(
    rows: Rows,
    class_ids: NDArray[np.int64],
    count: int,
    num_folds: int,
    groups: NDArray[np.int64] | None,
    seed: int,
) -> NDArray[np.float64]:
    """Return (N,) squared residual norms, with the directions fitted on the other folds (by the kernel)."""
    kernel = rows.astype(np.float64) @ rows.T.astype(np.float64)  # (N, N)
    residual = np.empty(len(rows))
    fold = draw_folds(class_ids, num_folds, groups=groups, seed=seed)
    for f in range(int(fold.max()) + 1):
        inside, outside = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        within, across, own = centered_products(kernel, inside, outside)
        rank = min(count, max(1, len(inside) // 2))
        values, vectors = _leading_vectors(within.astype(np.float32), rank, seed)
        inner = across @ vectors / np.sqrt(np.maximum(values, MIN_RESIDUAL))
        residual[outside] = own - np.einsum("nr,nr->n", inner, inner)
    return np.maximum(residual, MIN_RESIDUAL)


def centered_products(
    kernel: NDArray[np.float64], inside: NDArray[np.int64], outside: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return inner products of rows centered on the mean of a subset.

    Args:
        kernel: (N, N) inner products of all rows.
        inside: (n,) positions of the rows in the subset.
        outside: (m,) positions of other rows.

    Returns:
        (n, n) inside with inside, (m, n) outside with inside, (m,) each outside row with itself.
    """
    within, across = kernel[np.ix_(inside, inside)], kernel[np.ix_(outside, inside)]
    mean_within = within.mean(axis=0)
    level = float(mean_within.mean())
    own = kernel[outside, outside] - 2.0 * across.mean(axis=1) + level
    across = across - across.mean(axis=1, keepdims=True) - mean_within + level
    within = within - mean_within - mean_within[:, None] + level
    return within, across, own


def _leading_vectors(
    matrix: NDArray[np.float32], count: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the leading eigenvalues (r,) and eigenvectors (n, r) of a positive semidefinite matrix."""
    extra = min(count + 16, len(matrix))
    basis = np.random.default_rng(seed).normal(size=(len(matrix), extra)).astype(np.float32)
    for _ in range(4):
        basis = np.linalg.qr(matrix @ basis)[0]
    values, vectors = np.linalg.eigh((basis.T @ (matrix @ basis)).astype(np.float64))
    return values[-count:], basis @ vectors[:, -count:]
