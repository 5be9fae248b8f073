"""Compute confidence thresholds with bounded error rates for selective prediction.

Upper bounds (Clopper-Pearson, Bonferroni-corrected) hold for all thresholds simultaneously, since users choose the
best one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.intervals import EffectiveSampleSize, effective_sample_size, estimate_proportion
from headstart.evaluation.quantiles import beta_quantile
from headstart.types.arrays import Float

__all__ = [
    "OperatingPoint",
    "RecallPoint",
    "accept_above",
    "clopper_pearson_upper",
    "recall_at_false_positive_rates",
    "risk_coverage",
]

COVERAGES = tuple(i / 20 for i in range(1, 21))
"""Candidate coverages (fractions of accepted images)."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Threshold for accepting predictions.

    Attributes:
        threshold: On the probability of the predicted class.
        coverage: Fraction of images accepted, in [0, 1].
        num_accepted: Accepted scored images.
        error: Error rate of the accepted images.
        error_bound: Simultaneous 95 % upper bound of the error rate; None with too few groups.
    """

    threshold: float
    coverage: float
    num_accepted: int
    error: float
    error_bound: float | None


@dataclass(frozen=True, slots=True)
class RecallPoint:
    """Threshold for predicting the positive class.

    Attributes:
        threshold: On the probability of the positive class.
        false_positive_rate: Fraction of the other images above it.
        recall: Fraction of the positive images above it.
        recall_low, recall_high: 95 % CI.
        precision: Fraction of images above it that are positive; None where there are none.
    """

    threshold: float
    false_positive_rate: float
    recall: float
    recall_low: float | None
    recall_high: float | None
    precision: float | None


def clopper_pearson_upper(errors: float, num: float, confidence: float = 0.95) -> float:
    """Compute the one-sided Clopper-Pearson upper bound; counts may be fractional (effective counts).

    Source: Clopper and Pearson (1934).
    """
    return 1.0 if num <= errors else beta_quantile(confidence, errors + 1.0, num - errors)


def risk_coverage(confidence: Float, hits: NDArray[np.bool_]) -> tuple[Float, Float, Float]:
    """Return (T,) coverage, (T,) error rate and (T,) threshold of the risk-coverage curve.

    Images with equal confidence are accepted together, so every point has a threshold.
    """
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    wrong = np.cumsum(~hits[order])
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    return (last + 1) / len(ordered), wrong[last] / (last + 1), ordered[last]


def accept_above(
    confidence: Float,
    hits: NDArray[np.bool_],
    *,
    targets: Sequence[float] = (0.01, 0.02, 0.05, 0.1),
    groups: NDArray[np.int64] | None = None,
    is_out_of_fold: bool = True,
    assurance: float = 0.95,
) -> dict[float, OperatingPoint | None]:
    """Return, per target, the point with the largest coverage whose error bound is within the target.

    Args:
        confidence: (N,) probability of the predicted class.
        hits: (N,).
        targets: Maximum error rates.
        groups: (N,) group of each image; errors within a group are correlated.
        is_out_of_fold: Whether the scored images also trained one another's models.
        assurance: Confidence of the bound.

    Returns:
        None where no threshold meets the target.
    """
    effective = effective_sample_size(hits, groups, is_out_of_fold=is_out_of_fold)
    points = _points(confidence, hits, effective, assurance)
    best: dict[float, OperatingPoint | None] = {}
    for target in targets:
        good = [p for p in points if p.error_bound is not None and p.error_bound <= target]
        best[target] = max(good, key=lambda p: p.num_accepted) if good else None
    return best


def recall_at_false_positive_rates(
    score: Float,
    is_positive: NDArray[np.bool_],
    *,
    rates: Sequence[float] = (0.01, 0.05, 0.1),
    groups: NDArray[np.int64] | None = None,
    is_out_of_fold: bool = True,
) -> list[RecallPoint]:
    """Compute recall of one class at given false-positive rates.

    Args:
        score: (N,) probability of the positive class.
        is_positive: (N,) whether it is the true class.
        rates: Maximum false-positive rates.
        groups: (N,) group of each image.
        is_out_of_fold: As in `accept_above`.

    Raises:
        ValueError: All images are positive, or none is.
    """
    num_positive = int(is_positive.sum())
    num_other = len(is_positive) - num_positive
    if num_positive == 0 or num_other == 0:
        raise ValueError("recall at a false-positive rate needs positive and negative images")
    others = np.sort(score[~is_positive])[::-1]
    points = []
    for rate in rates:
        allowed = math.floor(rate * num_other + 1e-9)
        # Just above the highest score that must not be predicted positive.
        threshold = float(np.nextafter(others[allowed], np.inf)) if allowed < num_other else float(score.min())
        above = score >= threshold
        hits = above[is_positive]
        effective = effective_sample_size(
            hits, None if groups is None else groups[is_positive], is_out_of_fold=is_out_of_fold
        )
        recall = estimate_proportion(float(hits.mean()), num_positive, effective)
        points.append(
            RecallPoint(
                threshold=threshold,
                false_positive_rate=float(above[~is_positive].mean()),
                recall=float(hits.mean()),
                recall_low=recall.low,
                recall_high=recall.high,
                precision=float(is_positive[above].mean()) if above.any() else None,
            )
        )
    return points


def _points(
    confidence: Float, hits: NDArray[np.bool_], effective: EffectiveSampleSize, assurance: float
) -> list[OperatingPoint]:
    coverage, error, threshold = risk_coverage(confidence, hits)
    level = 1.0 - (1.0 - assurance) / len(COVERAGES)
    points = []
    for candidate in COVERAGES:
        i = int(np.searchsorted(coverage, candidate - 1e-12))
        accepted = round(float(coverage[i]) * len(hits))
        bound = None
        if effective.ratio is not None:
            bound = clopper_pearson_upper(
                float(error[i]) * accepted * effective.ratio, accepted * effective.ratio, level
            )
        points.append(OperatingPoint(float(threshold[i]), float(coverage[i]), accepted, float(error[i]), bound))
    return points
