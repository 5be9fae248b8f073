"""Implement ridge and LDA naively as references for the closed forms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headstart.probe.spectrum import Gram, Spectrum, from_gram, from_kernel

Float = NDArray[np.float64]
Ids = NDArray[np.int64]


def decomposed(rows: Float, weights: Float, class_ids: Ids) -> Spectrum:
    """Return the spectrum from the smaller of the kernel and the Gram matrix."""
    num_classes = int(class_ids.max()) + 1
    if len(rows) <= rows.shape[1]:
        centered = np.sqrt(weights)[:, None] * (rows - weights @ rows / weights.sum())
        return from_kernel(centered @ centered.T, weights, class_ids, num_classes)
    gram = Gram.empty(rows.shape[1], num_classes)
    gram.add(rows, weights, class_ids)
    totals, directions = from_gram(gram)
    scores = np.sqrt(weights)[:, None] * (rows - gram.mean) @ directions
    return Spectrum(scores, weights, class_ids, totals.values, totals.masses, totals.class_means)


def refitted(rows: Float, class_ids: Ids, weights: Float, keep: Ids, fold: Ids, penalty: float) -> tuple[Float, Float]:
    """Return ridge scores and LDA discriminants of the fold from a fit on the kept samples."""
    num_classes = int(class_ids.max()) + 1
    x, w, ids = rows[keep], weights[keep][:, None], class_ids[keep]
    targets = 2.0 * np.eye(num_classes)[ids] - 1.0
    full = np.column_stack([x, np.ones(len(x))])
    penalty_matrix = penalty * np.eye(full.shape[1])
    penalty_matrix[-1, -1] = 0.0
    ridge = np.column_stack([rows[fold], np.ones(len(fold))]) @ np.linalg.solve(
        full.T @ (w * full) + penalty_matrix, full.T @ (w * targets)
    )
    lda = np.full((len(fold), num_classes), -np.inf)
    present = np.unique(ids)
    means = np.stack([np.average(x[ids == k], axis=0, weights=w[ids == k, 0]) for k in present])
    centered = x - means[np.searchsorted(present, ids)]
    directions = np.linalg.solve(centered.T @ (w * centered) + penalty * np.eye(x.shape[1]), means.T)
    lda[:, present] = rows[fold] @ directions - 0.5 * np.einsum("kd,dk->k", means, directions)
    return ridge, lda
