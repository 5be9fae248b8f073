"""Test decoding of scores and boxes into detections, against torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms, nms

from headstart.detection.decoding import (
    DecodingSettings,
    decode,
    decode_with_limit,
    iou_matrix,
    scoring_limit,
    suppress,
)
from headstart.detection.image_frames import plain_frame
from headstart.preprocessing.image_spec import ImageSpec

SPEC = ImageSpec(size_hw=(64, 64), resize_mode="squash")


def some(seed: int, count: int = 200, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-5, 50, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(2, 30, (count, 2))], 1).astype(np.float32)
    return rng.normal(-1, 2, (count, classes)).astype(np.float32), boxes


@pytest.mark.parametrize("seed", range(4))
def test_decoding_matches_torchvision(seed: int) -> None:
    logits, boxes = some(seed)
    rules = DecodingSettings(min_score=0.05, nms_iou=0.5, num_candidates=10_000, num_kept=10_000)
    detections = decode(logits, boxes, rules, plain_frame((128, 192), SPEC), (128, 192))
    scores = torch.sigmoid(torch.from_numpy(logits.astype(np.float64)))
    place, kind = (scores > 0.05).nonzero(as_tuple=True)
    scaled = torch.from_numpy(boxes)[place] * torch.tensor([3.0, 2.0, 3.0, 2.0])
    scaled = torch.minimum(scaled.clamp(min=0), torch.tensor([192.0, 128.0, 192.0, 128.0])).double()
    is_real = (scaled[:, 2:] > scaled[:, :2]).all(1)
    scaled, values, kind = scaled[is_real], scores[place, kind][is_real], kind[is_real]
    keep = batched_nms(scaled, values, kind, 0.5)
    assert len(detections) == len(keep)
    np.testing.assert_allclose(detections.xyxy, scaled[keep].numpy(), atol=1e-3)
    np.testing.assert_allclose(detections.scores, values[keep].numpy(), atol=1e-6)
    assert detections.class_ids.tolist() == kind[keep].tolist()


def test_scores_are_sorted_and_in_range() -> None:
    detections = decode(*some(9), DecodingSettings(), plain_frame((64, 64), SPEC), (64, 64))
    assert (np.diff(detections.scores) <= 0).all()
    assert detections.scores.min() >= 0.01
    assert detections.scores.max() <= 1
    assert detections.xyxy.min() >= 0
    assert detections.xyxy.max() <= 64


def test_calibration_keeps_order() -> None:
    logits, boxes = some(2)
    frame = plain_frame((64, 64), SPEC)
    plain = decode(logits, boxes, DecodingSettings(min_score=1e-6), frame, (64, 64))
    moved = decode(logits, boxes, DecodingSettings(min_score=1e-6, slope=0.5, offset=-1.0), frame, (64, 64))
    np.testing.assert_array_equal(plain.xyxy, moved.xyxy)
    odds = np.log(plain.scores / (1 - plain.scores))
    np.testing.assert_allclose(moved.scores, 1 / (1 + np.exp(1.0 - 0.5 * odds)), atol=1e-5)


def test_limits() -> None:
    logits, boxes = some(3, count=500)
    detections = decode(logits, boxes, DecodingSettings(nms_iou=1.0, num_kept=7), plain_frame((64, 64), SPEC), (64, 64))
    assert len(detections) == 7
    none = decode(logits - 50, boxes, DecodingSettings(), plain_frame((64, 64), SPEC), (64, 64))
    assert len(none) == 0
    assert none.xyxy.shape == (0, 4)


@pytest.mark.parametrize("iou", [0.05, 0.3, 0.6, 0.95, 1.0])
def test_nms_of_many_boxes_matches_torchvision(iou: float) -> None:
    rng = np.random.default_rng(5)
    corner = np.repeat(rng.uniform(0, 500, (300, 2)), 6, axis=0) + rng.normal(0, 3, (1800, 2))
    side = np.repeat(np.exp(rng.uniform(0, 6, (300, 2))), 6, axis=0) * np.exp(rng.normal(0, 0.2, (1800, 2)))
    boxes = np.concatenate([corner, corner + side], axis=1)[rng.permutation(1800)]
    boxes[::7] = boxes[0]
    class_ids = rng.integers(0, 3, 1800)
    scores = torch.arange(1800, 0, -1, dtype=torch.float64)
    expected = batched_nms(torch.from_numpy(boxes), scores, torch.from_numpy(class_ids), iou).tolist()
    assert suppress(boxes, class_ids, iou, 10_000).tolist() == expected
    assert suppress(boxes, class_ids, iou, 50).tolist() == expected[:50]


def test_thousand_objects_are_kept() -> None:
    column, row = np.meshgrid(np.arange(40), np.arange(25))
    corner = 20.0 * np.stack([column, row], axis=-1).reshape(-1, 2)
    rng = np.random.default_rng(0)
    near = np.repeat(corner, 12, axis=0) + rng.normal(0, 0.5, (12_000, 2))  # 12 candidates of each object
    boxes = np.concatenate([near, near + 15.0], axis=1).astype(np.float32)
    logits = rng.normal(2.0, 1.0, (12_000, 1)).astype(np.float32)
    spec = ImageSpec(size_hw=(500, 800), resize_mode="squash")
    detections, is_limited = decode_with_limit(
        logits, boxes, DecodingSettings(nms_iou=0.4), plain_frame((500, 800), spec), (500, 800)
    )
    assert not is_limited
    overlap = iou_matrix(np.concatenate([corner, corner + 15.0], axis=1), detections.xyxy)
    assert (overlap.max(axis=1) > 0.6).all()
    few, is_limited = decode_with_limit(
        logits, boxes, DecodingSettings(nms_iou=0.4).limited(999), plain_frame((500, 800), spec), (500, 800)
    )
    assert len(few) == 999
    assert is_limited
    assert scoring_limit(1000) >= 1000
    assert DecodingSettings().limited(300).num_candidates == 1000


def test_nms_is_per_class() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [1, 1, 10, 10]], dtype=np.float32)
    assert suppress(boxes, np.array([0, 1, 0]), 0.5, 10).tolist() == [0, 1]
    assert suppress(boxes[:0], np.zeros(0, dtype=np.int64), 0.5, 10).tolist() == []


def test_class_agnostic_nms_compares_classes() -> None:
    logits, boxes = some(4)
    frame = plain_frame((64, 64), SPEC)
    rules = DecodingSettings(min_score=0.05, nms_iou=0.5, is_class_agnostic=True)
    agnostic = decode(logits, boxes, rules, frame, (64, 64))
    overlap = iou_matrix(agnostic.xyxy, agnostic.xyxy) - np.eye(len(agnostic))
    assert overlap.max() <= 0.5 + 1e-6
    assert len(agnostic) < len(decode(logits, boxes, DecodingSettings(min_score=0.05, nms_iou=0.5), frame, (64, 64)))
    scores = torch.sigmoid(torch.from_numpy(logits.astype(np.float64)))
    place, kind = (scores > 0.05).nonzero(as_tuple=True)
    clipped = torch.from_numpy(boxes)[place].clamp(0, 64).double()
    is_real = (clipped[:, 2:] > clipped[:, :2]).all(1)
    keep = nms(clipped[is_real], scores[place, kind][is_real], 0.5)
    np.testing.assert_allclose(agnostic.xyxy, clipped[is_real][keep].numpy(), atol=1e-3)


def test_iou_matrix() -> None:
    a = np.array([[0, 0, 10, 10]])
    assert iou_matrix(a, np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]]))[0].tolist() == pytest.approx(
        [1.0, 1 / 3, 0.0]
    )
    assert iou_matrix(a, np.zeros((0, 4))).shape == (1, 0)
