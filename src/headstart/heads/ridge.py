"""Ridge regression on +-1 one-hot targets: every penalty and exact leave-one-(group-)out from one decomposition.

The decision: the intercept is not penalised and is refitted by leaving out, so the smoother that is
downdated is `H + sqrt(w) sqrt(w)' / sum(w)`.  Held fixed by leaving out: the normaliser, the sample
weights and the penalties themselves.  Source of the identities: Allen (1974), PRESS; Golub, Heath and
Wahba (1979); the block form is the same algebra with a block of rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.heads.spectrum import Float, Smoothed, Spectrum, same_size, without

__all__ = ["ridge_coefficients", "ridge_out_of_fold"]


def ridge_out_of_fold(
    spectrum: Spectrum, smoothed: Smoothed, folds: Sequence[NDArray[np.int64]] | None = None
) -> Float:
    """What ridge says about every sample when it (or its whole fold) is left out.

    Args:
        spectrum: Of n samples that are looked at.
        smoothed: Of the same samples.
        folds: Positions among the n of each group that is left out together; None leaves out one at a time.

    Returns:
        (L, n, K) scores, exactly those of a refit without the fold.
    """
    total = spectrum.masses.sum()
    targets = np.full((len(spectrum.class_ids), spectrum.num_classes), -1.0)
    targets[np.arange(len(targets)), spectrum.class_ids] = 1.0
    intercept = 2.0 * spectrum.masses / total - 1.0
    residual = smoothed.raw * (-2.0 * spectrum.masses) + (targets - intercept)  # (L, n, K)
    if folds is None:
        leverage = spectrum.weights * smoothed.own + spectrum.weights / total  # (L, n)
        return np.asarray(targets - residual / (1.0 - leverage)[:, :, None])
    out: Float = np.empty_like(residual)
    root = np.sqrt(spectrum.weights)
    for blocks in same_size(folds):  # (g, b)
        if blocks.shape[1] > len(spectrum.values):
            for fold in blocks:
                out[:, fold] = _refit(spectrum, smoothed.penalties, fold)
            continue
        scores, side = spectrum.scores[blocks], root[blocks][:, :, None]
        for i, penalty in enumerate(smoothed.penalties):
            hat = np.matmul(scores / (spectrum.values + penalty), scores.transpose(0, 2, 1))  # (g, b, b)
            hat += side * side.transpose(0, 2, 1) / total
            left = np.linalg.solve(np.eye(blocks.shape[1]) - hat, side * residual[i][blocks]) / side
            out[i, blocks] = targets[blocks] - left
    return out


def ridge_coefficients(spectrum: Spectrum, penalty: float) -> tuple[Float, Float]:
    """The fit on all samples: (K, r) weight on the principal directions and (K,) bias at the mean."""
    pull = 2.0 * spectrum.masses[:, None] * spectrum.class_means
    return pull / (spectrum.values + penalty), 2.0 * spectrum.masses / spectrum.masses.sum() - 1.0


def _refit(spectrum: Spectrum, penalties: Float, fold: NDArray[np.int64]) -> Float:
    """(L, b, K) the same for one fold larger than the number of directions, where solving anew is cheaper."""
    masses, means, scatter = without(spectrum, fold)
    total = masses.sum()
    centre = masses @ means / total  # (r,)
    scatter -= total * np.outer(centre, centre)
    pull = 2.0 * masses[:, None] * (means - centre)
    rows = spectrum.scores[fold] / np.sqrt(spectrum.weights[fold])[:, None] - centre
    fits = [np.linalg.solve(scatter + penalty * np.eye(len(centre)), pull.T) for penalty in penalties]
    return np.asarray(np.stack([rows @ fit for fit in fits]) + (2.0 * masses / total - 1.0))
