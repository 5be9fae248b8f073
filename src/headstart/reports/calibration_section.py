"""Create the report sections for calibration, operating points and label errors."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.calibration import ESTIMATOR, brier, calibration_error, reliability_diagram
from headstart.evaluation.metrics import log_loss, softmax
from headstart.evaluation.operating_points import accept_above, recall_at_false_positive_rates
from headstart.messages.comment import empty_section
from headstart.messages.sections import label_errors_message
from headstart.reports.record import ClassifierRecord, parse_number
from headstart.types.codes import EvaluationSetup
from headstart.types.report import ReportFinding, ReportKind

__all__ = ["calibration_section", "label_errors_section", "operating_section"]

_TARGETS = (0.01, 0.02, 0.05, 0.1)
_SHOWN = 18
_LEAST_FITTING = 6  # labels shown if there is no suspected label error
_FEWEST = 20  # minimum number of scored images for statements about probabilities


def calibration_section(record: ClassifierRecord, where: NDArray[np.int64]) -> dict[str, Any]:
    """Compute the reliability diagram before and after calibration, with summary metrics."""
    scored, block = record.scored, record.headline_block
    temperature = record.bundle.get("temperature")
    value: dict[str, Any] = {"temperature": temperature, "ece": block.get("ece"), "log_loss": block.get("log_loss")}
    if not len(scored):
        return {**value, **empty_section(ReportKind.NO_SCORES_KEPT)}
    if len(where) < _FEWEST:
        return {**value, **empty_section(_too_few(ReportKind.TOO_FEW_FOR_DIAGRAM, where))}
    class_ids, logits = scored.class_ids[where], scored.logits[where].astype(np.float64)
    after = scored.probabilities[where]
    value |= {
        "estimator": ESTIMATOR,
        "error": asdict(calibration_error(after, class_ids)),
        "brier": brier(after, class_ids),
        "log_loss": log_loss(after, class_ids),
        "after": _bins(after, class_ids),
    }
    chosen = dict(record.settings.get("probe.calibration") or {})
    if chosen:
        value["chosen"] = f"Chosen: {chosen.get('value')} ({chosen.get('text')})."
    is_by_class = chosen.get("value") not in (None, "temperature")  # then the temperature alone does not invert it
    if isinstance(temperature, (int, float)) and temperature > 0 and not is_by_class:
        before = softmax(logits * temperature)
        value |= {
            "before": _bins(before, class_ids),
            "error_before": asdict(calibration_error(before, class_ids)),
            "log_loss_before": log_loss(before, class_ids),
            "brier_before": brier(before, class_ids),
        }
    return value


def operating_section(record: ClassifierRecord, where: NDArray[np.int64]) -> dict[str, Any]:
    """Compute thresholds with bounded error rates and, for two classes, recall by false-positive rate."""
    scored = record.scored
    if len(where) < _FEWEST:
        return empty_section(_too_few(ReportKind.TOO_FEW_FOR_OPERATING_POINT, where))
    groups = scored.groups_of(where)
    out_of_fold = EvaluationSetup.from_json(record.headline_block).protocol.is_out_of_fold
    hits, confidence = scored.is_correct[where], scored.confidence[where]
    points = accept_above(confidence, hits, targets=_TARGETS, groups=groups, is_out_of_fold=out_of_fold)
    rows = [{"target": target, **(asdict(point) if point else {})} for target, point in points.items()]
    section: dict[str, Any] = {"rows": rows, "num_samples": len(where)}
    names = record.class_names
    if len(names) == 2:
        positive = list(names).index(record.metrics["positive"])
        is_positive = scored.class_ids[where] == positive
        if is_positive.any() and not is_positive.all():
            score = scored.probabilities[where, positive]
            alarms = recall_at_false_positive_rates(score, is_positive, groups=groups, is_out_of_fold=out_of_fold)
            section |= {"positive": names[positive], "alarms": [asdict(p) for p in alarms]}
    return section


def label_errors_section(record: ClassifierRecord) -> dict[str, Any]:
    """Return the top rows of `label_errors.csv` as images with their nearest neighbors."""
    rows = record.label_errors
    if rows is None:
        return empty_section(ReportKind.LABEL_ERRORS_NOT_CHECKED)
    position = {name: i for i, name in enumerate(record.scored.names)}
    label_errors = [r for r in rows if r.get("is_label_error") == "true"]
    held_out = sum(r.get("split") in ("val", "test") for r in label_errors)
    shown = []
    for row in label_errors[:_SHOWN] or list(rows)[:_LEAST_FITTING]:
        image = position.get(row.get("image", ""))
        if image is None:
            continue
        neighbors = (position.get(row.get(f"neighbor{n}", "")) for n in (1, 2, 3))
        shown.append(
            {
                "image": image,
                "label": row.get("label", ""),
                "suggested": row.get("suggested", ""),
                "error_probability": parse_number(row.get("error_probability")),
                "split": row.get("split", ""),
                "neighbors": [i for i in neighbors if i is not None],
            }
        )
    counts = {"num_ranked": len(rows), "num_label_errors": len(label_errors), "num_held_out": held_out}
    named = [{"image": r.get("image", "")} for r in label_errors]
    return {**counts, "text": label_errors_message(counts), "rows": named, "shown": shown}


def _too_few(kind: ReportKind, where: NDArray[np.int64]) -> ReportFinding:
    return ReportFinding(kind, evidence={"num_scored": len(where)})


def _bins(probabilities: NDArray[np.float64], class_ids: NDArray[np.int64]) -> list[dict[str, Any]]:
    return [
        {"confidence": b.confidence, "right": b.accuracy, "low": b.low, "high": b.high, "count": b.num_samples}
        for b in reliability_diagram(probabilities, class_ids)
    ]
