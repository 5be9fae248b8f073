"""Write the files of a detector run: split, predictions, scores, dataset report, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from headstart.advice.detector_budget import PlannedDetector
from headstart.data.boxes.records import Detections, DetectionSamples
from headstart.data.boxes.split import as_samples
from headstart.data.split import write_split
from headstart.detection.metrics import detection_to_json
from headstart.messages.findings import finding_to_json
from headstart.messages.reading import reading_to_json
from headstart.reports.record import DetectorRecord, read_bundle_info
from headstart.runs.context import RunContext
from headstart.runs.files import write_csv, write_json
from headstart.tasks.detect import NAME
from headstart.tasks.detect.scoring import headline
from headstart.tasks.detect.state import Calibration, DetectorData, ScoredBlock, TrainedDetector
from headstart.utils.csv_cells import escape_formula
from headstart.utils.system import atomic_file

__all__ = ["write_detections", "write_detector_files", "write_predictions"]


def write_detector_files(
    run: RunContext,
    data: DetectorData,
    planned: PlannedDetector,
    trained: TrainedDetector,
    scored: Mapping[str, ScoredBlock],
    calibration: Calibration,
    parity: dict[str, Any],
) -> DetectorRecord:
    """Write everything but the bundle and the report, for which it returns what was written."""
    samples, folder = data.samples, run.folder
    write_split(folder / "split.csv", as_samples(samples), data.split)
    write_predictions(folder, samples, scored)
    write_detections(folder, samples, scored)
    settings, environment = run.write_settings(), run.write_environment()
    metrics = _metrics(run, data, planned, trained, scored, calibration, parity)
    bundle, tensors = read_bundle_info(folder)
    return DetectorRecord(
        run=folder.resolve().name,
        metrics=write_json(folder / "metrics.json", metrics),
        settings=settings,
        environment=environment,
        dataset_report=write_json(folder / "dataset_report.json", _dataset_report(data)),
        bundle=bundle,
        tensors=tensors,
        epochs=trained.epochs,
        splits=dict(zip(samples.names, data.split.assignment.tolist(), strict=True)),
        detections={
            (_part(block), samples.names[i]): found
            for block, one in scored.items()
            for i, found in zip(one.samples, one.detections, strict=True)
        },
        samples=samples,
    )


def _metrics(
    run: RunContext,
    data: DetectorData,
    planned: PlannedDetector,
    trained: TrainedDetector,
    scored: Mapping[str, ScoredBlock],
    calibration: Calibration,
    parity: dict[str, Any],
) -> dict[str, Any]:
    """Return `metrics.json`."""
    samples = data.samples
    blocks: dict[str, Any] = dict.fromkeys(("cv", "val", "test"))
    for name, one in scored.items():
        blocks[name] = detection_to_json(one.evaluation) | {"is_leaky": one.is_leaky}
    for name in ("val", "test"):
        including_leaks = scored[name].including_leaks if name in scored else None
        if including_leaks is not None:
            blocks[f"{name}_including_leaks"] = detection_to_json(including_leaks)
    groups = data.split.groups
    return {
        "schema": 1,
        "task": NAME,
        "strategy": planned.plan.strategy,
        "backbone": run.resolved.settings.backbone,
        "num_samples": len(samples),
        "num_boxes": samples.num_boxes,
        "num_groups": None if groups is None else len(np.unique(groups)),
        "num_classes": len(samples.class_names),
        "class_names": list(samples.class_names),
        "duration_s": {name: round(value, 3) for name, value in run.duration_s.items()},
        "headline": headline(scored),
        **blocks,
        "sizes": data.sizes.to_json(),
        "calibration": {"slope": calibration.slope, "offset": calibration.offset},
        "parity": parity,
        "finetune": {
            "plan": planned.plan.to_json(),
            "epochs_done": trained.num_epochs,
            "num_steps": trained.num_steps,
            "num_images": len(planned.train),
            "is_stopped_early": trained.is_stopped,
        },
        "budget": None if planned.pace is None else planned.pace.to_json(),
    }


def _dataset_report(data: DetectorData) -> dict[str, Any]:
    report = data.report
    return {
        "num_images": report.num_images,
        "num_boxes": report.num_boxes,
        "num_empty": report.num_empty,
        "layout": report.layout,
        "problems": [asdict(p) for p in report.problems],
        "unreadable": [asdict(p) for p in report.images.unreadable],
        "findings": [finding_to_json(f) for f in (*data.findings, *report.findings)],
        **reading_to_json(report.notes, report.inventory),
        "leaking": [data.samples.names[i] for i in sorted(data.leaking)],
    }


def write_predictions(folder: Path, samples: DetectionSamples, scored: Mapping[str, ScoredBlock]) -> None:
    """Write `predictions.csv`: one row per detection in held-out images.

    Columns: `file, split, label, score, xmin, ymin, xmax, ymax, protocol`; scores are calibrated. Scores and edges
    are rounded; `scores.npz` holds the full values.
    """
    rows = []
    for block, one in scored.items():
        protocol = one.evaluation.setup.protocol.value
        for sample, detected in zip(one.samples, one.detections, strict=True):
            for box, score, kind in zip(detected.xyxy, detected.scores, detected.class_ids, strict=True):
                edges = [f"{v:.1f}" for v in box]
                cells = (samples.names[sample], _part(block), samples.class_names[kind], f"{score:.4f}", *edges)
                rows.append([escape_formula(str(cell)) for cell in (*cells, protocol)])
    columns = ("file", "split", "label", "score", "xmin", "ymin", "xmax", "ymax", "protocol")
    write_csv(folder / "predictions.csv", columns, rows)


def write_detections(folder: Path, samples: DetectionSamples, scored: Mapping[str, ScoredBlock]) -> None:
    """Write `scores.npz`: the detections behind `metrics.json`; no pickle.

    Keys: `paths` (N,) str, `split` (N,) str and `num_found` (N,) int64 of each scored image; then, image by
    image, `xyxy` (M, 4) float32 pixels, `scores` (M,) float32 calibrated and `class_ids` (M,) int64.
    """
    paths = [samples.names[i] for one in scored.values() for i in one.samples]
    every = [d for one in scored.values() for d in one.detections]
    empty = Detections.of([])
    with atomic_file(folder / "scores.npz") as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            paths=np.array([p.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for p in paths], dtype=str),
            split=np.array([_part(block) for block, one in scored.items() for _ in one.samples], dtype=str),
            num_found=np.array([len(d) for d in every], dtype=np.int64),
            xyxy=np.concatenate([empty.xyxy, *(f.xyxy for f in every)]),
            scores=np.concatenate([empty.scores, *(f.scores for f in every)]),
            class_ids=np.concatenate([empty.class_ids, *(f.class_ids for f in every)]),
        )


def _part(block: str) -> str:
    """Return the split that contains the images of a block."""
    return "train" if block == "cv" else block
