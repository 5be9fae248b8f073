"""Turn the check of images with boxes into findings and JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from headstart.messages.findings import finding_to_json
from headstart.messages.reading import reading_to_json
from headstart.quality.box_inspection import BoxReport, is_dropped
from headstart.quality.report_findings import dataset_findings, report_to_json
from headstart.types.codes import Evidence, Finding, FindingKind, Severity
from headstart.types.records import Problem

__all__ = ["box_findings", "box_problem_findings", "box_report_to_json"]

_EXAMPLES = 5
_DOUBTED = ("orientation-unknown",)  # boxes that may be wrong


def box_findings(report: BoxReport) -> list[Finding]:
    """Return all findings of a check: about the images, the classes, and the annotations."""
    images = replace(report.images, findings=report.findings)
    return [*dataset_findings(images), *box_problem_findings(report.problems)]


def box_problem_findings(problems: Iterable[Problem]) -> list[Finding]:
    """Return one finding for each kind of problem: what is lost first, then the most frequent."""
    by_kind: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_kind[problem.kind].append(problem)
    findings = []
    for kind, same in sorted(by_kind.items(), key=lambda item: (not is_dropped(item[0]), -len(item[1]))):
        code, severity = (
            (FindingKind.ANNOTATIONS_NOT_USED, Severity.ERROR)
            if is_dropped(kind)
            else (FindingKind.ANNOTATIONS_CORRECTED, Severity.WARNING if kind in _DOUBTED else Severity.INFO)
        )
        evidence: Evidence = {
            "problem": kind,
            "count": len(same),
            "examples": [p.name for p in same[:_EXAMPLES]],
            "detail": same[0].detail,
        }
        findings.append(Finding(code, severity, evidence))
    return findings


def box_report_to_json(report: BoxReport) -> dict[str, Any]:
    """Return the report as a JSON-able value."""
    return {
        "schema": 1,
        "task": "detect",
        "layout": report.layout,
        "num_images": report.num_images,
        "num_boxes": report.num_boxes,
        "num_empty": report.num_empty,
        "classes": [asdict(c) | {"side_range": list(c.side_range)} for c in report.classes],
        "problems": [asdict(p) for p in report.problems],
        "counts": dict(Counter(p.kind for p in report.problems)),
        "images": report_to_json(report.images),
        "findings": [finding_to_json(f) for f in box_findings(report)],
        **reading_to_json(report.notes),
        "is_misleading": report.is_misleading,
    }
