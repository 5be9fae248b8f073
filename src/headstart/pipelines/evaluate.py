"""Evaluate a saved model on labeled images or a detector on annotated ones; training images are scored separately.

Classes are matched by name, so the data may have other class ids or additional classes.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.reader import read_boxes
from headstart.data.boxes.records import Boxes, DetectionSamples
from headstart.data.grouping import number_groups
from headstart.data.name_matching import match_names
from headstart.data.options import ReadOptions
from headstart.data.problem_findings import unreadable_findings
from headstart.data.reading_notes import merge_notes, similar_name_notes
from headstart.data.sources import read
from headstart.detection.decoding import scoring_limit
from headstart.detection.metrics import DetectionEvaluation, detection_to_json, evaluate_detections
from headstart.errors import DataError, HeadstartError
from headstart.evaluation.binary import check_positive
from headstart.evaluation.intervals import effective_sample_size, estimate_proportion
from headstart.evaluation.metrics import evaluate
from headstart.evaluation.score_summary import summarize_detections, summarize_evaluation
from headstart.evaluation.softmax import softmax
from headstart.events import EventStream, RunFinished, ScoreMeasured, Stage
from headstart.inference.decoders import BoxDecoder, ClassDecoder
from headstart.inference.image_inputs import to_pixels
from headstart.inference.runtime import Runtime
from headstart.preprocessing.image_spec import ImageError, read_bytes
from headstart.quality.report_findings import report_reading
from headstart.results import DetectionResult, EvaluationResult, Predictions
from headstart.types.codes import (
    RESUBSTITUTION,
    USER_TEST_SPLIT,
    DecisionReason,
    EvaluationSetup,
    Evidence,
    Finding,
    FindingKind,
    JsonValue,
    ReadingKind,
    ReadingNote,
    Severity,
)
from headstart.types.records import Decision, Evaluation, Prediction, Problem, Samples

__all__ = [
    "LabeledImages",
    "evaluate_detector",
    "evaluate_model",
    "is_training_image",
    "match_images",
    "read_as_trained",
    "read_problem",
]

_EXAMPLES = 5
_DIGEST_LENGTH = 16  # hex digits stored in a bundle

Scores = TypeVar("Scores", Evaluation, DetectionEvaluation)


@dataclass(frozen=True)
class LabeledImages:
    """Labeled images matched to the classes of a model.

    Attributes:
        scored: Images of its classes, with its class names.
        others: Images of other classes.
        new_classes: Names of these classes.
    """

    scored: Samples
    others: Samples
    new_classes: tuple[str, ...]


def evaluate_model(
    runtime: Runtime,
    data: str,
    events: EventStream,
    *,
    positive: str | None = None,
    **reading: Any,
) -> EvaluationResult:
    """Score a saved model; see `api.evaluate`. `reading` are fields of `ReadOptions`.

    Raises:
        SettingError: The model does not have two classes, or `positive` is neither of them.
        DataError: No label matches the model's classes, or no labeled image can be read.
    """
    names = runtime.class_names
    positive = _positive(positive, runtime, events)
    samples = read_as_trained(data, runtime, reading)
    started, num_earlier = time.monotonic(), len(events.history)
    images = match_images(samples, names, events)
    paths, class_ids = images.scored.paths, images.scored.class_ids
    decoder = ClassDecoder(runtime.bundle)
    outputs = runtime.tables([*paths, *images.others.paths], decoder.outputs)
    probabilities = softmax(outputs[0])
    ood_score = decoder.ood_scores(probabilities, outputs)
    probabilities, new_class_scores = probabilities[: len(paths)], ood_score[len(paths) :]
    ood_score = ood_score[: len(paths)]
    is_read = np.asarray(np.isfinite(probabilities).all(axis=1))
    unreadable = [read_problem(images.scored[i].name, paths[i], runtime) for i in np.flatnonzero(~is_read)]
    _report_unreadable(unreadable, is_read, events)
    is_trained_on = is_training_image(paths, runtime.bundle.trained_on())

    def score(index: NDArray[np.int64], setup: EvaluationSetup) -> Evaluation:
        return evaluate(probabilities[index], class_ids[index], names, setup=setup, positive=positive)

    evaluation, known = _score_parts(score, is_read, is_trained_on, events)
    is_new = is_read & ~is_trained_on
    ood = _ood_section(runtime, probabilities[is_new], class_ids[is_new], ood_score[is_new], new_class_scores)
    missing = tuple(name for k, name in enumerate(names) if not (class_ids == k).any())
    if known is not None:
        events.report(_trained_on(known.num_samples, is_read, accuracy=known.accuracy.value))
    events.report(*_class_findings(images.new_classes, len(images.others), missing, "image"), *_ood_findings(ood))
    if evaluation is not None:
        events.emit(ScoreMeasured(summarize_evaluation(evaluation)))
    events.emit(RunFinished(time.monotonic() - started))
    return EvaluationResult(
        evaluation=evaluation,
        known=known,
        new_classes=images.new_classes,
        missing_classes=missing,
        num_unreadable=len(unreadable) + len(samples.problems),
        problems=(*samples.problems, *unreadable),
        predictions=Predictions(
            [_prediction(*row, decoder) for row in zip(images.scored.names, probabilities, ood_score, strict=True)]
        ),
        ood=ood,
        events=events.history[num_earlier:],
    )


def evaluate_detector(
    runtime: Runtime,
    data: str,
    events: EventStream,
    *,
    allow_external_paths: bool = False,
    box_format: str | None = None,
    exclude: Sequence[str] | None = None,
) -> DetectionResult:
    """Evaluate a detector on annotated images; see `api.evaluate`.

    Raises:
        DataError: The data have no boxes of the detector's classes, or no readable image.
    """
    names = runtime.class_names
    annotated = read_boxes(data, allow_external_paths=allow_external_paths, box_format=box_format, exclude=exclude)
    samples = _match_classes(annotated, names)
    started, num_earlier = time.monotonic(), len(events.history)
    report_reading(samples, events)
    _check_classes(samples.class_names, names)
    ground_truth, new_classes = _boxes_by_name(samples, names)
    paths = [str(p) for p in samples.paths]
    progress = events.progress(Stage.EVALUATE)
    detections = []
    num_kept = runtime.bundle.decoding.num_kept
    max_detections = min(num_kept, scoring_limit(max(len(boxes) for boxes in ground_truth)))
    decoder = BoxDecoder(runtime.bundle, min_score=0.0, max_detections=max_detections)
    for done, image in enumerate(runtime.predict(paths, decoder), start=1):
        detections.append(image)
        progress(done, len(paths))
    unreadable = [Problem(p.file, p.problem or "format", p.error) for p in detections if p.error is not None]
    is_read = np.array([p.error is None for p in detections], dtype=bool)
    _report_unreadable(unreadable, is_read, events)
    groups = number_groups(list(samples.group)) if any(samples.group) else None

    def score(index: NDArray[np.int64], setup: EvaluationSetup) -> DetectionEvaluation:
        return evaluate_detections(
            [ground_truth[i] for i in index],
            [detections[i].detections for i in index],
            names,
            groups=None if groups is None else groups[index],
            setup=setup,
            thresholds=[float(t) for t in runtime.bundle.class_thresholds],
            max_detections=num_kept,
        )

    evaluation, known = _score_parts(score, is_read, is_training_image(paths, runtime.bundle.trained_on()), events)
    missing = tuple(n for n in names if n not in set(samples.class_names))
    if known is not None:
        events.report(_trained_on(known.num_samples, is_read))
    events.report(*_class_findings(tuple(new_classes), new_classes.total(), missing, "box"))
    if evaluation is not None:
        events.emit(ScoreMeasured(summarize_detections(detection_to_json(evaluation))))
    events.emit(RunFinished(time.monotonic() - started))
    return DetectionResult(
        evaluation=evaluation,
        known=known,
        new_classes=dict(new_classes),
        missing_classes=missing,
        num_unreadable=len(unreadable) + sum(p.kind == "unreadable-image" for p in samples.problems),
        detections=tuple(detections),
        problems=samples.problems,
        events=events.history[num_earlier:],
    )


def read_as_trained(data: str, runtime: Runtime, reading: Mapping[str, Any]) -> Samples:
    """Read labeled images with the given options, or else with those of the training data if they fit.

    Raises:
        HeadstartError: See `data.sources.read`.
    """
    stored = runtime.bundle.info.get("reading")
    names = {f.name for f in fields(ReadOptions)} - {"allow_external_paths"}
    remembered = {k: v for k, v in stored.items() if k in names} if isinstance(stored, dict) else {}
    if not remembered or any(value not in (None, (), []) for name, value in reading.items() if name in names):
        return read(data, **reading)
    try:
        samples = read(data, **{**reading, **remembered})
    except HeadstartError:
        return read(data, **reading)
    if not match_names(samples.class_names, runtime.class_names):
        return read(data, **reading)
    options = [f"--{name.replace('_', '-')} {value}" for name, value in remembered.items()]
    note = ReadingNote(ReadingKind.READ_AS_TRAINED, len(options), tuple(options))
    return replace(samples, notes=(*samples.notes, note))


def match_images(samples: Samples, names: tuple[str, ...], events: EventStream) -> LabeledImages:
    """Match the labels to the classes of a model, and report how the images were read.

    Raises:
        DataError: No label is a class of the model.
    """
    samples = _match_labels(samples, names)
    report_reading(samples, events)
    _check_classes(samples.class_names, names)
    known = set(names)
    is_known = np.array([s.label in known for s in samples], dtype=bool)
    is_other = ~is_known & np.array([s.label is not None for s in samples], dtype=bool)
    return LabeledImages(
        replace(samples.take(np.flatnonzero(is_known)), class_names=names),
        samples.take(np.flatnonzero(is_other)),
        tuple(name for name in samples.class_names if name not in known),
    )


def _check_classes(present: Sequence[str], names: Sequence[str]) -> None:
    """Raise an error if the data have none of the classes of the model."""
    if not set(present) & set(names):
        raise DataError(
            "none of the classes in the data match the model's classes.",
            hint=f"model: {', '.join(names[:20])}; data: {', '.join(present[:20])}",
        )


def _report_unreadable(unreadable: Sequence[Problem], is_read: NDArray[np.bool_], events: EventStream) -> None:
    """Emit the findings on unreadable images, or raise an error if no image can be read."""
    if not is_read.any():
        first = unreadable[0]
        raise DataError(
            f"cannot read any of the images: `{first.name}`: {first.detail}.",
            hint="headstart check lists every unreadable file",
        )
    events.report(*unreadable_findings(unreadable))


def _score_parts(
    score: Callable[[NDArray[np.int64], EvaluationSetup], Scores],
    is_read: NDArray[np.bool_],
    is_trained_on: NDArray[np.bool_],
    events: EventStream,
) -> tuple[Scores | None, Scores | None]:
    """Return the scores of new and of training images, None without any; emit the findings of the former."""
    new, known = np.flatnonzero(is_read & ~is_trained_on), np.flatnonzero(is_read & is_trained_on)
    evaluation = score(new, USER_TEST_SPLIT) if len(new) else None
    if evaluation is not None:
        events.report(*evaluation.findings)
    return evaluation, score(known, RESUBSTITUTION) if len(known) else None


def _trained_on(count: int, is_read: NDArray[np.bool_], **evidence: JsonValue) -> Finding:
    """Return the finding on images used in training; an ERROR if all readable images were."""
    total = int(is_read.sum())
    severity = Severity.ERROR if count == total else Severity.WARNING
    return Finding(FindingKind.IMAGES_TRAINED_ON, severity, {"count": count, "total": total, **evidence})


def _class_findings(new: tuple[str, ...], count: int, missing: tuple[str, ...], unit: str) -> list[Finding]:
    """Return findings on classes that only the data (in `count` units) or only the model has."""
    findings = []
    if new:
        evidence: Evidence = {"num_classes": len(new), "classes": list(new[:_EXAMPLES]), "count": count, "unit": unit}
        findings.append(Finding(FindingKind.CLASSES_NOT_IN_MODEL, Severity.WARNING, evidence))
    if missing:
        evidence = {"num_classes": len(missing), "classes": list(missing[:_EXAMPLES]), "unit": unit}
        findings.append(Finding(FindingKind.CLASSES_NOT_IN_DATA, Severity.INFO, evidence))
    return findings


def _ood_findings(ood: dict[str, Any]) -> list[Finding]:
    """Return findings on the OOD rates and the coverage of prediction sets."""
    findings = []
    rates = {"known": ood.get("false_positive_rate"), "new": ood.get("ood_recall")}
    if any(rates.values()):
        evidence: Evidence = {"target": ood["ood_fpr"], **rates}
        findings.append(Finding(FindingKind.OOD_RATES, Severity.INFO, evidence))
    if "empirical" in ood:
        evidence = {"target": ood["coverage"], **ood["empirical"]}
        findings.append(Finding(FindingKind.PREDICTION_SET_COVERAGE, Severity.INFO, evidence))
    return findings


def _match_labels(samples: Samples, names: Sequence[str]) -> Samples:
    """Rename labels that differ from a model's class only in case, spaces or Unicode form, and add a note."""
    renamed = _renamed_classes(samples.class_names, names)
    if not renamed:
        return samples
    items = tuple(replace(s, label=renamed.get(s.label or "", s.label)) for s in samples)
    class_names = tuple(sorted({s.label for s in items if s.label}))
    notes = _renaming_notes(samples.notes, renamed, sum(s.label in renamed for s in samples), class_names)
    return replace(samples, items=items, class_names=class_names, notes=notes)


