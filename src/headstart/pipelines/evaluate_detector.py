"""Evaluate a saved detector on annotated images; images it was trained on are scored separately.

Classes are matched by name, so the data may have other class ids or additional classes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.reader import read_boxes
from headstart.data.boxes.records import Boxes, DetectionSamples
from headstart.data.grouping import number_groups
from headstart.data.name_matching import match_names
from headstart.data.problem_findings import unreadable_findings
from headstart.data.reading_notes import similar_name_notes
from headstart.detection.decoding import scoring_limit
from headstart.detection.metrics import DetectionEvaluation, detection_to_json, evaluate_detections
from headstart.errors import DataError
from headstart.evaluation.score_summary import summarize_detections
from headstart.events import Event, EventStream, RunFinished, ScoreMeasured, Stage
from headstart.inference.detector_runtime import DetectorRuntime, ImageDetections
from headstart.messages.findings import finding_to_json
from headstart.messages.reading import reading_to_json
from headstart.pipelines.evaluate import is_training_image
from headstart.quality.reading_events import report_box_reading
from headstart.results import Story
from headstart.types.codes import (
    RESUBSTITUTION,
    USER_TEST_SPLIT,
    EvaluationSetup,
    Evidence,
    Finding,
    FindingKind,
    ReadingKind,
    ReadingNote,
    Severity,
)
from headstart.types.records import Problem

__all__ = ["DetectionResult", "evaluate_detector"]

_EXAMPLES = 5


@dataclass(frozen=True, repr=False)
class DetectionResult(Story):
    """Scores of a saved detector on annotated images.

    Attributes:
        evaluation: Scores on images it was not trained on; None if there are none.
        known: Scores on images it was trained on; None if there are none.
        new_classes: Number of boxes by name of each class that is not in the detector; they are not scored.
        missing_classes: Classes of the detector without boxes in the data.
        num_unreadable: Number of unreadable images.
        detections: Detections in each image.
        problems: Boxes and files that were fixed or dropped, with the reason.
        events: Events of the evaluation.
    """

    evaluation: DetectionEvaluation | None
    known: DetectionEvaluation | None
    new_classes: dict[str, int]
    missing_classes: tuple[str, ...]
    num_unreadable: int
    detections: tuple[ImageDetections, ...]
    problems: tuple[Problem, ...] = ()
    events: tuple[Event, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values, with evaluations as in `metrics.json`."""
        return {
            "task": "detect",
            "test": None if self.evaluation is None else detection_to_json(self.evaluation),
            "trained_on": None if self.known is None else detection_to_json(self.known),
            "new_classes": self.new_classes,
            "missing_classes": list(self.missing_classes),
            "num_unreadable": self.num_unreadable,
            "problems": [asdict(p) for p in self.problems],
            "findings": [finding_to_json(finding) for finding in self.findings],
            **reading_to_json(self.notes),
        }

    def _class_rows(self) -> list[dict[str, Any]]:
        if self.evaluation is None:
            return []
        return [
            {
                "class": c.name,
                "AP50": c.ap50.value,
                "AP50_95": c.ap50_95.value,
                "precision": None if c.point is None else c.point.precision,
                "recall": None if c.point is None else c.point.recall,
                "threshold": None if c.point is None else c.point.threshold,
                "boxes": c.num_boxes,
            }
            for c in self.evaluation.per_class
        ]


