"""Summarize a classifier's run as sections of `report.json`, from which page, texts and figures are rendered.

Images are positions in `images`. An empty section has `missing`, the reason, and `finding`, its code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.calibration import ESTIMATOR, brier, calibration_error, reliability_diagram
from headstart.evaluation.learning_curve import CurvePoint, LearningCurve
from headstart.evaluation.metrics import log_loss, softmax
from headstart.evaluation.operating_points import accept_above, recall_at_false_positive_rates
from headstart.messages.comment import empty_section
from headstart.messages.protocols import measured_on
from headstart.messages.scores import binary_message
from headstart.messages.sections import (
    attribution_message,
    class_gains_message,
    coverage_message,
    curve_message,
    false_alarms_message,
    headline_message,
    label_errors_message,
    new_class_message,
)
from headstart.messages.values import quote
from headstart.reports.attribution import MAX_SIMILARITY, AttributionMaps
from headstart.reports.findings import comment_to_json, find_quadrant, images_by_split, summarize_result
from headstart.reports.network import describe_network
from headstart.reports.record import ClassifierRecord, parse_number
from headstart.runs.scores import ScoredImages
from headstart.types.arrays import Ids
from headstart.types.codes import EvaluationSetup
from headstart.types.report import ReportFinding, ReportKind

__all__ = ["classifier_sections", "curve_section", "hide_classifier_images", "shown_errors"]

_SAMPLES, _SAMPLES_PER_CLASS = 96, 6  # random images of all classes and of one
_CELLS, _PER_CELL = 120, 6  # images of all cells of the confusion matrix and of one
_ERRORS, _UNSURE = 24, 12
_PAIRS = 12  # near-duplicate pairs
_CONFUSIONS = 20
_UNUSUAL = 12  # images with the highest OOD score
_LABEL_ERRORS, _LEAST_FITTING = 18, 6  # ... and labels shown without a suspected label error
_FEWEST = 20  # minimum number of scored images for statements about probabilities
_TARGETS = (0.01, 0.02, 0.05, 0.1)


def classifier_sections(record: ClassifierRecord, seed: int) -> dict[str, Any]:
    """Return the sections of a classifier's report as JSON values.

    Args:
        record: The finished run.
        seed: Random seed of the sample images.
    """
    metrics, scored, block = record.metrics, record.scored, record.headline_block
    where = np.flatnonzero(scored.split == record.headline_split)
    curve = curve_section(record.sections.curve, record.class_names)
    result = summarize_result(record, curve)
    wrong, unsure = shown_errors(record)
    binary = block.get("binary")
    message = binary and f"{binary_message(binary)}; positive class {quote(binary['positive'])}"
    measured = measured_on(EvaluationSetup.from_json(block), int(block.get("num_samples") or 0))
    sections: dict[str, Any] = {
        "headline": {
            "sentence": headline_message(metrics.get("headline") or {}, metrics.get("baselines") or {}),
            "protocol": f"Measured on {measured}.",
            "score": metrics.get("headline"),
            "binary": {**binary, "message": message} if binary else None,
            "baselines": metrics.get("baselines"),
            "including_leaks": metrics.get("test_including_leaks"),
        },
        "comment": comment_to_json(result),
        "quadrant": find_quadrant(result),
        "data": _data(record, seed),
        "model": describe_network(record),
        "learning": _learning(record, curve),
        "per_class": [dict(row) for row in block.get("per_class") or []],
        "confusion": _confusion(record, where),
        "attribution": _attribution(record.sections.maps),
        "errors": {"wrong": wrong, "unsure": unsure, "num_errors": int((~scored.is_correct[where]).sum())},
        "calibration": _calibration(record, where),
        "operating": _operating(record, where),
        "ood": _ood(record, where),
        "coverage": empty_section(ReportKind.COVERAGE_NOT_MEASURED),
        "label_errors": _label_errors(record),
    }
    if metrics.get("coverage"):
        sections["coverage"] = {**metrics["coverage"], "text": coverage_message(metrics["coverage"])}
    sections["images"] = {str(i): _image(record, i) for i in sorted(_shown(sections))}
    return sections


def hide_classifier_images(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections that name files or show images without them."""
    data = report["data"]
    return {
        "data": {
            **data,
            "samples": [[] for _ in report["class_names"]],
            "unreadable": [{"kind": p.get("kind")} for p in data["unreadable"]],
            "duplicates": {**data["duplicates"], "pairs": []},
            "conflicts": [{} for _ in data["conflicts"]],
            "shortcuts": [{k: v for k, v in row.items() if not isinstance(v, list)} for row in data["shortcuts"]],
            "group_patterns": [],  # derived from file names
        },
        "confusion": {**report["confusion"], "cells": []},
        "attribution": empty_section(ReportKind.IMAGES_LEFT_OUT),
        "errors": {"wrong": [], "unsure": [], "num_errors": report["errors"]["num_errors"]},
        "ood": {k: v for k, v in report["ood"].items() if k != "highest_scores"},
        "label_errors": {k: v for k, v in report["label_errors"].items() if k not in ("rows", "shown")},
    }


