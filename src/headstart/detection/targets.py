"""Assign anchor points to ground-truth boxes (task-aligned assignment), and compute the losses.

An anchor point is assigned by class score and overlap (TOOD, Feng et al. 2021), so the class score also learns the
box quality and no third output is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from headstart.detection.augmentation import ViewBoxes

__all__ = ["Targets", "assign", "detection_loss", "paired_iou"]

_EPS = 1e-7


@dataclass(frozen=True)
class Targets:
    """Training targets of all anchor points.

    Attributes:
        scores: (B, P, K) in [0, 1]: box quality for the class of the assigned box, 0 elsewhere.
        boxes: (B, P, 4) assigned boxes.
        is_positive: (B, P) whether a box is assigned.
        is_ignored: (B, P) whether the anchor point is ignored in the loss.
    """

    scores: Any
    boxes: Any
    is_positive: Any
    is_ignored: Any


def paired_iou(a: Any, b: Any, *, is_generalized: bool = False) -> Any:
    """Return the pairwise IoU of boxes (..., 4) in [0, 1]; generalized IoU (Rezatofighi et al. 2019) in [-1, 1]."""
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inner
    iou = inner / union.clamp(min=_EPS)
    if not is_generalized:
        return iou
    enclosing = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return iou - (enclosing - union) / enclosing.clamp(min=_EPS)


@torch.no_grad()  # type: ignore[untyped-decorator]
def assign(
    logits: Any,
    boxes: Any,
    points: Any,
    ground_truth: Sequence[ViewBoxes],
    *,
    top: int = 10,
    alpha: float = 1.0,
    beta: float = 6.0,
) -> Targets:
    """Assign each ground-truth box to its best anchor points.

    Args:
        logits: (B, P, K) predicted class logits.
        boxes: (B, P, 4) predicted boxes.
        points: (P, 2) anchor points.
        ground_truth: Ground-truth boxes of B images.
        top: Anchor points per box.
        alpha, beta: Exponents of the metric score^alpha * overlap^beta.
    """
    num_images, num_points, num_classes = logits.shape
    scores = torch.zeros((num_images, num_points, num_classes))
    chosen = boxes.new_zeros((num_images, num_points, 4))
    is_positive = torch.zeros((num_images, num_points), dtype=torch.bool)
    is_ignored = torch.zeros((num_images, num_points), dtype=torch.bool)
    for b, one in enumerate(ground_truth):
        if len(one.ignored):
            is_ignored[b] = _covered(points, torch.from_numpy(one.ignored)).any(0)
        if not len(one.xyxy):
            continue
        own, ids = torch.from_numpy(one.xyxy), torch.from_numpy(one.class_ids)  # (G, 4), (G,)
        inside = _covered(points, own)  # (G, P)
        overlap = paired_iou(own[:, None], boxes[b][None])  # (G, P)
        metric = logits[b].sigmoid().T[ids].pow(alpha) * overlap.pow(beta)  # (G, P)
        metric = torch.where(inside, metric, -1.0)
        # Without any overlap yet, the topk order decides.
        best = metric.topk(min(top, num_points), dim=1)
        is_best = torch.zeros_like(inside).scatter_(1, best.indices, best.values >= 0)
        rival = torch.where(is_best, overlap, -1.0)
        winner = rival.argmax(0)  # (P,) a point in several boxes goes to the one with the largest IoU
        is_on = is_best.any(0)
        is_assigned = torch.zeros_like(is_best)
        is_assigned[winner[is_on], is_on.nonzero()[:, 0]] = True
        metric = torch.where(is_assigned, metric, 0.0)
        quality = torch.where(is_assigned, overlap, 0.0)
        # The best anchor point of each box gets its IoU as target, the others proportionally less.
        target = metric / metric.amax(1, keepdim=True).clamp(min=1e-12) * quality.amax(1, keepdim=True)
        where = is_on.nonzero()[:, 0]
        scores[b, where, ids[winner[where]]] = target[winner[where], where]
        chosen[b, where] = own[winner[where]]
        is_positive[b] = is_on
    return Targets(scores, chosen, is_positive, is_ignored & ~is_positive)


def detection_loss(
    logits: Any, boxes: Any, targets: Targets, *, box_weight: float = 2.5, gamma: float = 2.0, negative: float = 0.75
) -> tuple[Any, Any, Any]:
    """Return the loss of a batch, its class and its box part, normalized by the sum of target scores.

    Class: varifocal loss (Zhang et al. 2021); box: generalized IoU, weighted by the target score.
    """
    total = targets.scores.sum().clamp(min=1.0)
    weight = torch.where(targets.scores > 0, targets.scores, negative * logits.detach().sigmoid().pow(gamma))
    weight = weight * (~targets.is_ignored)[..., None]
    class_loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets.scores, weight, reduction="sum")
    on = targets.is_positive
    anchor_weights = targets.scores[on].sum(-1)
    box_loss = ((1.0 - paired_iou(boxes[on], targets.boxes[on], is_generalized=True)) * anchor_weights).sum()
    class_loss, box_loss = class_loss / total, box_loss / total
    return class_loss + box_weight * box_loss, class_loss.detach(), box_loss.detach()


def _covered(points: Any, boxes: Any) -> Any:
    """Return (M, P) whether points lie inside boxes; a box smaller than the grid has its nearest point."""
    x, y = points[:, 0], points[:, 1]
    inside = (x > boxes[:, :1]) & (x < boxes[:, 2:3]) & (y > boxes[:, 1:2]) & (y < boxes[:, 3:4])
    has_no_point = ~inside.any(1)
    if has_no_point.any():
        center = (boxes[has_no_point, :2] + boxes[has_no_point, 2:]) / 2
        inside[has_no_point.nonzero()[:, 0], torch.cdist(center, points).argmin(1)] = True
    return inside
