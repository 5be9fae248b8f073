"""Test the detector report as data: findings need evidence, and only measured values are shown."""

from __future__ import annotations

import copy
import html
import json
import re
from typing import Any

import numpy as np
import pytest
from detector_record import detector_record

from headstart.data.boxes.records import Boxes, Detections
from headstart.detection.metrics import detection_to_json, evaluate_detections
from headstart.messages.findings import finding_to_json
from headstart.reports.detection_report import comment_on_detector
from headstart.reports.figures import FIGURES, draw_figure, figure_png
from headstart.reports.html import render
from headstart.reports.record import DetectorRecord, headline_block
from headstart.reports.summary import summarize
from headstart.types.codes import USER_TEST_SPLIT, Finding, FindingKind, Severity

NAMES = ["cat", "<b>dog</b>"]


def facts(block: str = "test", **changes: Any) -> DetectorRecord:
    """Return ten images: all cats and half of the dogs are detected."""
    truth = [Boxes.of([[10, 10, 60, 60], [70, 10, 120, 60]], [0, 1]) for _ in range(10)]
    detections = [
        Detections.of([[11, 10, 60, 60], [70, 10, 120, 60], [10, 100, 60, 150]], [0.9, 0.8, 0.1], [0, 1, 0])
        if i % 2
        else Detections.of([[11, 10, 60, 60]], [0.9], [0])
        for i in range(10)
    ]
    evaluation = detection_to_json(evaluate_detections(truth, detections, NAMES, setup=USER_TEST_SPLIT, draws=100))
    values: dict[str, Any] = {
        "metrics": {"task": "detect", "class_names": NAMES, "num_samples": 30, "num_boxes": 60, block: evaluation},
        "ground_truth": truth,
        "detections": detections,
        "training": truth[:6],
        "split": "train" if block == "cv" else block,
        "bundle": {"thresholds": {"per_class": dict.fromkeys(NAMES, 0.5)}},
        "epochs": [
            {"epoch": "1", "train_loss": "2.5", "val_mAP50": "", "phase": "fold 1"},
            {"epoch": "1", "train_loss": "2.0", "val_mAP50": "", "phase": "final"},
            {"epoch": "2", "train_loss": "1.0", "val_mAP50": "0.5", "phase": "final"},
        ],
    }
    return detector_record(**{**values, **changes})


def test_report_is_json_with_counts() -> None:
    report = summarize(facts())
    json.dumps(report, allow_nan=False)
    assert report["data"]["counts"] == {"train": [6, 6], "test": [10, 10]}
    assert report["data"]["sides"]["counts"][0][report["data"]["sides"]["labels"].index("32-64")] == 16
    assert report["learning"]["epochs"]["train_loss"] == [2.0, 1.0]  # of the last training, not of a fold
    assert report["learning"]["epochs"]["val_mAP50"] == [None, 0.5]
    assert [c["name"] for c in report["curves"]] == NAMES
    e = report["errors"]
    assert (e["false_negatives"], e["false_positives"], e["misclassified"], e["num_images_with_errors"]) == (5, 0, 0, 5)
    assert all(i % 2 == 0 for i in e["shown"])
    assert set(report["samples"]) == {1, 3, 5, 7, 9}
    assert [len(p["predictions"]) for p in report["images"].values()] == [1] * 5 + [2] * 5  # those above the threshold


@pytest.mark.parametrize("block", ["test", "cv", "val"])
def test_headline_has_number_of_scored_images(block: str) -> None:
    report = summarize(facts(block))
    words = {"test": "test images", "cv": "cross-validation", "val": "validation images"}
    assert words[block] in report["headline"]["sentence"]
    assert report["headline"]["block"] == block
    assert headline_block({"test": {"is_leaky": True}, "cv": {"is_leaky": False}}) == ("cv", {"is_leaky": False})
    assert headline_block({"test": {"is_leaky": True}, "cv": None}) == ("test", {"is_leaky": True})
    assert headline_block({"cv": None, "test": None}) is None
    empty = summarize(facts(metrics={"task": "detect", "class_names": NAMES}))
    assert "No image was held out" in empty["headline"]["sentence"]
    assert render(empty, {})