def _match_classes(samples: DetectionSamples, names: Sequence[str]) -> DetectionSamples:
    """Rename classes that differ from the detector's only in case, spaces or Unicode form, and add a note."""
    renamed = _renamed_classes(samples.class_names, names)
    if not renamed:
        return samples
    class_names = tuple(dict.fromkeys(renamed.get(n, n) for n in samples.class_names))
    new_id = np.array([class_names.index(renamed.get(n, n)) for n in samples.class_names], dtype=np.int64)
    boxes = tuple(replace(b, class_ids=new_id[b.class_ids]) for b in samples.boxes)
    count = sum(samples.class_names[k] in renamed for b in samples.boxes for k in b.class_ids)
    notes = _renaming_notes(samples.notes, renamed, count, class_names)
    return replace(samples, boxes=boxes, class_names=class_names, notes=notes)


def _renamed_classes(class_names: Iterable[str], names: Sequence[str]) -> dict[str, str]:
    """Return the class of the model for each name that differs from it only in case, spaces or Unicode form."""
    return {label: name for label, name in match_names(class_names, names).items() if label != name}


def _renaming_notes(
    notes: Sequence[ReadingNote], renamed: dict[str, str], count: int, class_names: Sequence[str]
) -> tuple[ReadingNote, ...]:
    """Return the notes of the reader with one on renamed classes, whose similar names are looked for anew."""
    note = ReadingNote(ReadingKind.LABELS_MATCHED, count, tuple(renamed)[:_EXAMPLES], {"names": renamed})
    kept = [n for n in notes if n.kind is not ReadingKind.CLASSES_ALIKE]
    return tuple(merge_notes([note, *similar_name_notes(class_names), *kept]))


