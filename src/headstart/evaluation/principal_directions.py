"""Compute principal directions of normalized rows and residuals, with a seeded randomized SVD."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.folds import draw_folds

__all__ = [
    "LEAST_REST",
    "MAX_DIRECTIONS",
    "centered_products",
    "leading_directions",
    "out_of_fold_residual",
    "squared_residual",
]

MAX_DIRECTIONS = 128
"""More than 64 change little (`benchmarks/bench_uncertainty.py`); the limit keeps bundles small."""

FOLDED_ROWS = 700
"""Up to this number of rows directions are refitted in folds; above, leverages give nearly the same at no cost."""

_GAPS = 1.35  # from a tenth held out to new images, in steps from a fifth to a tenth: 1.07 to 1.60 on five sets
_LEVERAGE_POWER = 1.125  # 1 for fixed directions; above 1 because directions also rotate slightly towards each row

LEAST_REST = 1e-6
"""Float32 resolution for rows of length 1 to 2."""

Rows = NDArray[np.floating[Any]]


def leading_directions(
    rows: Rows, count: int | None = None, *, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean (D,) and orthonormal principal directions (D, r) of rows.

    Args:
        rows: (N, D).
        count: r; by default 128. Never more than half of the rows or a quarter of the features.
        seed: Random seed of the start.

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
    """Return (N,) squared residual norms of the rows off the directions, positive."""
    centered = rows.astype(np.float32) - mean
    total = np.einsum("nd,nd->n", centered, centered, dtype=np.float64)
    inside = centered @ directions
    rest = total - np.einsum("nr,nr->n", inside, inside, dtype=np.float64)
    return np.asarray(np.maximum(rest, LEAST_REST), dtype=np.float64)


def out_of_fold_residual(
    rows: Rows,
    class_ids: NDArray[np.int64],
    mean: NDArray[np.float32],
    directions: NDArray[np.float32],
    *,
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return (N,) out-of-fold squared residual norms of the training rows.

    Args:
        rows: (N, D).
        class_ids: (N,) labels, for stratified folds.
        mean, directions: Fitted on these rows.
        groups: (N,) rows held out together.
        seed: Random seed of the folds.

    Source: Gabriel (2002) for leverages in a decomposition. Relative to new images, the mean logarithm is biased
    by a tenth of its deviation at 60 to 150 rows and by less than a thirtieth from 500 rows on.
    """
    if len(rows) <= FOLDED_ROWS:
        tenth = _folded(rows, class_ids, directions.shape[1], 10, groups, seed)
        fifth = _folded(rows, class_ids, directions.shape[1], 5, groups, seed)
        # Directions fitted without a tenth leave larger residuals than those fitted on all rows. Holding out a fifth
        # shows by how much.
        gap = max(0.0, float((np.log(fifth) - np.log(tenth)).mean()))
        return np.asarray(tenth * np.exp(-_GAPS * gap), dtype=np.float64)
    centered = rows.astype(np.float32) - mean
    scores = centered @ directions
    rest = centered - scores @ directions.T
    scores /= np.maximum(np.linalg.norm(scores, axis=0), LEAST_REST)
    squared = np.einsum("nd,nd->n", rest, rest, dtype=np.float64)
    leverage = 1.0 / len(rows) + np.einsum("nr,nr->n", scores, scores, dtype=np.float64)
    kept = np.maximum(1.0 - leverage, 0.1)
    squared /= kept**2
    if groups is not None:
        order = np.argsort(groups, kind="stable")
        for index in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
            if len(index) > 1:
                hat = scores[index].astype(np.float64) @ scores[index].T.astype(np.float64) + 1.0 / len(rows)
                values, vectors = np.linalg.eigh(hat)
                away = vectors.T @ rest[index]
                away /= np.maximum(1.0 - values, 0.1)[:, None]
                squared[index] = ((vectors @ away) ** 2).sum(axis=1)
    squared *= kept ** (2.0 - 2.0 * _LEVERAGE_POWER)
    return np.asarray(np.maximum(squared, LEAST_REST), dtype=np.float64)


def _folded(
    rows: Rows,
    class_ids: NDArray[np.int64],
    count: int,
    num_folds: int,
    groups: NDArray[np.int64] | None,
    seed: int,
) -> NDArray[np.float64]:
    """Return (N,) squared residual norms off the directions of the other folds, from inner products."""
    kernel = rows.astype(np.float64) @ rows.T.astype(np.float64)  # (N, N)
    rest = np.empty(len(rows))
    fold = draw_folds(class_ids, num_folds, groups=groups, seed=seed)
    for f in range(int(fold.max()) + 1):
        inside, outside = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        within, across, own = centered_products(kernel, inside, outside)
        rank = min(count, max(1, len(inside) // 2))
        values, vectors = _leading_vectors(within.astype(np.float32), rank, seed)
        inner = across @ vectors / np.sqrt(np.maximum(values, LEAST_REST))
        rest[outside] = own - np.einsum("nr,nr->n", inner, inner)
    return np.maximum(rest, LEAST_REST)


def centered_products(
    kernel: NDArray[np.float64], inside: NDArray[np.int64], outside: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return inner products of rows centered on the mean of the inside rows.

    Args:
        kernel: (N, N) inner products of all rows.
        inside: (n,) positions of the rows that define the mean.
        outside: (m,) positions of others.

    Returns:
        (n, n) among the inside, (m, n) of the outside with the inside, (m,) of each of the outside with itself.
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
    """Return leading eigenvalues (r,) and eigenvectors (n, r) of a positive semidefinite matrix."""
    extra = min(count + 16, len(matrix))
    basis = np.random.default_rng(seed).normal(size=(len(matrix), extra)).astype(np.float32)
    for _ in range(4):
        basis = np.linalg.qr(matrix @ basis)[0]
    values, vectors = np.linalg.eigh((basis.T @ (matrix @ basis)).astype(np.float64))
    return values[-count:], basis @ vectors[:, -count:]