def test_page_has_contents_and_csp() -> None:
    text = render(summarize(facts()), {})
    assert text.startswith("<!doctype html>")
    assert "default-src 'none'; img-src data:; style-src 'sha256-" in html.unescape(text)
    listed = re.findall(r'<li><a href="#(\w+)">', text)
    assert listed[0] == "comment"
    assert listed[-2:] == ["settings", "versions"]
    assert re.findall(r'<section id="(\w+)"', text) == listed


def findings(report: dict[str, Any], **changes: Any) -> list[str]:
    changed = copy.deepcopy(report)
    for path, value in changes.items():
        *parents, leaf = path.split("__")
        target: Any = changed
        for parent in parents:
            target = target[int(parent) if parent.isdigit() else parent]
        target[int(leaf) if leaf.isdigit() else leaf] = value
    return [f.kind.value for f in comment_on_detector(changed)]


def test_findings_need_evidence() -> None:
    report = summarize(facts())
    assert "weak_class" in findings(report)
    assert "weak_class" not in findings(report, per_class__1__AP50={"value": 0.99})
    wide = {"metric": "mAP50", "value": 0.7, "low": 0.5, "high": 0.8}
    assert "wide_interval" in findings(report, headline__score=wide)
    assert "wide_interval" not in findings(report, headline__score={**wide, "low": 0.68, "high": 0.72})
    assert "loose_boxes" not in findings(report)
    assert "loose_boxes" in findings(report, scores__0__mAP75={"value": 0.1})
    errors = {**report["errors"], "false_negatives": 1, "false_positives": 20, "misclassified": 0}
    assert "mostly_false_positives" in findings(report, errors=errors)
    finding = finding_to_json(Finding(FindingKind.CLASS_WITHOUT_IMAGES, Severity.WARNING, {"class": "x"}))
    assert "data_finding" in findings(report, data__findings=[finding])
    quiet = {**report["per_class"][1], "AP50": {"value": 0.99}}
    assert findings(report, per_class__1=quiet, headline__score=None) == ["nothing_found"]


def test_page_escapes_names_without_images() -> None:
    report = summarize(facts())
    page = render(report, {})
    assert "<b>dog</b>" not in page
    assert "&lt;b&gt;dog&lt;/b&gt;" in page
    assert "this image is missing" in page
    assert "Precision and recall" in page
    bare = render(report, None)
    assert "This report omits images" in bare


def test_figures_are_drawn_from_data_or_omitted() -> None:
    report = summarize(facts())
    drawn = {name for name in FIGURES["detection"] if draw_figure(name, report) is not None}
    assert drawn == {"boxes", "precision_recall", "curves", "per_class", "confusion"}
    assert figure_png(draw_figure("precision_recall", report)).startswith(b"\x89PNG")
    empty = summarize(
        facts(metrics={"task": "detect", "class_names": NAMES}, epochs=(), training=(), ground_truth=(), detections=())
    )
    assert not [name for name in FIGURES["detection"] if draw_figure(name, empty) is not None]


def test_many_classes_are_drawn_as_image() -> None:
    names = [f"c{k}" for k in range(40)]
    truth = [Boxes.of([[10, 10, 60, 60]], [k]) for k in range(40)]
    detections = [Detections.of(b.xyxy, [0.9], b.class_ids) for b in truth]
    block = detection_to_json(evaluate_detections(truth, detections, names, draws=0, setup=USER_TEST_SPLIT))
    report = summarize(
        facts(
            metrics={"task": "detect", "class_names": names, "test": block}, training=(), ground_truth=(), detections=()
        )
    )
    page = render(report, None)
    assert page.count('class="chart"') == 2 + 3 + 1, "epochs, precision and recall of 12 classes, confusion matrix"
    assert np.asarray(report["confusion"]["rates"]).shape == (41, 41)
    assert "28 more classes" in page
