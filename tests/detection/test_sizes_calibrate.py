"""Test box sizes with their warning, and calibrated detection scores."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.data.boxes.records import Boxes, Detections
from headstart.detection.box_sizes import choose_finest, choose_size, measure_sizes
from headstart.detection.calibration import fit_calibration, is_correct, recalibrate
from headstart.preprocessing.image_spec import ImageSpec

SPEC = ImageSpec(size_hw=(320, 320), resize_mode="squash")


def squares(side: float, count: int) -> Boxes:
    return Boxes.of([[0, 0, side, side]] * count, [0] * count)


def test_box_size_counts() -> None:
    boxes = [Boxes.of([[0, 0, 10, 100], [0, 0, 40, 40], [0, 0, 600, 600]], [0, 1, 1])]
    sizes = measure_sizes(boxes, np.array([[640, 640]]), ("thin", "wide"), SPEC)
    assert sizes.counts == ((1, 0, 0, 0, 0), (0, 0, 1, 0, 1))
    assert sizes.tiny_fraction == pytest.approx(1 / 3)
    assert sizes.totals() == {"0-8": 1, "8-16": 0, "16-32": 1, "32-96": 0, "96+": 1}


def test_tiny_boxes_suggest_larger_size() -> None:
    boxes = [squares(10, 5), squares(100, 5)]
    shapes = np.array([[640, 640]] * 2)
    sizes = measure_sizes(boxes, shapes, ("a",), SPEC)
    assert sizes.tiny_fraction == 0.5
    assert sizes.better_size is not None
    improved = measure_sizes(boxes, shapes, ("a",), SPEC.with_(size_hw=(sizes.better_size, sizes.better_size)))
    assert improved.tiny_fraction <= 0.2
    assert improved.better_size is None
    assert sizes.time_factor == pytest.approx((sizes.better_size / 320) ** 2)


def test_few_tiny_boxes_suggest_nothing() -> None:
    sizes = measure_sizes([squares(10, 2), squares(100, 8)], np.array([[640, 640]] * 2), ("a",), SPEC)
    assert sizes.tiny_fraction == 0.2
    assert sizes.better_size is None


def test_large_objects_need_small_input() -> None:
    shapes = np.array([[640, 640]])
    assert choose_size([squares(400, 9)], shapes, SPEC)[0] == 320
    assert choose_finest([squares(400, 9)], shapes, SPEC)[0] == 16
    assert choose_size([squares(30, 9)], shapes, SPEC)[0] == 416
    assert choose_finest([squares(30, 9)], shapes, SPEC)[0] == 8


def test_second_detection_of_object_is_wrong() -> None:
    truth = Boxes.of([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 1])
    predicted = Detections.of([[0, 0, 10, 9], [0, 0, 10, 10], [20, 20, 30, 30]], [0.9, 0.8, 0.7], [0, 0, 0])
    assert is_correct(truth, predicted).tolist() == [True, False, False]


def test_calibrated_scores_match_precision() -> None:
    rng = np.random.default_rng(0)
    truth, detections = [], []
    for _ in range(400):
        score = rng.uniform(0.05, 0.95)
        is_there = rng.random() < 1 / (1 + np.exp(-(2.0 * np.log(score / (1 - score)) + 1.0)))
        truth.append(Boxes.of([[0, 0, 10, 10]] if is_there else (), [0] if is_there else ()))
        detections.append(Detections.of([[0, 0, 10, 10]], [score], [0]))
    slope, offset = fit_calibration(truth, detections)
    assert slope == pytest.approx(2.0, abs=0.35)
    assert offset == pytest.approx(1.0, abs=0.35)
    scores = np.array([recalibrate(f, slope, offset).scores[0] for f in detections])
    right = np.array([len(t) for t in truth])
    assert abs(scores.mean() - right.mean()) < 0.02


def test_few_detections_are_not_calibrated() -> None:
    assert fit_calibration([], []) == (1.0, 0.0)
    few = [Detections.of([[0, 0, 1, 1]], [0.5], [0])] * 5
    assert fit_calibration([Boxes.of(())] * 5, few) == (1.0, 0.0)


def test_uninformative_scores_are_not_calibrated() -> None:
    rng = np.random.default_rng(1)
    truth = [Boxes.of([[0, 0, 10, 10]], [0]) if i % 2 else Boxes.of(()) for i in range(200)]
    detections = [Detections.of([[0, 0, 10, 10]], [0.9 - 0.8 * (i % 2) * rng.random()], [0]) for i in range(200)]
    assert fit_calibration(truth, detections) == (1.0, 0.0)
