"""Compare two models on the same images with paired tests.

The test is a sign-flip (permutation) test per image or group, exact at any size; intervals use the paired bootstrap.
Both are widened for out-of-fold predictions, whose samples also trained the models of other folds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.intervals import OUT_OF_FOLD_RATIO
from headstart.types.arrays import Float

__all__ = ["ClassDifference", "Difference", "PairedComparison", "compare_paired", "mcnemar"]


class ComparisonVerdict(StrEnum):
    """Result of the paired test of B against A."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"


LEVEL = 0.05
_POWER = 0.8
_EPS = 1e-12
_CHUNK = 250


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of both models, and B minus A with its 95 % CI.

    Attributes:
        a, b: Metric of each model.
        value, low, high: B minus A; for `log_loss` lower is better.
        p_value: p-value of the sign-flip test.
        num_needed: Images needed to detect a difference of this size with 80 % power; None where the
            two do not differ.
        detectable: Smallest difference detectable with 80 % power.
    """

    a: float
    b: float
    value: float
    low: float
    high: float
    p_value: float
    num_needed: int | None
    detectable: float


@dataclass(frozen=True, slots=True)
class ClassDifference:
    """Recall of one class, and images correct only in A or only in B."""

    name: str
    num_samples: int
    recall_a: float | None
    recall_b: float | None
    only_a: int
    only_b: int
    p_value: float


@dataclass(frozen=True)
class PairedComparison:
    """Comparison of B with A on the same images.

    Attributes:
        verdict: Whether B is better or worse by `metric`.
        metric: Metric of the verdict, `accuracy` or `balanced_accuracy`.
        num_samples, num_groups: Numbers of scored images and groups (None without groups).
        is_out_of_fold: Whether the predictions are cross-validated; then the test is less powerful.
        accuracy, balanced_accuracy, log_loss: The differences.
        only_a, only_b: Images that only one model classifies correctly.
        mcnemar_p: McNemar's mid-p value (groups ignored).
        per_class: One entry per class.
    """

    verdict: ComparisonVerdict
    metric: str
    num_samples: int
    num_groups: int | None
    is_out_of_fold: bool
    accuracy: Difference
    balanced_accuracy: Difference
    log_loss: Difference
    only_a: int
    only_b: int
    mcnemar_p: float
    per_class: tuple[ClassDifference, ...]


def compare_paired(
    probabilities: tuple[Float, Float],
    class_ids: NDArray[np.int64],
    class_names: Sequence[str],
    *,
    metric: Literal["accuracy", "balanced_accuracy"] = "accuracy",
    groups: NDArray[np.int64] | None = None,
    is_out_of_fold: bool = False,
    num_draws: int = 2000,
    seed: int = 0,
) -> PairedComparison:
    """Compare two models on the same images.

    Args:
        probabilities: (N, K) of each model, in the order (a, b).
        class_ids: (N,) true classes.
        class_names: K names.
        metric: Metric of the verdict.
        groups: (N,) group of each image, flipped and drawn whole.
        is_out_of_fold: Whether the images trained one another's models.
        num_draws: Number of permutations and of bootstrap samples.
        seed: Random seed of both.

    Raises:
        ValueError: The shapes do not fit or there is nothing to compare.
    """
    num = len(class_ids)
    if any(p.shape != (num, len(class_names)) for p in probabilities):
        raise ValueError("both models need one row of probabilities per image")
    if num == 0:
        raise ValueError("there are no images to compare on")
    rows = np.arange(num)
    hits_a, hits_b = (p.argmax(axis=1) == class_ids for p in probabilities)
    loss_a, loss_b = (-np.log(np.maximum(p[rows, class_ids], _EPS)) for p in probabilities)
    support = np.bincount(class_ids, minlength=len(class_names))
    even = np.full(num, 1.0 / num)
    balanced = (1.0 / (np.maximum(support, 1) * (support > 0).sum()))[class_ids]
    unit = np.arange(num) if groups is None else np.unique(groups, return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, size=(num_draws, int(unit.max()) + 1), dtype=np.int8) * 2 - 1
    stretch = 1.0 / math.sqrt(OUT_OF_FOLD_RATIO) if is_out_of_fold else 1.0

    def difference(a: Float, b: Float, weights: Float) -> Difference:
        return _difference(a, b, weights, unit, signs, stretch, rng)

    accuracy = difference(hits_a.astype(np.float64), hits_b.astype(np.float64), even)
    mean_recall = difference(hits_a.astype(np.float64), hits_b.astype(np.float64), balanced)
    decisive = accuracy if metric == "accuracy" else mean_recall
    verdict = ComparisonVerdict.UNDECIDED
    if decisive.p_value < LEVEL and decisive.value != 0:
        verdict = ComparisonVerdict.BETTER if decisive.value > 0 else ComparisonVerdict.WORSE
    only_a, only_b = int((hits_a & ~hits_b).sum()), int((hits_b & ~hits_a).sum())
    return PairedComparison(
        verdict=verdict,
        metric=metric,
        num_samples=num,
        num_groups=None if groups is None else signs.shape[1],
        is_out_of_fold=is_out_of_fold,
        accuracy=accuracy,
        balanced_accuracy=mean_recall,
        log_loss=difference(loss_a, loss_b, even),
        only_a=only_a,
        only_b=only_b,
        mcnemar_p=mcnemar(only_a, only_b),
        per_class=tuple(_class_difference(name, class_ids == k, hits_a, hits_b) for k, name in enumerate(class_names)),
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Compute the mid-p value of McNemar's test; the exact test is too conservative.

    Source: McNemar (1947); Fagerland, Lydersen and Laake (2013) for the mid-p version.
    """
    num = only_a + only_b
    if num == 0:
        return 1.0
    few = min(only_a, only_b)
    log_half = num * math.log(0.5)
    mass = [math.exp(math.lgamma(num + 1) - math.lgamma(k + 1) - math.lgamma(num - k + 1) + log_half)
            for k in range(few + 1)]  # fmt: skip
    return 1.0 if only_a == only_b else min(1.0, 2.0 * (sum(mass) - 0.5 * mass[-1]))