def shown_errors(record: ClassifierRecord) -> tuple[list[int], list[int]]:
    """Return the most confident errors and the least confident correct predictions, by position."""
    scored = record.scored
    where = np.flatnonzero(scored.split == record.headline_split)
    wrong, correct = where[~scored.is_correct[where]], where[scored.is_correct[where]]
    return (
        _ordered(wrong, -scored.confidence)[:_ERRORS],
        _ordered(correct, scored.confidence)[:_UNSURE],
    )


def _ordered(where: Ids, key: NDArray[Any]) -> list[int]:
    """Return positions by ascending key."""
    return [int(i) for i in where[np.argsort(key[where], kind="stable")]]


def _data(record: ClassifierRecord, seed: int) -> dict[str, Any]:
    scored = record.scored
    counts = images_by_split(record)
    groups = scored.groups
    has_groups = groups is not None and bool((groups >= 0).any())
    return {
        "num_samples": sum(map(sum, counts.values())),
        "num_groups": len(np.unique(groups[groups >= 0])) if has_groups and groups is not None else None,
        "counts": counts,
        "samples": _samples(scored, len(record.class_names), seed),
        "unreadable": record.dataset_rows("unreadable"),
        "duplicates": _duplicates(record),
        "conflicts": record.dataset_rows("label_conflicts"),
        "shortcuts": record.dataset_rows("shortcuts"),
        "group_patterns": record.dataset_rows("group_patterns"),
    }