def _boxes_by_name(samples: DetectionSamples, names: Sequence[str]) -> tuple[list[Boxes], Counter[str]]:
    """Return the boxes of the detector's classes with its class ids, and the number of boxes of each other class."""
    id_of = {name: i for i, name in enumerate(names)}
    new_id = np.array([id_of.get(name, -1) for name in samples.class_names], dtype=np.int64)
    known = [replace(b, class_ids=new_id[b.class_ids]).take(new_id[b.class_ids] >= 0) for b in samples.boxes]
    others = Counter(samples.class_names[k] for b in samples.boxes for k in b.class_ids if new_id[k] < 0)
    return known, others


def _positive(requested: str | None, runtime: Runtime, events: EventStream) -> str | None:
    """Return the positive class of two: the requested one, or that of the model."""
    check_positive(requested, runtime.class_names)
    if requested is None and runtime.bundle.positive is not None:
        events.decide(Decision("positive", runtime.bundle.positive, DecisionReason.POSITIVE_CLASS_OF_MODEL))
    return requested or runtime.bundle.positive


def read_problem(name: str, path: str, runtime: Runtime) -> Problem:
    """Return the reason why an image cannot be read."""
    try:
        to_pixels(path, runtime.bundle.spec)
    except ImageError as error:
        return Problem(name, error.kind, error.detail)
    return Problem(name, "unreadable", "the model's output is not finite")


