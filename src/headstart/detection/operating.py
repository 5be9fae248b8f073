"""What a detector does at one score threshold: which threshold is best, and what is taken for what.

The one decision: a threshold belongs to a class, since classes differ in how sure the network gets; it is the one with
the best F1 at IoU 0.5, and lies between the last score that is kept and the first that is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Boxes, Detections
from headstart.detection.matching import ClassMatches, iou_with_crowds

__all__ = ["Confusion", "OperatingPoint", "best_points", "confuse"]

_IOU = 0.5
_LEAST_PRECISION = 0.2  # of the boxes above a threshold so many must be right


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold of one class with what it gives at IoU 0.5, all in [0, 1]."""

    threshold: float
    precision: float
    recall: float
    f1: float

    def to_json(self) -> dict[str, float]:
        """JSON-able, rounded."""
        return {k: round(v, 5) for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Confusion:
    """What was taken for what.

    Attributes:
        names: K class names and `background`.
        counts: (K + 1, K + 1): rows truth, columns detection; last row: found where nothing is, last column: missed.
        thresholds: (K,) score threshold of each class.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    thresholds: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "names": list(self.names),
            "counts": self.counts.tolist(),
            "thresholds": [round(float(t), 5) for t in self.thresholds],
            "iou": _IOU,
        }


def best_points(matches: Sequence[ClassMatches]) -> list[OperatingPoint | None]:
    """The threshold with the best F1 of each class; None where it does not occur or none is worth its name.

    Only thresholds count above which at least one box in five is right.
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
        is_usable = is_end & (right >= _LEAST_PRECISION * kept)
        if not is_usable.any():
            points.append(None)  # a class that is hardly found must not flood every picture
            continue
        best = int(np.where(is_usable, f1, -1.0).argmax())
        after = scores[best + 1] if best + 1 < len(scores) else scores[best] * 0.9
        threshold = float((scores[best] + after) / 2)
        points.append(
            OperatingPoint(threshold, float(right[best] / kept[best]), float(right[best] / count), float(f1[best]))
        )
    return points


def confuse(
    truth: Sequence[Boxes], found: Sequence[Detections], class_names: Sequence[str], thresholds: Sequence[float]
) -> Confusion:
    """Counts what was taken for what: each object goes to the detection of any class that overlaps it most.

    Pairs are made by falling overlap, at least 0.5, each object and detection once; where two detections overlap an
    object alike, the one of its own class goes first.  Detections within a crowd are not counted.
    """
    num = len(class_names)
    counts = np.zeros((num + 1, num + 1), dtype=np.int64)
    limits = np.asarray(thresholds, dtype=np.float64)
    for boxes, detections in zip(truth, found, strict=True):
        kept = detections.take(detections.scores >= limits[detections.class_ids] if num else np.zeros(0, dtype=bool))
        overlap = iou_with_crowds(kept.xyxy.astype(np.float64), boxes.xyxy.astype(np.float64), boxes.is_crowd)
        is_in_crowd = (overlap[:, boxes.is_crowd] >= _IOU).any(axis=1)
        pairs = np.argwhere((overlap >= _IOU) & ~boxes.is_crowd[None, :])
        is_same = kept.class_ids[pairs[:, 0]] == boxes.class_ids[pairs[:, 1]]
        order = np.lexsort((~is_same, -np.round(overlap[pairs[:, 0], pairs[:, 1]], 6)))
        open_found, open_true = np.ones(len(kept), dtype=bool), ~boxes.is_crowd
        for d, g in pairs[order]:
            if open_found[d] and open_true[g]:
                open_found[d] = open_true[g] = False
                counts[boxes.class_ids[g], kept.class_ids[d]] += 1
        counts[:, num] += np.bincount(boxes.class_ids[open_true], minlength=num + 1)
        counts[num] += np.bincount(kept.class_ids[open_found & ~is_in_crowd], minlength=num + 1)
    return Confusion((*class_names, "background"), counts, tuple(float(v) for v in limits))
