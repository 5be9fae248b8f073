"""Check images with boxes: the images as any dataset, and the boxes by rules of their own.

Nothing is changed. Annotations fixed or dropped by the reader are counted and listed, and anything that makes a score
misleading (duplicates across splits, a class that cannot be learned, lost boxes) marks the report as misleading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import KEPT_PROBLEMS, Boxes, DetectionSamples
from headstart.data.boxes.split import as_samples, rarest_class
from headstart.data.image_scan import ScanResult
from headstart.quality.inspection import AppliedReport, apply_report, inspect_dataset
from headstart.types.codes import Evidence, Finding, FindingKind, JsonValue, ReadingNote, Severity
from headstart.types.inventory import Inventory
from headstart.types.records import DatasetReport, Problem
from headstart.utils.limits import MAX_PIXELS

__all__ = ["BoxReport", "ClassBoxes", "apply_box_report", "inspect_box_dataset", "is_dropped"]

_FEW = 10  # boxes of a class below which little can be learned or measured
_IMBALANCE = 10.0
_SAME_BOX = 0.5  # overlap from which two annotations of one object agree
_BOX_PROBLEMS = ("rotated",)  # reported among the box problems


@dataclass(frozen=True, slots=True)
class ClassBoxes:
    """Boxes of one class.

    Attributes:
        name: Its name.
        boxes: Number of boxes by split (`none` without one).
        images: Number of images.
        split_images: The same by split.
        median_side: Median of the square root of the area, pixels.
        side_range: 5 % and 95 % quantile of the same.
    """

    name: str
    boxes: dict[str, int]
    images: int
    split_images: dict[str, int]
    median_side: float
    side_range: tuple[float, float]


@dataclass(frozen=True)
class BoxReport:
    """Report on a dataset with boxes.

    Attributes:
        num_images, num_boxes, num_empty: Images, boxes, and images without objects.
        layout: The format.
        classes: One entry per class.
        problems: Annotations that the reader fixed or dropped.
        images: Report on the images: unreadable files, duplicates, leaks, groups.
        findings: Further findings about images and boxes, those about the images first.
        notes: Assumptions of the reader, and data that it does not use.
        inventory: Which files were used, and why the others were not.
        is_misleading: Whether a score on these data would be misleading, or boxes or files are lost.
    """

    num_images: int
    num_boxes: int
    num_empty: int
    layout: str
    classes: tuple[ClassBoxes, ...]
    problems: tuple[Problem, ...]
    images: DatasetReport
    findings: tuple[Finding, ...]
    notes: tuple[ReadingNote, ...]
    inventory: Inventory
    is_misleading: bool


def inspect_box_dataset(
    samples: DetectionSamples,
    *,
    scan: ScanResult | None = None,
    max_pixels: int = MAX_PIXELS,
    num_threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    group_from: str | None = None,
) -> BoxReport:
    """Check images with boxes.

    Args:
        samples: The images with their boxes.
        scan, max_pixels, threads, progress, group_from: As in `data.inspection.inspect_dataset`.
    """
    plain = as_samples(samples, is_labeled=False)
    report = inspect_dataset(
        plain,
        scan=scan,
        max_pixels=max_pixels,
        num_threads=num_threads,
        progress=progress,
        group_from=group_from,
        strata=rarest_class(samples),
    )
    handled_files = tuple(r for r in report.handled_files if r.kind not in _BOX_PROBLEMS)
    images = replace(report, handled_files=handled_files, overlap_fraction={})
    classes = _classes(samples)
    findings = (
        *report.findings,
        *_conflicting_duplicates(samples, report),
        *_find_class_problems(samples, classes),
    )
    is_misleading = any(f.severity is Severity.ERROR for f in findings)
    has_losses = any(is_dropped(p.kind) for p in samples.problems)
    return BoxReport(
        num_images=len(samples),
        num_boxes=samples.num_boxes,
        num_empty=sum(not len(b) for b in samples.boxes),
        layout=samples.layout,
        classes=classes,
        problems=samples.problems,
        images=images,
        findings=findings,
        notes=samples.notes,
        inventory=samples.inventory,
        is_misleading=bool(has_losses or is_misleading or report.unreadable or report.leaks),
    )


def is_dropped(kind: str) -> bool:
    """Return whether a kind of problem loses a box or file; other kinds were fixed or are only reported."""
    return kind not in KEPT_PROBLEMS


def apply_box_report(samples: DetectionSamples, report: BoxReport, *, group_from: str | None = None) -> AppliedReport:
    """Return what training keeps together and excludes, and the scored images without leaks.

    Raises:
        UsageError: `group_from` matches nothing.
    """
    return apply_report(as_samples(samples, is_labeled=False), report.images, group_from=group_from)


def _conflicting_duplicates(samples: DetectionSamples, report: DatasetReport) -> list[Finding]:
    """Find duplicate images with different boxes: at least one of the two annotations is wrong."""
    names: list[JsonValue] = []
    for pair in report.duplicates:
        a, b = samples.boxes[pair.index_a], samples.boxes[pair.index_b]
        if not (_are_matched(a, b) and _are_matched(b, a)):
            names.append([pair.a, pair.b])
    if not names:
        return []
    return [Finding(FindingKind.DUPLICATES_WITH_OTHER_BOXES, Severity.WARNING, {"pairs": names})]


def _are_matched(boxes: Boxes, others: Boxes) -> bool:
    """Return whether each box overlaps one of its class among the others."""
    for box, class_id in zip(boxes.xyxy, boxes.class_ids, strict=True):
        rest = others.xyxy[others.class_ids == class_id].astype(np.float64)
        sides = np.clip(np.minimum(rest[:, 2:], box[2:]) - np.maximum(rest[:, :2], box[:2]), 0, None)
        shared = sides.prod(axis=1)
        union = (rest[:, 2:] - rest[:, :2]).prod(axis=1) + float(np.prod(box[2:] - box[:2])) - shared
        if not (shared >= _SAME_BOX * union).any():
            return False
    return True


def _classes(samples: DetectionSamples) -> tuple[ClassBoxes, ...]:
    class_boxes = []
    for k, name in enumerate(samples.class_names):
        counts: Counter[str] = Counter()
        sides: list[NDArray[np.float64]] = []
        images: Counter[str] = Counter()
        for boxes, split in zip(samples.boxes, samples.split, strict=True):
            mine = (boxes.class_ids == k) & ~boxes.is_crowd
            if mine.any():
                counts[split or "none"] += int(mine.sum())
                images[split or "none"] += 1
                sides.append(np.sqrt(boxes.areas[mine]))
        every = np.concatenate(sides) if sides else np.zeros(1)
        low, middle, high = (round(float(v), 1) for v in np.quantile(every, (0.05, 0.5, 0.95)))
        class_boxes.append(ClassBoxes(name, dict(counts), images.total(), dict(images), middle, (low, high)))
    return tuple(class_boxes)


def _find_class_problems(samples: DetectionSamples, classes: tuple[ClassBoxes, ...]) -> list[Finding]:
    """Find classes that cannot be learned or measured; severity ERROR where a score would be misleading."""
    findings: list[Finding] = []

    def add(kind: FindingKind, evidence: Evidence, severity: Severity = Severity.WARNING) -> None:
        findings.append(Finding(kind, severity, evidence))

    splits = set(samples.split) - {""}
    for entry in classes:
        in_training = entry.boxes.get("train", 0) + (entry.boxes.get("none", 0) if not splits else 0)
        count = sum(entry.boxes.values())
        base: dict[str, str] = {"class": entry.name}
        if splits and not in_training:
            where = sorted(s for s in entry.boxes if s != "none")
            add(FindingKind.CLASS_NOT_IN_TRAIN, {**base, "splits": where}, Severity.ERROR)
        elif "test" in splits and not entry.boxes.get("test", 0):
            add(FindingKind.CLASS_NOT_IN_TEST, base)
        elif count < _FEW:
            add(FindingKind.CLASS_TOO_SMALL, {**base, "count": count, "minimum": _FEW, "unit": "boxes"})
    counts = [sum(c.boxes.values()) for c in classes]
    if len(counts) > 1 and max(counts) > _IMBALANCE * min(counts):
        evidence: Evidence = {
            "largest_class": classes[int(np.argmax(counts))].name,
            "largest_count": max(counts),
            "smallest_class": classes[int(np.argmin(counts))].name,
            "smallest_count": min(counts),
            "unit": "boxes",
            "metric": "map",
        }
        add(FindingKind.CLASS_IMBALANCE, evidence)
    return findings
