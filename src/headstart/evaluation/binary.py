"""Choose the positive class of two; compute ROC AUC, sensitivity and specificity with 95 % CIs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import SettingError
from headstart.evaluation.intervals import PRIOR_VOTES, effective_sample_size, estimate_proportion, wilson_interval
from headstart.messages.numbers import pluralize
from headstart.types.arrays import Float
from headstart.types.codes import DecisionReason
from headstart.types.records import Decision, Estimate

__all__ = ["binary_scores", "check_positive", "choose_positive", "rarer_class", "roc_auc"]

PRIOR_SPREAD = 0.5
"""Variance of the placements of one class over AUC (1 - AUC) where nothing overlaps: its limit for an AUC near 1 in
the model of Hanley and McNeil (1982)."""


def rarer_class(class_ids: NDArray[np.int64]) -> int:
    """Return the class of two (ids 0 and 1) with fewer samples, 1 for equal numbers."""
    counts = np.bincount(class_ids, minlength=2)
    return 0 if counts[0] < counts[1] else 1


def check_positive(requested: str | None, class_names: Sequence[str]) -> None:
    """Raise an error if the positive class does not exist or has no effect.

    Raises:
        SettingError: There are not two classes, or `requested` is neither of them.
    """
    if requested is None:
        return
    if len(class_names) != 2:
        raise SettingError(
            f"`positive` requires exactly two classes; there are {pluralize(len(class_names), 'class', 'classes')}.",
            hint="remove `positive`",
        )
    if requested not in class_names:
        raise SettingError(
            f"`positive` is {requested!r}, which is not a class.",
            hint=f"classes: {class_names[0]!r} and {class_names[1]!r}",
        )


def choose_positive(
    requested: str | None, class_names: Sequence[str], class_ids: NDArray[np.int64]
) -> tuple[str | None, Decision | None]:
    """Return the positive class and, if it was not requested, the decision; (None, None) unless two classes.

    Args:
        requested: The user's choice, or None.
        class_names: Names of all classes.
        class_ids: (N,) classes of the training images.

    Raises:
        SettingError: See `check_positive`.
    """
    check_positive(requested, class_names)
    if requested is not None or len(class_names) != 2:
        return requested, None
    positive_id = rarer_class(class_ids)
    num_positive = int((class_ids == positive_id).sum())
    num_negative = len(class_ids) - num_positive
    evidence = {"num_positive": num_positive, "num_negative": num_negative}
    reason = DecisionReason.POSITIVE_CLASS_IS_RARER
    return class_names[positive_id], Decision("positive", class_names[positive_id], reason, evidence=evidence)


def binary_scores(
    score: Float,
    y_true: NDArray[np.int64],
    y_pred: NDArray[np.int64],
    positive: int,
    *,
    groups: NDArray[np.int64] | None = None,
    is_out_of_fold: bool = False,
    is_scorable: NDArray[np.bool_] | None = None,
    has_interval: bool = True,
) -> dict[str, Any]:
    """Return `roc_auc`, `sensitivity` and `specificity`, each a mapping of `value`, `low` and `high`.

    A value is None where it is not defined: sensitivity without positive samples, specificity without negative ones,
    ROC AUC without either.

    Args:
        score: (N,) probability of the positive class.
        y_true: (N,) true class, 0 or 1.
        y_pred: (N,) predicted class, 0 or 1.
        positive: The positive class, 0 or 1.
        groups: (N,) group of each sample, or None.
        is_out_of_fold: Whether the scored samples also trained one another's models.
        is_scorable: (N,) False for unscorable samples (class in a single group).
        has_interval: Whether to compute intervals; scores on training images have none.
    """
    ranked = np.ones(len(y_true), dtype=np.bool_) if is_scorable is None else is_scorable
    kept = None if groups is None else groups[ranked]
    estimates = {
        "roc_auc": roc_auc(score[ranked], y_true[ranked] == positive, groups=kept, is_out_of_fold=is_out_of_fold)
    }
    for name, members in (("sensitivity", y_true == positive), ("specificity", y_true != positive)):
        hits = y_pred[members] == y_true[members]
        effective = effective_sample_size(
            hits, None if groups is None else groups[members], is_out_of_fold=is_out_of_fold
        )
        estimates[name] = estimate_proportion(float(hits.mean()) if len(hits) else None, len(hits), effective)
    return {name: _to_json(estimate, has_interval) for name, estimate in estimates.items()}


def _to_json(estimate: Estimate, has_interval: bool) -> Mapping[str, float | None]:
    return {
        "value": estimate.value,
        "low": estimate.low if has_interval else None,
        "high": estimate.high if has_interval else None,
    }


def roc_auc(
    score: Float,
    is_positive: NDArray[np.bool_],
    *,
    groups: NDArray[np.int64] | None = None,
    is_out_of_fold: bool = False,
) -> Estimate:
    """Compute ROC AUC; ties count half.

    The Wilson interval uses the number of independent samples at which a proportion varies as much as the AUC:
    its variance is that of the placements (fraction of the other class ranked correctly relative to a sample), summed
    over both classes. With few overlapping samples this variance is uncertain and is shrunk towards
    `PRIOR_SPREAD`, so that an AUC of 1 has an interval too. Groups and out-of-fold scores lower the number of
    independent samples as for every other proportion.

    Args:
        score: (N,) larger for the positive class.
        is_positive: (N,) whether a sample is of the positive class.
        groups: (N,) group of each sample; samples of one group are correlated.
        is_out_of_fold: Whether the scored samples also trained one another's models.

    Returns:
        All None where one of the classes is absent; no interval where a class falls into too few groups.

    Sources: DeLong, DeLong and Clarke-Pearson (1988) for the variance; Wilson (1927) for the interval; Newcombe (2006)
    for treating the AUC like a proportion.
    """
    of_class = [score[is_positive], score[~is_positive]]
    if not all(len(part) for part in of_class):
        return Estimate(None, None, None, None, None)
    placements = [_fraction_below(*of_class), 1.0 - _fraction_below(*reversed(of_class))]
    value = float(placements[0].mean())
    variance, quantile = 0.0, 0.0  # variance over value * (1 - value)
    for members, placed in zip((is_positive, ~is_positive), placements, strict=True):
        effective = effective_sample_size(
            placed, None if groups is None else groups[members], is_out_of_fold=is_out_of_fold
        )
        if effective.ratio is None:
            return Estimate(value, None, None, value, None)
        variance += _spread(placed, value) / (len(placed) * effective.ratio)
        quantile = max(quantile, effective.quantile)
    low, high = wilson_interval(value, 1.0 / variance, quantile)
    return Estimate(value, low, high, value, 1.0 / variance)


def _fraction_below(score: Float, others: Float) -> Float:
    """Return (N,) fraction of the other class below each score; ties count half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, score, "left") + np.searchsorted(ordered, score, "right")
    return np.asarray(below / (2.0 * len(ordered)), dtype=np.float64)


def _spread(placed: Float, value: float) -> float:
    """Return the variance of the placements of one class over `value * (1 - value)`, in (0, 1]."""
    maximum = value * (1.0 - value)
    measured = float(placed.var(ddof=1)) / maximum if len(placed) > 1 and maximum > 0 else PRIOR_SPREAD
    votes = len(placed) * min(value, 1.0 - value)
    return min(1.0, (votes * measured + PRIOR_VOTES * PRIOR_SPREAD) / (votes + PRIOR_VOTES))
