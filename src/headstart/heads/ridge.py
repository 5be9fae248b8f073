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

from headstart.heads.spectrum import Float, Spectrum

__all__ = ["ridge_coefficients", "ridge_out_of_fold", "signed_targets"]


def signed_targets(class_ids: NDArray[np.int64], num_classes: int) -> Float:
    """(N, K) of +1 at the class and -1 elsewhere."""
    targets = np.full((len(class_ids), num_classes), -1.0)
    targets[np.arange(len(class_ids)), class_ids] = 1.0
    return targets


def ridge_out_of_fold(
    spectrum: Spectrum,
    targets: Float,
    penalties: Float,
    folds: Sequence[NDArray[np.int64]] | None = None,
) -> Float:
    """What ridge says about every sample when it (or its whole fold) is left out.

    Args:
        spectrum: Of all samples.
        targets: (N, K).
        penalties: (L,) positive.
        folds: Positions of each group that is left out together; None leaves out one sample at a time.

    Returns:
        (L, N, K) scores, exactly those of a refit without the fold.
    """
    total = spectrum.weights.sum()
    intercept = spectrum.weights @ targets / total  # (K,)
    root = np.sqrt(spectrum.weights)[:, None]
    projected = spectrum.scores.T @ (root * (targets - intercept))  # (r, K)
    shrunk = projected / (spectrum.values + penalties[:, None])[:, :, None]  # (L, r, K)
    fitted = np.matmul(spectrum.scores, shrunk) / root + intercept  # (L, N, K)
    residual = targets - fitted
    if folds is None:
        leverage = spectrum.diagonal(penalties) + spectrum.weights / total  # (L, N)
        return np.asarray(targets - residual / (1.0 - leverage)[:, :, None])
    out: Float = np.empty_like(fitted)
    for fold in folds:
        part, side = spectrum.scores[fold], root[fold]
        for i, penalty in enumerate(penalties):
            smoother = (part / (spectrum.values + penalty)) @ part.T + side @ side.T / total
            smoother.flat[:: len(fold) + 1] -= 1.0
            out[i, fold] = targets[fold] + np.linalg.solve(smoother, side * residual[i, fold]) / side
    return out


def ridge_coefficients(spectrum: Spectrum, targets: Float, penalty: float) -> tuple[Float, Float]:
    """The fit on all samples: (K, D) weight and (K,) bias on normalised rows."""
    intercept = spectrum.weights @ targets / spectrum.weights.sum()
    root = np.sqrt(spectrum.weights)[:, None]
    projected = spectrum.scores.T @ (root * (targets - intercept))
    weight = np.asarray((spectrum.basis @ (projected / (spectrum.values + penalty)[:, None])).T)
    return weight, intercept - weight @ spectrum.mean
