"""Compute COCO's detection metrics with bootstrap confidence intervals.

The mAP follows COCO's reference implementation (101 recall levels, precision envelope, mean over present classes).
Matching is done once; the bootstrap only reweights images or groups, so 500 draws cost about as much as matching.

Source: `accumulate` and `summarize` of pycocotools (rules); percentile bootstrap, Efron and Tibshirani (1993).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Boxes, Detections
from headstart.detection.matching import AREAS, IOUS, ClassMatches, match_all
from headstart.detection.operating_points import Confusion, OperatingPoint, best_points, confuse, points_at
from headstart.messages.findings import finding_to_json
from headstart.types.codes import EvaluationSetup, Evidence, Finding, FindingKind, Severity
from headstart.types.records import Estimate
from headstart.utils.limits import MAX_DETECTIONS

__all__ = [
    "RECALLS",
    "ClassDetection",
    "DetectionEvaluation",
    "average_precision",
    "detection_to_json",
    "evaluate_detections",
    "limit_findings",
]

RECALLS = np.linspace(0.0, 1.0, 101)
"""Recall levels at which precision is interpolated."""

_MIN_UNITS = 5  # minimum number of images (or groups) for an interval
_T50, _T75 = 0, 5
_ALL = 0
_EXAMPLES = 5


@dataclass(frozen=True)
class ClassDetection:
    """Detection metrics of one class.

    Attributes:
        name: Class name.
        num_boxes, num_images: Counted objects, and images with at least one.
        ap50: Average precision at IoU 0.5, with its interval.
        ap50_95: Mean over IoU 0.5 to 0.95, with its interval.
        ap75: At IoU 0.75.
        precision: (101,) interpolated precision at `RECALLS`, IoU 0.5; None where the class does not occur.
        point: Operating point at the given threshold, else at the threshold with the best F1 on these images. None
            where the class does not occur or no threshold is usable.
    """

    name: str
    num_boxes: int
    num_images: int
    ap50: Estimate
    ap50_95: Estimate
    ap75: float | None
    precision: NDArray[np.float64] | None
    point: OperatingPoint | None


@dataclass(frozen=True)
class DetectionEvaluation:
    """Evaluation of a detector on one set of images (a block of `metrics.json`).

    Attributes:
        setup: The evaluation protocol with its details.
        num_samples, num_boxes, num_groups: Scored images, boxes and groups (None without groups).
        map50, map50_95, map75: Means over occurring classes, with intervals.
        by_size: mAP50-95 of small, medium and large objects (`Boxes.object_areas`; bounds 32 and 96 pixels squared).
        recall: Mean recall at IoU 0.50-0.95 (COCO's average recall at `max_detections`).
        per_class: One entry per class, in order of class ids.
        confusion: Confusion matrix at the thresholds.
        max_detections: Maximum number of scored detections per class and image (COCO's `maxDets`).
        findings: Limitations of these numbers.
    """

    setup: EvaluationSetup
    num_samples: int
    num_boxes: int
    num_groups: int | None
    map50: Estimate
    map50_95: Estimate
    map75: Estimate
    by_size: dict[str, float | None]
    recall: float | None
    per_class: tuple[ClassDetection, ...]
    confusion: Confusion
    max_detections: int = MAX_DETECTIONS
    findings: tuple[Finding, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


def evaluate_detections(
    ground_truth: Sequence[Boxes],
    detections: Sequence[Detections],
    class_names: Sequence[str],
    *,
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
    draws: int = 500,
    setup: EvaluationSetup,
    thresholds: Sequence[float] | None = None,
    max_detections: int = MAX_DETECTIONS,
) -> DetectionEvaluation:
    """Evaluate detections.

    Args:
        ground_truth: Ground-truth boxes of each image.
        detections: Detections of each image, down to a score of 0.01; a higher threshold underestimates mAP.
        class_names: K names.
        groups: (N,) group ids, resampled as a whole, or None.
        seed: Random seed of the bootstrap.
        draws: Number of bootstrap draws; 0 computes no intervals.
        setup: The evaluation setup.
        thresholds: Score threshold per class, for operating points and confusion; None uses the best ones on these
            images (0.5 for a class without one).
        max_detections: Maximum number of scored detections per class and image; COCO uses 100, which limits recall
            in images with more than 100 objects of a class.
    """
    matches = match_all(ground_truth, detections, len(class_names), max_detections)
    rows = [
        [average_precision(m.is_hit[a], m.is_ignored[a], float(m.num_objects[a].sum())) for a in range(len(AREAS))]
        for m in matches
    ]
    table = np.array(rows).reshape(len(matches), len(AREAS), len(IOUS))
    units = np.arange(len(ground_truth)) if groups is None else np.unique(groups, return_inverse=True)[1]
    drawn = _bootstrap(matches, units.astype(np.int64), seed, draws)  # (B, K, T)
    points = best_points(matches) if thresholds is None else points_at(matches, thresholds)
    used = thresholds if thresholds is not None else [p.threshold if p is not None else 0.5 for p in points]
    per_class = tuple(
        ClassDetection(
            name=name,
            num_boxes=int(matches[k].num_objects[_ALL].sum()),
            num_images=int((matches[k].num_objects[_ALL] > 0).sum()),
            ap50=_estimate(table[k, _ALL, _T50], drawn[:, k, _T50]),
            ap50_95=_estimate(_mean(table[k, _ALL]), drawn[:, k].mean(axis=1)),
            ap75=_plain(table[k, _ALL, _T75]),
            precision=_precision_at(matches[k]),
            point=points[k],
        )
        for k, name in enumerate(class_names)
    )
    findings = []
    num_units = int(units.max()) + 1 if len(units) else 0
    if draws and num_units < _MIN_UNITS:
        unit = "image" if groups is None else "group"
        evidence: Evidence = {"num_units": num_units, "minimum": _MIN_UNITS, "unit": unit}
        findings.append(Finding(FindingKind.INTERVAL_NOT_MEASURABLE, Severity.WARNING, evidence))
    if crowded := int(np.any([m.num_objects[_ALL] > max_detections for m in matches], axis=0).sum()):
        evidence = {"count": crowded, "limit": max_detections}
        findings.append(Finding(FindingKind.CROWDED_IMAGES, Severity.WARNING, evidence))
    return DetectionEvaluation(
        setup=setup,
        num_samples=len(ground_truth),
        num_boxes=sum(c.num_boxes for c in per_class),
        num_groups=None if groups is None else num_units,
        map50=_estimate(_mean(table[:, _ALL, _T50]), _mean_over_classes(drawn[:, :, _T50])),
        map50_95=_estimate(_mean(table[:, _ALL]), _mean_over_classes(drawn.mean(axis=2))),
        map75=_estimate(_mean(table[:, _ALL, _T75]), _mean_over_classes(drawn[:, :, _T75])),
        by_size={name: _plain(_mean(table[:, a])) for a, name in enumerate(AREAS) if name != "all"},
        recall=_recall(matches),
        per_class=per_class,
        confusion=confuse(ground_truth, detections, class_names, used),
        max_detections=max_detections,
        findings=tuple(findings),
    )


def limit_findings(detections: Sequence[Detections], names: Sequence[str], limit: int) -> list[Finding]:
    """Return the finding on images that reach the maximum number of detections per image, or nothing.

    Args:
        detections: Detections of each image.
        names: Name of each image.
        limit: Maximum number of detections per image when they were made.
    """
    reached = [name for name, found in zip(names, detections, strict=True) if len(found) >= limit]
    if not reached:
        return []
    evidence: Evidence = {"count": len(reached), "limit": limit, "examples": reached[:_EXAMPLES], "total": len(names)}
    return [Finding(FindingKind.SCORED_DETECTIONS_LIMITED, Severity.INFO, evidence)]


def average_precision(
    is_hit: NDArray[np.bool_],
    is_ignored: NDArray[np.bool_],
    num_objects: float,
    weights: NDArray[np.float64] | float = 1.0,
) -> NDArray[np.float64]:
    """Compute (...) average precision over 101 recall levels.

    Args:
        is_hit: (..., D) true positives, in descending order of score.
        is_ignored: (..., D) counted neither as true nor as false positives.
        num_objects: Number of objects; 0 gives NaN.
        weights: (D,) weight of each detection, or of all.
    """
    if num_objects <= 0:
        return np.full(is_hit.shape[:-1], np.nan)
    return np.asarray(_precision_envelope(is_hit, is_ignored, num_objects, weights).mean(axis=-1))


def detection_to_json(evaluation: DetectionEvaluation) -> dict[str, Any]:
    """Return the block of `metrics.json`."""
    per_class = [
        {
            "name": c.name,
            "num_boxes": c.num_boxes,
            "num_images": c.num_images,
            "AP50": _estimate_json(c.ap50),
            "AP50_95": _estimate_json(c.ap50_95),
            "AP75": _rounded(c.ap75),
            "threshold": None if c.point is None else c.point.to_json(),
            "precision_at_recall": None if c.precision is None else [round(float(v), 4) for v in c.precision],
        }
        for c in evaluation.per_class
    ]
    return {
        **evaluation.setup.to_json(),
        "num_samples": evaluation.num_samples,
        "num_boxes": evaluation.num_boxes,
        "num_groups": evaluation.num_groups,
        "mAP50": _estimate_json(evaluation.map50),
        "mAP50_95": _estimate_json(evaluation.map50_95),
        "mAP75": _estimate_json(evaluation.map75),
        "mAP_by_size": {k: _rounded(v) for k, v in evaluation.by_size.items()},
        "AR": _rounded(evaluation.recall),
        "max_detections": evaluation.max_detections,
        "per_class": per_class,
        "confusion": evaluation.confusion.to_json(),
        "findings": [finding_to_json(finding) for finding in evaluation.findings],
        **evaluation.extra,
    }


def _precision_envelope(
    is_hit: NDArray[np.bool_],
    is_ignored: NDArray[np.bool_],
    num_objects: float,
    weights: NDArray[np.float64] | float = 1.0,
) -> NDArray[np.float64]:
    """Return (..., 101) interpolated precision at the recall levels; 0 beyond the largest recall."""
    true_positives = np.cumsum(is_hit * weights, axis=-1)
    false_positives = np.cumsum((~is_hit & ~is_ignored) * weights, axis=-1)
    precision = true_positives / np.maximum(true_positives + false_positives, np.spacing(1))
    precision = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    curves = np.zeros((*is_hit.shape[:-1], len(RECALLS)))
    for row in np.ndindex(is_hit.shape[:-1]):
        index = np.searchsorted(true_positives[row] / num_objects, RECALLS, side="left")
        index = index[index < precision.shape[-1]]  # recall levels ascend, so the reached ones come first
        curves[row][: len(index)] = precision[row][index]
    return curves


def _bootstrap(matches: Sequence[ClassMatches], units: NDArray[np.int64], seed: int, draws: int) -> NDArray[np.float64]:
    """Return (B, K, T) average precision of bootstrap draws, all sizes; NaN where a class was not drawn."""
    num_units = int(units.max()) + 1 if len(units) else 0
    if not draws or num_units < _MIN_UNITS:
        return np.zeros((0, len(matches), len(IOUS)))
    rng = np.random.default_rng([seed, 7])
    out = np.full((draws, len(matches), len(IOUS)), np.nan)
    slim = [_drop_irrelevant(m) for m in matches]
    for b in range(draws):
        counts = np.bincount(rng.integers(0, num_units, num_units), minlength=num_units)
        weight = counts.astype(np.float64)[units]  # (N,)
        for k, m in enumerate(slim):
            num_objects = float(m.num_objects[_ALL] @ weight)
            if num_objects > 0:
                out[b, k] = average_precision(m.is_hit[_ALL], m.is_ignored[_ALL], num_objects, weight[m.image])
    return out


def _drop_irrelevant(matches: ClassMatches) -> ClassMatches:
    """Drop detections that change no score: those after the last hit, and those ignored at every threshold."""
    hit, ignored = matches.is_hit[_ALL], matches.is_ignored[_ALL]
    hits = np.flatnonzero(hit.any(axis=0))
    last = int(hits[-1]) + 1 if len(hits) else 0
    keep = np.flatnonzero(~ignored[:, :last].all(axis=0))
    return ClassMatches(
        matches.scores[keep],
        matches.image[keep],
        matches.is_hit[:, :, keep],
        matches.is_ignored[:, :, keep],
        matches.num_objects,
    )


def _precision_at(matches: ClassMatches) -> NDArray[np.float64] | None:
    count = float(matches.num_objects[_ALL].sum())
    if count <= 0:
        return None
    return _precision_envelope(matches.is_hit[_ALL, _T50], matches.is_ignored[_ALL, _T50], count)


def _recall(matches: Sequence[ClassMatches]) -> float | None:
    recalls = [m.is_hit[_ALL].sum(axis=1) / m.num_objects[_ALL].sum() for m in matches if m.num_objects[_ALL].sum() > 0]
    return float(np.mean(recalls)) if recalls else None


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean of the finite values, or NaN."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def _mean_over_classes(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (B,) means of (B, K) over the drawn classes."""
    is_there = np.isfinite(drawn)
    total = np.where(is_there, drawn, 0.0).sum(axis=1)
    means = np.full(len(drawn), np.nan)
    np.divide(total, is_there.sum(axis=1), out=means, where=is_there.any(axis=1))
    return means


def _estimate(value: float, drawn: NDArray[np.float64]) -> Estimate:
    drawn = drawn[np.isfinite(drawn)]
    plain = _plain(value)
    if plain is None or not len(drawn):
        return Estimate(plain, None, None, plain, None)
    low, high = (float(v) for v in np.quantile(drawn, (0.025, 0.975)))
    return Estimate(plain, min(low, plain), max(high, plain), plain, None)


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _estimate_json(estimate: Estimate) -> dict[str, float | None]:
    return {"value": _rounded(estimate.value), "low": _rounded(estimate.low), "high": _rounded(estimate.high)}
