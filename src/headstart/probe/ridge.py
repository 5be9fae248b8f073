"""Fit ridge regression on +-1 one-hot targets for all penalties, with exact leave-one-(group-)out.

The intercept is not penalized and is refitted, so the downdated smoother is `H + sqrt(w) sqrt(w)' / sum(w)`.
Normalizer, sample weights and penalties stay fixed. Sources: Allen (1974), PRESS; Golub, Heath and Wahba (1979).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headstart.probe.spectrum import SmootherPath, Spectrum
from headstart.types.arrays import Float

__all__ = ["ridge_coefficients", "ridge_leave_blocks_out", "ridge_leave_one_out", "ridge_scores"]


def ridge_scores(spectrum: Spectrum, smoothed: SmootherPath) -> Float:
    """Return (L, n, K) in-sample scores of the selected samples."""
    return smoothed.raw * (2.0 * spectrum.masses) + _intercept(spectrum)


def ridge_leave_one_out(spectrum: Spectrum, smoothed: SmootherPath) -> Float:
    """Return (L, n, K) leave-one-out scores, exactly those of a refit."""
    targets = _targets(spectrum.class_ids, spectrum.num_classes)
    leverage = spectrum.weights * smoothed.own + spectrum.weights / spectrum.masses.sum()  # (L, n)
    residual = targets - ridge_scores(spectrum, smoothed)
    return np.asarray(targets - residual / (1.0 - leverage)[:, :, None])


def ridge_leave_blocks_out(
    spectrum: Spectrum, smoothed: SmootherPath, index: int, blocks: NDArray[np.int64], products: Float
) -> Float:
    """Return leave-one-group-out scores of blocks of samples.

    Args:
        spectrum: Spectrum of the selected samples.
        smoothed: Smoother of the same samples.
        index: Index of the penalty.
        blocks: (g, b) positions of g blocks of b samples.
        products: (g, b, b) of the rows of each block under `(X'X + penalty)^-1`, unweighted.

    Returns:
        (g, b, K) scores, exactly those of a refit without the block.
    """
    root = np.sqrt(spectrum.weights)[blocks][:, :, None]  # (g, b, 1)
    targets = _targets(spectrum.class_ids, spectrum.num_classes)[blocks]
    fitted = smoothed.raw[index][blocks] * (2.0 * spectrum.masses) + _intercept(spectrum)
    hat = (products + 1.0 / spectrum.masses.sum()) * (root * root.transpose(0, 2, 1))
    left = np.linalg.solve(np.eye(blocks.shape[1]) - hat, root * (targets - fitted)) / root
    return np.asarray(targets - left)


def ridge_coefficients(spectrum: Spectrum, penalty: float) -> tuple[Float, Float]:
    """Return the fit on all samples: (K, r) weight on the principal directions and (K,) bias at the mean."""
    pull = 2.0 * spectrum.masses[:, None] * spectrum.class_means
    return pull / (spectrum.values + penalty), _intercept(spectrum)


def _intercept(spectrum: Spectrum) -> Float:
    """Return (K,) weighted mean of the targets of all samples."""
    return np.asarray(2.0 * spectrum.masses / spectrum.masses.sum() - 1.0)


def _targets(class_ids: NDArray[np.int64], num_classes: int) -> Float:
    """Return (n, K) of +1 at the class and -1 elsewhere."""
    targets = np.full((len(class_ids), num_classes), -1.0)
    targets[np.arange(len(class_ids)), class_ids] = 1.0
    return targets
