"""Compute operating points and the confusion matrix of a detector at score thresholds.

The threshold of a class maximizes F1 at IoU 0.5; it is the mean of the last kept score and the first dropped one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Boxes, Detections
from headstart.detection.matching import ClassMatches, iou_with_crowds

__all__ = ["ERRORS", "Confusion", "OperatingPoint", "best_points", "confuse", "points_at"]

ERRORS = ("false_negatives", "false_positives", "misclassified")
"""Error types: missed objects, false positives, objects predicted as another class."""

_IOU = 0.5
_MIN_PRECISION = 0.2  # minimum precision at a threshold


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Precision, recall and F1 of one class at a threshold, IoU 0.5, all in [0, 1].

    Attributes:
        threshold: A float32 value, like the scores, so that comparisons are the same everywhere.
        precision: None where no detection reaches the threshold.
        recall, f1: 0 in that case.
    """

    threshold: float
    precision: float | None
    recall: float
    f1: float

    def to_json(self) -> dict[str, float | None]:
        """Return plain values, rounded to 5 digits except for the threshold."""
        values = {k: None if v is None else round(v, 5) for k, v in asdict(self).items()}
        return {**values, "threshold": self.threshold}


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix of a detector.

    Attributes:
        names: K class names and `background`.
        counts: (K + 1, K + 1): rows ground truth, columns detections; last row: false positives, last column: misses.
        thresholds: (K,) score threshold of each class.
        errors: (N, 3) errors of each image, in the order of `ERRORS`.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    thresholds: tuple[float, ...]
    errors: NDArray[np.int64]

    def to_json(self) -> dict[str, Any]:
        """Return plain values; `errors` holds the totals, the number of images and of those with an error."""
        totals = {name: int(count) for name, count in zip(ERRORS, self.errors.sum(axis=0), strict=True)}
        num_with_errors = int(self.errors.any(axis=1).sum())
        return {
            "names": list(self.names),
            "counts": self.counts.tolist(),
            "thresholds": [float(t) for t in self.thresholds],
            "iou": _IOU,
            "errors": {**totals, "num_images": len(self.errors), "num_images_with_errors": num_with_errors},
        }


def best_points(matches: Sequence[ClassMatches]) -> list[OperatingPoint | None]:
    """Return the operating point with the best F1 of each class; None where there is no usable one.

    Only thresholds with a precision of at least 0.2 are used.
    """
    points: list[OperatingPoint | None] = []
    for m in matches:
        hit, keep = m.is_hit[0, 0], ~m.is_ignored[0, 0]
        count = int(m.num_objects[0].sum())
        scores, hit = m.scores[keep], hit[keep]
        if not count or not hit.any():
            points.append(None)
            continue
        right, kept = np.cumsum(hit), np.arange(1, len(hit) + 1)
        f1 = 2 * right / (kept + count)
        is_end = np.append(scores[1:] < scores[:-1], True)  # equal scores are kept or dropped together
        is_usable = is_end & (right >= _MIN_PRECISION * kept)
        if not is_usable.any():
            points.append(None)  # avoids many false positives of a class that is hardly detected
            continue
        best = int(np.where(is_usable, f1, -1.0).argmax())
        after = scores[best + 1] if best + 1 < len(scores) else scores[best] * 0.9
        threshold = float(np.float32((scores[best] + after) / 2))
        if not after < threshold <= scores[best]:  # there is no float32 value between neighbors
            threshold = float(scores[best])
        points.append(
            OperatingPoint(threshold, float(right[best] / kept[best]), float(right[best] / count), float(f1[best]))
        )
    return points


def points_at(matches: Sequence[ClassMatches], thresholds: Sequence[float]) -> list[OperatingPoint | None]:
    """Return the operating points at given thresholds, one per class; None for a class that does not occur."""
    points: list[OperatingPoint | None] = []
    for m, threshold in zip(matches, thresholds, strict=True):
        is_kept = ~m.is_ignored[0, 0] & (m.scores >= threshold)
        num_kept, num_right, count = int(is_kept.sum()), int(m.is_hit[0, 0][is_kept].sum()), int(m.num_objects[0].sum())
        if not count:
            points.append(None)
            continue
        precision = num_right / num_kept if num_kept else None
        points.append(
            OperatingPoint(float(threshold), precision, num_right / count, 2 * num_right / (num_kept + count))
        )
    return points


def confuse(
    ground_truth: Sequence[Boxes],
    detections: Sequence[Detections],
    class_names: Sequence[str],
    thresholds: Sequence[float],
) -> Confusion:
    """Compute the confusion matrix: match each object with the detection of any class that overlaps it most.

    Pairs are matched in descending order of IoU, at least 0.5, each box once; ties prefer the same class.
    Detections inside a crowd are not counted.
    """
    num = len(class_names)
    total = np.zeros((num + 1, num + 1), dtype=np.int64)
    errors = np.zeros((len(ground_truth), len(ERRORS)), dtype=np.int64)
    limits = np.asarray(thresholds, dtype=np.float64)
    for n, (boxes, predicted) in enumerate(zip(ground_truth, detections, strict=True)):
        counts = np.zeros_like(total)
        kept = predicted.take(predicted.scores >= limits[predicted.class_ids] if num else np.zeros(0, dtype=bool))
        overlap = iou_with_crowds(kept.xyxy.astype(np.float64), boxes.xyxy.astype(np.float64), boxes.is_crowd)
        is_in_crowd = (overlap[:, boxes.is_crowd] >= _IOU).any(axis=1)
        pairs = np.argwhere((overlap >= _IOU) & ~boxes.is_crowd[None, :])
        is_same = kept.class_ids[pairs[:, 0]] == boxes.class_ids[pairs[:, 1]]
        order = np.lexsort((~is_same, -np.round(overlap[pairs[:, 0], pairs[:, 1]], 6)))
        open_predicted, open_true = np.ones(len(kept), dtype=bool), ~boxes.is_crowd
        for d, g in pairs[order]:
            if open_predicted[d] and open_true[g]:
                open_predicted[d] = open_true[g] = False
                counts[boxes.class_ids[g], kept.class_ids[d]] += 1
        counts[:, num] += np.bincount(boxes.class_ids[open_true], minlength=num + 1)
        counts[num] += np.bincount(kept.class_ids[open_predicted & ~is_in_crowd], minlength=num + 1)
        among = counts[:num, :num]
        errors[n] = counts[:num, num].sum(), counts[num, :num].sum(), among.sum() - np.trace(among)
        total += counts
    return Confusion((*class_names, "background"), total, tuple(float(v) for v in limits), errors)
