"""Turn a dataset report into findings (leaks, conflicts, duplicates, groups, shortcuts, unusual files) and JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from headstart.data.problem_findings import unreadable_findings
from headstart.messages.findings import finding_to_json
from headstart.messages.shortcuts import shortcut_message
from headstart.types.codes import Evidence, Finding, FindingKind, GroupStatus, Severity
from headstart.types.records import DatasetReport, GroupPattern, ImagePair
from headstart.utils.serialization import plain

__all__ = ["dataset_findings", "report_to_json"]

_EXAMPLES = 5
_NARROW_CROP = 0.55  # fraction of the median image below which a center crop is reported
_ORDER = ("train", "val", "test")


def dataset_findings(report: DatasetReport) -> list[Finding]:
    """Return all findings of a check, those that distort a score first."""
    return [
        *_leaks(report),
        *_conflicts(report.label_conflicts),
        *unreadable_findings(report.unreadable),
        *report.findings,
        *_groups(report.group_patterns),
        *_duplicates([*report.duplicates, *report.near_duplicates]),
        *(Finding(FindingKind.SHORTCUT, Severity.WARNING, plain(asdict(s))) for s in report.shortcuts),
        *(
            Finding(
                FindingKind.FILES_HANDLED,
                Severity.INFO,
                {"what": r.kind, "count": r.count, "detail": r.detail, "examples": list(r.examples)},
            )
            for r in report.handled_files
        ),
        *_narrow_crop(report),
    ]


def report_to_json(report: DatasetReport) -> dict[str, Any]:
    """Return a JSON-able report; `leaks` and the like name images relative to the data folder."""
    value = asdict(report)
    value["schema"] = 1
    value["findings"] = [finding_to_json(f) for f in dataset_findings(report)]
    value["shortcuts"] = [{**row, "message": shortcut_message(row)} for row in value["shortcuts"]]
    value["group_patterns"] = [
        {**row, "status": p.status.value, "accepted": p.accepted, "is_used": p.is_used}
        for row, p in zip(value["group_patterns"], report.group_patterns, strict=True)
    ]
    for key in ("duplicates", "near_duplicates", "leaks", "label_conflicts"):
        value[key] = [{k: v for k, v in pair.items() if not k.startswith("index_")} for pair in value[key]]
    value["counts"] = {
        "unreadable": len(report.unreadable),
        "unreadable_by_kind": dict(Counter(p.kind for p in report.unreadable)),
        "duplicates": len(report.duplicates),
        "near_duplicates": len(report.near_duplicates),
        "leaks": len(report.leaks),
        "label_conflicts": len(report.label_conflicts),
    }
    return dict(plain(value))


def _leaks(report: DatasetReport) -> list[Finding]:
    """Return one finding per pair of splits that share images."""
    by_sides: dict[tuple[str, str], list[ImagePair]] = defaultdict(list)
    for pair in report.leaks:
        first, second = sorted((pair.split_a or "train", pair.split_b or "train"), key=_ORDER.index)
        by_sides[first, second].append(pair)
    has_test = any("test" in row for row in report.classes.values())
    return [
        Finding(
            FindingKind.LEAKING_IMAGES,
            Severity.ERROR,
            {
                "split": second,
                "other_split": first,
                "count": len({p.index_a if p.split_a == second else p.index_b for p in pairs}),
                "pairs": [[p.a, p.b] for p in pairs[:_EXAMPLES]],
                "is_headline": second == "test" or not has_test,
            },
        )
        for (first, second), pairs in by_sides.items()
    ]


def _conflicts(pairs: Sequence[ImagePair]) -> list[Finding]:
    if not pairs:
        return []
    evidence: Evidence = {
        "count": len(pairs),
        "pairs": [[p.a, p.label_a, p.b, p.label_b] for p in pairs[:_EXAMPLES]],
    }
    return [Finding(FindingKind.LABEL_CONFLICTS, Severity.ERROR, evidence)]


def _duplicates(pairs: Sequence[ImagePair]) -> list[Finding]:
    by_kind: dict[str, list[ImagePair]] = defaultdict(list)
    for pair in pairs:
        by_kind[pair.kind].append(pair)
    return [
        Finding(
            FindingKind.DUPLICATE_IMAGES,
            Severity.INFO,
            {"pair_kind": kind, "count": len(same), "pairs": [[p.a, p.b] for p in same[:_EXAMPLES]]},
        )
        for kind, same in by_kind.items()
    ]


def _groups(patterns: Iterable[GroupPattern]) -> list[Finding]:
    """Return a finding for each proposed grouping; questions are already among the findings of the report."""
    findings = []
    for pattern in patterns:
        if pattern.status.is_question:
            continue
        kind = {
            GroupStatus.APPLIED: FindingKind.GROUPS_APPLIED,
            GroupStatus.ALTERNATIVE: FindingKind.GROUPS_NOT_APPLIED,
        }.get(pattern.status, FindingKind.GROUPS_REJECTED)
        findings.append(Finding(kind, Severity.INFO, plain(asdict(pattern))))
    return findings


def _narrow_crop(report: DatasetReport) -> list[Finding]:
    crop = report.overlap_fraction.get("crop", 1.0)
    if crop >= _NARROW_CROP:
        return []
    return [
        Finding(FindingKind.NARROW_CROP, Severity.WARNING, {"crop": crop, "cover": report.overlap_fraction["cover"]})
    ]