def evaluate_detector(
    runtime: DetectorRuntime,
    data: str,
    allow_external_paths: bool,
    events: EventStream,
    *,
    box_format: str | None = None,
) -> DetectionResult:
    """Evaluate a detector on annotated images; see `api.evaluate`.

    Raises:
        DataError: The data have no boxes of the detector's classes, or no readable image.
    """
    names = runtime.class_names
    samples = _match_classes(read_boxes(data, allow_external_paths=allow_external_paths, box_format=box_format), names)
    started, num_earlier = time.monotonic(), len(events.history)
    report_box_reading(samples, events)
    new = Counter(
        samples.class_names[k] for b in samples.boxes for k in b.class_ids if samples.class_names[k] not in names
    )
    if not set(samples.class_names) & set(names):
        raise DataError(
            "none of the classes in the data match the detector's classes.",
            hint=f"detector: {', '.join(names[:20])}; data: {', '.join(samples.class_names[:20])}",
        )
    ground_truth = _by_name(samples, names)
    paths = [str(p) for p in samples.paths]
    progress = events.progress(Stage.EVALUATE)
    detections = []
    max_detections = min(runtime.decoding.num_kept, scoring_limit(max(len(boxes) for boxes in ground_truth)))
    for done, image in enumerate(runtime.iter_predict(paths, min_score=0.0, max_detections=max_detections), start=1):
        detections.append(image)
        progress(done, len(paths))
    is_read = np.array([p.error is None for p in detections], dtype=bool)
    if not is_read.any():
        raise DataError(
            f"cannot read any of the images: `{detections[0].file}`: {detections[0].error}.",
            hint="headstart check lists every unreadable file",
        )
    is_trained_on = is_training_image(paths, runtime.bundle.trained_on())
    groups = number_groups(list(samples.group)) if any(samples.group) else None
    thresholds = [float(t) for t in runtime.thresholds]

    def score(which: NDArray[np.bool_], setup: EvaluationSetup) -> DetectionEvaluation | None:
        index = np.flatnonzero(which)
        if not len(index):
            return None
        return evaluate_detections(
            [ground_truth[i] for i in index],
            [detections[i].detections for i in index],
            names,
            groups=None if groups is None else groups[index],
            setup=setup,
            thresholds=thresholds,
            max_detections=runtime.decoding.num_kept,
        )

    lost = sum(p.kind == "unreadable-image" for p in samples.problems)
    evaluation, known = score(is_read & ~is_trained_on, USER_TEST_SPLIT), score(is_read & is_trained_on, RESUBSTITUTION)
    missing = tuple(n for n in names if n not in set(samples.class_names))
    if evaluation is not None:
        events.report(*evaluation.findings)
    failed = [Problem(p.file, p.problem or "format", p.error) for p in detections if p.error is not None]
    events.report(*unreadable_findings(failed), *_findings(known, int(is_read.sum()), new, missing))
    if evaluation is not None:
        events.emit(ScoreMeasured(summarize_detections(detection_to_json(evaluation))))
    events.emit(RunFinished(time.monotonic() - started))
    return DetectionResult(
        evaluation=evaluation,
        known=known,
        new_classes=dict(new),
        missing_classes=missing,
        num_unreadable=int((~is_read).sum()) + lost,
        detections=tuple(detections),
        problems=samples.problems,
        events=events.history[num_earlier:],
    )


def _findings(
    known: DetectionEvaluation | None, num_readable: int, new: Counter[str], missing: tuple[str, ...]
) -> list[Finding]:
    """Return findings about training images, and about classes that only the data or only the detector has."""
    findings = []
    if known is not None:
        severity = Severity.ERROR if known.num_samples == num_readable else Severity.WARNING
        evidence: Evidence = {"count": known.num_samples, "total": num_readable}
        findings.append(Finding(FindingKind.IMAGES_TRAINED_ON, severity, evidence))
    if new:
        evidence = {"num_classes": len(new), "classes": list(new)[:_EXAMPLES], "count": new.total(), "unit": "box"}
        findings.append(Finding(FindingKind.CLASSES_NOT_IN_MODEL, Severity.WARNING, evidence))
    if missing:
        evidence = {"num_classes": len(missing), "classes": list(missing[:_EXAMPLES]), "unit": "box"}
        findings.append(Finding(FindingKind.CLASSES_NOT_IN_DATA, Severity.INFO, evidence))
    return findings


def _match_classes(samples: DetectionSamples, names: Sequence[str]) -> DetectionSamples:
    """Rename classes that differ from the detector's only in case, blanks or Unicode form, and add a note."""
    matched = match_names(samples.class_names, names)
    changed = {label: name for label, name in matched.items() if label != name}
    if not changed:
        return samples
    class_names = tuple(dict.fromkeys(changed.get(n, n) for n in samples.class_names))
    new_id = np.array([class_names.index(changed.get(n, n)) for n in samples.class_names], dtype=np.int64)
    boxes = tuple(replace(b, class_ids=new_id[b.class_ids]) for b in samples.boxes)
    is_changed = np.array([n in changed for n in samples.class_names], dtype=bool)
    count = sum(int(is_changed[b.class_ids].sum()) for b in samples.boxes)
    kept = [n for n in samples.notes if n.kind is not ReadingKind.CLASSES_ALIKE]
    note = ReadingNote(ReadingKind.LABELS_MATCHED, count, tuple(changed)[:5], {"names": changed})
    return replace(samples, boxes=boxes, class_names=class_names, notes=(note, *similar_name_notes(class_names), *kept))


def _by_name(samples: DetectionSamples, names: Sequence[str]) -> list[Boxes]:
    """Return ground-truth boxes with the class ids of the detector, without boxes of other classes."""
    id_of = {name: i for i, name in enumerate(names)}
    new_id = np.array([id_of.get(name, -1) for name in samples.class_names], dtype=np.int64)
    kept = []
    for boxes in samples.boxes:
        ids = new_id[boxes.class_ids]
        kept.append(Boxes(boxes.xyxy[ids >= 0], ids[ids >= 0], boxes.is_crowd[ids >= 0]))
    return kept
