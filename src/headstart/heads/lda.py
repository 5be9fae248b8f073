"""Shrinkage LDA for every penalty with exact leave-one-(group-)out, from the same decomposition as ridge.

The decision: the pooled within-class scatter is `W = X'X - M' S M` (class means M, class masses S), so
`(W + penalty)^-1` is the ridge smoother corrected by a K x K matrix, and a left-out block of b rows is a
downdate of W by at most b directions.  Nothing of size D x D is ever inverted, and no second
decomposition is needed.

In the usual form `(1 - a) W / v + a tau` with v degrees of freedom the shrinkage is
`a = penalty / (penalty + v tau)`; v, tau and the penalty are held fixed by leaving out, as are the
normaliser and the sample weights.  Class means, W and class shares are refitted.  The discriminants carry
no prior: the log of the (weighted) class shares enters by `log_shares` with a weight of its own when
heads are combined, so equal priors are the weight 0 and the empirical ones the weight 1.

Source: Friedman (1989), regularised discriminant analysis; Sherman and Morrison (1950); Woodbury (1950).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.heads.spectrum import Float, Spectrum

__all__ = ["lda_coefficients", "lda_out_of_fold", "log_shares"]


@dataclass(frozen=True)
class _Products:
    """Inner products under `(W + penalty)^-1` for L penalties.

    `own` (L, N) of each row with itself, `means` (L, N, K) of rows with class means, `gram` (L, K, K) of
    class means, `coupling` (L, K, K) that corrects products of rows, `raw` (L, N, K) what it acts on.
    """

    own: Float
    means: Float
    gram: Float
    coupling: Float
    raw: Float


def lda_out_of_fold(
    spectrum: Spectrum,
    class_ids: NDArray[np.int64],
    num_classes: int,
    penalties: Float,
    folds: Sequence[NDArray[np.int64]] | None = None,
) -> Float:
    """What LDA says about every sample when it (or its whole fold) is left out.

    Args:
        spectrum: Of all samples.
        class_ids: (N,), every class with at least one sample.
        num_classes: K.
        penalties: (L,) positive, on the scale of the scatter.
        folds: Positions of each group that is left out together; None leaves out one sample at a time.

    Returns:
        (L, N, K) discriminants `x P^-1 m_k - m_k P^-1 m_k / 2`, exactly those of a refit without the fold up
        to a constant a row; -inf for a class that is wholly left out.
    """
    masses = _masses(spectrum, class_ids, num_classes)
    products = _products(spectrum, class_ids, masses, penalties)
    if folds is None:
        return _leave_one_out(spectrum.weights, class_ids, masses, products)
    out = np.empty_like(products.means)
    for size in sorted({len(fold) for fold in folds}):
        same = np.stack([fold for fold in folds if len(fold) == size])  # (g, b)
        for i, penalty in enumerate(penalties):
            out[i, same.ravel()] = _leave_blocks_out(
                spectrum, class_ids, masses, products, i, float(penalty), same
            ).reshape(-1, num_classes)
    return out


def lda_coefficients(
    spectrum: Spectrum, class_ids: NDArray[np.int64], num_classes: int, penalty: float
) -> tuple[Float, Float]:
    """The fit on all samples: (K, D) weight and (K,) bias on normalised rows, without priors."""
    masses = _masses(spectrum, class_ids, num_classes)
    means = _class_means(spectrum, class_ids, masses)
    filtered = means / (spectrum.values + penalty)  # (K, r): A^-1 m
    gram = filtered @ means.T
    mixing = np.linalg.inv(np.diag(1.0 / masses) - gram) / masses  # (K, K): A^-1 M' mixing = P^-1 M'
    weight = np.asarray((spectrum.basis @ (filtered.T @ mixing)).T)
    bias = -0.5 * np.einsum("jk,jk->k", gram, mixing)
    return weight, bias - weight @ spectrum.mean


def log_shares(
    class_ids: NDArray[np.int64],
    num_classes: int,
    weights: Float,
    folds: Sequence[NDArray[np.int64]] | None = None,
) -> Float:
    """(N, K) log of the weighted class shares without each sample (or its fold); -inf for an empty class."""
    one_hot = np.zeros((len(class_ids), num_classes))
    one_hot[np.arange(len(class_ids)), class_ids] = weights
    masses = one_hot.sum(axis=0)
    left = np.maximum(masses - one_hot, 0.0)
    for fold in folds or ():
        left[fold] = np.maximum(masses - one_hot[fold].sum(axis=0), 0.0)
    left[left < 1e-9 * masses] = 0.0
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(left / left.sum(axis=1, keepdims=True)))


def _masses(spectrum: Spectrum, class_ids: NDArray[np.int64], num_classes: int) -> Float:
    """(K,) sum of the sample weights of each class."""
    return np.bincount(class_ids, weights=spectrum.weights, minlength=num_classes).astype(np.float64)


def _class_means(spectrum: Spectrum, class_ids: NDArray[np.int64], masses: Float) -> Float:
    """(K, r) weighted class means in the principal directions, the overall mean taken off."""
    indicator = np.zeros((len(masses), len(class_ids)))
    indicator[class_ids, np.arange(len(class_ids))] = np.sqrt(spectrum.weights)
    return np.asarray(indicator @ spectrum.scores / masses[:, None])


def _products(spectrum: Spectrum, class_ids: NDArray[np.int64], masses: Float, penalties: Float) -> _Products:
    means = _class_means(spectrum, class_ids, masses)
    filtered = means / (spectrum.values + penalties[:, None])[:, None, :]  # (L, K, r)
    root = np.sqrt(spectrum.weights)
    raw = np.matmul(spectrum.scores, filtered.transpose(0, 2, 1)) / root[:, None]  # (L, N, K)
    gram = np.matmul(filtered, means.T)  # (L, K, K)
    coupling = np.linalg.inv(np.diag(1.0 / masses) - gram)
    mixing = coupling / masses
    own = spectrum.diagonal(penalties) / spectrum.weights
    own = own + np.einsum("lnk,lnk->ln", np.matmul(raw, coupling), raw)
    return _Products(own, np.matmul(raw, mixing), np.matmul(gram, mixing), coupling, raw)


def _leave_one_out(weights: Float, class_ids: NDArray[np.int64], masses: Float, products: _Products) -> Float:
    rows = np.arange(len(class_ids))
    rest = masses[class_ids] - weights  # mass of the class without the sample
    is_alone = rest <= 1e-9 * masses[class_ids]
    rest = np.where(is_alone, 1.0, rest)
    shift = weights / rest  # the class mean moves by -shift * d, d = x - mean
    factor = np.where(is_alone, 0.0, shift * masses[class_ids])  # W loses factor * d d'
    own_mean = products.means[:, rows, class_ids]  # (L, N) x . m_c
    cross = products.means - products.gram[:, class_ids]  # (L, N, K) d . m_k
    cross_own = cross[:, rows, class_ids]
    d_x = products.own - own_mean
    d_d = d_x - cross_own
    rise = factor / (1.0 - factor * d_d)
    diagonal = np.einsum("lkk->lk", products.gram)[:, None, :]
    scores = products.means + (rise * d_x)[:, :, None] * cross
    scores -= 0.5 * (diagonal + rise[:, :, None] * cross**2)
    grown = 1.0 + rise * d_d  # d . v grows by this when W is downdated
    moved = -shift * d_x * grown + shift * cross_own * grown - 0.5 * shift**2 * d_d * grown
    scores[:, rows, class_ids] = np.where(is_alone, -np.inf, scores[:, rows, class_ids] + moved)
    return np.asarray(scores)


def _leave_blocks_out(
    spectrum: Spectrum,
    class_ids: NDArray[np.int64],
    masses: Float,
    products: _Products,
    index: int,
    penalty: float,
    blocks: NDArray[np.int64],
) -> Float:
    """(g, b, K) discriminants of g left-out blocks of b rows each, for one penalty."""
    num_classes = len(masses)
    weights, classes = spectrum.weights[blocks], class_ids[blocks]  # (g, b)
    scores, raw = spectrum.scores[blocks], products.raw[index][blocks]  # (g, b, r), (g, b, K)
    gram, x_m = products.gram[index], products.means[index][blocks]
    root = np.sqrt(weights)
    x_x = np.matmul(scores / (spectrum.values + penalty), scores.transpose(0, 2, 1))
    x_x /= root[:, :, None] * root[:, None, :]
    x_x += np.matmul(np.matmul(raw, products.coupling[index]), raw.transpose(0, 2, 1))  # (g, b, b)
    x_own = np.take_along_axis(x_m, classes[:, None, :].repeat(blocks.shape[1], 1), axis=2)  # x_i . m_c(j)
    x_d = x_x - x_own  # x_i . d_j
    d_m = x_m - gram[classes]  # d_i . m_k
    d_own = np.take_along_axis(d_m, classes[:, None, :].repeat(blocks.shape[1], 1), axis=2)
    d_d = x_x - x_own.transpose(0, 2, 1) - d_own  # (g, b, b)

    # How much of each class is left, and how far its mean moves: m_k' = m_k - sum_j share_kj d_j.
    member = (classes[:, None, :] == np.arange(num_classes)[:, None]) * weights[:, None, :]  # (g, K, b)
    rest = masses - member.sum(axis=2)  # (g, K)
    is_gone = rest <= 1e-9 * masses
    share = member / np.where(is_gone, np.inf, rest)[:, :, None]
    loss = np.matmul(member.transpose(0, 2, 1), share)  # W loses d' (diag(w) + loss) d
    loss[:, np.arange(blocks.shape[1]), np.arange(blocks.shape[1])] += weights
    eye = np.eye(blocks.shape[1])
    rise = np.linalg.solve(eye - np.matmul(loss, d_d), loss)  # (g, b, b)

    d_moved = d_m - np.matmul(d_d, share.transpose(0, 2, 1))  # d_i . m_k'
    x_moved = x_m - np.matmul(x_d, share.transpose(0, 2, 1))
    squared = np.diagonal(gram) - np.einsum("gkb,gbk->gk", share, d_m + d_moved)
    risen = np.matmul(rise, d_moved)
    squared = squared + np.einsum("gbk,gbk->gk", d_moved, risen)
    found = x_moved + np.matmul(x_d, risen) - 0.5 * squared[:, None, :]
    return np.asarray(np.where(is_gone[:, None, :], -np.inf, found))