def _samples(scored: ScoredImages, num_classes: int, seed: int) -> list[list[int]]:
    """Return random images as one list of positions per class."""
    each = max(1, min(_SAMPLES_PER_CLASS, _SAMPLES // max(1, num_classes)))
    rng = np.random.default_rng(seed)
    chosen: list[list[int]] = []
    left = _SAMPLES
    for k in range(num_classes):
        members = np.flatnonzero(scored.class_ids == k)
        take = min(each, len(members), left)
        chosen.append(sorted(int(i) for i in rng.choice(members, size=take, replace=False)) if take else [])
        left -= take
    return chosen


def _duplicates(record: ClassifierRecord) -> dict[str, Any]:
    """Return near-duplicate pairs, leaks first; pairs of known images with their positions."""
    position = {name: i for i, name in enumerate((*record.scored.names, *(name for name, _ in record.unscored)))}
    pairs, leaks = [], 0
    named = set()
    for kind in ("leaks", "duplicates", "near_duplicates"):
        for row in record.dataset_rows(kind):
            named.add(frozenset((str(row.get("a")), str(row.get("b")))))
            a, b = position.get(str(row.get("a"))), position.get(str(row.get("b")))
            leaks += kind == "leaks"
            if a is not None and b is not None:
                pairs.append({"a": a, "b": b, "is_leak": kind == "leaks", "kind": str(row.get("kind", kind))})
    unique = {(p["a"], p["b"]): p for p in reversed(pairs)}
    ordered = sorted(unique.values(), key=lambda p: (not p["is_leak"], p["a"], p["b"]))
    is_checked = any(kind in record.dataset_report for kind in ("leaks", "duplicates", "near_duplicates"))
    return {
        "num_pairs": len(named),
        "num_leaks": leaks,
        "pairs": ordered[:_PAIRS],
        **({} if is_checked else empty_section(ReportKind.DUPLICATES_NOT_CHECKED)),
    }


def _learning(record: ClassifierRecord, curve: Mapping[str, Any]) -> dict[str, Any]:
    epochs = _epochs(record.epochs)
    metrics = record.metrics
    is_out_of_fold = EvaluationSetup.from_json(metrics.get("cv") or {}).protocol.is_out_of_fold
    held_out = "training images, cross-validated" if is_out_of_fold else "held-out training images"
    blocks = [
        {"name": label, **{k: block.get(k) for k in ("accuracy", "balanced_accuracy", "log_loss", "num_samples")}}
        for label, block in (
            ("training images", metrics.get("train")),
            (held_out, metrics.get("cv")),
            ("validation images", metrics.get("val")),
            ("test images", metrics.get("test")),
        )
        if block
    ]
    return {
        "blocks": blocks,
        "epochs": epochs or None,
        "is_trial": bool(epochs) and metrics.get("strategy") == "probe",
        "unfreezing": _unfreezing(record, len(epochs.get("epoch", ()))),
        "curve": curve,
        **({} if epochs else empty_section(ReportKind.CLOSED_FORM)),
    }


def _unfreezing(record: ClassifierRecord, num_epochs: int) -> list[dict[str, Any]]:
    """Return the stages unfrozen later, each with its epoch (1.0 is the end of the first epoch)."""
    plan = dict((record.metrics.get("finetune") or {}).get("plan") or {})
    total = int(
        plan.get("epochs") or num_epochs
    )  # of the plan: fractions refer to its steps, even after early stopping
    later = [(str(stage), float(start) * total) for stage, start in plan.get("unfreeze") or () if start > 0]
    return [{"stage": stage, "epoch": round(at, 3)} for stage, at in sorted(later, key=lambda m: m[1])]


def _epochs(rows: Sequence[Mapping[str, str]]) -> dict[str, list[float | None]]:
    """Return columns of `results.csv` over epochs, averaged over cross-validation folds.

    The final training on all images (phase `final`) has no validation images and is used only without folds.
    """
    checked = [row for row in rows if row.get("phase") != "final"] or list(rows)
    columns: dict[str, dict[float, list[float]]] = {}
    for position, row in enumerate(checked):
        epoch = parse_number(row.get("epoch"))
        at = float(position + 1) if epoch is None else epoch
        for key, text in row.items():
            value = parse_number(text)
            if value is not None and key not in ("epoch", "phase"):
                columns.setdefault(key, {}).setdefault(at, []).append(value)
    xs = sorted({at for column in columns.values() for at in column})
    if not xs:
        return {}
    means: dict[str, list[float | None]] = {"epoch": list(xs)}
    for key, column in columns.items():
        means[key] = [float(np.mean(column[at])) if at in column else None for at in xs]
    return means


def _confusion(record: ClassifierRecord, where: Ids) -> dict[str, Any]:
    counts = np.asarray(record.headline_block.get("confusion") or [[0]], dtype=np.int64)
    support = counts.sum(axis=1, keepdims=True)
    rates = np.divide(counts, support, where=support > 0, out=np.zeros(counts.shape))
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
    pairs = [tuple(int(v) for v in np.unravel_index(i, wrong.shape)) for i in order if wrong.flat[i] > 0]
    return {
        "counts": counts.tolist(),
        "rates": np.round(rates, 4).tolist(),
        "cells": [
            {"label": t, "predicted": p, "images": members} for (t, p), members in _cells(record.scored, where).items()
        ],
        "pairs": [
            {"label": t, "predicted": p, "count": int(counts[t, p]), "rate": float(rates[t, p])} for t, p in pairs
        ],
    }


def _cells(scored: ScoredImages, where: Ids) -> dict[tuple[int, int], list[int]]:
    """Return images of off-diagonal cells, largest cells first and most confident first, up to the limit."""
    wrong = where[~scored.is_correct[where]]
    cells: dict[tuple[int, int], list[int]] = {}
    for i in wrong[np.argsort(-scored.confidence[wrong], kind="stable")]:
        cells.setdefault((int(scored.class_ids[i]), int(scored.predicted[i])), []).append(int(i))
    left = _CELLS
    chosen: dict[tuple[int, int], list[int]] = {}
    for cell, members in sorted(cells.items(), key=lambda item: (-len(item[1]), item[0])):
        take = min(_PER_CELL, len(members), left)
        if take == 0:
            break
        chosen[cell] = members[:take]
        left -= take
    return chosen


def _calibration(record: ClassifierRecord, where: Ids) -> dict[str, Any]:
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


def _operating(record: ClassifierRecord, where: Ids) -> dict[str, Any]:
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


def _ood(record: ClassifierRecord, where: Ids) -> dict[str, Any]:
    """Return the false-positive rate and recall of OOD detection, and the images with the highest OOD scores."""
    section = dict(record.metrics.get("ood") or {})
    if not section:
        return empty_section(ReportKind.OOD_NOT_MEASURED)
    section |= {"text": false_alarms_message(section), "noticed": new_class_message(section, len(record.class_names))}
    ood_score = record.scored.ood_score
    if ood_score is not None:
        section["highest_scores"] = _ordered(where[np.isfinite(ood_score[where])], -ood_score)[:_UNUSUAL]
    return section


def _label_errors(record: ClassifierRecord) -> dict[str, Any]:
    """Return the top rows of `label_errors.csv` as images with their nearest neighbors."""
    rows = record.label_errors
    if rows is None:
        return empty_section(ReportKind.LABEL_ERRORS_NOT_CHECKED)
    position = {name: i for i, name in enumerate(record.scored.names)}
    label_errors = [r for r in rows if r.get("is_label_error") == "true"]
    held_out = sum(r.get("split") in ("val", "test") for r in label_errors)
    shown = []
    for row in label_errors[:_LABEL_ERRORS] or list(rows)[:_LEAST_FITTING]:
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


def _too_few(kind: ReportKind, where: Ids) -> ReportFinding:
    return ReportFinding(kind, evidence={"num_scored": len(where)})


def _bins(probabilities: NDArray[np.float64], class_ids: Ids) -> list[dict[str, Any]]:
    return [
        {"confidence": b.confidence, "accuracy": b.accuracy, "low": b.low, "high": b.high, "count": b.num_samples}
        for b in reliability_diagram(probabilities, class_ids)
    ]


def _image(record: ClassifierRecord, i: int) -> dict[str, Any]:
    scored, names = record.scored, record.class_names
    if i >= len(scored):
        name, label = record.unscored[i - len(scored)]
        return {"name": name, "label": label, "prediction": None, "confidence": None, "split": "excluded"}
    return {
        "name": scored.names[i],
        "label": names[scored.class_ids[i]],
        "prediction": names[scored.predicted[i]],
        "confidence": round(float(scored.confidence[i]), 4),
        **(
            {}
            if scored.ood_score is None or np.isnan(scored.ood_score[i])
            else {"ood_score": round(float(scored.ood_score[i]), 2)}
        ),
        "split": str(scored.split[i]),
    }


def _shown(report: Mapping[str, Any]) -> set[int]:
    """Return the positions of all images in the report."""
    positions = {i for members in report["data"]["samples"] for i in members}
    positions |= {i for cell in report["confusion"]["cells"] for i in cell["images"]}
    positions |= {*report["errors"]["wrong"], *report["errors"]["unsure"]}
    positions |= {p[k] for p in report["data"]["duplicates"]["pairs"] for k in ("a", "b")}
    positions |= set(report["ood"].get("highest_scores", ()))
    for row in report["label_errors"].get("shown", ()):
        positions |= {row["image"], *row.get("neighbors", ())}
    return positions


def _attribution(maps: AttributionMaps | ReportFinding | None) -> dict[str, Any]:
    """Return the `attribution` section: the control and its explanation, or the reason why there are no maps."""
    if not isinstance(maps, AttributionMaps):
        return empty_section(maps or ReportFinding(ReportKind.ATTRIBUTION_NOT_MEASURED))
    evidence = {"similarity": maps.similarity, "threshold": MAX_SIMILARITY}
    section = {**evidence, "num_controls": maps.num_controls, "blocks": list(maps.blocks)}
    if not maps.is_valid:
        return {**section, **empty_section(ReportFinding(ReportKind.ATTRIBUTION_CONTROL_FAILED, evidence=evidence))}
    return {**section, "text": attribution_message(maps.blocks, maps.similarity)}


def curve_section(curve: LearningCurve | ReportFinding | None, class_names: Sequence[str]) -> dict[str, Any]:
    """Return the `learning_curve` section; `now`, `doubled` and `gain` are fractions, rounded consistently."""
    if not isinstance(curve, LearningCurve):
        return empty_section(curve or ReportFinding(ReportKind.CURVE_NOT_MEASURED))
    _, low, high = curve.gains[0]
    now, doubled = round(curve.fitted.value, 3), round(curve.forecast[0].value, 3)
    numbers = {
        "metric": "accuracy",
        "measured": curve.points[-1].value,
        "now": now,
        "doubled": doubled,
        "gain": round(doubled - now, 3),
        "low": min(low, doubled - now),
        "high": max(high, doubled - now),
        "num_now": curve.fitted.num_samples,
        "num_doubled": curve.forecast[0].num_samples,
    }
    known = [(name, g) for name, g in zip(class_names, curve.per_class, strict=True) if g is not None]
    per_class = [{"name": n, "gain": g[0], "low": g[1], "high": g[2]} for n, g in known]
    return {
        **numbers,
        "text": curve_message(numbers),
        "series": [_series("measured", curve.points), _series("forecast", (curve.fitted, *curve.forecast))],
        "per_class": per_class,
        "classes_text": class_gains_message(per_class),
    }


def _series(name: str, points: tuple[CurvePoint, ...]) -> dict[str, Any]:
    return {
        "name": name,
        "x": [p.num_samples for p in points],
        "y": [p.value for p in points],
        "low": [p.low for p in points],
        "high": [p.high for p in points],
    }