def _ood_section(
    runtime: Runtime,
    probabilities: NDArray[np.float64],
    class_ids: NDArray[np.int64],
    known: NDArray[np.float64],
    new_class_scores: NDArray[np.float64],
) -> dict[str, Any]:
    """Return OOD rates and prediction-set coverage with intervals, on images not used in training."""
    rates: dict[str, Any] = {}
    rule, sets = runtime.bundle.ood, runtime.bundle.prediction_sets
    if rule is not None and math.isfinite(rule.threshold()):
        rates["ood_fpr"] = rule.ood_fpr
        for name, values in (
            ("false_positive_rate", known),
            ("ood_recall", new_class_scores[np.isfinite(new_class_scores)]),
        ):
            if len(values):
                rates[name] = _proportion(values > rule.threshold())
    if sets is not None and len(class_ids):
        inside = sets.sets(probabilities)
        rates["coverage"] = sets.coverage
        rates["empirical"] = {
            **_proportion(inside[np.arange(len(class_ids)), class_ids]),
            "mean_size": float(inside.sum(axis=1).mean()),
            "empty_fraction": float((~inside.any(axis=1)).mean()),
        }
    return rates


def _proportion(hits: NDArray[np.bool_]) -> dict[str, Any]:
    estimate = estimate_proportion(
        float(hits.mean()), len(hits), effective_sample_size(hits, None, is_out_of_fold=False)
    )
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "num_samples": len(hits)}


def _prediction(name: str, row: NDArray[np.float64], ood_score: float, decoder: ClassDecoder) -> Prediction:
    if not np.isfinite(row).all():
        return Prediction(file=name, label=None, probability=None, error="cannot read the image")
    return decoder.prediction(name, row, float(ood_score))


def is_training_image(paths: list[str], trained_on: frozenset[str]) -> NDArray[np.bool_]:
    """Return (N,) whether a file is identical to a training image."""
    is_known = np.zeros(len(paths), dtype=bool)
    if trained_on:
        for i, path in enumerate(paths):
            try:
                is_known[i] = hashlib.sha256(read_bytes(path)).hexdigest()[:_DIGEST_LENGTH] in trained_on
            except ImageError:
                continue
    return is_known
