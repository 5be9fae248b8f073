"""Turn dataset reports, of images and of boxes, and the notes of the reader into findings, events and JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from headstart.data.problem_findings import problem_findings, unreadable_findings
from headstart.events import DatasetRead, Event, EventStream, FindingMade, Stage, StageStarted
from headstart.messages.findings import finding_to_json
from headstart.messages.reading import reading_to_json
from headstart.messages.shortcuts import shortcut_message
from headstart.types.codes import Evidence, Finding, FindingKind, GroupStatus, JsonValue, Severity
from headstart.types.records import DatasetReport, GroupPattern, ImagePair, Problem, Samples, SplitName
from headstart.utils.serialization import plain

if TYPE_CHECKING:
    from headstart.data.boxes.records import DetectionSamples
    from headstart.quality.box_inspection import BoxReport

__all__ = [
    "box_findings",
    "box_problem_findings",
    "box_report_to_json",
    "dataset_findings",
    "reading_events",
    "report_reading",
    "report_to_json",
]

_EXAMPLES = 5
_NARROW_CROP = 0.55  # fraction of the median image below which a center crop is reported
_DOUBTED = ("orientation-unknown",)  # boxes that may be wrong
_ORDER: tuple[SplitName, ...] = ("train", "val", "test")


def dataset_findings(report: DatasetReport) -> list[Finding]:
    """Return all findings of a check, those that distort a score first."""
    pairs: list[JsonValue] = [[p.a, p.label_a, p.b, p.label_b] for p in report.label_conflicts[:_EXAMPLES]]
    conflicts: Evidence = {"count": len(report.label_conflicts), "pairs": pairs}
    seen = {mode: report.overlap_fraction.get(mode, 1.0) for mode in ("crop", "cover")}
    return [
        *_leaks(report),
        *([Finding(FindingKind.LABEL_CONFLICTS, Severity.ERROR, conflicts)] if report.label_conflicts else []),
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
        *([Finding(FindingKind.NARROW_CROP, Severity.WARNING, seen)] if seen["crop"] < _NARROW_CROP else []),
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


def box_findings(report: BoxReport) -> list[Finding]:
    """Return all findings of a check: about the images, the classes, and the annotations."""
    images = replace(report.images, findings=report.findings)
    return [*dataset_findings(images), *box_problem_findings(report.problems)]


def box_problem_findings(problems: Iterable[Problem]) -> list[Finding]:
    """Return one finding for each kind of problem: what is lost first, then the most frequent."""
    from headstart.quality.box_inspection import is_dropped

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
        "layout": report.layout,
        "num_images": report.num_images,
        "num_boxes": report.num_boxes,
        "num_empty": report.num_empty,
        "classes": {
            c.name: {split: {"boxes": n, "images": c.split_images[split]} for split, n in c.boxes.items()}
            for c in report.classes
        },
        "class_boxes": [asdict(c) | {"side_range": list(c.side_range)} for c in report.classes],
        "problems": [asdict(p) for p in report.problems],
        "counts": dict(Counter(p.kind for p in report.problems)),
        "images": report_to_json(report.images),
        "findings": [finding_to_json(f) for f in box_findings(report)],
        **reading_to_json(report.notes, report.inventory),
        "is_misleading": report.is_misleading,
    }


def reading_events(samples: Samples | DetectionSamples, *, is_checked: bool = False) -> list[Event]:
    """Return events for the dataset, the notes of the reader, and the files and annotations that it cannot use.

    Args:
        samples: The samples.
        is_checked: Whether a dataset check follows, which reports the problems.
    """
    if isinstance(samples, Samples):
        given: Counter[str] = Counter(s.split for s in samples if s.split)
        num_unlabeled = sum(s.label is None for s in samples)
        num_groups, num_boxes = len({s.group for s in samples if s.group}), None
        problems = problem_findings(samples.problems)
    else:
        given = Counter(s for s in samples.split if s)
        num_unlabeled, num_groups, num_boxes = 0, 0, samples.num_boxes
        problems = box_problem_findings(samples.problems)
    dataset = DatasetRead(
        data=str(samples.root),
        layout=samples.layout,
        num_images=len(samples),
        class_names=samples.class_names,
        splits={name: given[name] for name in _ORDER if given[name]},
        num_unlabeled=num_unlabeled,
        num_groups=num_groups,
        num_boxes=num_boxes,
    )
    findings = (*samples.notes, *(() if is_checked else problems))
    return [dataset, *map(FindingMade, findings), StageStarted(Stage.SCAN)]


def report_reading(samples: Samples | DetectionSamples, events: EventStream, *, is_checked: bool = False) -> None:
    """Emit `reading_events`."""
    for event in reading_events(samples, is_checked=is_checked):
        events.emit(event)
