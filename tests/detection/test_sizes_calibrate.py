"""Test box sizes with their warning, and calibrated detection scores."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.config.settings import TrainSettings
from headstart.data.boxes.records import Boxes, Detections
from headstart.detection.box_sizes import choose_finest, choose_size, measure_sizes
from headstart.detection.calibration import fit_calibration, recalibrate
from headstart.detection.matching import match_all
from headstart.preprocessing.image_spec import ImageSpec
from headstart.types.codes import FindingKind
from headstart.utils.limits import MAX_IMAGE_SIZE

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


@pytest.mark.parametrize("resize_mode", ["squash", "pad"])
@pytest.mark.parametrize("seed", range(8))
def test_suggested_size_keeps_its_promise(seed: int, resize_mode: str) -> None:
    rng = np.random.default_rng(seed)
    shapes = rng.integers(200, 3000, (6, 2))
    boxes = []
    for height, width in shapes:
        corner = rng.uniform(0, 0.5, (9, 2)) * (width, height)
        boxes.append(Boxes.of(np.concatenate([corner, corner + rng.uniform(2, 30, (9, 2)) * (seed + 1)], 1), [0] * 9))
    spec = SPEC.with_(resize_mode=resize_mode)
    sizes = measure_sizes(boxes, shapes, ("a",), spec)
    if sizes.better_size is None:
        largest = measure_sizes(boxes, shapes, ("a",), spec.with_(size_hw=(MAX_IMAGE_SIZE, MAX_IMAGE_SIZE)))
        assert sizes.tiny_fraction <= 0.2 or largest.tiny_fraction > 0.2
        return
    assert TrainSettings(data=".", image_size=sizes.better_size).image_size == sizes.better_size
    for size, is_enough in ((sizes.better_size, True), (sizes.better_size - 32, False)):
        there = measure_sizes(boxes, shapes, ("a",), spec.with_(size_hw=(size, size)))
        assert (there.tiny_fraction <= 0.2) is is_enough
        assert (there.findings() == ()) is is_enough


def test_no_size_suffices_for_dots() -> None:
    sizes = measure_sizes([squares(2, 9)], np.array([[4000, 4000]]), ("a",), SPEC)
    assert sizes.better_size is None
    (finding,) = sizes.findings()
    assert finding.kind is FindingKind.SMALL_BOXES
    assert finding.evidence["better_size"] is None


def test_crowds_have_no_size() -> None:
    boxes = Boxes.of([[0, 0, 3, 3], [0, 0, 300, 300]], [0, 0], [True, False])
    sizes = measure_sizes([boxes], np.array([[640, 640]]), ("a",), SPEC)
    assert sizes.tiny_fraction == 0.0
    assert sum(sizes.totals().values()) == 1


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


def fitted(truth: list[Boxes], detections: list[Detections]) -> tuple[float, float]:
    return fit_calibration(match_all(truth, detections, 1))


def test_calibrated_scores_match_precision() -> None:
    rng = np.random.default_rng(0)
    truth, detections = [], []
    for _ in range(400):
        score = rng.uniform(0.05, 0.95)
        is_there = rng.random() < 1 / (1 + np.exp(-(2.0 * np.log(score / (1 - score)) + 1.0)))
        truth.append(Boxes.of([[0, 0, 10, 10]] if is_there else (), [0] if is_there else ()))
        detections.append(Detections.of([[0, 0, 10, 10]], [score], [0]))
    slope, offset = fitted(truth, detections)
    assert slope == pytest.approx(2.0, abs=0.35)
    assert offset == pytest.approx(1.0, abs=0.35)
    scores = np.array([recalibrate(f.scores, slope, offset)[0] for f in detections])
    right = np.array([len(t) for t in truth])
    assert abs(scores.mean() - right.mean()) < 0.02


def test_few_detections_are_not_calibrated() -> None:
    assert fit_calibration([]) == (1.0, 0.0)
    few = [Detections.of([[0, 0, 1, 1]], [0.5], [0])] * 5
    assert fitted([Boxes.of(())] * 5, few) == (1.0, 0.0)


def test_uninformative_scores_are_not_calibrated() -> None:
    rng = np.random.default_rng(1)
    truth = [Boxes.of([[0, 0, 10, 10]], [0]) if i % 2 else Boxes.of(()) for i in range(200)]
    detections = [Detections.of([[0, 0, 10, 10]], [0.9 - 0.8 * (i % 2) * rng.random()], [0]) for i in range(200)]
    assert fitted(truth, detections) == (1.0, 0.0)


def test_detections_of_crowds_do_not_count_in_the_calibration() -> None:
    rng = np.random.default_rng(2)
    truth, detections = [], []
    for _ in range(300):
        score = rng.uniform(0.05, 0.95)
        is_there = rng.random() < score
        truth.append(Boxes.of([[0, 0, 10, 10]] if is_there else (), [0] if is_there else ()))
        detections.append(Detections.of([[0, 0, 10, 10]], [score], [0]))
    expected = fitted(truth, detections)
    assert expected != (1.0, 0.0)
    for i, boxes in enumerate(truth):
        crowd = [[50, 50, 90, 90]]
        truth[i] = Boxes.of([*boxes.xyxy, *crowd], [*boxes.class_ids, 0], [*boxes.is_crowd, True])
        detections[i] = Detections.of([*detections[i].xyxy, [60, 60, 70, 70]], [*detections[i].scores, 0.99], [0, 0])
    assert fitted(truth, detections) == expected
