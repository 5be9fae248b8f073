"""Fit logistic regression as an alternative to the closed forms.

Tried from 8 images per feature on, where it gains 0.3 to 1.3 points; with fewer images than features it gains 0 to 0.3
for two to five times the cost (`benchmarks/bench_probe.py`). Kept only if the out-of-fold log-loss improves by more
than a standard error.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.errors import MissingExtraError
from headstart.probe.labels import Labels
from headstart.probe.losses import log_losses
from headstart.types.arrays import Float
from headstart.types.codes import DecisionReason, Evidence

__all__ = ["LogisticFit", "fit_logistic", "why_not_tried"]

PENALTIES = (3e-6, 1e-5, 3e-5, 1e-4)
"""As fractions of the total scatter of the rows; the best was never at an end of this range in the benchmarks."""

_NUM_FOLDS = 5
_SAMPLES_PER_FEATURE = 8
_SAMPLES_PER_CLASS = 20
_MAX_VALUES = 50_000_000  # of rows, since every fold copies them
_MAX_PRODUCTS = 400_000_000  # samples x features x classes: about 10 s on two cores


@dataclass(frozen=True)
class LogisticFit:
    """Logistic regression at the best of a few penalties.

    Attributes:
        weight, bias: (K, D) and (K,) on normalized rows, fitted on all samples.
        logits: (N, K) out of fold, at the best penalty.
        losses: (L, N) log-loss at every penalty.
        hits: (L, N) correctness at every penalty.
        index: Index of the best penalty.
    """

    weight: Float
    bias: Float
    logits: Float
    losses: Float
    hits: NDArray[np.bool_]
    index: int


def why_not_tried(num_samples: int, num_features: int, num_classes: int) -> tuple[DecisionReason, Evidence] | None:
    """Return the reason for skipping logistic regression by default, with its evidence; None if it is tried."""
    size = num_samples * num_features
    evidence: Evidence = {
        "num_samples": num_samples,
        "num_features": num_features,
        "num_classes": num_classes,
        "min_per_feature": _SAMPLES_PER_FEATURE,
        "min_per_class": _SAMPLES_PER_CLASS,
    }
    if num_samples < _SAMPLES_PER_FEATURE * num_features:
        return DecisionReason.LOGISTIC_TOO_FEW_IMAGES_PER_FEATURE, evidence
    if num_samples < _SAMPLES_PER_CLASS * num_classes:
        return DecisionReason.LOGISTIC_TOO_FEW_IMAGES_PER_CLASS, evidence
    if size > _MAX_VALUES or size * num_classes > _MAX_PRODUCTS:
        return DecisionReason.LOGISTIC_TAKES_TOO_LONG, evidence
    return None


def fit_logistic(rows: NDArray[np.float32], labels: Labels, scatter: float, rng: np.random.Generator) -> LogisticFit:
    """Cross-validate a few penalties with whole groups and fit the best on all samples.

    Args:
        rows: (N, D) float32 normalized.
        labels: Labels of the N samples.
        scatter: Sum of squares of the centered rows, the unit of the penalties.
        rng: Random generator of the folds.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    fold_of = labels.draw_folds(_NUM_FOLDS, rng)
    logits = np.empty((len(PENALTIES), len(labels), labels.num_classes))
    for fold in np.unique(fold_of):
        keep, held_out = fold_of != fold, fold_of == fold
        part = rows[keep]
        for i, penalty in enumerate(PENALTIES):
            weight, bias = _fit(part, labels, np.flatnonzero(keep), penalty * scatter)
            logits[i, held_out] = rows[held_out] @ weight.T + bias
    losses = log_losses(logits, labels.class_ids)  # (L, N)
    index = int((losses @ labels.weights).argmin())
    weight, bias = _fit(rows, labels, np.arange(len(labels)), PENALTIES[index] * scatter)
    hits = logits.argmax(axis=2) == labels.class_ids
    return LogisticFit(weight, bias, logits[index], losses, hits, index)


def _fit(rows: NDArray[np.float32], labels: Labels, index: NDArray[np.int64], penalty: float) -> tuple[Float, Float]:
    """Return (K, D) weight and (K,) bias; a class without samples gets a bias below all others."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingExtraError("logistic regression", "train") from error
    ids = labels.class_ids[index]
    present = np.unique(ids)
    weight, bias = np.zeros((labels.num_classes, rows.shape[1])), np.zeros(labels.num_classes)
    if len(present) == 1:
        bias[:] = -5.0
        bias[present] = 0.0
        return weight, bias
    model = LogisticRegression(C=1.0 / max(penalty, 1e-12), max_iter=100)
    with warnings.catch_warnings():
        # Candidates that stop early or have few images per class are scored as well.
        warnings.simplefilter("ignore")
        model.fit(rows, ids, sample_weight=labels.weights[index])
    if len(present) == 2:
        weight[present] = np.concatenate([-model.coef_, model.coef_]) / 2.0
        bias[present] = np.concatenate([-model.intercept_, model.intercept_]) / 2.0
    else:
        weight[present], bias[present] = model.coef_, model.intercept_
    absent = np.setdiff1d(np.arange(labels.num_classes), present)
    bound = float(np.linalg.norm(weight, axis=1).max() * np.linalg.norm(rows[0]))
    bias[absent] = bias[present].min() - bound - 5.0
    return weight, bias