def _difference(
    a: Float, b: Float, weights: Float, unit: NDArray[np.int64], signs: NDArray[np.int8], stretch: float,
    rng: np.random.Generator,
) -> Difference:  # fmt: skip
    num_units = signs.shape[1]
    parts = np.bincount(unit, weights=weights * (b - a), minlength=num_units)  # (G,)
    value = float(parts.sum())
    flipped = np.abs(signs @ parts)
    p_value = float((1 + (flipped >= abs(value) - 1e-12).sum()) / (1 + len(signs)))
    masses = np.bincount(unit, weights=weights, minlength=num_units)
    drawn = np.empty(len(signs))
    for start in range(0, len(signs), _CHUNK):
        times = rng.multinomial(num_units, np.full(num_units, 1 / num_units), size=min(_CHUNK, len(signs) - start))
        drawn[start : start + _CHUNK] = (times @ parts) / np.maximum(times @ masses, 1e-300)
    low, high = (float(q) for q in np.quantile(drawn, (0.025, 0.975)))
    # Under the null each part keeps its size and changes its sign, so this is its deviation exactly.
    error = math.sqrt(float((parts**2).sum())) * stretch
    detectable = (NormalDist().inv_cdf(1 - LEVEL / 2) + NormalDist().inv_cdf(_POWER)) * error
    return Difference(
        a=float((weights * a).sum()),
        b=float((weights * b).sum()),
        value=value,
        low=value - stretch * (value - low),
        high=value + stretch * (high - value),
        p_value=_widened_p_value(p_value, stretch),
        num_needed=math.ceil(len(a) * (detectable / value) ** 2) if abs(value) > 1e-12 else None,
        detectable=detectable,
    )


def _widened_p_value(p_value: float, stretch: float) -> float:
    """Return the p-value with the standard deviation multiplied by `stretch`."""
    if stretch == 1.0 or not 0.0 < p_value < 1.0:
        return p_value
    z = -NormalDist().inv_cdf(p_value / 2) / stretch
    return math.erfc(z / math.sqrt(2.0))


def _class_difference(
    name: str, where: NDArray[np.bool_], hits_a: NDArray[np.bool_], hits_b: NDArray[np.bool_]
) -> ClassDifference:
    a, b = hits_a[where], hits_b[where]
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return ClassDifference(
        name=name,
        num_samples=len(a),
        recall_a=float(a.mean()) if len(a) else None,
        recall_b=float(b.mean()) if len(b) else None,
        only_a=only_a,
        only_b=only_b,
        p_value=mcnemar(only_a, only_b),
    )
