"""Test that a detector's report and metrics.json agree, also at the edges of thresholds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headstart.config.detect import DetectSettings
from headstart.data.boxes.records import Boxes, Detections, DetectionSamples
from headstart.detection.metrics import DetectionEvaluation, detection_to_json, evaluate_detections
from headstart.detection.operating_points import ERRORS
from headstart.reports.record import DetectorRecord, read_record
from headstart.reports.summary import summarize
from headstart.runs.files import write_csv, write_json
from headstart.tasks.detect.run_files import write_detections, write_predictions
from headstart.tasks.detect.scoring import calibrate, score_held_out
from headstart.tasks.detect.state import HeldOut
from headstart.types.codes import USER_TEST_SPLIT, FindingKind, NoteKind

NAMES = ("cat", "dog")
NEAR = np.float32(0.5), np.nextafter(np.float32(0.5), np.float32(0))  # equal when rounded, separated by a threshold


def samples_of(root: Path, truth: list[Boxes]) -> DetectionSamples:
    count = len(truth)
    return DetectionSamples(
        names=tuple(f"{i}.png" for i in range(count)),
        paths=tuple(root / f"{i}.png" for i in range(count)),
        boxes=tuple(truth),
        sizes_hw=np.full((count, 2), 200, dtype=np.int64),
        class_names=NAMES,
        split=("",) * count,
        group=(None,) * count,
        layout="drawn",
        notes=(),
        root=root,
    )


def finished(root: Path, truth: list[Boxes], detections: list[Detections], is_clean: list[bool]) -> dict[str, Any]:
    """Return the report of a run folder written by the training code."""
    samples = samples_of(root, truth)
    data: Any = SimpleNamespace(samples=samples, split=SimpleNamespace(groups_of=lambda _: None))
    settings: Any = SimpleNamespace(seed=0, detect=DetectSettings())
    blocks = {"test": HeldOut(np.arange(len(truth)), detections, np.array(is_clean), USER_TEST_SPLIT)}
    calibration = calibrate(data, blocks, DetectSettings().max_detections)
    scored = score_held_out(data, blocks, calibration, settings)
    write_predictions(root, samples, scored)
    write_detections(root, samples, scored)
    metrics = {
        "task": "detect",
        "num_boxes": 9,
        "class_names": NAMES,
        "test": detection_to_json(scored["test"].evaluation),
    }
    write_json(root / "metrics.json", metrics)
    write_json(root / "dataset_report.json", {"leaking": [f"{i}.png" for i, clean in enumerate(is_clean) if not clean]})
    (root / "config.resolved.yaml").write_text("{}")
    (root / "bundle").mkdir()
    write_json(root / "bundle" / "bundle.json", {"thresholds": calibration.thresholds})
    write_csv(root / "split.csv", ("image", "split"), [(name, "test") for name in samples.names])
    facts = read(root, samples)
    return {"report": summarize(facts), "facts": facts}


def read(root: Path, samples: DetectionSamples) -> DetectorRecord:
    """Read a run whose data are given; the problem of its missing data path is left out."""
    record = read_record(root)
    assert isinstance(record, DetectorRecord)
    problems = tuple(note for note in record.problems if note.kind is not NoteKind.DATA_MOVED)
    return replace(record, samples=samples, problems=problems)


def near_edges() -> tuple[list[Boxes], list[Detections]]:
    """Return correct and wrong boxes whose IoU and scores round to the same values."""
    truth, detections = [], []
    for i in range(12):
        truth.append(Boxes.of([[0, 0, 100, 100]], [i % 2]))
        height = 50.04 if i % 3 else 49.96  # an overlap of 0.5004 or 0.4996
        wrong = [120, 120, 180, 180]
        detections.append(Detections.of([[0, 0, 100, height], wrong], [NEAR[0], NEAR[1]], [i % 2, i % 2]))
    return truth, detections


def test_report_and_metrics_count_same_errors(tmp_path: Path) -> None:
    truth, detections = near_edges()
    made = finished(tmp_path, truth, detections, [True] * 10 + [False] * 2)
    report, metrics = made["report"], made["facts"].metrics["test"]
    errors = metrics["confusion"]["errors"]
    assert errors["num_images"] == 10
    assert 0 < errors["false_negatives"] < 10
    assert {k: report["errors"][k] for k in errors} == errors
    drawn = {kind: sum(p[kind] for p in report["images"].values()) for kind in ERRORS}
    assert drawn == {kind: errors[kind] for kind in ERRORS}
    assert report["problems"] == []
    counts = np.array(metrics["confusion"]["counts"])
    assert errors["false_negatives"] == counts[:-1, -1].sum()
    assert errors["false_positives"] == counts[-1, :-1].sum()


def test_bundle_threshold_matches_metrics(tmp_path: Path) -> None:
    truth, detections = near_edges()
    made = finished(tmp_path, truth, detections, [True] * 12)
    bundle = made["facts"].bundle["thresholds"]["per_class"]
    block = made["facts"].metrics["test"]
    assert block["confusion"]["thresholds"] == [bundle[name] for name in NAMES]
    for row in made["report"]["per_class"]:
        assert row["used_threshold"] == row["threshold"]["threshold"] == bundle[row["name"]]
        assert np.float32(row["used_threshold"]) == row["used_threshold"]
        kept = [d.scores[d.class_ids == NAMES.index(row["name"])] >= row["used_threshold"] for d in detections]
        assert sum(int(k.sum()) for k in kept) == 6  # the first of each pair, not its neighbor


def test_totals_without_stored_detections(tmp_path: Path) -> None:
    truth, detections = near_edges()
    before = finished(tmp_path, truth, detections, [True] * 12)["report"]
    for damage in (b"no archive", None):
        if damage is None:
            (tmp_path / "scores.npz").unlink()
        else:
            (tmp_path / "scores.npz").write_bytes(damage)
        report = summarize(read(tmp_path, samples_of(tmp_path, truth)))
        assert {**report["errors"], "shown": []} == {**before["errors"], "shown": []}
        assert report["images"] == {}
        assert len(report["problems"]) == 1


def test_changed_labels_are_a_problem(tmp_path: Path) -> None:
    truth, detections = near_edges()
    before = finished(tmp_path, truth, detections, [True] * 12)["report"]
    changed = samples_of(tmp_path, [Boxes.of([]) for _ in truth])
    report = summarize(read(tmp_path, changed))
    assert {**report["errors"], "shown": []} == {**before["errors"], "shown": []}
    assert len(report["problems"]) == 1


@pytest.mark.parametrize(("threshold", "precision", "recall"), [(0.0, 0.5, 1.0), (0.5, 1.0, 1.0), (0.9, None, 0.0)])
def test_precision_and_recall_at_given_thresholds(threshold: float, precision: float | None, recall: float) -> None:
    truth = [Boxes.of([[0, 0, 50, 50]], [0])] * 6
    detections = [Detections.of([[0, 0, 50, 50], [60, 60, 90, 90]], [0.8, 0.3], [0, 0])] * 6
    evaluation = evaluate_detections(
        truth, detections, NAMES, draws=0, thresholds=(threshold, threshold), setup=USER_TEST_SPLIT
    )
    point = evaluation.per_class[0].point
    assert point is not None
    assert (point.threshold, point.precision, point.recall) == (threshold, precision, recall)
    assert evaluation.per_class[1].point is None
    assert detection_to_json(evaluation)["per_class"][0]["threshold"]["precision"] == precision


def perfect(tmp_path: Path, per_image: int, max_detections: int) -> tuple[float, DetectionEvaluation]:
    """Return the threshold and the score of a detector that finds every object, with scores from 0.9 to 0.02."""
    column, row = np.meshgrid(np.arange(40), np.arange(per_image // 40 + 1))
    corner = 20.0 * np.stack([column, row], axis=-1).reshape(-1, 2)[:per_image]
    boxes = np.concatenate([corner, corner + 15.0], axis=1)
    truth = [Boxes.of(boxes, np.zeros(per_image))] * 2
    detections = [Detections.of(boxes, np.linspace(0.9, 0.02, per_image), np.zeros(per_image))] * 2
    data: Any = SimpleNamespace(samples=samples_of(tmp_path, truth), split=SimpleNamespace(groups_of=lambda _: None))
    settings: Any = SimpleNamespace(seed=0, detect=DetectSettings(max_detections=max_detections))
    blocks = {"test": HeldOut(np.arange(2), detections, np.array([True, True]), USER_TEST_SPLIT)}
    calibration = calibrate(data, blocks, max_detections)
    scored = score_held_out(data, blocks, calibration, settings)
    return calibration.thresholds["per_class"]["cat"], scored["test"].evaluation


@pytest.mark.parametrize("per_image", [10, 200, 1000])
def test_thresholds_keep_every_object_of_a_perfect_detector(tmp_path: Path, per_image: int) -> None:
    threshold, evaluation = perfect(tmp_path, per_image, DetectSettings().max_detections)
    assert 0 < threshold <= 0.02
    assert (evaluation.map50.value, evaluation.map50_95.value) == (1.0, 1.0)
    assert evaluation.confusion.counts[0].tolist() == [2 * per_image, 0, 0]
    assert [f.kind for f in evaluation.findings] == [FindingKind.INTERVAL_NOT_MEASURABLE]  # of two images


def test_limit_of_the_settings_holds_for_thresholds_and_is_reported(tmp_path: Path) -> None:
    threshold, evaluation = perfect(tmp_path, 200, 50)
    assert 0.6 < threshold < 0.7  # the score of the 50th of 200 boxes
    assert FindingKind.CROWDED_IMAGES in {f.kind for f in evaluation.findings}
