"""Calibrate detection scores by Platt scaling: of detections with score 0.8, about 80 % are correct.

One slope and one offset for all classes (Platt 1999), fitted on held-out images. The order of detections does not
change, and so neither does average precision.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.detection.matching import ClassMatches

__all__ = ["fit_calibration", "recalibrate"]

_MIN_COUNT = 10  # minimum number of correct and of wrong detections
_RIDGE = 1.0  # regularization of the slope towards 1, in detections
_STEPS = 50


def fit_calibration(matches: Sequence[ClassMatches]) -> tuple[float, float]:
    """Fit slope and offset on the logit of the score; (1, 0) with too few detections.

    Args:
        matches: Matches of each class with raw scores. Detections of crowds are neither correct nor wrong.
    """
    counted = [~m.is_ignored[0, 0] for m in matches]
    scores = np.concatenate([np.zeros(0), *(m.scores[c] for m, c in zip(matches, counted, strict=True))])
    hits = [m.is_hit[0, 0, c] for m, c in zip(matches, counted, strict=True)]
    correct = np.concatenate([np.zeros(0), *hits])
    if min(correct.sum(), (1.0 - correct).sum()) < _MIN_COUNT:
        return 1.0, 0.0
    x = _logit(scores)
    slope, offset = 1.0, 0.0
    for _ in range(_STEPS):  # Newton's method on the regularized log-likelihood
        p = _sigmoid(slope * x + offset)
        w = np.maximum(p * (1.0 - p), 1e-9)
        gradient = np.array([np.sum((p - correct) * x) + _RIDGE * (slope - 1.0), np.sum(p - correct)])
        hessian = np.array([[np.sum(w * x * x) + _RIDGE, np.sum(w * x)], [np.sum(w * x), np.sum(w) + 1e-6]])
        move = np.clip(np.linalg.solve(hessian, gradient), -2.0, 2.0)  # limits long steps far from the optimum
        slope, offset = slope - float(move[0]), offset - float(move[1])
        if np.abs(move).max() < 1e-8:
            break
    if not (np.isfinite([slope, offset]).all() and slope > 0.05):
        return 1.0, 0.0  # scores do not correlate with correctness
    return slope, offset


def recalibrate(scores: NDArray[np.floating], slope: float, offset: float) -> NDArray[np.float32]:
    """Return (M,) calibrated scores of (M,) raw ones."""
    return _sigmoid(slope * _logit(scores.astype(np.float64)) + offset).astype(np.float32)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -50.0, 50.0))))


def _logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(scores, 1e-6, 1.0 - 1e-6)
    return np.asarray(np.log(clipped / (1.0 - clipped)))
