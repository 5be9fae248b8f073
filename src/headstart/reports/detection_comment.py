"""Derive the findings of a detector report from its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.types.codes import Severity
from headstart.types.report import ReportFinding, ReportKind

__all__ = ["comment_on_detector"]

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


def comment_on_detector(report: Mapping[str, Any]) -> list[ReportFinding]:
    """Return the findings of `report.json`."""
    findings = [*_interval(report), *_weak_classes(report), *_errors(report), *_overlap(report)]
    findings += [
        _problem(ReportKind.DATA_FINDING, **{key: row[key] for key in ("kind", "severity", "evidence")})
        for row in report["data"]["findings"][:5]
    ]
    return findings or [ReportFinding(ReportKind.NOTHING_FOUND)]


def _problem(report_kind: ReportKind, **evidence: Any) -> ReportFinding:
    return ReportFinding(report_kind, Severity.WARNING, evidence)


def _interval(report: Mapping[str, Any]) -> list[ReportFinding]:
    score = report["headline"].get("score")
    if not score or score.get("low") is None or score.get("high") is None:
        return []
    if score["high"] - score["low"] < _WIDE:
        return []
    return [_problem(ReportKind.WIDE_INTERVAL, low=score["low"], high=score["high"])]


def _weak_classes(report: Mapping[str, Any]) -> list[ReportFinding]:
    scored = [(c["name"], c["AP50"]["value"]) for c in report["per_class"] if c["AP50"].get("value") is not None]
    if len(scored) < 2:
        return []
    best = max(value for _, value in scored)
    train = report["data"]["counts"].get("train") or report["data"]["counts"].get("all")
    findings = []
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
        findings.append(_problem(ReportKind.WEAK_CLASS, **evidence))
    return findings


def _share_small(report: Mapping[str, Any], name: str) -> float | None:
    """Return the fraction of boxes of a class under 16 pixels at the input size; None below `_SMALL`."""
    sizes = report["data"].get("after_resizing") or {}
    if name not in (sizes.get("names") or ()):
        return None
    row = sizes["counts"][sizes["names"].index(name)]
    total = sum(row)
    fraction = (row[0] + row[1]) / total if total else 0.0
    return fraction if fraction >= _SMALL else None


def _errors(report: Mapping[str, Any]) -> list[ReportFinding]:
    e = report["errors"]
    total = sum(e[key] for key in _ERRORS)
    if total < 10:
        return []
    return [_problem(kind, count=e[key], num_errors=total) for key, kind in _ERRORS.items() if e[key] > _MOSTLY * total]


def _overlap(report: Mapping[str, Any]) -> list[ReportFinding]:
    block = next(iter(report["scores"]), None)
    if block is None:
        return []
    half, strict = (block.get(k, {}).get("value") for k in ("mAP50", "mAP75"))
    if half is None or strict is None or half < 0.5 or strict > 0.5 * half:
        return []
    return [_problem(ReportKind.LOOSE_BOXES, map50=half, map75=strict)]
