"""Represent one feature set for fitting: normalized rows, their decomposition, and the inverse map.

Rows are float32 as in the runtime, sums are float64; only scores of the selected rows are computed, so that memory is
bounded by the rows themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.probe.labels import Labels
from headstart.probe.normalize import Normalizer
from headstart.probe.spectrum import Gram, Spectrum, from_gram, from_kernel
from headstart.types.arrays import Float

__all__ = ["FeatureSubspace", "block_kernels", "open_space"]

_CHUNK = 2048


@dataclass(frozen=True)
class FeatureSubspace:
    """A decomposed set of blocks.

    Attributes:
        normalizer: Normalizer of this set of blocks.
        rows: (N, D) float32 normalized.
        labels: Labels of the N samples.
        mean: (D,) weighted mean of the rows.
        totals: The spectrum, with all samples selected (kernel form) or none (Gram form).
        directions: (D, r) in the Gram form, None in the kernel form.
    """

    normalizer: Normalizer
    rows: NDArray[np.float32]
    labels: Labels
    mean: Float
    totals: Spectrum
    directions: Float | None

    def select(self, index: NDArray[np.int64]) -> Spectrum:
        """Return the spectrum with scores for some of the samples."""
        if self.directions is None:
            return self.totals.part(index)
        weights = self.labels.weights[index]
        scores = (self.rows[index] - self.mean) @ self.directions
        scores *= np.sqrt(weights)[:, None]
        return replace(self.totals, scores=scores, weights=weights, class_ids=self.labels.class_ids[index])

    def leading(self, count: int) -> NDArray[np.float32]:
        """Return (D, r) orthonormal leading directions of the weighted rows, strongest first, r at most `count`."""
        count = min(count, len(self.totals.values))
        if self.directions is not None:
            result: NDArray[np.floating[Any]] = self.directions[:, -count:]
        else:
            # Scores are projections of the rows, so products of scores and rows give the directions.
            along = self.totals.scores[:, -count:] / self.totals.values[-count:]
            along *= np.sqrt(self.labels.weights)[:, None]
            result = self.rows.T @ along.astype(np.float32) - np.outer(self.mean, along.sum(axis=0))
        return np.ascontiguousarray(result[:, ::-1], dtype=np.float32)

    def lift(self, weight: Float, bias: Float) -> tuple[Float, Float]:
        """Map (K, r) weight on directions and (K,) bias at the mean to (K, D) and (K,) on normalized rows."""
        if self.directions is not None:
            lifted = weight @ self.directions.T
        else:
            along = (weight / self.totals.values) @ self.totals.scores.T  # (K, N)
            along *= np.sqrt(self.labels.weights)
            lifted = along @ self.rows.astype(np.float64) - np.outer(along.sum(axis=1), self.mean)
        return lifted, bias - lifted @ self.mean


def open_space(
    normalizer: Normalizer,
    rows: NDArray[np.float32],
    labels: Labels,
    kernels: Mapping[str, Float] | None = None,
) -> FeatureSubspace:
    """Decompose normalized rows in the cheaper form.

    Args:
        normalizer: Normalizer that produced the rows.
        rows: (N, D) float32.
        labels: Labels of the N samples.
        kernels: Products of the centered unit rows of each block, from `block_kernels`, where they exist.
    """
    mean = np.asarray(labels.weights @ rows / labels.weights.sum())
    num, width = rows.shape
    if num <= width:
        if kernels is None:
            centered = (rows - mean) * np.sqrt(labels.weights)[:, None]
            kernel = centered @ centered.T
        else:
            parts = zip(normalizer.names, normalizer.weights, strict=True)
            kernel = np.sum([weight**2 * kernels[name] for name, weight in parts], axis=0)
        totals = from_kernel(kernel, labels.weights, labels.class_ids, labels.num_classes)
        return FeatureSubspace(normalizer, rows, labels, mean, totals, None)
    gram = Gram.empty(width, labels.num_classes)
    for start in range(0, num, _CHUNK):
        part = slice(start, start + _CHUNK)
        gram.add(rows[part].astype(np.float64), labels.weights[part], labels.class_ids[part])
    totals, directions = from_gram(gram)
    return FeatureSubspace(normalizer, rows, labels, gram.mean, totals, directions)


def block_kernels(normalizer: Normalizer, rows: NDArray[np.float32], weights: Float) -> dict[str, Float]:
    """Return (N, N) products of the weighted, centered rows of each block at block weight 1."""
    kernels, start = {}, 0
    for name, size, factor in zip(normalizer.names, normalizer.sizes, normalizer.weights, strict=True):
        part = rows[:, start : start + size].astype(np.float64) / factor
        part -= weights @ part / weights.sum()
        part *= np.sqrt(weights)[:, None]
        kernels[name] = part @ part.T
        start += size
    return kernels
