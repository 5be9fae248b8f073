"""Provide toy samples, and the spectrum by kernel and by Gram matrix."""

from __future__ import annotations

import numpy as np

from headstart.probe.spectrum import Gram, Spectrum, from_gram, from_kernel

NUM_CLASSES = 4


def toy(num, width, is_weighted, seed=0):
    """Return rows, class ids (every class at least twice) and weights with mean 1."""
    rng = np.random.default_rng(seed)
    class_ids = np.r_[np.tile(np.arange(NUM_CLASSES), 2), rng.integers(0, NUM_CLASSES, num - 2 * NUM_CLASSES)]
    rows = rng.normal(size=(num, width)) + 2.0 * rng.normal(size=(NUM_CLASSES, width))[class_ids] + 3.0
    weights = np.array([1.0, 0.3, 2.0, 5.0])[class_ids] if is_weighted else np.ones(num)
    return rows, class_ids, weights / weights.mean()


def by_kernel(rows, class_ids, weights):
    """Return the spectrum from the (N, N) kernel, the (D, r) directions and the mean."""
    mean = weights @ rows / weights.sum()
    centered = np.sqrt(weights)[:, None] * (rows - mean)
    spectrum = from_kernel(centered @ centered.T, weights, class_ids, NUM_CLASSES)
    return spectrum, centered.T @ spectrum.scores / spectrum.values, mean


def by_gram(rows, class_ids, weights):
    """Return the spectrum from the (D, D) Gram matrix, accumulated in two chunks."""
    gram = Gram.empty(rows.shape[1], NUM_CLASSES)
    half = len(rows) // 2
    for part in (slice(0, half), slice(half, None)):
        gram.add(rows[part], weights[part], class_ids[part])
    totals, directions = from_gram(gram)
    scores = np.sqrt(weights)[:, None] * (rows - gram.mean) @ directions
    spectrum = Spectrum(scores, weights, class_ids, totals.values, totals.masses, totals.class_means)
    return spectrum, directions, gram.mean


def folds_of(groups):
    return [np.flatnonzero(groups == g) for g in np.unique(groups)]
