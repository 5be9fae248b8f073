"""Fit shrinkage LDA for all penalties with exact leave-one-(group-)out, from the decomposition of ridge.

The pooled within-class scatter is `W = X'X - M' S M` (class means M, class masses S), so
`(W + penalty)^-1` is the ridge smoother corrected by a K x K matrix, and a held-out block of b rows is a
rank-b downdate of W. No D x D matrix is inverted.

In the usual form `(1 - a) W / v + a tau` with v degrees of freedom the shrinkage is
`a = penalty / (penalty + v tau)`; v, tau, penalty, normalizer and
sample weights stay fixed. Class means, W and class frequencies are refitted. The discriminants have no prior: the log
class frequencies (`log_class_frequencies`) enter the ensemble with their own weight; 0 means equal priors, 1 empirical
ones.

Source: Friedman (1989), regularized discriminant analysis; Sherman and Morrison (1950); Woodbury (1950).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.probe.spectrum import SmootherPath, Spectrum
from headstart.types.arrays import Float

__all__ = [
    "WithinClassProducts",
    "lda_coefficients",
    "lda_leave_blocks_out",
    "lda_leave_one_out",
    "lda_scores",
    "log_class_frequencies",
    "within_products",
]


@dataclass(frozen=True)
class WithinClassProducts:
    """Inner products under `(W + penalty)^-1` for L penalties.

    Attributes:
        own: (L, n) of each row with itself.
        means: (L, n, K) of rows with class means.
        gram: (L, K, K) of class means.
        coupling: (L, K, K) matrix of the Woodbury correction of the ridge smoother.
    """

    own: Float
    means: Float
    gram: Float
    coupling: Float


def within_products(spectrum: Spectrum, smoothed: SmootherPath) -> WithinClassProducts:
    """Convert products under `(X'X + penalty)^-1` to `(W + penalty)^-1` by Woodbury's identity."""
    coupling: Float = np.linalg.inv(np.diag(1.0 / spectrum.masses) - smoothed.gram).astype(np.float64, copy=False)
    mixing = coupling / spectrum.masses
    own = smoothed.own + np.einsum("lnk,lnk->ln", np.matmul(smoothed.raw, coupling), smoothed.raw)
    return WithinClassProducts(own, np.matmul(smoothed.raw, mixing), np.matmul(smoothed.gram, mixing), coupling)


def lda_scores(within: WithinClassProducts) -> Float:
    """Return (L, n, K) discriminants of the fit on all samples for the selected samples."""
    return np.asarray(within.means - 0.5 * np.einsum("lkk->lk", within.gram)[:, None, :])


def lda_leave_one_out(spectrum: Spectrum, within: WithinClassProducts) -> Float:
    """Return leave-one-out discriminants.

    Returns:
        (L, n, K) discriminants `x P^-1 m_k - m_k P^-1 m_k / 2`, exactly those of a refit without the sample up
        to a constant per row; -inf for a class that is held out entirely.
    """
    weights, class_ids, masses = spectrum.weights, spectrum.class_ids, spectrum.masses
    rows = np.arange(len(class_ids))
    rest = masses[class_ids] - weights  # mass of the class without the sample
    is_alone = rest <= 1e-9 * masses[class_ids]
    rest = np.where(is_alone, 1.0, rest)
    shift = weights / rest  # the class mean moves by -shift * d, d = x - mean
    factor = np.where(is_alone, 0.0, shift * masses[class_ids])  # W loses factor * d d'
    own_mean = within.means[:, rows, class_ids]  # (L, N) x . m_c
    cross = within.means - within.gram[:, class_ids]  # (L, N, K) d . m_k
    cross_own = cross[:, rows, class_ids]
    d_x = within.own - own_mean
    d_d = d_x - cross_own
    rise = factor / (1.0 - factor * d_d)
    diagonal = np.einsum("lkk->lk", within.gram)[:, None, :]
    scores = within.means + (rise * d_x)[:, :, None] * cross
    scores -= 0.5 * (diagonal + rise[:, :, None] * cross**2)
    grown = 1.0 + rise * d_d  # d . v grows by this when W is downdated
    moved = -shift * d_x * grown + shift * cross_own * grown - 0.5 * shift**2 * d_d * grown
    scores[:, rows, class_ids] = np.where(is_alone, -np.inf, scores[:, rows, class_ids] + moved)
    return np.asarray(scores)


