"""Compute the eigendecomposition shared by all closed-form heads and penalties.

With centered, weighted rows X, ridge and LDA need only the smoother `H(penalty) = T diag(1 / (e + penalty)) T'`, where
`T'T = diag(e)`. T comes from the (D, D) Gram matrix or the (N, N) kernel, whichever is smaller.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.probe.blas_threads import one_blas_thread
from headstart.types.arrays import Float, Ids

__all__ = ["Gram", "SmootherPath", "Spectrum", "from_gram", "from_kernel", "remainder_of", "smooth_targets"]


_RANK_TOLERANCE = 1e-13  # directions below this fraction of the largest eigenvalue are rounding errors


@dataclass(frozen=True)
class Spectrum:
    """Samples in principal coordinates.

    Attributes:
        scores: T, (n, r): the weighted, centered rows; n is all samples or a subset.
        weights: (n,) sample weights; their mean over all samples is 1.
        class_ids: (n,).
        values: e, (r,) eigenvalues of all samples, positive, ascending.
        masses: (K,) sum of the weights of each class over all samples, positive.
        class_means: (K, r) weighted class means over all samples.
    """

    scores: Float
    weights: Float
    class_ids: Ids
    values: Float
    masses: Float
    class_means: Float

    @property
    def num_classes(self) -> int:
        return len(self.masses)

    @property
    def trace(self) -> float:
        """Weighted scatter of all samples: the unit of the penalties."""
        return float(self.values.sum())

    def part(self, index: Ids) -> Spectrum:
        """Select samples; totals remain those of all samples."""
        return replace(self, scores=self.scores[index], weights=self.weights[index], class_ids=self.class_ids[index])


@dataclass(frozen=True)
class SmootherPath:
    """Products of the smoother for L penalties.

    Attributes:
        penalties: (L,) positive, on the scale of the scatter.
        raw: (L, n, K) products of rows and class means under `(X'X + penalty)^-1`.
        own: (L, n) of each row with itself.
        gram: (L, K, K) of class means.
    """

    penalties: Float
    raw: Float
    own: Float
    gram: Float


def smooth_targets(spectrum: Spectrum, penalties: Float) -> SmootherPath:
    """Compute the products for some penalties; rows unweighted."""
    shrink = 1.0 / (spectrum.values + penalties[:, None])  # (L, r)
    filtered = spectrum.class_means * shrink[:, None, :]  # (L, K, r)
    num_classes, rank = spectrum.class_means.shape
    raw = spectrum.scores @ filtered.reshape(len(penalties) * num_classes, rank).T  # (n, L K)
    raw /= np.sqrt(spectrum.weights)[:, None]
    return SmootherPath(
        penalties=penalties,
        raw=np.ascontiguousarray(raw.reshape(len(raw), len(penalties), num_classes).transpose(1, 0, 2)),
        own=(shrink @ (spectrum.scores**2).T) / spectrum.weights,
        gram=np.matmul(filtered, spectrum.class_means.T),
    )


def remainder_of(spectrum: Spectrum, fold: Ids) -> tuple[Spectrum, Ids]:
    """Decompose all samples except a fold and select the fold.

    Args:
        spectrum: Spectrum whose selected samples include the fold.
        fold: Positions among the selected samples.

    Returns:
        The spectrum of the remaining samples (its class ids are not usable), and their (K',) classes.
    """
    scores, weights = spectrum.scores[fold], spectrum.weights[fold]
    gone, sums = _class_sums(
        scores * np.sqrt(weights)[:, None], weights, spectrum.class_ids[fold], spectrum.num_classes
    )
    left = np.flatnonzero(spectrum.masses - gone > 1e-9 * spectrum.masses)
    masses = (spectrum.masses - gone)[left]
    means = (spectrum.masses[:, None] * spectrum.class_means - sums)[left] / masses[:, None]
    center = masses @ means / masses.sum()  # (r,)
    scatter = np.diag(spectrum.values) - scores.T @ scores - masses.sum() * np.outer(center, center)
    values, directions = _decompose(scatter)
    rows = (scores - np.sqrt(weights)[:, None] * center) @ directions
    return Spectrum(rows, weights, spectrum.class_ids[fold], values, masses, (means - center) @ directions), left


def from_kernel(kernel: Float, weights: Float, class_ids: Ids, num_classes: int) -> Spectrum:
    """Decompose the (N, N) products of weighted, centered rows."""
    values, left = _decompose(kernel)
    scores = left * np.sqrt(values)
    masses, sums = _class_sums(scores * np.sqrt(weights)[:, None], weights, class_ids, num_classes)
    return Spectrum(scores, weights, class_ids, values, masses, sums / masses[:, None])


@dataclass
class Gram:
    """Second moments of normalized rows, accumulated in chunks.

    Attributes:
        total: (D, D) weighted products; class_sums: (K, D); masses: (K,).
    """

    total: Float
    class_sums: Float
    masses: Float

    @classmethod
    def empty(cls, num_features: int, num_classes: int) -> Gram:
        return cls(np.zeros((num_features, num_features)), np.zeros((num_classes, num_features)), np.zeros(num_classes))

    def add(self, rows: NDArray[np.floating[Any]], weights: Float, class_ids: Ids) -> None:
        """Add (n, D) rows."""
        weighted = rows * np.sqrt(weights)[:, None]
        self.total += weighted.T @ weighted
        masses, sums = _class_sums(rows * weights[:, None], weights, class_ids, len(self.masses))
        self.masses += masses
        self.class_sums += sums

    @property
    def mean(self) -> Float:
        """(D,) weighted mean."""
        return np.asarray(self.class_sums.sum(axis=0) / self.masses.sum())


def from_gram(gram: Gram) -> tuple[Spectrum, Float]:
    """Decompose the (D, D) form.

    Returns:
        A spectrum without selected samples, and the (D, r) directions: the scores of a row z of weight w
        are `sqrt(w) (z - mean) @ directions`.
    """
    mean = gram.mean
    values, directions = _decompose(gram.total - gram.masses.sum() * np.outer(mean, mean))
    means = (gram.class_sums / gram.masses[:, None] - mean) @ directions
    none = np.empty(0)
    spectrum = Spectrum(np.empty((0, len(values))), none, none.astype(np.int64), values, gram.masses, means)
    return spectrum, directions


def _decompose(matrix: Float) -> tuple[Float, Float]:
    """Return (r,) eigenvalues above rounding error, ascending, and their (d, r) directions."""
    with one_blas_thread():
        values, directions = np.linalg.eigh(matrix)
    keep = values > _RANK_TOLERANCE * max(float(values[-1]), 0.0)
    return values[keep], np.ascontiguousarray(directions[:, keep])


def _class_sums(rows: Float, weights: Float, class_ids: Ids, num_classes: int) -> tuple[Float, Float]:
    """Return (K,) masses and (K, d) sums of rows by class."""
    indicator = np.zeros((num_classes, len(class_ids)))
    indicator[class_ids, np.arange(len(class_ids))] = 1.0
    return indicator @ weights, indicator @ rows
