"""Test anchor-point assignment and detection losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou, generalized_box_iou

from headstart.detection.augmentation import ViewBoxes
from headstart.detection.network import make_points
from headstart.detection.targets import assign, detection_loss, paired_iou

POINTS = make_points([(8, 8), (4, 4)], [8, 16])  # an input of 64 x 64


def truth(*boxes: tuple[float, float, float, float], ids: tuple[int, ...] = (), ignored: object = ()) -> ViewBoxes:
    xyxy = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    kinds = np.array(ids or [0] * len(xyxy), dtype=np.int64)
    return ViewBoxes(xyxy, kinds, np.array(ignored, dtype=np.float32).reshape(-1, 4))


def outputs(num_classes: int = 2, reach: float = 10.0) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.full((1, len(POINTS), num_classes), -2.0)
    return logits, torch.cat((POINTS - reach, POINTS + reach), 1)[None]


def test_points_are_cell_centers() -> None:
    assert POINTS[0].tolist() == [4, 4]
    assert POINTS[1].tolist() == [12, 4]
    assert POINTS[64].tolist() == [8, 8]


def test_paired_iou_matches_torchvision() -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand((50, 2), generator=generator) * 40
    a = torch.cat((corner, corner + 1 + torch.rand((50, 2), generator=generator) * 30), 1)
    b = a.roll(1, 0)
    torch.testing.assert_close(paired_iou(a, b), box_iou(a, b).diagonal())
    torch.testing.assert_close(paired_iou(a, b, is_generalized=True), generalized_box_iou(a, b).diagonal())


def test_assigned_points_are_inside_and_limited() -> None:
    logits, boxes = outputs()
    targets = assign(logits, boxes, POINTS, [truth((10, 10, 40, 40), ids=(1,))], top=5)
    on = POINTS[targets.is_positive[0]]
    assert 0 < len(on) <= 5
    assert ((on > 10) & (on < 40)).all()
    assert (targets.scores[0, :, 0] == 0).all()
    assert targets.scores[0, :, 1].max() == pytest.approx(
        float(paired_iou(boxes[0], torch.tensor([10.0, 10, 40, 40])).max()), abs=1e-6
    )


def test_point_in_two_boxes_is_assigned_once() -> None:
    logits, boxes = outputs()
    targets = assign(logits, boxes, POINTS, [truth((0, 0, 40, 40), (20, 20, 60, 60), ids=(0, 1))], top=30)
    assert ((targets.scores[0] > 0).sum(-1) <= 1).all()
    assert {0, 1} == set(targets.scores[0].nonzero()[:, 1].tolist())


def test_tiny_box_is_assigned() -> None:
    logits, boxes = outputs(reach=2.0)
    targets = assign(logits, boxes, POINTS, [truth((5.2, 5.2, 6.4, 6.4))])
    assert targets.is_positive.sum() == 1
    assert targets.scores.max() > 0


def test_empty_images_and_ignored_points() -> None:
    logits, boxes = outputs()
    targets = assign(logits, boxes, POINTS, [truth(ignored=[(0, 0, 20, 20)])])
    assert not targets.is_positive.any()
    assert targets.is_ignored.sum() == 4 + 1
    loss, _, box_loss = detection_loss(logits, boxes, targets)
    assert float(box_loss) == 0.0
    assert float(loss) > 0


def test_ignored_box_between_points_ignores_the_nearest() -> None:
    logits, boxes = outputs(reach=2.0)
    targets = assign(logits, boxes, POINTS, [truth(ignored=[(5.2, 5.2, 6.4, 6.4)])])
    assert targets.is_ignored.sum() == 1
    assert not targets.is_positive.any()


def test_ignored_points_have_no_gradient() -> None:
    logits, boxes = outputs()
    logits = logits.clone().requires_grad_()
    targets = assign(logits.detach(), boxes, POINTS, [truth((30, 30, 60, 60), ignored=[(0, 0, 20, 20)])])
    detection_loss(logits, boxes, targets)[0].backward()
    inside = targets.is_ignored[0]
    assert logits.grad is not None
    assert (logits.grad[0, inside] == 0).all()
    assert (logits.grad[0, ~inside] != 0).all()


def test_gradient_signs() -> None:
    logits, boxes = outputs()
    logits, boxes = logits.clone().requires_grad_(), boxes.clone().requires_grad_()
    targets = assign(logits.detach(), boxes.detach(), POINTS, [truth((10, 10, 50, 50))])
    loss, _, _ = detection_loss(logits, boxes, targets)
    loss.backward()
    assert logits.grad is not None
    assert boxes.grad is not None
    with torch.no_grad():
        better = detection_loss(logits - 0.5 * logits.grad, boxes - 20 * boxes.grad, targets)[0]
    assert float(better) < float(loss.detach())
    on = targets.is_positive
    assert (boxes.grad[~on] == 0).all()
    assert (boxes.grad[on].abs().sum(-1) > 0).all()


def test_perfect_predictions_have_low_loss() -> None:
    one = truth((8, 8, 56, 56))
    boxes = torch.tensor([8.0, 8, 56, 56]).expand(1, len(POINTS), 4).clone()
    logits = torch.full((1, len(POINTS), 1), -12.0)
    first = assign(logits, boxes, POINTS, [one])
    logits[first.is_positive] = 12.0
    targets = assign(logits, boxes, POINTS, [one])
    assert float(detection_loss(logits, boxes, targets)[0]) < 1e-3
