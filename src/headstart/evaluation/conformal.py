"""Compute conformal prediction sets from out-of-fold probabilities (least ambiguous sets).

A class is in the set if its probability reaches the threshold of the class, which is computed from its own images if
there are enough. A runtime needs K numbers. An empty set means that no class fits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.decision_rules import COVERAGES, PredictionSetRule
from headstart.evaluation.folds import draw_folds
from headstart.evaluation.intervals import effective_sample_size, estimate_proportion
from headstart.types.arrays import Float
from headstart.types.records import Estimate

__all__ = ["PredictionSets", "fit_prediction_sets"]


@dataclass(frozen=True)
class PredictionSets:
    """Thresholds of prediction sets with their cross-fitted coverage.

    Attributes:
        coverage: Target coverage.
        thresholds: (K,) a class is in the set if its probability is at least its threshold; 0 always includes it.
        is_per_class: (K,) whether the threshold comes from images of the class only.
        empirical: Cross-fitted empirical coverage with its 95 % CI.
        empirical_per_class: (K,) the same for each class; NaN without images.
        mean_size: Mean number of classes in a set.
        empty_fraction: Fraction of empty sets.
        single_fraction: Fraction of sets with one class.
        is_guaranteed: Whether a separate calibration split was used; without it the coverage is empirical only.
        rule: Thresholds at this coverage and at `COVERAGES`.
    """

    coverage: float
    thresholds: Float
    is_per_class: NDArray[np.bool_]
    empirical: Estimate
    empirical_per_class: Float
    mean_size: float
    empty_fraction: float
    single_fraction: float
    is_guaranteed: bool
    rule: PredictionSetRule

    def sets(self, probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return (N, K) membership of the prediction sets; an empty row means OOD."""
        return np.asarray(probabilities >= self.thresholds, dtype=np.bool_)


def fit_prediction_sets(
    probabilities: Float,
    class_ids: NDArray[np.int64],
    *,
    coverage: float = 0.9,
    groups: NDArray[np.int64] | None = None,
    is_separate_split: bool = False,
    num_folds: int = 10,
    seed: int = 0,
) -> PredictionSets:
    """Fit thresholds for sets with the given coverage of new images (of new groups, if there are groups).

    Args:
        probabilities: (N, K) out of fold, or of a separate calibration split.
        class_ids: (N,).
        coverage: Target coverage, in (0, 1).
        groups: (N,) group of each image; every group has the same weight.
        is_separate_split: Whether the images were used for calibration only.
        num_folds: Folds for the empirical coverage.
        seed: Random seed of the folds.

    Raises:
        ValueError: The coverage is not strictly between 0 and 1.

    Source: Sadinle, Lei and Wasserman (2019) for the sets; Vovk (2015) for out-of-fold scores; Lee, Barber and
    Willett (2023) for groups.
    """
    if not 0.0 < coverage < 1.0:
        raise ValueError(f"coverage must be between 0 and 1 (exclusive), got {coverage}")
    thresholds, is_per_class = _thresholds(probabilities, class_ids, coverage, groups, is_separate_split)
    every = tuple(
        (c, _thresholds(probabilities, class_ids, c, groups, is_separate_split)[0])
        for c in sorted({*COVERAGES, coverage})
    )
    num, num_classes = probabilities.shape
    inside = np.zeros((num, num_classes), dtype=np.bool_)
    fold = draw_folds(class_ids, num_folds, groups=groups, seed=seed)
    for f in range(int(fold.max()) + 1):
        rest = fold != f
        part, _ = _thresholds(probabilities[rest], class_ids[rest], coverage, None if groups is None else groups[rest],
                          is_separate_split)  # fmt: skip
        inside[~rest] = probabilities[~rest] >= part
    held = inside[np.arange(num), class_ids]
    size = inside.sum(axis=1)
    per_class = np.array(
        [held[class_ids == k].mean() if (class_ids == k).any() else np.nan for k in range(num_classes)]
    )
    effective = effective_sample_size(held, groups, is_out_of_fold=not is_separate_split)
    return PredictionSets(
        coverage=coverage,
        thresholds=thresholds,
        is_per_class=is_per_class,
        empirical=estimate_proportion(float(held.mean()), num, effective),
        empirical_per_class=per_class,
        mean_size=float(size.mean()),
        empty_fraction=float((size == 0).mean()),
        single_fraction=float((size == 1).mean()),
        is_guaranteed=is_separate_split,
        rule=PredictionSetRule(coverage, every, is_separate_split),
    )


def _thresholds(
    probabilities: Float,
    class_ids: NDArray[np.int64],
    coverage: float,
    groups: NDArray[np.int64] | None,
    is_all_or_none: bool,
) -> tuple[Float, NDArray[np.bool_]]:
    """Return (K,) thresholds and whether each is per class.

    Coverage is guaranteed for per-class thresholds or one common threshold, not for a mixture: with `is_all_or_none`
    one class that is too small makes all classes share a threshold.
    """
    num_classes = probabilities.shape[1]
    given = probabilities[np.arange(len(class_ids)), class_ids]
    thresholds = np.full(num_classes, _threshold(given, coverage, groups))
    is_own = np.zeros(num_classes, dtype=np.bool_)
    enough = 2.0 / (1.0 - coverage)  # 20 images at 0.9: the threshold is at most half an image too low
    for k in range(num_classes):
        mine = class_ids == k
        part = None if groups is None else groups[mine]
        count = int(mine.sum()) if part is None else len(np.unique(part))
        if count >= enough:
            thresholds[k] = _threshold(given[mine], coverage, part)
            is_own[k] = True
    if is_all_or_none and not is_own.all():
        return np.full(num_classes, _threshold(given, coverage, groups)), np.zeros(num_classes, dtype=np.bool_)
    return thresholds, is_own


def _threshold(given: Float, coverage: float, groups: NDArray[np.int64] | None) -> float:
    """Return the largest threshold with at least the given coverage; 0 with too few images."""
    num = len(given)
    if groups is None:
        rank = math.ceil((num + 1) * coverage)  # in descending order
        return 0.0 if rank > num else float(np.sort(given)[num - rank])
    _, position, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    # Each group has mass 1 / (G + 1), split among its images; the mass of the new group is below all.
    mass = 1.0 / ((len(sizes) + 1) * sizes[position])
    order = np.argsort(-given, kind="stable")
    reached = np.cumsum(mass[order]) >= coverage - 1e-12
    return float(given[order[reached.argmax()]]) if reached.any() else 0.0
