"""Decode network outputs into detections: scores, top candidates, non-maximum suppression; numpy only.

Training and the torch-free runtime use the same code, so their boxes differ by rounding of the network only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Detections
from headstart.detection.image_frames import Frame
from headstart.detection.matching import iou_with_crowds
from headstart.utils.limits import MAX_DETECTIONS

__all__ = [
    "DecodingSettings",
    "candidates_for",
    "decode",
    "decode_with_limit",
    "iou_matrix",
    "scoring_limit",
    "suppress",
]

_MIN_KEPT, _MIN_CANDIDATES = 300, 1000  # enough for images of up to 100 objects
_KEPT_PER_OBJECT, _CANDIDATES_PER_KEPT = 3, 10


def candidates_for(num_kept: int) -> int:
    """Return the number of NMS candidates needed for `num_kept` detections."""
    return _MIN_CANDIDATES + _CANDIDATES_PER_KEPT * max(0, num_kept - _MIN_KEPT)


def scoring_limit(num_objects: int) -> int:
    """Return the number of detections per image to score where no image has more than `num_objects` objects.

    Lower than the limit of prediction: the thousands of low-score detections of an uncalibrated detector do not change
    average precision, but take long to match.
    """
    return max(_MIN_KEPT, _KEPT_PER_OBJECT * num_objects)


@dataclass(frozen=True, slots=True)
class DecodingSettings:
    """Decoding and NMS settings.

    Attributes:
        min_score: Score threshold, in [0, 1].
        nms_iou: IoU threshold of NMS.
        is_class_agnostic: Whether NMS compares boxes of different classes too.
        num_candidates: Maximum number of NMS candidates per image.
        num_kept: Maximum number of detections per image.
        slope, offset: The calibrated score is `sigmoid(slope * logit + offset)`.
    """

    min_score: float = 0.01
    nms_iou: float = 0.6
    is_class_agnostic: bool = False
    num_candidates: int = candidates_for(MAX_DETECTIONS)
    num_kept: int = MAX_DETECTIONS
    slope: float = 1.0
    offset: float = 0.0

    def limited(self, num_kept: int) -> DecodingSettings:
        """Return a copy that keeps at most `num_kept` detections per image."""
        return replace(self, num_kept=num_kept, num_candidates=candidates_for(num_kept))

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for `bundle.json`."""
        return asdict(self)


def decode(
    logits: NDArray[np.float32],
    boxes: NDArray[np.float32],
    decoding: DecodingSettings,
    frame: Frame,
    image_hw: tuple[int, int],
) -> Detections:
    """Return the detections of one image, highest score first; see `decode_with_limit`."""
    return decode_with_limit(logits, boxes, decoding, frame, image_hw)[0]


def decode_with_limit(
    logits: NDArray[np.float32],
    boxes: NDArray[np.float32],
    decoding: DecodingSettings,
    frame: Frame,
    image_hw: tuple[int, int],
) -> tuple[Detections, bool]:
    """Decode one image.

    Args:
        logits: (P, K) class logits.
        boxes: (P, 4) xyxy in input pixels.
        decoding: The decoding settings.
        frame: Maps the image to the input.
        image_hw: Height and width of the upright image; boxes are clipped to it.

    Returns:
        The detections, highest score first, and whether a limit of `decoding` dropped some.
    """
    min_logit = np.log(decoding.min_score / (1.0 - decoding.min_score))
    adjusted = decoding.slope * logits.astype(np.float64) + decoding.offset  # (P, K)
    point, kind = np.nonzero(adjusted > min_logit)
    values = adjusted[point, kind]
    is_limited = len(values) > decoding.num_candidates
    order = np.argsort(-values, kind="stable")[: decoding.num_candidates]
    point, kind, values = point[order], kind[order], values[order]
    scores = 1.0 / (1.0 + np.exp(-np.clip(values, -50.0, 50.0)))
    height, width = image_hw
    xyxy = np.clip(frame.to_image(boxes[point]), 0.0, np.array([width, height, width, height], dtype=np.float32))
    is_valid = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    xyxy, scores, kind = xyxy[is_valid], scores[is_valid], kind[is_valid]
    rivals = np.zeros_like(kind) if decoding.is_class_agnostic else kind
    keep = suppress(xyxy, rivals, decoding.nms_iou, decoding.num_kept + 1)
    is_limited |= len(keep) > decoding.num_kept
    keep = keep[: decoding.num_kept]
    return Detections(xyxy[keep], scores[keep].astype(np.float32), kind[keep].astype(np.int64)), is_limited


def suppress(xyxy: NDArray[np.floating], class_ids: NDArray[np.int64], iou: float, max_kept: int) -> NDArray[np.int64]:
    """Apply class-wise NMS and return the positions of the kept boxes.

    Two boxes overlap by more than `iou` only if their left edges are close relative to their widths. So boxes are
    sorted by left edge, and each is compared within this range only.

    Args:
        xyxy: (M, 4), highest score first.
        class_ids: (M,) class ids.
        iou: IoU threshold, in (0, 1].
        max_kept: Maximum number of kept boxes.
    """
    kept = [np.zeros(0, dtype=np.int64)]
    for class_id in np.unique(class_ids):
        members = np.flatnonzero(class_ids == class_id)
        kept.append(members[_suppress_class(xyxy[members].astype(np.float64), iou, max_kept)])
    return np.sort(np.concatenate(kept))[:max_kept]


def _suppress_class(boxes: NDArray[np.float64], iou: float, max_kept: int) -> NDArray[np.int64]:
    """Return the positions of the kept boxes of one class, highest score first."""
    order = np.argsort(boxes[:, 0], kind="stable")
    rank = np.empty(len(boxes), dtype=np.int64)
    rank[order] = np.arange(len(boxes))
    x0, y0, x1, y1 = np.ascontiguousarray(boxes[order].T)
    areas = (x1 - x0) * (y1 - y0)
    width = boxes[:, 2] - boxes[:, 0]
    slack = 1e-6 * (1.0 + np.abs(boxes[:, :4:2]).max(axis=1))
    # IoU > t needs a shared width above t * max(w_a, w_b), hence x0_b in [x0_a - w_a (1/t - 1), x0_a + w_a (1 - t)].
    low = np.searchsorted(x0, boxes[:, 0] - width * (1.0 / iou - 1.0) - slack, side="left").tolist()
    high = np.searchsorted(x0, boxes[:, 0] + width * (1.0 - iou) + slack, side="right").tolist()
    is_alive = np.ones(len(boxes), dtype=bool)
    kept: list[int] = []
    for i, position in enumerate(rank.tolist()):
        if not is_alive[position]:
            continue
        kept.append(i)
        if len(kept) == max_kept:
            break
        near = slice(low[i], high[i])
        shared = np.minimum(x1[near], x1[position]) - np.maximum(x0[near], x0[position])
        np.clip(shared, 0.0, None, out=shared)
        shared *= np.clip(np.minimum(y1[near], y1[position]) - np.maximum(y0[near], y0[position]), 0.0, None)
        is_alive[near] &= shared <= iou * (areas[position] + areas[near] - shared)
    return np.array(kept, dtype=np.int64)


def iou_matrix(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the (M, N) IoU of all pairs of boxes."""
    a, b = a.astype(np.float64).reshape(-1, 4), b.astype(np.float64).reshape(-1, 4)
    return iou_with_crowds(a, b, np.zeros(len(b), dtype=bool))
