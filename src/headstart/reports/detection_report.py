"""Summarize a detector's run as sections of `report.json`, from which page, texts and figures are rendered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from headstart.detection.operating_points import ERRORS, confuse
from headstart.events import Note
from headstart.messages.box_problems import box_problem_name
from headstart.messages.comment import empty_section, report_finding_to_json
from headstart.messages.detection_comment import (
    NO_DETECTION_SCORE,
    detection_headline_message,
    detection_protocol_message,
)
from headstart.messages.notes import note_to_json
from headstart.messages.protocols import protocol_name
from headstart.reports.record import BLOCKS, DetectorRecord, headline_block, parse_number
from headstart.types.codes import EvaluationSetup, NoteKind, Severity
from headstart.types.report import ReportFinding, ReportKind

__all__ = ["comment_on_detector", "detector_sections", "hide_box_images"]

_SIDES = (0.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, float("inf"))
_SHOWN = 12
_WIDE = 0.15  # maximum width of a useful 95 % CI
_WEAK = 0.15  # weak class: AP50 below the best class by this much
_FEW = 50  # boxes of a class below which more images are recommended first
_SMALL = 0.3  # fraction of boxes under 16 pixels above which a larger input helps
_MOSTLY = 0.6  # fraction of all errors above which one kind is reported

_ERRORS = {
    "false_negatives": ReportKind.MOSTLY_FALSE_NEGATIVES,
    "false_positives": ReportKind.MOSTLY_FALSE_POSITIVES,
    "misclassified": ReportKind.MOSTLY_MISCLASSIFIED,
}


def detector_sections(record: DetectorRecord, seed: int) -> dict[str, Any]:
    """Return the sections of a detector's report as JSON values.

    Args:
        record: The finished run.
        seed: Random seed of the sample images.
    """
    metrics, names = record.metrics, list(record.class_names)
    headline = headline_block(metrics)
    block: Mapping[str, Any] = headline[1] if headline else {}
    thresholds = (record.bundle.get("thresholds") or {}).get("per_class") or {}
    long = ("per_class", "confusion", "precision_at_recall")
    sections: dict[str, Any] = {
        "class_names": names,
        "headline": _headline(metrics, headline),
        "data": _data(record, names),
        "model": _model(record),
        "learning": _learning(record),
        "scores": [
            {"name": BLOCKS[b], "key": b, **{k: v for k, v in metrics[b].items() if k not in long}}
            for b in BLOCKS
            if metrics.get(b)
        ],
        "per_class": [
            {k: v for k, v in c.items() if k not in long} | {"used_threshold": thresholds.get(c["name"])}
            for c in block.get("per_class", [])
        ],
        "curves": _pr_curves(block),
        "confusion": _confusion(block),
        **_images(record, names, block, seed),
    }
    sections["comment"] = {"findings": [report_finding_to_json(f) for f in comment_on_detector(sections)]}
    return sections


def hide_box_images(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections that name files or show images without them."""
    data = report["data"]
    return {
        "samples": [],
        "errors": {**report["errors"], "shown": []},
        "data": {
            **data,
            "problems": [{**row, "examples": []} for row in data["problems"]],
            "findings": [{key: row[key] for key in ("kind", "severity")} for row in data["findings"]],
        },
        "comment": {"findings": [row for row in report["comment"]["findings"] if not _names_files(row["evidence"])]},
    }


def _names_files(evidence: Mapping[str, Any]) -> bool:
    """Return whether the evidence of a finding, or of its dataset finding, may contain file names."""
    return not {"pairs", "examples", "file"}.isdisjoint({*evidence, *(evidence.get("evidence") or {})})


def _headline(metrics: Mapping[str, Any], headline: tuple[str, Mapping[str, Any]] | None) -> dict[str, Any]:
    if headline is None:
        return {"sentence": NO_DETECTION_SCORE, "protocol": "", "score": None}
    name, block = headline
    value, is_leaky = block["mAP50"], bool(block.get("is_leaky"))
    including_leaks = (metrics.get(f"{name}_including_leaks") or {}).get("mAP50")
    setup = EvaluationSetup.from_json(block)
    score = {"metric": "mAP50", **value}
    return {
        "sentence": detection_headline_message(block, name),
        "protocol": detection_protocol_message(block, protocol_name(setup)),
        "score": score,
        "block": name,
        "including_leaks": including_leaks,
        "is_leaky": is_leaky,
    }


