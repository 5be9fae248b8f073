"""Test COCO metrics against the reference implementation, with intervals and thresholds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reference_coco import evaluate_coco, random_images, reference

from headstart.data.boxes.reader import read_boxes
from headstart.data.boxes.records import Boxes, Detections
from headstart.detection.matching import AREAS, match_all
from headstart.detection.metrics import (
    RECALLS,
    average_precision,
    detection_to_json,
    evaluate_detections,
    limit_findings,
)
from headstart.types.codes import USER_TEST_SPLIT, FindingKind

NAMES = ("a", "b", "c")


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("ties", [False, True])
def test_metrics_match_reference(seed: int, ties: bool) -> None:
    truth, detections = random_images(seed, ties=ties)
    ours = evaluate_detections(truth, detections, NAMES, draws=0, setup=USER_TEST_SPLIT)
    expected = reference(truth, detections, 3)
    stats = np.asarray(expected["stats"])
    result = [
        ours.map50_95.value,
        ours.map50.value,
        ours.map75.value,
        ours.by_size["small"],
        ours.by_size["medium"],
        ours.by_size["large"],
    ]
    np.testing.assert_allclose([-1.0 if v is None else v for v in result], stats[:6], atol=1e-9)
    assert ours.recall == pytest.approx(stats[8], abs=1e-9)
    table = np.asarray(expected["precision"])  # (T, R, K, A, M)
    for k, entry in enumerate(ours.per_class):
        assert entry.ap50.value == pytest.approx(table[0, :, k, 0, -1].mean(), abs=1e-9)
        assert entry.ap50_95.value == pytest.approx(table[:, :, k, 0, -1].mean(), abs=1e-9)
        assert entry.precision is not None
        np.testing.assert_allclose(entry.precision, table[0, :, k, 0, -1], atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_coco_file_with_crowds_and_ignore_flags_matches_reference(tmp_path: Path, seed: int) -> None:
    truth, detections = random_images(seed, crowds=True)
    ids, category_of = (70, 3, 25), {70: "a", 3: "b", 25: "c"}
    images, annotations, results = [], [], []
    rng = np.random.default_rng(seed)
    for i, (boxes, found) in enumerate(zip(truth, detections, strict=True)):
        name, image_id = f"{i:02d}.png", 900 - i
        Image.new("L", (640, 640), 5 * i).save(tmp_path / name)
        images.append({"id": image_id, "file_name": name, "width": 640, "height": 640})
        for xyxy, k, crowd in zip(boxes.xyxy.tolist(), boxes.class_ids.tolist(), boxes.is_crowd.tolist(), strict=True):
            x0, y0, x1, y1 = xyxy
            bbox = [x0, y0, x1 - x0, y1 - y0]
            flags = {"iscrowd": int(crowd), "ignore": int(rng.random() < 0.2)}
            base = {"id": len(annotations) + 1, "image_id": image_id, "category_id": ids[k], "bbox": bbox}
            annotations.append({**base, "area": bbox[2] * bbox[3] * rng.uniform(0.2, 1), **flags})  # of an outline
        for xyxy, k, score in zip(found.xyxy.tolist(), found.class_ids.tolist(), found.scores.tolist(), strict=True):
            x0, y0, x1, y1 = xyxy
            bbox = [x0, y0, x1 - x0, y1 - y0]
            results.append({"image_id": image_id, "category_id": ids[k], "bbox": bbox, "score": score})
    categories = [{"id": k, "name": category_of[k]} for k in ids]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "boxes.json").write_text(json.dumps(content), encoding="utf-8")
    samples = read_boxes(tmp_path)
    for entry in annotations:
        entry["iscrowd"] |= entry["ignore"]  # the only flag that the reference reads
    assert sum(int(b.is_crowd.sum()) for b in samples.boxes) == sum(a["iscrowd"] for a in annotations) > 0
    to_own = np.array([samples.class_names.index(category_of[k]) for k in ids])
    of_name = {f"{i:02d}.png": replace(d, class_ids=to_own[d.class_ids]) for i, d in enumerate(detections)}
    ordered = [of_name[name] for name in samples.names]
    ours = evaluate_detections(samples.boxes, ordered, samples.class_names, draws=0, setup=USER_TEST_SPLIT)
    stats = np.asarray(evaluate_coco(content, results)["stats"])
    means = [ours.map50_95.value, ours.map50.value, ours.map75.value, *ours.by_size.values()]
    assert [-1.0 if value is None else value for value in means] == pytest.approx(stats[:6], abs=1e-9)
    assert ours.recall == pytest.approx(stats[8], abs=1e-9)
    by_boxes = [Boxes.of(b.xyxy, b.class_ids, b.is_crowd) for b in samples.boxes]
    other = evaluate_detections(by_boxes, ordered, samples.class_names, draws=0, setup=USER_TEST_SPLIT)
    assert other.by_size != ours.by_size  # the area of the outline differs from that of the box


@pytest.mark.parametrize("max_detections", [100, 130, 1000])
def test_more_than_100_boxes_match_reference(max_detections: int) -> None:
    truth, detections = random_images(3, count=6, num_classes=1)
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 300, (140, 2))
    more = np.concatenate([corner, corner + rng.uniform(10, 90, (140, 2))], axis=1)
    truth[0] = Boxes.of(more, np.zeros(140))
    detections[0] = Detections.of(more + rng.normal(0, 3, more.shape), rng.random(140), np.zeros(140))
    ours = evaluate_detections(truth, detections, ("a",), draws=0, max_detections=max_detections, setup=USER_TEST_SPLIT)
    expected = reference(truth, detections, 1, max_detections)
    precision = np.asarray(expected["precision"])[:, :, 0, 0, -1]
    assert ours.map50.value == pytest.approx(precision[0].mean(), abs=1e-9)
    assert ours.map50_95.value == pytest.approx(precision.mean(), abs=1e-9)
    assert ours.recall == pytest.approx(np.asarray(expected["recall"])[:, 0, 0, -1].mean(), abs=1e-9)
    assert bool(ours.findings) is (max_detections < 140)


@pytest.mark.parametrize("per_image", [10, 200, 1000])
def test_perfect_detector_scores_one(per_image: int) -> None:
    column, row = np.meshgrid(np.arange(40), np.arange(per_image // 40 + 1))
    corner = 20.0 * np.stack([column, row], axis=-1).reshape(-1, 2)[:per_image]
    boxes = np.concatenate([corner, corner + 15.0], axis=1)
    truth = [Boxes.of(boxes, np.zeros(per_image))] * 2
    detections = [Detections.of(boxes, np.linspace(0.9, 0.5, per_image), np.zeros(per_image))] * 2
    ours = evaluate_detections(truth, detections, ("a",), draws=0, setup=USER_TEST_SPLIT)
    assert (ours.map50.value, ours.map50_95.value, ours.recall) == (1.0, 1.0, 1.0)
    assert ours.per_class[0].point is not None
    assert ours.per_class[0].point.recall == 1.0
    assert ours.confusion.counts.tolist() == [[2 * per_image, 0], [0, 0]]
    assert detection_to_json(ours)["max_detections"] >= 1000


def test_weights_equal_repeated_images() -> None:
    truth, detections = random_images(5, count=8, num_classes=1)
    counts = [2, 0, 1, 3, 1, 0, 1, 1]
    repeated = [i for i, n in enumerate(counts) for _ in range(n)]
    once = match_all(truth, detections, 1)[0]
    many = match_all([truth[i] for i in repeated], [detections[i] for i in repeated], 1)[0]
    weights = np.array(counts, dtype=np.float64)
    num_objects = float(once.num_objects[0] @ weights)
    assert num_objects == many.num_objects[0].sum()
    drawn = average_precision(once.is_hit[0], once.is_ignored[0], num_objects, weights[once.image])
    for t in range(10):
        expected = average_precision(many.is_hit[0, t], many.is_ignored[0, t], num_objects)
        assert drawn[t] == pytest.approx(expected, abs=1e-12)
        assert average_precision(
            once.is_hit[0, t], once.is_ignored[0, t], num_objects, weights[once.image]
        ) == pytest.approx(expected, abs=1e-12)


def test_intervals_contain_value_and_grow_with_groups() -> None:
    truth, detections = random_images(7, count=60)
    alone = evaluate_detections(truth, detections, NAMES, draws=200, setup=USER_TEST_SPLIT)
    grouped = evaluate_detections(
        truth, detections, NAMES, draws=200, groups=np.arange(60) // 10, setup=USER_TEST_SPLIT
    )
    assert alone.map50.low is not None
    assert alone.map50.high is not None
    assert alone.map50.value is not None
    assert 0 <= alone.map50.low < alone.map50.value < alone.map50.high <= 1
    again = evaluate_detections(truth, detections, NAMES, draws=200, setup=USER_TEST_SPLIT)
    assert again.map50 == alone.map50
    assert grouped.num_groups == 6
    assert grouped.map50 != alone.map50


def test_too_few_images_have_no_interval() -> None:
    truth, detections = random_images(1, count=4)
    evaluation = evaluate_detections(truth, detections, NAMES, setup=USER_TEST_SPLIT)
    assert evaluation.map50.low is None
    assert [f.kind for f in evaluation.findings] == [FindingKind.INTERVAL_NOT_MEASURABLE]


def test_perfect_and_missing_boxes() -> None:
    truth, _ = random_images(2, crowds=False)
    perfect = [Detections.of(b.xyxy, np.linspace(0.9, 0.5, len(b)), b.class_ids) for b in truth]
    evaluation = evaluate_detections(truth, perfect, NAMES, draws=50, setup=USER_TEST_SPLIT)
    assert evaluation.map50_95.value == pytest.approx(1.0)
    assert np.trace(evaluation.confusion.counts) == evaluation.num_boxes == evaluation.confusion.counts.sum()
    nothing = evaluate_detections(truth, [Detections.of([]) for _ in truth], NAMES, draws=50, setup=USER_TEST_SPLIT)
    assert nothing.map50.value == 0.0
    assert nothing.confusion.counts[:-1, -1].sum() == nothing.num_boxes
    assert nothing.per_class[0].point is None


def test_absent_class_has_no_metrics() -> None:
    truth = [Boxes.of([[0, 0, 50, 50]], [0])] * 6
    detections = [Detections.of([[0, 0, 50, 50], [60, 60, 90, 90]], [0.9, 0.8], [0, 1])] * 6
    evaluation = evaluate_detections(truth, detections, ("a", "b"), draws=20, setup=USER_TEST_SPLIT)
    assert evaluation.per_class[1].ap50.value is None
    assert evaluation.map50.value == pytest.approx(1.0)
    assert evaluation.by_size["large"] is None
    json.dumps(detection_to_json(evaluation), allow_nan=False)


def test_best_threshold_separates_right_from_wrong() -> None:
    truth = [Boxes.of([[0, 0, 50, 50]], [0])] * 10
    detections = [
        Detections.of([[0, 0, 50, 50], [100, 100, 150, 150]], [0.6 + 0.01 * i, 0.3], [0, 0]) for i in range(10)
    ]
    point = evaluate_detections(truth, detections, ("a",), draws=0, setup=USER_TEST_SPLIT).per_class[0].point
    assert point is not None
    assert point.threshold == pytest.approx(0.45)
    assert (point.precision, point.recall, point.f1) == (1.0, 1.0, 1.0)


def test_class_with_low_precision_has_no_threshold() -> None:
    truth = [Boxes.of([[0, 0, 50, 50]], [0])] * 10
    wrong = [[100 + i, 100, 150 + i, 150] for i in range(60)]
    detections = [
        Detections.of([*wrong, [0, 0, 50, 50]], [*np.linspace(0.5, 0.4, 60), 0.3 + 0.01 * i], [0] * 61)
        for i in range(10)
    ]
    evaluation = evaluate_detections(truth, detections, ("a",), draws=0, setup=USER_TEST_SPLIT)
    assert evaluation.per_class[0].point is None  # the best F1 would be at the end of all 610 boxes
    assert evaluation.confusion.thresholds == (0.5,)


def test_confusion_matrix_counts_each_box_once() -> None:
    truth = [Boxes.of([[0, 0, 50, 50], [100, 0, 150, 50], [200, 0, 260, 60]], [0, 1, 0], [False, False, True])]
    detections = [
        Detections.of(
            [[0, 0, 50, 50], [100, 0, 150, 52], [0, 2, 50, 50], [300, 300, 320, 320], [205, 5, 250, 50]],
            [0.9, 0.8, 0.7, 0.6, 0.5],
            [0, 0, 0, 1, 0],
        )
    ]
    limits = (0.1, 0.1)
    evaluation = evaluate_detections(truth, detections, ("a", "b"), draws=0, thresholds=limits, setup=USER_TEST_SPLIT)
    counts = evaluation.confusion.counts
    assert counts.tolist() == [[1, 0, 0], [1, 0, 0], [1, 1, 0]]  # detections on crowd boxes are ignored


def test_lengths_must_match() -> None:
    with pytest.raises(ValueError, match="images"):
        evaluate_detections([Boxes.of([])], [], ("a",), setup=USER_TEST_SPLIT)


def test_images_at_the_limit_of_scored_detections_are_counted() -> None:
    few, many = Detections.of([[0, 0, 9, 9]], [0.5], [0]), Detections.of([[0, 0, 9, 9]] * 3, [0.5] * 3, [0] * 3)
    (finding,) = limit_findings([few, many], ["a.png", "b.png"], 3)
    assert finding.kind is FindingKind.SCORED_DETECTIONS_LIMITED
    assert finding.evidence == {"count": 1, "limit": 3, "examples": ["b.png"], "total": 2}
    assert limit_findings([few, many], ["a.png", "b.png"], 4) == []


def test_sizes_and_recalls_match_reference() -> None:
    assert list(AREAS) == ["all", "small", "medium", "large"]
    assert len(RECALLS) == 101
