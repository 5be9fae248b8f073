"""Detect out-of-distribution (OOD) images from the uncertainty of the head and the residual norm of the features.

The residual norm is the norm of a normalized row after projection onto the principal directions of the training images.
Uncertainty detects new classes that resemble known ones, the residual norm images of another kind.

    u = standardized log(-log(largest probability)),  v = standardized log(squared residual norm)
    OOD score = u + (max(0, v + 1) / 2)^2

An export needs one (D,) and one (D, r) array, four numbers and the thresholds (`evaluation.decision_rules`). Energy,
entropy and relative Mahalanobis distance are alternatives (`benchmarks/bench_ood.py`); the latter, with the
shrinkage that small datasets need, hardly detects deviations outside the class subspace.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.decision_rules import OOD_FPRS, OodRule, add_up, log_ood_score
from headstart.evaluation.principal_directions import leading_directions, out_of_fold_residual, squared_residual
from headstart.types.arrays import Float, Rows

__all__ = ["HeldOutClassResult", "OodModel", "fit_ood_model", "rank_auc", "threshold_of"]


_MAX_ROWS = 4096  # rows that directions and folds are fitted on, at most


@dataclass(frozen=True)
class OodModel:
    """A fitted OOD score with its threshold.

    Attributes:
        rule: Computes the OOD score from probability and residual norm; has the thresholds.
        mean: (D,) float32 mean of the normalized training rows; None if the head has no rows.
        directions: (D, r) float32 orthonormal leading directions, or None.
        scores: (N,) out-of-fold OOD scores of the training images; NaN if not scored.
        empirical: Fraction of `scores` above the threshold.
        is_by_group: Whether the threshold holds for images of a new group.
        columns: (D,) float32 mask, 1 for used features; None uses all.
    """

    rule: OodRule
    mean: NDArray[np.float32] | None
    directions: NDArray[np.float32] | None
    scores: Float
    empirical: float
    is_by_group: bool = False
    columns: NDArray[np.float32] | None = None

    @property
    def threshold(self) -> float:
        """OOD threshold; infinite with too few images."""
        return self.rule.threshold()

    @property
    def ood_fpr(self) -> float:
        """Target false-positive rate."""
        return self.rule.ood_fpr

    def score(self, rows: Rows | None, probabilities: Float) -> Float:
        """Return (N,) OOD scores; about 0 in distribution.

        Args:
            rows: (N, D) normalized as for the head; None if the head has none.
            probabilities: (N, K) of the head.
        """
        rest = None
        if rows is not None and self.mean is not None and self.directions is not None:
            counted = rows if self.columns is None else rows * self.columns
            rest = squared_residual(counted, self.mean, self.directions)
        return self.rule.combine(probabilities.max(axis=1), rest)

    def spread(self, columns: NDArray[np.bool_]) -> OodModel:
        """Return the model for wider rows; `columns` is True for the features that it was fitted on."""
        if self.mean is None or self.directions is None:
            return self
        mean = np.zeros(len(columns), dtype=np.float32)
        directions = np.zeros((len(columns), self.directions.shape[1]), dtype=np.float32)
        mean[columns], directions[columns] = self.mean, self.directions
        return replace(self, mean=mean, directions=directions, columns=columns.astype(np.float32))

    def is_ood(self, rows: Rows | None, probabilities: Float) -> NDArray[np.bool_]:
        """Return (N,) whether each image is OOD."""
        return np.asarray(self.score(rows, probabilities) > self.threshold, dtype=np.bool_)


@dataclass(frozen=True)
class HeldOutClassResult:
    """OOD detection of held-out classes.

    Attributes:
        auroc: AUROC of held-out class against known classes, mean over classes.
        auroc_of_probability: AUROC of the largest probability alone.
        ood_recall: Fraction of held-out-class images above the threshold, mean over classes.
        false_positive_rate: Fraction of known images above it.
        per_class: (auroc, ood_recall) by class id.
        num_samples: Scored images.
    """

    auroc: float
    auroc_of_probability: float
    ood_recall: float
    false_positive_rate: float
    per_class: dict[int, tuple[float, float]]
    num_samples: int = 0

    @classmethod
    def over_classes(
        cls, per_class: dict[int, tuple[float, float]], plain: Sequence[float], rates: Sequence[float], num_samples: int
    ) -> HeldOutClassResult:
        """Average over classes; `plain` are AUROCs of the largest probability, `rates` false-positive rates."""
        return cls(
            auroc=float(np.mean([auc for auc, _ in per_class.values()])),
            auroc_of_probability=float(np.mean(plain)),
            ood_recall=float(np.mean([recall for _, recall in per_class.values()])),
            false_positive_rate=float(np.mean(rates)),
            per_class=per_class,
            num_samples=num_samples,
        )


def fit_ood_model(
    rows: Rows | None,
    probabilities: Float,
    class_ids: NDArray[np.int64],
    *,
    ood_fpr: float = 0.05,
    groups: NDArray[np.int64] | None = None,
    space: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    rest: Float | None = None,
    seed: int = 0,
) -> OodModel:
    """Fit directions on all images, and centers and threshold on their out-of-fold scores.

    Args:
        rows: (N, D) training images, normalized as for the head; None uses the head's uncertainty alone.
        probabilities: (N, K) out of fold.
        class_ids: (N,) labels, for stratified folds.
        ood_fpr: Target false-positive rate, in (0, 1).
        groups: (N,) groups kept whole in the folds.
        space: Mean (D,) and leading directions (D, r) of all rows, if already computed.
        rest: (N,) squared residual norms of images that neither space nor network was fitted on; replaces `rows`.
        seed: Random seed of the folds and of the subset of more than 4,096 images.

    Raises:
        ValueError: `ood_fpr` is not strictly between 0 and 1.

    Source: Wang et al. (2022), virtual-logit matching, for combining the residual norm with
    the head's uncertainty; Vovk (2015) for the threshold.
    """
    if not 0.0 < ood_fpr < 1.0:
        raise ValueError(f"the OOD false-positive rate must be between 0 and 1 (exclusive), got {ood_fpr}")
    num = len(probabilities)
    uncertainty = log_ood_score(probabilities.max(axis=1))
    fitted = np.arange(num)
    mean = directions = None
    residual_center = residual_scale = None
    if rest is not None and space is not None:
        mean, directions = space
        log_rest = np.log(rest)
        ood_center, ood_scale = _center_and_scale(uncertainty)
        residual_center, residual_scale = _center_and_scale(log_rest)
        scores = add_up((uncertainty - ood_center) / ood_scale, (log_rest - residual_center) / residual_scale)
    elif rows is None:
        ood_center, ood_scale = _center_and_scale(uncertainty)
        scores = (uncertainty - ood_center) / ood_scale
    else:
        if num > _MAX_ROWS:
            fitted = np.sort(np.random.default_rng(seed).choice(num, _MAX_ROWS, replace=False))
        part = rows if len(fitted) == num else rows[fitted]
        mean, directions = leading_directions(part, seed=seed) if space is None else space
        part_groups = None if groups is None else groups[fitted]
        log_rest = np.log(
            out_of_fold_residual(part, class_ids[fitted], mean, directions, groups=part_groups, seed=seed)
        )
        ood_center, ood_scale = _center_and_scale(uncertainty[fitted])
        residual_center, residual_scale = _center_and_scale(log_rest)
        scores = add_up((uncertainty[fitted] - ood_center) / ood_scale, (log_rest - residual_center) / residual_scale)
    # With too few groups the rate is controlled for new images of the known groups, not for new groups.
    is_by_group = groups is not None and (len(np.unique(groups[fitted])) + 1) * ood_fpr >= 1.0
    part_groups = groups[fitted] if groups is not None and is_by_group else None
    levels = ((rate, threshold_of(scores, rate, part_groups)) for rate in sorted({*OOD_FPRS, ood_fpr}))
    rule = OodRule(
        ood_center=ood_center,
        ood_scale=ood_scale,
        residual_center=residual_center,
        residual_scale=residual_scale,
        ood_fpr=ood_fpr,
        thresholds=tuple(pair for pair in levels if math.isfinite(pair[1])),
    )
    everyone = np.full(num, np.nan)
    everyone[fitted] = scores
    empirical = float((scores > rule.threshold()).mean())
    return OodModel(rule, mean, directions, everyone, empirical, is_by_group)


def rank_auc(known: Float, new: Float) -> float:
    """Compute the AUROC of OOD scores; ties count half."""
    ordered = np.sort(known)
    below = np.searchsorted(ordered, new, side="left") + np.searchsorted(ordered, new, side="right")
    return float(below.mean() / (2 * len(known)))


def _center_and_scale(values: Float) -> tuple[float, float]:
    return float(values.mean()), max(float(values.std()), 1e-6)


def threshold_of(scores: Float, ood_fpr: float, groups: NDArray[np.int64] | None = None) -> float:
    """Return the threshold with a false-positive rate of at most `ood_fpr`; infinite with too few images.

    With groups it holds for an image of a new group, with equal weight per group (5 % requires 19 groups).

    Source: Vovk (2015); for groups Lee, Barber and Willett (2023).
    """
    if groups is not None:
        _, position, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        mass = 1.0 / ((len(sizes) + 1) * sizes[position])  # the mass of the new group is above all
        order = np.argsort(scores, kind="stable")
        reached = np.cumsum(mass[order]) >= 1.0 - ood_fpr - 1e-12
        return float(scores[order[reached.argmax()]]) if reached.any() else math.inf
    rank = math.ceil((len(scores) + 1) * (1.0 - ood_fpr) - 1e-9)
    return math.inf if rank > len(scores) else float(np.sort(scores)[rank - 1])
