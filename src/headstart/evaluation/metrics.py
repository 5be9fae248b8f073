"""Compute the metrics of scored images from one confusion matrix, with intervals, and their JSON block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.binary import binary_scores
from headstart.evaluation.calibration import ESTIMATOR, brier, calibration_error
from headstart.evaluation.intervals import MIN_GROUPS, EffectiveSampleSize, effective_sample_size, estimate_proportion
from headstart.evaluation.macro_averages import balanced_accuracy, f1_macro
from headstart.evaluation.selection_bias import selection_bias
from headstart.evaluation.softmax import softmax
from headstart.messages.findings import finding_to_json
from headstart.types.codes import EvaluationProtocol, EvaluationSetup, Evidence, Finding, FindingKind, Severity
from headstart.types.records import ClassScore, Estimate, Evaluation

__all__ = [
    "confusion_matrix",
    "evaluate",
    "evaluation_from_json",
    "evaluation_to_json",
    "is_skewed",
    "log_loss",
    "softmax",
]

_EPS = 1e-12
_SKEW = 3


def is_skewed(counts: NDArray[np.int64]) -> bool:
    """Return whether the largest of (K,) counts is over three times the smallest nonzero one (headline: balanced)."""
    return int(counts.max()) > _SKEW * int(counts[counts > 0].min())


def confusion_matrix(y_true: NDArray[np.int64], y_pred: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Return (K, K) counts, rows: true class, columns: predicted class."""
    counts = np.bincount(y_true * num_classes + y_pred, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def log_loss(probabilities: NDArray[np.float64], class_ids: NDArray[np.int64]) -> float:
    """Return mean negative log-probability of the true class, in nats (probabilities floored at 1e-12)."""
    p = probabilities[np.arange(len(class_ids)), class_ids]
    return float(-np.log(np.maximum(p, _EPS)).mean()) + 0.0  # never -0.0


def evaluate(
    scores: NDArray[np.floating[Any]],
    class_ids: NDArray[np.int64],
    class_names: Sequence[str],
    *,
    setup: EvaluationSetup,
    is_logits: bool = False,
    groups: NDArray[np.int64] | None = None,
    group_names: Sequence[str] | None = None,
    candidates: tuple[NDArray[np.floating[Any]], NDArray[np.bool_]] | None = None,
    unscorable: NDArray[np.bool_] | None = None,
    positive: str | None = None,
    seed: int = 0,
) -> Evaluation:
    """Evaluate predictions against labels, with 95 % CIs.

    Args:
        scores: (N, K) probabilities, or logits with `is_logits`.
        class_ids: (N,) true classes in [0, K).
        class_names: K names.
        setup: Evaluation setup; it affects the effective sample size.
        is_logits: Whether `scores` are logits.
        groups: (N,) integer group of each sample, or None.
        group_names: Name of group `g` at position `g`; the number itself without it.
        candidates: (M, N) out-of-fold log-losses and hits of all candidates selected on these samples;
            the selection bias is subtracted from the scores.
        unscorable: (N,) samples that cannot be scored (class in a single group), counted as wrong.
        positive: Positive class of two; adds ROC AUC, sensitivity and specificity.
        seed: Random seed of the bootstrap.

    Raises:
        ValueError: The shapes do not fit, a class id is out of range or `scores` are not probabilities.
    """
    y_true = np.asarray(class_ids, dtype=np.int64)
    num, num_classes = len(y_true), len(class_names)
    probabilities = _probabilities(scores, y_true, num_classes, is_logits)
    y_pred = _predicted(probabilities, y_true, unscorable)
    hits = y_pred == y_true
    counts = confusion_matrix(y_true, y_pred, num_classes)
    support = counts.sum(axis=1)
    effective = effective_sample_size(hits, groups, is_out_of_fold=setup.protocol.is_out_of_fold)
    if setup.protocol is EvaluationProtocol.RESUBSTITUTION:
        effective = EffectiveSampleSize(None, effective.quantile, effective.num_groups)
    class_weight = np.where(support > 0, 1.0 / np.maximum(support, 1), 0.0)[y_true]  # (N,)
    bias, bias_balanced = 0.0, 0.0
    if candidates is not None:
        bias = selection_bias(*candidates, groups=groups, seed=seed)
        bias_balanced = selection_bias(*candidates, groups=groups, sample_weights=class_weight, seed=seed)

    binary = {}
    if positive is not None:
        of_two = _binary(list(class_names).index(positive), probabilities, y_true, y_pred, setup, groups, unscorable)
        binary = {"binary": {"positive": positive, **of_two}}
    error = calibration_error(probabilities, y_true, effect=1.0 / (effective.ratio or 1.0))
    return Evaluation(
        setup=setup,
        num_samples=num,
        num_groups=effective.num_groups,
        accuracy=estimate_proportion(float(hits.mean()), num, effective, bias=bias),
        balanced_accuracy=estimate_proportion(*balanced_accuracy(counts), effective, bias=bias_balanced),
        # F1 is not a mean over samples; its selection bias is about that of balanced accuracy.
        f1_macro=estimate_proportion(*f1_macro(counts), effective, bias=bias_balanced),
        log_loss=log_loss(probabilities, y_true),
        ece=error.value,
        per_class=tuple(_class_score(name, k, counts, effective) for k, name in enumerate(class_names)),
        confusion=counts,
        per_group=None if groups is None else _per_group(hits, groups, group_names),
        findings=_findings(setup, effective, num, 0 if unscorable is None else int(unscorable.sum())),
        extra={
            "selection_bias": bias,
            "confidence": 0.95,
            "brier": brier(probabilities, y_true),
            "ece_low": error.low,
            "ece_high": error.high,
            "ece_plain": error.plain,
            "ece_estimator": ESTIMATOR,
            **binary,
        },
    )


def _binary(
    positive_id: int,
    probabilities: NDArray[np.float64],
    y_true: NDArray[np.int64],
    y_pred: NDArray[np.int64],
    setup: EvaluationSetup,
    groups: NDArray[np.int64] | None,
    unscorable: NDArray[np.bool_] | None,
) -> dict[str, Any]:
    """Return ROC AUC, sensitivity and specificity of two classes."""
    return binary_scores(
        probabilities[:, positive_id],
        y_true,
        y_pred,
        positive_id,
        groups=groups,
        is_out_of_fold=setup.protocol.is_out_of_fold,
        is_scorable=None if unscorable is None else ~unscorable,
        has_interval=setup.protocol is not EvaluationProtocol.RESUBSTITUTION,
    )


def _predicted(
    probabilities: NDArray[np.float64], y_true: NDArray[np.int64], unscorable: NDArray[np.bool_] | None
) -> NDArray[np.int64]:
    """Return (N,) predicted classes; the best wrong one for samples that cannot be scored."""
    y_pred = np.asarray(probabilities.argmax(axis=1), dtype=np.int64)
    if unscorable is None or not unscorable.any():
        return y_pred
    other = probabilities.copy()
    other[np.arange(len(y_true)), y_true] = -1.0
    return np.asarray(np.where(unscorable, other.argmax(axis=1), y_pred), dtype=np.int64)


def _findings(
    setup: EvaluationSetup, effective: EffectiveSampleSize, num_samples: int, num_unscorable: int
) -> tuple[Finding, ...]:
    """Return findings on what the scores do not say."""
    findings: list[Finding] = []
    if setup.protocol is EvaluationProtocol.RESUBSTITUTION:
        evidence: Evidence = {"num_samples": num_samples}
        findings.append(Finding(FindingKind.SCORES_OF_TRAINING_IMAGES, Severity.WARNING, evidence))
    elif effective.ratio is None and effective.num_groups is not None:
        evidence = {"num_units": effective.num_groups, "minimum": MIN_GROUPS, "unit": "group"}
        findings.append(Finding(FindingKind.INTERVAL_NOT_MEASURABLE, Severity.WARNING, evidence))
    if num_unscorable:
        findings.append(Finding(FindingKind.UNSCORABLE_IMAGES, Severity.WARNING, {"count": num_unscorable}))
    return tuple(findings)


def _probabilities(
    scores: NDArray[np.floating[Any]], y_true: NDArray[np.int64], num_classes: int, is_logits: bool
) -> NDArray[np.float64]:
    """Validate scores and return (N, K) probabilities.

    Raises:
        ValueError: Scores or class ids are invalid.
    """
    num = len(y_true)
    if scores.shape != (num, num_classes):
        raise ValueError(f"expected scores of shape {(num, num_classes)}, got {scores.shape}")
    if num == 0:
        raise ValueError("there is nothing to evaluate: 0 samples")
    if y_true.min() < 0 or y_true.max() >= num_classes:
        raise ValueError(f"class ids must lie in 0..{num_classes - 1}; samples without a label cannot be scored")
    probabilities = softmax(scores) if is_logits else np.asarray(scores, dtype=np.float64)
    if not is_logits and (probabilities.min() < -1e-6 or abs(probabilities.sum(axis=1) - 1).max() > 1e-3):
        raise ValueError("rows of probabilities must be in [0, 1] and sum to 1 (set is_logits=True for logits)")
    return probabilities


def evaluation_to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return the block of `metrics.json` that holds one evaluation; plain numbers, lists and None only."""
    return {
        **evaluation.setup.to_json(),
        "num_samples": evaluation.num_samples,
        "num_groups": evaluation.num_groups,
        "accuracy": asdict(evaluation.accuracy),
        "balanced_accuracy": asdict(evaluation.balanced_accuracy),
        "f1_macro": asdict(evaluation.f1_macro),
        "log_loss": evaluation.log_loss,
        "ece": evaluation.ece,
        "per_class": [
            {
                "name": score.name,
                "precision": _short(score.precision),
                "recall": _short(score.recall),
                "f1": _short(score.f1),
                "support": score.support,
            }
            for score in evaluation.per_class
        ],
        "confusion": evaluation.confusion.tolist(),
        "per_group": evaluation.per_group,
        "findings": [finding_to_json(finding) for finding in evaluation.findings],
        **evaluation.extra,
    }


def evaluation_from_json(block: Mapping[str, Any]) -> Evaluation:
    """Read what `evaluation_to_json` wrote, without findings.

    Raises:
        KeyError: A value is missing.
    """

    def estimate(value: Mapping[str, Any]) -> Estimate:
        return Estimate(*(value.get(name) for name in ("value", "low", "high", "raw_value", "n_eff")))

    def class_score(row: Mapping[str, Any]) -> ClassScore:
        precision, recall, f1 = (estimate(row[name]) for name in ("precision", "recall", "f1"))
        return ClassScore(row["name"], precision, recall, f1, row["support"])

    return Evaluation(
        setup=EvaluationSetup.from_json(block),
        num_samples=block["num_samples"],
        num_groups=block["num_groups"],
        accuracy=estimate(block["accuracy"]),
        balanced_accuracy=estimate(block["balanced_accuracy"]),
        f1_macro=estimate(block["f1_macro"]),
        log_loss=block["log_loss"],
        ece=block["ece"],
        per_class=tuple(class_score(row) for row in block["per_class"]),
        confusion=np.asarray(block["confusion"], dtype=np.int64),
        per_group=block.get("per_group"),
        extra={"binary": block["binary"]} if block.get("binary") else {},
    )


def _short(estimate: Estimate) -> dict[str, float | None]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _class_score(name: str, k: int, counts: NDArray[np.int64], effective: EffectiveSampleSize) -> ClassScore:
    hit = int(counts[k, k])
    support, num_predicted = int(counts[k].sum()), int(counts[:, k].sum())
    union = support + num_predicted - hit
    jaccard = estimate_proportion(hit / union if union else None, union, effective)
    # F1 = 2 J / (1 + J) with J = TP / (TP + FP + FN), a proportion, so the interval of J is mapped.
    f1 = Estimate(
        value=_jaccard_to_f1(jaccard.value),
        low=_jaccard_to_f1(jaccard.low),
        high=_jaccard_to_f1(jaccard.high),
        raw_value=_jaccard_to_f1(jaccard.raw_value),
        n_eff=jaccard.n_eff,
    )
    return ClassScore(
        name=name,
        precision=estimate_proportion(hit / num_predicted if num_predicted else None, num_predicted, effective),
        recall=estimate_proportion(hit / support if support else None, support, effective),
        f1=f1,
        support=support,
    )


def _jaccard_to_f1(jaccard: float | None) -> float | None:
    return None if jaccard is None else 2 * jaccard / (1 + jaccard)


def _per_group(
    hits: NDArray[np.bool_], groups: NDArray[np.int64], names: Sequence[str] | None
) -> dict[str, dict[str, float]]:
    unique, position = np.unique(groups, return_inverse=True)
    sizes = np.bincount(position)
    right = np.bincount(position, weights=hits)
    return {
        (str(g) if names is None else names[int(g)]): {"num_samples": int(n), "accuracy": float(r / n)}
        for g, n, r in zip(unique, sizes, right, strict=True)
    }
