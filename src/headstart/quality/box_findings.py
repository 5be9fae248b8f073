"""Turn the check of images with boxes into findings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from headstart.quality.box_inspection import BoxReport, is_dropped
from headstart.quality.report_findings import dataset_findings
from headstart.types.codes import Evidence, Finding, FindingKind, Severity
from headstart.types.records import Problem

__all__ = ["box_findings", "box_problem_findings"]

_EXAMPLES = 5


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
            else (FindingKind.ANNOTATIONS_CORRECTED, Severity.INFO)
        )
        evidence: Evidence = {
            "problem": kind,
            "count": len(same),
            "examples": [p.name for p in same[:_EXAMPLES]],
            "detail": same[0].detail,
        }
        findings.append(Finding(code, severity, evidence))
    return findings