def _data(record: DetectorRecord, names: Sequence[str]) -> dict[str, Any]:
    """Count the boxes of each class by split and by size."""
    counts: dict[str, list[int]] = {}
    sides = np.zeros((len(names), len(_SIDES) - 1), dtype=np.int64)
    training = record.training
    for split, boxes in training:
        row = counts.setdefault(split or "all", [0] * len(names))
        side = np.sqrt(boxes.areas)
        for k in range(len(names)):
            mine = boxes.class_ids == k
            row[k] += int(mine.sum())
            sides[k] += np.histogram(side[mine], bins=_SIDES)[0]
    labels = [f"{low:g}-{high:g}" if np.isfinite(high) else f"over {low:g}" for low, high in pairwise(_SIDES)]
    order = [s for s in ("train", "val", "test", "all") if s in counts]
    kinds = Counter(str(p.get("kind")) for p in record.dataset_report.get("problems", []))
    examples = {k: [p for p in record.dataset_report.get("problems", []) if p.get("kind") == k][:10] for k in kinds}
    return {
        "num_images": record.metrics.get("num_samples"),
        "num_boxes": record.metrics.get("num_boxes"),
        "num_groups": record.metrics.get("num_groups"),
        "num_empty": record.dataset_report.get("num_empty"),
        "layout": record.dataset_report.get("layout"),
        "counts": {s: counts[s] for s in order},
        "sides": {"labels": labels, "counts": sides.tolist()} if training else None,
        "after_resizing": record.metrics.get("sizes"),
        "problems": [
            {"kind": k, "meaning": box_problem_name(k, n), "count": n, "examples": examples[k]}
            for k, n in kinds.most_common()
        ],
        "findings": list(record.dataset_report.get("findings", [])),
    }


def _model(record: DetectorRecord) -> dict[str, Any]:
    backbone, plan = record.bundle.get("backbone") or {}, (record.metrics.get("finetune") or {}).get("plan") or {}
    pixels = record.bundle.get("pixels") or {}
    latency = record.bundle.get("latency") or {}
    files = record.bundle.get("files") or {}
    return {
        "title": backbone.get("title") or record.metrics.get("backbone"),
        "weights_tag": backbone.get("weights_tag"),
        "weights_license": record.bundle.get("weights_license"),
        "size_hw": pixels.get("size_hw"),
        "strategy": record.metrics.get("strategy"),
        "train_from": plan.get("train_from"),
        "fpn_channels": plan.get("fpn_channels"),
        "head_depth": plan.get("head_depth"),
        "min_stride": plan.get("min_stride"),
        "latency_ms": latency.get("p50_ms"),
        "latency_threads": latency.get("num_threads"),
        "size_bytes": (files.get("model.onnx") or {}).get("size_bytes"),
    }


def _learning(record: DetectorRecord) -> dict[str, Any]:
    """Return columns of `results.csv` of the final training phase (folds are separate phases)."""
    rows = list(record.epochs)
    phases = [str(r.get("phase") or "") for r in rows]
    last = phases[-1] if phases else ""
    rows = [r for r, phase in zip(rows, phases, strict=True) if phase == last]
    if not rows:
        return {**empty_section(ReportKind.NO_EPOCHS_KEPT), "epochs": {}}
    columns = {}
    for name in ("epoch", "train_loss", "class_loss", "box_loss", "val_mAP50", "lr"):
        values = [parse_number(r.get(name)) for r in rows]
        if any(v is not None for v in values):
            columns[name] = values
    return {"epochs": columns}


