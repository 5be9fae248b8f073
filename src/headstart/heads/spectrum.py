"""One eigendecomposition that every penalty of every closed-form head is read from.

The decision: with normalised rows X, weights w and the weighted mean taken off, all that ridge and LDA
need is the smoother `H(penalty) = T diag(1 / (e + penalty)) T'` with `T'T = diag(e)`.  T comes from the
(D, D) Gram matrix or from the (N, N) kernel, whichever is smaller; what follows never asks which.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Spectrum", "decompose"]

Float = NDArray[np.float64]

_RANK_TOLERANCE = 1e-13  # directions below this share of the largest eigenvalue are rounding


@dataclass(frozen=True)
class Spectrum:
    """The weighted, centred rows `X = sqrt(w) (Z - mean)` in their principal directions.

    Attributes:
        scores: T, (N, r): X in the directions; `T'T = diag(values)`.
        values: e, (r,) eigenvalues, positive, rising.
        mean: (D,) weighted mean of Z.
        weights: (N,) sample weights, mean 1.
        basis: (D, r) directions in feature space.
    """

    scores: Float
    values: Float
    mean: Float
    weights: Float
    basis: Float

    @property
    def trace(self) -> float:
        """Sum of the eigenvalues: the weighted scatter of all rows."""
        return float(self.values.sum())

    def diagonal(self, penalties: Float) -> Float:
        """Diagonal of H for each penalty, (L, N)."""
        return np.asarray((1.0 / (self.values + penalties[:, None])) @ (self.scores**2).T)


def decompose(rows: NDArray[np.floating], weights: Float) -> Spectrum:
    """Centres, weights and decomposes normalised rows.

    Args:
        rows: Z, (N, D).
        weights: (N,) positive.

    Returns:
        The spectrum; weights are scaled to mean 1.
    """
    weights = weights / weights.mean()
    mean = (weights @ rows.astype(np.float64, copy=False)) / weights.sum()
    centred = (rows - mean) * np.sqrt(weights)[:, None]  # (N, D)
    num, width = centred.shape
    if num <= width:
        values, left = np.linalg.eigh(centred @ centred.T)
        keep = values > _RANK_TOLERANCE * max(values[-1], 0.0)
        values, left = values[keep], left[:, keep]
        root = np.sqrt(values)
        return Spectrum(left * root, values, mean, weights, centred.T @ (left / root))
    values, basis = np.linalg.eigh(centred.T @ centred)
    keep = values > _RANK_TOLERANCE * max(values[-1], 0.0)
    values, basis = values[keep], np.ascontiguousarray(basis[:, keep])
    return Spectrum(centred @ basis, values, mean, weights, basis)
