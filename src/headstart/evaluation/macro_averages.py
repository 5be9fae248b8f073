"""Compute means over classes (balanced accuracy, macro F1) and their effective sample sizes.

The variance comes from the confusion matrix by influence functions, with two pseudo-samples per class, and is
converted to the n of a fraction with the same variance, for a Wilson interval. (Combining per-class intervals covered
75 to 90 % for macro F1, because errors of classes are correlated.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headstart.types.arrays import Float

__all__ = ["PSEUDO_SAMPLES", "balanced_accuracy", "f1_macro"]

PSEUDO_SAMPLES = 2.0
"""Pseudo-samples per class with the overall accuracy, so that small classes keep a nonzero variance."""


def balanced_accuracy(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return balanced accuracy over present classes and its effective sample size.

    Args:
        counts: (K, K) rows: true class, columns: predicted class.
    """
    present = counts.sum(axis=1) > 0
    value = float(np.mean(np.diag(counts)[present] / counts.sum(axis=1)[present]))
    smooth = _smoothed(counts)
    size = smooth.sum(axis=1)[present]
    recall = np.diag(smooth)[present] / size
    variance = float(np.sum(recall * (1 - recall) / size)) / int(present.sum()) ** 2
    return value, _equal_n(float(recall.mean()), variance)


def f1_macro(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return macro F1 over present classes and its effective sample size.

    Args:
        counts: (K, K) rows: true class, columns: predicted class.

    Source: Takahashi et al. (2022), confidence intervals of macro-averaged F1 by the delta method.
    """
    present = counts.sum(axis=1) > 0
    f1, _ = _f1(counts.astype(np.float64))
    smooth = _smoothed(counts)
    smooth_f1, total = _f1(smooth)
    per_sample = np.where((total > 0) & present, 1.0 / np.maximum(total, 1e-300), 0.0)  # (K,)
    pull = smooth_f1 * per_sample
    # Influence of one sample of class i predicted as j: 2 / total if correct, less the change of both totals.
    influence = (np.diag(2.0 * per_sample) - pull[:, None] - pull[None, :]) / int(present.sum())
    variance = float((smooth * influence**2).sum())
    return float(f1[present].mean()), _equal_n(float(smooth_f1[present].mean()), variance)


def _f1(counts: Float) -> tuple[Float, Float]:
    """Return (K,) F1 = 2 TP / total and (K,) total = 2 TP + FP + FN."""
    total = counts.sum(axis=0) + counts.sum(axis=1)
    return np.where(total > 0, 2.0 * np.diag(counts) / np.maximum(total, 1e-300), 0.0), total


def _smoothed(counts: NDArray[np.int64]) -> Float:
    """Smooth the matrix with pseudo-samples; row sums are kept."""
    num_classes, num = len(counts), counts.sum()
    size = counts.sum(axis=1)
    right = (np.trace(counts) + 1.0) / (num + 2.0)
    elsewhere = np.tile(counts.sum(axis=0) + 1.0, (num_classes, 1)) * (1.0 - np.eye(num_classes))
    elsewhere /= np.maximum(elsewhere.sum(axis=1, keepdims=True), 1e-300)
    pseudo_samples = right * np.eye(num_classes) + (1.0 - right) * elsewhere
    mixed = (counts + PSEUDO_SAMPLES * pseudo_samples) * (size / (size + PSEUDO_SAMPLES))[:, None]
    return np.asarray(mixed, dtype=np.float64)


def _equal_n(value: float, variance: float) -> float:
    return value * (1.0 - value) / max(variance, 1e-300)