def _pr_curves(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    curves = []
    for entry in block.get("per_class", []):
        precision = entry.get("precision_at_recall")
        if precision:
            ap = (entry.get("AP50") or {}).get("value")
            curves.append({"name": entry["name"], "AP50": ap, "recall": list(range(101)), "precision": precision})
    return sorted(curves, key=lambda c: -(c["AP50"] or 0.0))


def _confusion(block: Mapping[str, Any]) -> dict[str, Any] | None:
    value = block.get("confusion")
    if not value:
        return None
    counts = np.asarray(value["counts"], dtype=np.float64)
    rates = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return {**value, "rates": np.round(rates, 4).tolist()}


def _images(record: DetectorRecord, names: Sequence[str], block: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Select images for the report, those with most errors at the thresholds and random ones, with their boxes.

    Totals are from `metrics.json`; if the labels have changed since, a problem reports the difference.
    """
    confusion = dict(block.get("confusion") or {})
    limits = np.array(confusion.get("thresholds") or [0.5] * len(names), dtype=np.float64)
    scored = record.scored
    usable = [i for i, p in enumerate(scored) if p.ground_truth is not None and p.size_hw is not None]
    ground_truth = [boxes for i in usable if (boxes := scored[i].ground_truth) is not None]
    again = confuse(ground_truth, [scored[i].predictions for i in usable], names, limits.tolist())
    errors = np.zeros((len(scored), len(ERRORS)), dtype=np.int64)
    errors[usable] = again.errors
    totals = dict(confusion.get("errors") or dict.fromkeys((*ERRORS, "num_images", "num_images_with_errors"), 0))
    problems = []
    if len(usable) == totals["num_images"] and again.to_json()["errors"] != totals:
        problems.append(note_to_json(Note(NoteKind.LABELS_CHANGED, Severity.WARNING)))
    order = sorted(usable, key=lambda i: (-int(errors[i].sum()), i))
    worst = [i for i in order if errors[i].any()][:_SHOWN]
    rest = [i for i in usable if i not in worst]
    drawn = np.random.default_rng([seed, 3]).permutation(len(rest))[:_SHOWN]
    random = sorted(rest[j] for j in drawn)
    shown = {}
    for i in (*worst, *random):
        image = scored[i]
        assert image.ground_truth is not None
        assert image.size_hw is not None
        predictions = image.predictions.take(image.predictions.scores >= limits[image.predictions.class_ids])
        shown[str(i)] = {
            "name": image.name,
            "size_hw": list(image.size_hw),
            "ground_truth": _rows(image.ground_truth.xyxy, image.ground_truth.class_ids, None),
            "predictions": _rows(predictions.xyxy, predictions.class_ids, predictions.scores),
            **{kind: int(count) for kind, count in zip(ERRORS, errors[i], strict=True)},
        }
    return {
        "images": shown,
        "samples": random,
        "errors": {"shown": worst, **totals},
        "problems": problems,
    }


def _rows(xyxy: Any, class_ids: Any, scores: Any) -> list[dict[str, Any]]:
    rows = []
    for j in range(len(xyxy)):
        row: dict[str, Any] = {"class_id": int(class_ids[j]), "xyxy": [round(float(v), 1) for v in xyxy[j]]}
        if scores is not None:
            row["score"] = round(float(scores[j]), 4)
        rows.append(row)
    return rows


def comment_on_detector(report: Mapping[str, Any]) -> list[ReportFinding]:
    """Return the findings of a detector's sections."""
    findings = [*_score_findings(report), *_weak_classes(report), *_error_findings(report)]
    shown = report["data"]["findings"][:5]
    keys = ("kind", "severity", "evidence")
    findings += [_problem(ReportKind.DATA_FINDING, {key: row[key] for key in keys}) for row in shown]
    return findings or [ReportFinding(ReportKind.NOTHING_FOUND)]


def _problem(kind: ReportKind, evidence: Mapping[str, Any]) -> ReportFinding:
    return ReportFinding(kind, Severity.WARNING, evidence)


def _score_findings(report: Mapping[str, Any]) -> Iterator[ReportFinding]:
    """Report a wide interval, and boxes that are located inaccurately."""
    low, high = ((report["headline"].get("score") or {}).get(end) for end in ("low", "high"))
    if low is not None and high is not None and high - low >= _WIDE:
        yield _problem(ReportKind.WIDE_INTERVAL, {"low": low, "high": high})
    block: Mapping[str, Any] = next(iter(report["scores"]), {})
    half, strict = ((block.get(key) or {}).get("value") for key in ("mAP50", "mAP75"))
    if half is not None and strict is not None and half >= 0.5 and strict <= 0.5 * half:
        yield _problem(ReportKind.LOOSE_BOXES, {"map50": half, "map75": strict})


def _error_findings(report: Mapping[str, Any]) -> Iterator[ReportFinding]:
    """Report the kind of most errors."""
    counts = {kind: report["errors"][key] for key, kind in _ERRORS.items()}
    total = sum(counts.values())
    for kind, count in counts.items():
        if total >= 10 and count > _MOSTLY * total:
            yield _problem(kind, {"count": count, "num_errors": total})


def _weak_classes(report: Mapping[str, Any]) -> Iterator[ReportFinding]:
    """Report classes whose AP50 is far below that of the best one."""
    scored = [(c["name"], c["AP50"]["value"]) for c in report["per_class"] if c["AP50"].get("value") is not None]
    if len(scored) < 2:
        return
    best = max(value for _, value in scored)
    train = report["data"]["counts"].get("train") or report["data"]["counts"].get("all")
    for name, value in sorted(scored, key=lambda c: c[1])[:3]:
        if value > best - _WEAK:
            continue
        num_boxes = None if train is None else train[report["class_names"].index(name)]
        evidence = {
            "class": name,
            "ap50": value,
            "best_ap50": best,
            "num_boxes": num_boxes if num_boxes is not None and num_boxes < _FEW else None,
            "small_fraction": _share_small(report, name),
        }
        yield _problem(ReportKind.WEAK_CLASS, evidence)


def _share_small(report: Mapping[str, Any], name: str) -> float | None:
    """Return the fraction of boxes of a class under 16 pixels at the input size; None below `_SMALL`."""
    sizes = report["data"].get("after_resizing") or {}
    if name not in (sizes.get("names") or ()):
        return None
    row = sizes["counts"][sizes["names"].index(name)]
    total = sum(row)
    fraction = (row[0] + row[1]) / total if total else 0.0
    return fraction if fraction >= _SMALL else None
