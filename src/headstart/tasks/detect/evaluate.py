"""Evaluate a saved detector on annotated images; training images are scored separately."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.read_options import read_boxes_with
from headstart.data.boxes.records import Boxes, DetectionSamples
from headstart.data.grouping import number_groups
from headstart.detection.decoding import scoring_limit
from headstart.detection.metrics import DetectionEvaluation, detection_to_json, evaluate_detections, limit_findings
from headstart.evaluation.score_summary import summarize_detections
from headstart.events import EventStream, RunFinished, ScoreMeasured, Stage
from headstart.inference.decoders import BoxDecoder, ImageDetections
from headstart.inference.runtime import Runtime
from headstart.quality.report_findings import report_reading
from headstart.results import DetectionResult
from headstart.tasks.evaluation import (
    check_classes,
    class_findings,
    is_training_image,
    renamed_classes,
    renaming_notes,
    report_unreadable,
    score_parts,
    trained_on_finding,
)
from headstart.tasks.options import EvaluateOptions
from headstart.types.codes import EvaluationSetup
from headstart.types.records import Problem

__all__ = ["evaluate_detector"]


def evaluate_detector(
    runtime: Runtime,
    data: str,
    options: EvaluateOptions,
    events: EventStream,
) -> DetectionResult:
    """Evaluate a detector on annotated images; see `Task.evaluate`.

    Raises:
        DataError: The data have no boxes of the detector's classes, or no readable image.
    """
    names = runtime.class_names
    samples = _match_classes(read_boxes_with(data, options), names)
    started, num_earlier = time.monotonic(), len(events.history)
    report_reading(samples, events)
    check_classes(samples.class_names, names)
    ground_truth, new_classes = _boxes_by_name(samples, names)
    paths = [str(p) for p in samples.paths]
    num_kept = runtime.bundle.decoding.num_kept
    most = min(num_kept, scoring_limit(max(len(boxes) for boxes in ground_truth)))
    detections = _detect(runtime, paths, most, events)
    unreadable = [Problem(p.file, p.problem or "format", p.error) for p in detections if p.error is not None]
    is_read = np.array([p.error is None for p in detections], dtype=bool)
    report_unreadable(unreadable, is_read, events)
    groups = number_groups(list(samples.group)) if any(samples.group) else None

    def score(index: NDArray[np.int64], setup: EvaluationSetup) -> DetectionEvaluation:
        scored = [detections[i].detections for i in index]
        evaluation = evaluate_detections(
            [ground_truth[i] for i in index],
            scored,
            names,
            groups=None if groups is None else groups[index],
            setup=setup,
            thresholds=[float(t) for t in runtime.bundle.class_thresholds],
            max_detections=num_kept,
        )
        limits = limit_findings(scored, [samples.names[i] for i in index], most)
        return replace(evaluation, findings=(*evaluation.findings, *limits))

    evaluation, known = score_parts(score, is_read, is_training_image(paths, runtime.bundle.trained_on()), events)
    missing = tuple(n for n in names if n not in set(samples.class_names))
    if known is not None:
        events.report(trained_on_finding(known.num_samples, is_read))
    events.report(*class_findings(tuple(new_classes), new_classes.total(), missing, "box"))
    if evaluation is not None:
        events.emit(ScoreMeasured(summarize_detections(detection_to_json(evaluation))))
    events.emit(RunFinished(time.monotonic() - started))
    return DetectionResult(
        task=runtime.bundle.task,
        evaluation=evaluation,
        known=known,
        new_classes=dict(new_classes),
        missing_classes=missing,
        num_unreadable=len(unreadable) + sum(p.kind == "unreadable-image" for p in samples.problems),
        detections=tuple(detections),
        problems=samples.problems,
        events=events.history[num_earlier:],
        inventory=samples.inventory,
    )


def _detect(runtime: Runtime, paths: Sequence[str], max_detections: int, events: EventStream) -> list[ImageDetections]:
    """Return all detections in the images, at most `max_detections` each."""
    progress = events.progress(Stage.EVALUATE)
    decoder = BoxDecoder(runtime.bundle, min_score=0.0, max_detections=max_detections)
    detections = []
    for done, image in enumerate(runtime.predict(paths, decoder), start=1):
        detections.append(image)
        progress(done, len(paths))
    return detections


def _match_classes(samples: DetectionSamples, names: Sequence[str]) -> DetectionSamples:
    """Rename classes that differ from the detector's only in case, spaces or Unicode form, and add a note."""
    renamed = renamed_classes(samples.class_names, names)
    if not renamed:
        return samples
    class_names = tuple(dict.fromkeys(renamed.get(n, n) for n in samples.class_names))
    new_id = np.array([class_names.index(renamed.get(n, n)) for n in samples.class_names], dtype=np.int64)
    boxes = tuple(replace(b, class_ids=new_id[b.class_ids]) for b in samples.boxes)
    count = sum(samples.class_names[k] in renamed for b in samples.boxes for k in b.class_ids)
    notes = renaming_notes(samples.notes, renamed, count, class_names)
    return replace(samples, boxes=boxes, class_names=class_names, notes=notes)


def _boxes_by_name(samples: DetectionSamples, names: Sequence[str]) -> tuple[list[Boxes], Counter[str]]:
    """Return the boxes of the detector's classes with its class ids, and the number of boxes of each other class."""
    id_of = {name: i for i, name in enumerate(names)}
    new_id = np.array([id_of.get(name, -1) for name in samples.class_names], dtype=np.int64)
    known = [replace(b, class_ids=new_id[b.class_ids]).take(new_id[b.class_ids] >= 0) for b in samples.boxes]
    others = Counter(samples.class_names[k] for b in samples.boxes for k in b.class_ids if new_id[k] < 0)
    return known, others
