"""Calibrate detection scores by Platt scaling: of detections with score 0.8, about 80 % are correct.

One slope and one offset for all classes (Platt 1999), fitted on held-out images. The order of detections does not
change, and so neither does average precision.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Boxes, Detections
from headstart.detection.decoding import iou_matrix

__all__ = ["fit_calibration", "is_correct", "recalibrate"]

_MIN_COUNT = 10  # minimum number of correct and of wrong detections
_RIDGE = 1.0  # regularization of the slope towards 1, in detections
_STEPS = 50


def is_correct(ground_truth: Boxes, detections: Detections, iou: float = 0.5) -> NDArray[np.bool_]:
    """Return (M,) whether each detection is the first match of a box of its class."""
    correct = np.zeros(len(detections), dtype=bool)
    used = ground_truth.is_crowd.copy()
    overlap = iou_matrix(detections.xyxy, ground_truth.xyxy)
    for i, kind in enumerate(detections.class_ids):
        open_boxes = np.where(~used & (ground_truth.class_ids == kind), overlap[i], -1.0)
        if len(open_boxes) and open_boxes.max() >= iou:
            correct[i] = True
            used[int(open_boxes.argmax())] = True
    return correct


def fit_calibration(ground_truth: Sequence[Boxes], detections: Sequence[Detections]) -> tuple[float, float]:
    """Fit slope and offset on the logit of the score; (1, 0) with too few detections.

    Args:
        ground_truth: Ground-truth boxes of each image.
        detections: Detections of each image with raw scores, highest first.
    """
    if not detections:
        return 1.0, 0.0
    scores = np.concatenate([d.scores for d in detections]).astype(np.float64)
    pairs = zip(ground_truth, detections, strict=True)
    correct = np.concatenate([is_correct(boxes, predicted) for boxes, predicted in pairs]).astype(np.float64)
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


def recalibrate(detections: Detections, slope: float, offset: float) -> Detections:
    """Return the detections with calibrated scores."""
    scores = _sigmoid(slope * _logit(detections.scores.astype(np.float64)) + offset)
    return Detections(detections.xyxy, scores.astype(np.float32), detections.class_ids)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -50.0, 50.0))))


def _logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(scores, 1e-6, 1.0 - 1e-6)
    return np.asarray(np.log(clipped / (1.0 - clipped)))