def lda_leave_blocks_out(
    spectrum: Spectrum,
    smoothed: SmootherPath,
    within: WithinClassProducts,
    index: int,
    blocks: NDArray[np.int64],
    products: Float,
) -> Float:
    """Return leave-one-group-out discriminants of blocks of samples.

    Args:
        spectrum: Spectrum of the selected samples.
        smoothed, within: Of the same samples.
        index: Index of the penalty.
        blocks: (g, b) positions of g blocks of b samples.
        products: (g, b, b) of the rows of each block under `(X'X + penalty)^-1`, unweighted.

    Returns:
        (g, b, K) discriminants as in `lda_leave_one_out`.
    """
    masses, num_classes = spectrum.masses, spectrum.num_classes
    weights, classes = spectrum.weights[blocks], spectrum.class_ids[blocks]  # (g, b)
    raw, gram, x_m = smoothed.raw[index][blocks], within.gram[index], within.means[index][blocks]
    x_x = products + np.matmul(np.matmul(raw, within.coupling[index]), raw.transpose(0, 2, 1))  # (g, b, b)
    x_own = np.take_along_axis(x_m, classes[:, None, :].repeat(blocks.shape[1], 1), axis=2)  # x_i . m_c(j)
    x_d = x_x - x_own  # x_i . d_j
    d_m = x_m - gram[classes]  # d_i . m_k
    d_own = np.take_along_axis(d_m, classes[:, None, :].repeat(blocks.shape[1], 1), axis=2)
    d_d = x_x - x_own.transpose(0, 2, 1) - d_own  # (g, b, b)

    # Remaining mass of each class and shift of its mean: m_k' = m_k - sum_j fraction_kj d_j.
    member = (classes[:, None, :] == np.arange(num_classes)[:, None]) * weights[:, None, :]  # (g, K, b)
    rest = masses - member.sum(axis=2)  # (g, K)
    is_missing = rest <= 1e-9 * masses
    fraction = member / np.where(is_missing, np.inf, rest)[:, :, None]
    loss = np.matmul(member.transpose(0, 2, 1), fraction)  # W loses d' (diag(w) + loss) d
    loss[:, np.arange(blocks.shape[1]), np.arange(blocks.shape[1])] += weights
    eye = np.eye(blocks.shape[1])
    rise = np.linalg.solve(eye - np.matmul(loss, d_d), loss)  # (g, b, b)

    d_moved = d_m - np.matmul(d_d, fraction.transpose(0, 2, 1))  # d_i . m_k'
    x_moved = x_m - np.matmul(x_d, fraction.transpose(0, 2, 1))
    squared = np.diagonal(gram) - np.einsum("gkb,gbk->gk", fraction, d_m + d_moved)
    risen = np.matmul(rise, d_moved)
    squared = squared + np.einsum("gbk,gbk->gk", d_moved, risen)
    result = x_moved + np.matmul(x_d, risen) - 0.5 * squared[:, None, :]
    return np.asarray(np.where(is_missing[:, None, :], -np.inf, result))


def lda_coefficients(spectrum: Spectrum, penalty: float) -> tuple[Float, Float]:
    """Return the fit on all samples: (K, r) weight on the principal directions and (K,) bias at the mean, no priors."""
    filtered = spectrum.class_means / (spectrum.values + penalty)  # (K, r): A^-1 m
    gram = filtered @ spectrum.class_means.T
    mixing = np.linalg.inv(np.diag(1.0 / spectrum.masses) - gram) / spectrum.masses  # A^-1 M' mixing = P^-1 M'
    return mixing.T @ filtered, -0.5 * np.einsum("jk,jk->k", gram, mixing)


def log_class_frequencies(
    class_ids: NDArray[np.int64], masses: Float, weights: Float, folds: Sequence[NDArray[np.int64]] | None = None
) -> Float:
    """Return the log weighted class frequencies without each sample (or its fold).

    Args:
        class_ids: (n,) of the selected samples.
        masses: (K,) over all samples.
        weights: (n,).
        folds: Positions among the n of each fold.

    Returns:
        (n, K); -inf for a class that is held out entirely.
    """
    gone = np.zeros((len(class_ids), len(masses)))
    gone[np.arange(len(class_ids)), class_ids] = weights
    for fold in folds or ():
        gone[fold] = gone[fold].sum(axis=0)
    left = masses - gone
    left[left <= 1e-9 * masses] = 0.0
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(left / left.sum(axis=1, keepdims=True)))
