"""Measure OOD detection on classes held out of training.

For each class a ridge head is fitted on half of a few hundred images of the other classes, from their inner products,
so that one small decomposition yields head and principal directions. The final head, trained on more images, detects
more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.calibration import fit_temperature
from headstart.evaluation.decision_rules import add_up, log_ood_score
from headstart.evaluation.folds import draw_folds
from headstart.evaluation.ood import HeldOutClassResult, rank_auc, threshold_of
from headstart.evaluation.principal_directions import MAX_DIRECTIONS, centered_products
from headstart.evaluation.softmax import softmax
from headstart.types.arrays import Float, Ids

__all__ = ["evaluate_held_out_classes"]


_MAX_IMAGES = 500  # maximum number of images
_BOTH_HALVES = 300  # up to this number of images, each half is used for fitting once
_MIN_KNOWN = 20  # known images per half for a threshold at 5 %
_EPS = 1e-6


@dataclass(frozen=True)
class _Scores:
    """Standardized OOD scores of held-out known images and of images of the held-out class."""

    known: Float
    new: Float
    uncertainty_known: Float
    uncertainty_new: Float


def evaluate_held_out_classes(
    rows: NDArray[np.floating[Any]],
    class_ids: Ids,
    *,
    ood_fpr: float = 0.05,
    groups: Ids | None = None,
    penalty: float = 1e-2,
    max_classes: int = 10,
    seed: int = 0,
) -> HeldOutClassResult | None:
    """Measure the OOD recall on each class held out of training.

    Args:
        rows: (N, D) normalized as for the head.
        class_ids: (N,).
        ood_fpr: Target false-positive rate.
        groups: (N,) groups of images that stay in one fold.
        penalty: Ridge penalty as a fraction of the scatter.
        max_classes: Maximum number of held-out classes, drawn at random.
        seed: Random seed.

    Returns:
        OOD detection results; None with fewer than three classes, or with too few images for a threshold.
    """
    rng = np.random.default_rng(seed)
    index = _drawn(class_ids, groups, rng)
    ids = class_ids[index]
    part_groups = None if groups is None else groups[index]
    present, counts = np.unique(ids, return_counts=True)
    present = present[counts >= 2]
    num_units = len(index) if part_groups is None else len(np.unique(part_groups))
    if len(present) < 3 or num_units < 4:
        return None
    tried = np.sort(rng.choice(present, min(max_classes, len(present)), replace=False))
    part = rows[index].astype(np.float32)
    kernel = (part @ part.T).astype(np.float64)  # (n, n)
    half = draw_folds(ids, 2, groups=part_groups, seed=seed)
    per_class: dict[int, tuple[float, float]] = {}
    plain, rates = [], []
    for k in tried:
        new = np.flatnonzero(ids == k)
        scores = []
        for inside in (0, 1) if len(index) <= _BOTH_HALVES else (0,):
            fit = np.flatnonzero((ids != k) & (half == inside))
            known = np.flatnonzero((ids != k) & (half != inside))
            if len(np.unique(ids[fit])) >= 2 and len(known) >= _MIN_KNOWN // 2:
                scores.append(_score(kernel, ids, fit, known, new, penalty))
        if not scores:
            continue
        known_scores = np.concatenate([s.known for s in scores])
        threshold = threshold_of(known_scores, ood_fpr)
        if math.isinf(threshold):
            continue
        auc = float(np.mean([rank_auc(s.known, s.new) for s in scores]))
        ood_recall = float(np.mean([(s.new > threshold).mean() for s in scores]))
        per_class[int(k)] = (auc, ood_recall)
        plain.append(float(np.mean([rank_auc(s.uncertainty_known, s.uncertainty_new) for s in scores])))
        rates.append(float((known_scores > threshold).mean()))
    if not per_class:
        return None
    return HeldOutClassResult.over_classes(per_class, plain, rates, len(index))


def _score(kernel: Float, ids: Ids, fit: Ids, known: Ids, new: Ids, penalty: float) -> _Scores:
    """Fit head and directions on some images and score others."""
    scored = np.concatenate([known, new])
    within, across, own = centered_products(kernel, fit, scored)
    values, vectors = np.linalg.eigh(within)
    values = np.maximum(values, _EPS)
    inner = across @ vectors  # (n, m): along each direction, times the root of its value
    leading = slice(max(0, len(fit) - min(MAX_DIRECTIONS, max(1, len(fit) // 2))), None)
    residual = own - inner[:, leading] ** 2 @ (1.0 / values[leading])
    classes, position = np.unique(ids[fit], return_inverse=True)
    targets = np.eye(len(classes))[position]
    along = vectors.T @ (targets - targets.mean(axis=0))
    ridge = inner @ (along / (values + penalty * float(values.sum()))[:, None]) + targets.mean(axis=0)
    end = len(known)
    class_ids = np.searchsorted(classes, ids[known])
    has_class = np.isin(ids[known], classes)
    class_ids[~has_class] = 0
    temperature = fit_temperature(ridge[:end][has_class], class_ids[has_class])
    uncertainty = log_ood_score(softmax(ridge / temperature).max(axis=1))
    residual_term = np.log(np.maximum(residual, _EPS))
    u, v = ((x - x[:end].mean()) / max(float(x[:end].std()), _EPS) for x in (uncertainty, residual_term))
    total = add_up(u, v)
    return _Scores(total[:end], total[end:], u[:end], u[end:])


def _drawn(class_ids: Ids, groups: Ids | None, rng: np.random.Generator) -> Ids:
    """Return positions of at most 500 class-balanced images; groups whole."""
    num = len(class_ids)
    if num <= _MAX_IMAGES:
        return np.arange(num)
    if groups is not None:
        names, owner = np.unique(groups, return_inverse=True)
        order = rng.permutation(len(names))
        sizes = np.bincount(owner)[order]
        kept = order[np.cumsum(sizes) <= _MAX_IMAGES]
        if len(kept) >= 4:
            return np.flatnonzero(np.isin(owner, kept))
    mixed = rng.permutation(num)
    rank = np.empty(num, dtype=np.int64)
    for k in np.unique(class_ids):
        mine = mixed[class_ids[mixed] == k]
        rank[mine] = np.arange(len(mine))
    return np.sort(mixed[np.argsort(rank[mixed], kind="stable")][:_MAX_IMAGES])
