"""Evaluate a saved classifier on labeled images; training images are scored separately."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.name_matching import match_names
from headstart.data.options import ReadOptions
from headstart.data.sources import read
from headstart.errors import HeadstartError
from headstart.evaluation.binary import check_positive
from headstart.evaluation.intervals import effective_sample_size, estimate_proportion
from headstart.evaluation.metrics import evaluate
from headstart.evaluation.score_summary import summarize_evaluation
from headstart.evaluation.softmax import softmax
from headstart.events import EventStream, RunFinished, ScoreMeasured, Stage
from headstart.inference.decoders import ClassDecoder
from headstart.inference.image_inputs import to_pixels
from headstart.inference.runtime import Runtime
from headstart.preprocessing.image_spec import ImageError
from headstart.quality.report_findings import report_reading
from headstart.results import EvaluationResult, Predictions
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
from headstart.types.codes import (
    DecisionReason,
    EvaluationSetup,
    Evidence,
    Finding,
    FindingKind,
    ReadingKind,
    ReadingNote,
    Severity,
)
from headstart.types.records import Decision, Evaluation, Prediction, Problem, Samples

__all__ = ["LabeledImages", "evaluate_classifier", "match_images", "read_as_trained", "read_problem"]


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


def evaluate_classifier(
    runtime: Runtime,
    data: str,
    options: EvaluateOptions,
    events: EventStream,
) -> EvaluationResult:
    """Score a saved model; see `Task.evaluate`.

    Raises:
        SettingError: The model does not have two classes, or `positive` is neither of them.
        DataError: No label matches the model's classes, or no labeled image can be read.
    """
    names = runtime.class_names
    positive = _positive(options.positive, runtime, events)
    samples = read_as_trained(data, runtime, options)
    started, num_earlier = time.monotonic(), len(events.history)
    images = match_images(samples, names, events)
    paths, class_ids = images.scored.paths, images.scored.class_ids
    decoder = ClassDecoder(runtime.bundle)
    outputs = runtime.tables([*paths, *images.others.paths], decoder.outputs, progress=events.progress(Stage.EVALUATE))
    probabilities = softmax(outputs[0])
    ood_score = decoder.ood_scores(probabilities, outputs)
    probabilities, new_class_scores = probabilities[: len(paths)], ood_score[len(paths) :]
    ood_score = ood_score[: len(paths)]
    is_read = np.asarray(np.isfinite(probabilities).all(axis=1))
    unreadable = [read_problem(images.scored[i].name, paths[i], runtime) for i in np.flatnonzero(~is_read)]
    report_unreadable(unreadable, is_read, events)
    is_trained_on = is_training_image(paths, runtime.bundle.trained_on())

    def score(index: NDArray[np.int64], setup: EvaluationSetup) -> Evaluation:
        return evaluate(probabilities[index], class_ids[index], names, setup=setup, positive=positive)

    evaluation, known = score_parts(score, is_read, is_trained_on, events)
    is_new = is_read & ~is_trained_on
    ood = _ood_section(runtime, probabilities[is_new], class_ids[is_new], ood_score[is_new], new_class_scores)
    missing = tuple(name for k, name in enumerate(names) if not (class_ids == k).any())
    if known is not None:
        events.report(trained_on_finding(known.num_samples, is_read, accuracy=known.accuracy.value))
    events.report(*class_findings(images.new_classes, len(images.others), missing, "image"), *_ood_findings(ood))
    if evaluation is not None:
        events.emit(ScoreMeasured(summarize_evaluation(evaluation)))
    events.emit(RunFinished(time.monotonic() - started))
    return EvaluationResult(
        task=runtime.bundle.task,
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
        inventory=samples.inventory,
    )


def read_as_trained(data: str, runtime: Runtime, options: ReadOptions) -> Samples:
    """Read labeled images with the given options, or else with those of the training data if they fit.

    Raises:
        HeadstartError: See `data.sources.read`.
    """
    stored = runtime.bundle.info.get("reading")
    names = {f.name for f in fields(ReadOptions)} - {"allow_external_paths"}
    remembered = {k: v for k, v in stored.items() if k in names} if isinstance(stored, dict) else {}
    if not remembered or options.portable():
        return read(data, options)
    try:
        samples = read(data, replace(options, **remembered))
    except HeadstartError:
        return read(data, options)
    if not match_names(samples.class_names, runtime.class_names):
        return read(data, options)
    shown = [f"--{name.replace('_', '-')} {value}" for name, value in remembered.items()]
    note = ReadingNote(ReadingKind.READ_AS_TRAINED, len(shown), tuple(shown))
    return replace(samples, notes=(*samples.notes, note))


def match_images(samples: Samples, names: tuple[str, ...], events: EventStream) -> LabeledImages:
    """Match the labels to the classes of a model, and report how the images were read.

    Raises:
        DataError: No label is a class of the model.
    """
    samples = _match_labels(samples, names)
    report_reading(samples, events)
    check_classes(samples.class_names, names)
    known = set(names)
    is_known = np.array([s.label in known for s in samples], dtype=bool)
    is_other = ~is_known & np.array([s.label is not None for s in samples], dtype=bool)
    return LabeledImages(
        replace(samples.take(np.flatnonzero(is_known)), class_names=names),
        samples.take(np.flatnonzero(is_other)),
        tuple(name for name in samples.class_names if name not in known),
    )


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
    renamed = renamed_classes(samples.class_names, names)
    if not renamed:
        return samples
    items = tuple(replace(s, label=renamed.get(s.label or "", s.label)) for s in samples)
    class_names = tuple(sorted({s.label for s in items if s.label}))
    notes = renaming_notes(samples.notes, renamed, sum(s.label in renamed for s in samples), class_names)
    return replace(samples, items=items, class_names=class_names, notes=notes)


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
