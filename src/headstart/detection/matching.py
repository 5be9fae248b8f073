"""Match detections to objects by the rules of COCO's reference implementation; numpy only.

Each image is matched once for all IoU thresholds and object sizes; the result is small, so that bootstrap draws
need no new matching.

Source: T.-Y. Lin et al., cocodataset/cocoapi, `PythonAPI/pycocotools/cocoeval.py`, functions `evaluateImg` and
`accumulate` (rules; no code taken). An object's area is the stated one (COCO's `area`), else that of its box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Boxes, Detections
from headstart.utils.limits import MAX_DETECTIONS

__all__ = ["AREAS", "IOUS", "ClassMatches", "iou_with_crowds", "match_all"]

IOUS = np.linspace(0.5, 0.95, 10)
"""IoU thresholds, 0.50 to 0.95."""

AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Ranges of object area, square pixels."""

_NEARLY_ONE = 1 - 1e-10


@dataclass(frozen=True)
class ClassMatches:
    """All detections of one class in descending order of score; A size ranges, T thresholds, D detections, N images.

    Attributes:
        scores: (D,) in [0, 1]; equal scores keep the order of images.
        image: (D,) index of the image.
        is_hit: (A, T, D) whether it matches an object (true positive).
        is_ignored: (A, T, D) whether it counts neither as true nor as false positive (crowd, other size).
        num_objects: (A, N) counted objects of the class.
    """

    scores: NDArray[np.float64]
    image: NDArray[np.int64]
    is_hit: NDArray[np.bool_]
    is_ignored: NDArray[np.bool_]
    num_objects: NDArray[np.int64]


def match_all(
    ground_truth: Sequence[Boxes],
    detections: Sequence[Detections],
    num_classes: int,
    max_detections: int = MAX_DETECTIONS,
) -> list[ClassMatches]:
    """Match every image, class by class.

    Args:
        ground_truth: Ground-truth boxes of each image.
        detections: Detections of each image, in any order.
        num_classes: K.
        max_detections: Maximum number of detections per class and image, highest scores first (COCO's `maxDets`).

    Returns:
        K entries.
    """
    if len(ground_truth) != len(detections):
        raise ValueError(f"{len(ground_truth)} images have boxes but {len(detections)} have detections")
    return [_match_class(ground_truth, detections, k, max_detections) for k in range(num_classes)]


def iou_with_crowds(
    predicted: NDArray[np.float64], true: NDArray[np.float64], is_crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the (D, G) IoU of detections and objects; for a crowd, the fraction of the detection inside it."""
    low = np.maximum(predicted[:, None, :2], true[None, :, :2])
    high = np.minimum(predicted[:, None, 2:], true[None, :, 2:])
    sides = np.clip(high - low, 0, None)
    shared = sides[..., 0] * sides[..., 1]  # (D, G)
    own = np.prod(predicted[:, 2:] - predicted[:, :2], axis=1)[:, None]
    other = np.prod(true[:, 2:] - true[:, :2], axis=1)[None, :]
    union = np.where(is_crowd[None, :], own, own + other - shared)
    overlap = np.zeros(shared.shape, dtype=np.float64)
    np.divide(shared, union, out=overlap, where=union > 0)
    return overlap


def _match_class(
    ground_truth: Sequence[Boxes], detections: Sequence[Detections], class_id: int, max_detections: int
) -> ClassMatches:
    scores, images, hits, ignored = [], [], [], []
    num_objects = np.zeros((len(AREAS), len(ground_truth)), dtype=np.int64)
    for n, (boxes, predicted) in enumerate(zip(ground_truth, detections, strict=True)):
        is_class = boxes.class_ids == class_id
        of_class = np.flatnonzero(predicted.class_ids == class_id)
        of_class = of_class[np.argsort(-predicted.scores[of_class], kind="stable")][:max_detections]
        true, crowd = boxes.xyxy[is_class].astype(np.float64), boxes.is_crowd[is_class]
        area = boxes.object_areas[is_class]
        is_excluded = np.stack([crowd | (area < low) | (area > high) for low, high in AREAS.values()])  # (A, G)
        num_objects[:, n] = (~is_excluded).sum(axis=1)
        if not len(of_class):
            continue
        hit, out = _match_image(predicted.xyxy[of_class].astype(np.float64), true, crowd, is_excluded)
        scores.append(predicted.scores[of_class].astype(np.float64))
        images.append(np.full(len(of_class), n, dtype=np.int64))
        hits.append(hit)
        ignored.append(out)
    shape = (len(AREAS), len(IOUS), 0)
    if not scores:
        empty = np.zeros(shape, dtype=bool)
        return ClassMatches(np.zeros(0), np.zeros(0, dtype=np.int64), empty, empty, num_objects)
    every = np.concatenate(scores)
    order = np.argsort(-every, kind="stable")
    return ClassMatches(
        scores=every[order],
        image=np.concatenate(images)[order],
        is_hit=np.concatenate(hits, axis=2)[:, :, order],
        is_ignored=np.concatenate(ignored, axis=2)[:, :, order],
        num_objects=num_objects,
    )


def _match_image(
    predicted: NDArray[np.float64], true: NDArray[np.float64], crowd: NDArray[np.bool_], is_excluded: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return (A, T, D) hits and ignored detections of one image and class, given in descending order of score."""
    num, shape = len(predicted), (len(AREAS), len(IOUS))
    hit, out = np.zeros((*shape, num), dtype=bool), np.zeros((*shape, num), dtype=bool)
    area = np.prod(predicted[:, 2:] - predicted[:, :2], axis=1)
    foreign = np.stack([(area < low) | (area > high) for low, high in AREAS.values()])  # (A, D)
    if len(true):
        overlap = iou_with_crowds(predicted, true, crowd)  # (D, G)
        is_taken = np.zeros((*shape, len(true)), dtype=bool)
        needed = np.minimum(IOUS, _NEARLY_ONE)[None, :, None]
        for d in np.flatnonzero((overlap >= needed.min()).any(axis=1)):
            near = np.flatnonzero(overlap[d] >= needed.min())[::-1]  # of equal overlaps, take the later object
            values = overlap[d, near]
            is_open = (values >= needed) & (~is_taken[:, :, near] | crowd[near])  # (A, T, G)
            counts = is_open & ~is_excluded[:, None, near]
            others = is_open & is_excluded[:, None, near]
            has_counted = counts.any(axis=2)
            usable = np.where(has_counted[..., None], counts, others)
            chosen = near[np.where(usable, values, -1.0).argmax(axis=2)]  # (A, T)
            is_any = has_counted | others.any(axis=2)
            a, t = np.nonzero(is_any)
            is_taken[a, t, chosen[a, t]] = True
            hit[:, :, d] = has_counted
            out[:, :, d] = is_any & ~has_counted
    out |= ~hit & foreign[:, None, :]
    return hit, out
