"""Compute leave-one-out and leave-one-group-out predictions of both closed-form heads.

A group of b rows is a rank-b downdate; both heads share its (b, b) products. For a group with more rows than
a third of the directions the remaining samples are decomposed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from headstart.probe.lda import lda_leave_blocks_out, lda_leave_one_out, lda_scores, within_products
from headstart.probe.ridge import ridge_leave_blocks_out, ridge_leave_one_out, ridge_scores
from headstart.probe.spectrum import SmootherPath, Spectrum, remainder_of, smooth_targets
from headstart.types.arrays import Float, Ids

__all__ = ["out_of_fold"]


_BLOCK_ROWS = 2048  # held-out rows processed at once


def out_of_fold(spectrum: Spectrum, penalties: Float, folds: Sequence[Ids] | None = None) -> tuple[Float, Float]:
    """Return the out-of-fold scores of ridge and LDA.

    Args:
        spectrum: Spectrum of the n selected samples.
        penalties: (L,) positive, on the scale of the scatter.
        folds: Positions among the n of each fold; None for leave-one-out.

    Returns:
        (L, n, K) scores of ridge and (L, n, K) discriminants of LDA, exactly those of a refit without the fold
        (the discriminants up to a constant per row); LDA gives -inf to a class that is held out entirely.
    """
    smoothed = smooth_targets(spectrum, penalties)
    within = within_products(spectrum, smoothed)
    if folds is None:
        return ridge_leave_one_out(spectrum, smoothed), lda_leave_one_out(spectrum, within)
    ridge: Float = np.empty_like(smoothed.raw)
    lda: Float = np.empty_like(smoothed.raw)
    largest = len(spectrum.values) // 3
    for fold in (fold for fold in folds if len(fold) > largest):
        ridge[:, fold], lda[:, fold] = _score_by_refit(spectrum, penalties, fold)
    for blocks in _same_size(fold for fold in folds if len(fold) <= largest):
        for i in range(len(penalties)):
            products = _block_products(spectrum, smoothed, i, blocks)
            ridge[i, blocks] = ridge_leave_blocks_out(spectrum, smoothed, i, blocks, products)
            lda[i, blocks] = lda_leave_blocks_out(spectrum, smoothed, within, i, blocks, products)
    return ridge, lda


def _same_size(folds: Iterable[Ids]) -> Iterator[Ids]:
    """Yield folds stacked by size, (g, b) each, so that many small ones are solved at once."""
    by_size: dict[int, list[Ids]] = {}
    for fold in folds:
        by_size.setdefault(len(fold), []).append(fold)
    for size, same in sorted(by_size.items()):
        step = max(1, _BLOCK_ROWS // size)
        for start in range(0, len(same), step):
            yield np.stack(same[start : start + step])


def _block_products(spectrum: Spectrum, smoothed: SmootherPath, index: int, blocks: Ids) -> Float:
    """Return (g, b, b) products of the unweighted rows of each block under `(X'X + penalty)^-1`."""
    rows = spectrum.scores[blocks] / np.sqrt(spectrum.weights)[blocks][:, :, None]  # (g, b, r)
    return np.asarray(np.matmul(rows / (spectrum.values + smoothed.penalties[index]), rows.transpose(0, 2, 1)))


def _score_by_refit(spectrum: Spectrum, penalties: Float, fold: Ids) -> tuple[Float, Float]:
    """Return (L, b, K) scores of both heads for one large fold; a class without samples has ridge scores of -1."""
    rest, left = remainder_of(spectrum, fold)
    shape = (len(penalties), len(fold), spectrum.num_classes)
    ridge, lda = np.full(shape, -1.0), np.full(shape, -np.inf)
    smoothed = smooth_targets(rest, penalties)
    ridge[:, :, left] = ridge_scores(rest, smoothed)
    lda[:, :, left] = lda_scores(within_products(rest, smoothed))
    return ridge, lda
