"""Evaluate a saved model on labeled images; images it was trained on are scored separately."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.name_matching import match_names
from headstart.data.problem_findings import unreadable_findings
from headstart.data.reading_notes import merge_notes, similar_name_notes
from headstart.data.sources import read
from headstart.errors import DataError
from headstart.evaluation.intervals import effective_sample_size, estimate_proportion
from headstart.evaluation.metrics import evaluate, evaluation_to_json
from headstart.evaluation.positive import check_positive
from headstart.evaluation.score_summary import summarize_evaluation
from headstart.events import EventStream, RunFinished, ScoreMeasured
from headstart.inference.image_inputs import to_pixels
from headstart.inference.output_decoder import OutputDecoder
from headstart.inference.runtime import Runtime
from headstart.preprocessing.image_spec import ImageError, read_bytes
from headstart.quality.reading_events import report_reading
from headstart.results import EvaluationResult, Predictions
from headstart.types.codes import (
    RESUBSTITUTION,
    USER_TEST_SPLIT,
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

__all__ = ["evaluate_model", "is_training_image", "match_labels", "read_problem"]

_EXAMPLES = 5
_DIGEST_LENGTH = 16  # hex digits stored in a bundle


def evaluate_model(
    runtime: Runtime,
    data: str,
    events: EventStream,
    *,
    allow_external_paths: bool = False,
    layout: str | None = None,
    label_pattern: str | None = None,
    first_id: int | str | None = None,
    positive: str | None = None,
) -> EvaluationResult:
    """Score a saved model; see `api.evaluate`.

    Raises:
        SettingError: The model does not have two classes, or `positive` is neither of them.
        DataError: No label matches the model's classes, or no labeled image can be read.
    """
    positive = _positive(positive, runtime, events)
    samples = read(
        data, allow_external_paths=allow_external_paths, layout=layout, label_pattern=label_pattern, first_id=first_id
    )
    samples = match_labels(samples, runtime.class_names)
    started, num_earlier = time.monotonic(), len(events.history)
    report_reading(samples, events)
    names = runtime.class_names
    position = {name: i for i, name in enumerate(names)}
    new = tuple(name for name in samples.class_names if name not in position)
    scored = [s for s in samples if s.label in position]
    if not scored:
        raise DataError(
            "none of the labels in the data match the model's classes.",
            hint=f"model: {', '.join(names[:20])}; data: {', '.join(samples.class_names[:20])}",
        )
    truth = np.array([position[s.label or ""] for s in scored], dtype=np.int64)
    is_trained_on = is_training_image([s.path for s in scored], runtime.bundle.trained_on())
    new_class_samples = [s for s in samples if s.label is not None and s.label not in position]
    probabilities, ood_score = runtime.predict_proba_and_ood([s.path for s in (*scored, *new_class_samples)])
    probabilities, new_class_scores = probabilities[: len(scored)], ood_score[len(scored) :]
    ood_score = ood_score[: len(scored)]
    is_read = np.isfinite(probabilities).all(axis=1)
    unreadable = [read_problem(scored[i].name, scored[i].path, runtime) for i in np.flatnonzero(~is_read)]
    if not is_read.any():
        first = unreadable[0]
        raise DataError(
            f"cannot read any of the images: `{first.name}`: {first.detail}.",
            hint="headstart check lists every unreadable file",
        )
    events.report(*unreadable_findings(unreadable))

    def score(which: NDArray[np.bool_], setup: EvaluationSetup) -> Evaluation | None:
        return (
            evaluate(probabilities[which], truth[which], names, setup=setup, positive=positive) if which.any() else None
        )

    predictions = []
    for sample, row, value in zip(scored, probabilities, ood_score, strict=True):
        predictions.append(_prediction(sample.name, row, float(value), runtime))
    present = {s.label for s in scored}
    is_new = is_read & ~is_trained_on
    evaluation, known = score(is_new, USER_TEST_SPLIT), score(is_read & is_trained_on, RESUBSTITUTION)
    missing = tuple(name for name in names if name not in present)
    ood = _ood_section(runtime, probabilities[is_new], truth[is_new], ood_score[is_new], new_class_scores)
    if evaluation is not None:
        events.report(*evaluation.findings)
    if known is not None:
        events.report(_trained_on(known, int(is_read.sum())))
    events.report(*_class_findings(new, len(new_class_samples), missing), *_ood_findings(ood))
    if evaluation is not None:
        events.emit(ScoreMeasured(summarize_evaluation(evaluation_to_json(evaluation))))
    events.emit(RunFinished(time.monotonic() - started))
    return EvaluationResult(
        evaluation=evaluation,
        known=known,
        new_classes=new,
        missing_classes=missing,
        num_unreadable=len(unreadable) + len(samples.problems),
        problems=(*samples.problems, *unreadable),
        predictions=Predictions(predictions),
        ood=ood,
        events=events.history[num_earlier:],
    )


def _trained_on(known: Evaluation, num_readable: int) -> Finding:
    """Return the finding on images used in training; an ERROR if all readable images were."""
    severity = Severity.ERROR if known.num_samples == num_readable else Severity.WARNING
    evidence = {"count": known.num_samples, "total": num_readable, "accuracy": known.accuracy.value}
    return Finding(FindingKind.IMAGES_TRAINED_ON, severity, evidence)


def _class_findings(new: tuple[str, ...], num_images: int, missing: tuple[str, ...]) -> list[Finding]:
    """Return findings on classes that only the data or only the model has."""
    findings = []
    if new:
        evidence: Evidence = {
            "num_classes": len(new),
            "classes": list(new[:_EXAMPLES]),
            "count": num_images,
            "unit": "image",
        }
        findings.append(Finding(FindingKind.CLASSES_NOT_IN_MODEL, Severity.WARNING, evidence))
    if missing:
        evidence = {"num_classes": len(missing), "classes": list(missing[:_EXAMPLES]), "unit": "image"}
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


def match_labels(samples: Samples, names: tuple[str, ...]) -> Samples:
    """Rename labels that differ from a model's class only in case, blanks or Unicode form, and add a note."""
    matched = match_names(samples.class_names, names)
    changed = {label: name for label, name in matched.items() if label != name}
    if not changed:
        return samples
    items = tuple(replace(s, label=changed.get(s.label or "", s.label)) for s in samples)
    count = sum(s.label in changed for s in samples)
    note = ReadingNote(ReadingKind.LABELS_MATCHED, count, tuple(changed)[:5], {"names": changed})
    kept = [n for n in samples.notes if n.kind is not ReadingKind.CLASSES_ALIKE]
    class_names = tuple(sorted({s.label for s in items if s.label}))
    notes = tuple(merge_notes([note, *similar_name_notes(class_names), *kept]))
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
    truth: NDArray[np.int64],
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
    if sets is not None and len(truth):
        inside = sets.sets(probabilities)
        rates["coverage"] = sets.coverage
        rates["empirical"] = {
            **_proportion(inside[np.arange(len(truth)), truth]),
            "mean_size": float(inside.sum(axis=1).mean()),
            "empty_fraction": float((~inside.any(axis=1)).mean()),
        }
    return rates


def _proportion(hits: NDArray[np.bool_]) -> dict[str, Any]:
    estimate = estimate_proportion(
        float(hits.mean()), len(hits), effective_sample_size(hits, None, is_out_of_fold=False)
    )
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "num_samples": len(hits)}


def _prediction(name: str, row: NDArray[np.float64], ood_score: float, runtime: Runtime) -> Prediction:
    if not np.isfinite(row).all():
        return Prediction(file=name, label=None, probability=None, error="cannot read the image")
    decoder, best, names = OutputDecoder(runtime.bundle), int(row.argmax()), runtime.class_names
    value = None if math.isnan(ood_score) else ood_score
    return Prediction(
        file=name,
        label=names[best],
        probability=float(row[best]),
        top=((names[best], float(row[best])),),
        ood_score=value,
        is_ood=decoder.is_ood(value),
        prediction_set=decoder.prediction_set(row),
    )


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
