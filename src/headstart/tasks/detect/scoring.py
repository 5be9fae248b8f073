"""Calibrate a trained detector and score it on held-out images, from files to boxes with the saved bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.config.settings import TrainSettings
from headstart.data.boxes.records import Detections
from headstart.detection.calibration import fit_calibration, recalibrate
from headstart.detection.matching import match_all
from headstart.detection.metrics import DetectionEvaluation, detection_to_json, evaluate_detections, limit_findings
from headstart.detection.operating_points import best_points
from headstart.evaluation.score_summary import summarize_detections
from headstart.inference.decoders import BoxDecoder
from headstart.inference.runtime import Runtime
from headstart.reports.record import BLOCKS
from headstart.tasks.detect.state import Calibration, DetectorData, HeldOut, ScoredBlock, TrainedDetector
from headstart.types.codes import USER_TEST_SPLIT, USER_VALIDATION_SPLIT, EvaluationSetup

__all__ = ["calibrate", "detect_held_out", "headline", "score_held_out", "score_summary"]


def detect_held_out(bundle: Path, data: DetectorData, trained: TrainedDetector, num_threads: int) -> dict[str, HeldOut]:
    """Detect objects in the images of the existing blocks among `cv`, `val` and `test`."""
    split = data.split
    blocks = {} if trained.oof is None else {"cv": trained.oof}
    runtime = Runtime(bundle, num_threads)
    decoder = BoxDecoder(runtime.bundle, min_score=0.0)
    for name in ("val", "test"):
        index = split.where(name)
        if len(index):
            answers = runtime.predict([str(data.samples.paths[i]) for i in index], decoder)
            is_clean = np.array([int(i) not in data.leaking for i in index], dtype=bool)
            is_leaky = name in data.leaky_splits
            setup = (split.setup or USER_TEST_SPLIT) if name == "test" else USER_VALIDATION_SPLIT
            setup = replace(setup, includes_leaks=is_leaky)
            detections, num_kept = [a.detections for a in answers], runtime.bundle.decoding.num_kept
            blocks[name] = HeldOut(index, detections, is_clean, setup, is_leaky, num_kept)
    return blocks


def calibrate(data: DetectorData, blocks: Mapping[str, HeldOut], max_detections: int) -> Calibration:
    """Fit slope, offset and thresholds on held-out images; the test split is used last.

    Args:
        data: The dataset.
        blocks: Detections in held-out images.
        max_detections: Maximum number of detections per class and image.
    """
    class_names = data.samples.class_names
    for name in _leaky_last(blocks, ("val", "cv", "test")):
        block = blocks[name]
        if not block.is_clean.any():
            continue
        ground_truth = [data.samples.boxes[i] for i in block.samples[block.is_clean]]
        detections = [f for f, clean in zip(block.detections, block.is_clean, strict=True) if clean]
        matches = match_all(ground_truth, detections, len(class_names), max_detections)
        slope, offset = fit_calibration(matches)
        points = best_points([replace(m, scores=recalibrate(m.scores, slope, offset).astype(float)) for m in matches])
        limits = [0.5 if point is None else point.threshold for point in points]
        per_class = dict(zip(class_names, limits, strict=True))
        return Calibration(slope, offset, {"per_class": per_class, "chosen_on": name, **block.setup.to_json()})
    return Calibration(1.0, 0.0, {"per_class": dict.fromkeys(class_names, 0.5), "chosen_on": None})


def score_held_out(
    data: DetectorData, blocks: Mapping[str, HeldOut], calibration: Calibration, settings: TrainSettings
) -> dict[str, ScoredBlock]:
    """Evaluate every block with calibrated scores and the bundle's thresholds."""
    samples, names = data.samples, data.samples.class_names

    def evaluate(
        block: HeldOut, detections: list[Detections], which: NDArray[np.bool_], setup: EvaluationSetup
    ) -> DetectionEvaluation:
        index = block.samples[which]
        scored = [f for f, is_in in zip(detections, which, strict=True) if is_in]
        evaluation = evaluate_detections(
            [samples.boxes[i] for i in index],
            scored,
            names,
            groups=data.split.groups_of(index),
            seed=settings.seed,
            setup=setup,
            thresholds=[calibration.thresholds["per_class"][name] for name in names],
            max_detections=settings.detect.max_detections,
        )
        limits = limit_findings(scored, [samples.names[i] for i in index], block.num_kept)
        return replace(evaluation, findings=(*evaluation.findings, *limits))

    scored = {}
    for name, block in blocks.items():
        slope, offset = calibration.slope, calibration.offset
        detections = [replace(d, scores=recalibrate(d.scores, slope, offset)) for d in block.detections]
        every = np.ones(len(detections), dtype=bool)
        with_leaks = replace(block.setup, includes_leaks=True)
        including_leaks = None if block.is_clean.all() else evaluate(block, detections, every, with_leaks)
        evaluation = evaluate(block, detections, block.is_clean, block.setup)
        scored[name] = ScoredBlock(block.samples, detections, evaluation, including_leaks, block.is_leaky)
    return scored


def headline(scored: Mapping[str, ScoredBlock]) -> dict[str, Any] | None:
    """Return the headline score: test, cross-validated, else validation images; leaky splits last."""
    for name in _leaky_last(scored, tuple(BLOCKS)):
        e = scored[name].evaluation
        return {
            "metric": "mAP50",
            "value": e.map50.value,
            "low": e.map50.low,
            "high": e.map50.high,
            **e.setup.to_json(),
            "num_samples": e.num_samples,
            "block": name,
            "is_leaky": scored[name].is_leaky,
        }
    return None


def score_summary(scored: Mapping[str, ScoredBlock]) -> dict[str, Any]:
    """Return the headline score for the screen; its value is None without held-out images."""
    head = headline(scored)
    if head is None:
        return {"metric": "map50", "value": None, "low": None, "high": None}
    one = scored[head["block"]]
    score = {**summarize_detections(detection_to_json(one.evaluation)), "is_leaky": one.is_leaky, "leaky": None}
    if one.including_leaks is not None:
        given = one.including_leaks.map50
        num_leaks = one.including_leaks.num_samples - one.evaluation.num_samples
        score["leaky"] = {"value": given.value, "low": given.low, "high": given.high, "num_leaks": num_leaks}
    return score


def _leaky_last(blocks: Mapping[str, HeldOut] | Mapping[str, ScoredBlock], order: Sequence[str]) -> list[str]:
    """Return the names of existing blocks in the given order, with fully leaking blocks last."""
    return sorted((name for name in order if name in blocks), key=lambda name: blocks[name].is_leaky)
