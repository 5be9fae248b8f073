"""From what the network says to boxes: scores, the best candidates, non-maximum suppression; numpy only.

The one decision: there is one implementation, and training's evaluation and the torch-free runtime both call it,
so their boxes can differ by the network's rounding only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Detections
from headstart.detection.frames import Frame

__all__ = ["Decoding", "decode", "iou_matrix", "suppress"]


@dataclass(frozen=True, slots=True)
class Decoding:
    """How candidates become detections.

    Attributes:
        min_score: Candidates below it are dropped, in [0, 1].
        iou: Of two boxes of one class that overlap more, the less certain is dropped.
        num_candidates: Most candidates that are compared.
        num_kept: Most detections of a picture.
        slope, offset: The calibrated score is `sigmoid(slope * logit + offset)`.
    """

    min_score: float = 0.01
    iou: float = 0.6
    num_candidates: int = 1000
    num_kept: int = 300
    slope: float = 1.0
    offset: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `bundle.json`."""
        return asdict(self)


def decode(
    logits: NDArray[np.float32],
    boxes: NDArray[np.float32],
    decoding: Decoding,
    frame: Frame,
    picture_hw: tuple[int, int],
) -> Detections:
    """The detections of one picture, the most certain first.

    Args:
        logits: (P, K) class logits.
        boxes: (P, 4) xyxy in input pixels.
        decoding: The rules.
        frame: Where the picture lies in the input.
        picture_hw: Height and width of the upright picture; boxes are cut at its edges.
    """
    least = np.log(decoding.min_score / (1.0 - decoding.min_score))
    adjusted = decoding.slope * logits.astype(np.float64) + decoding.offset  # (P, K)
    place, kind = np.nonzero(adjusted > least)
    values = adjusted[place, kind]
    order = np.argsort(-values, kind="stable")[: decoding.num_candidates]
    place, kind, values = place[order], kind[order], values[order]
    scores = 1.0 / (1.0 + np.exp(-np.clip(values, -50.0, 50.0)))
    height, width = picture_hw
    xyxy = np.clip(frame.to_picture(boxes[place]), 0.0, np.array([width, height, width, height], dtype=np.float32))
    is_real = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    xyxy, scores, kind = xyxy[is_real], scores[is_real], kind[is_real]
    keep = suppress(xyxy, kind, decoding.iou, decoding.num_kept)
    return Detections(xyxy[keep], scores[keep].astype(np.float32), kind[keep].astype(np.int64))


def suppress(xyxy: NDArray[np.floating], class_ids: NDArray[np.int64], iou: float, most: int) -> NDArray[np.int64]:
    """Positions of boxes that no more certain box of their class overlaps by more than `iou`.

    Args:
        xyxy: (M, 4), the most certain first.
        class_ids: (M,).
        iou: The bar.
        most: How many are kept at most.
    """
    boxes = xyxy.astype(np.float64)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    alive = np.ones(len(boxes), dtype=bool)
    kept: list[int] = []
    for i in range(len(boxes)):
        if not alive[i]:
            continue
        kept.append(i)
        if len(kept) == most:
            break
        rest = i + 1 + np.flatnonzero(alive[i + 1 :] & (class_ids[i + 1 :] == class_ids[i]))
        if not len(rest):
            continue
        corner = np.minimum(boxes[i, 2:], boxes[rest, 2:]) - np.maximum(boxes[i, :2], boxes[rest, :2])
        inner = np.prod(np.clip(corner, 0.0, None), axis=1)
        alive[rest[inner > iou * (areas[i] + areas[rest] - inner)]] = False
    return np.array(kept, dtype=np.int64)


def iou_matrix(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """(M, N) overlap of every box of `a` with every box of `b`."""
    a, b = a.astype(np.float64).reshape(-1, 4), b.astype(np.float64).reshape(-1, 4)
    corner = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    inner = np.prod(np.clip(corner, 0.0, None), axis=-1)
    union = np.prod(a[:, 2:] - a[:, :2], axis=1)[:, None] + np.prod(b[:, 2:] - b[:, :2], axis=1)[None] - inner
    return np.asarray(inner / np.maximum(union, 1e-12))
