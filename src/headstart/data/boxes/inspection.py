"""The data doctor for images with boxes: the images judged as everywhere, the boxes by rules of their own.

It changes nothing.  What reading had to mend or leave out is counted and named here, and what would
make a score mislead (copies across the split, a class that cannot be learned, lost boxes) makes the data dishonest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.records import Boxes, DetectionSamples
from headstart.data.boxes.split import as_unlabeled_samples, rarest_class
from headstart.data.image_scan import ScanResult
from headstart.data.inspection import AppliedReport, apply_report, inspect_dataset
from headstart.limits import MAX_PIXELS
from headstart.records import DatasetReport, Problem
from headstart.types import Evidence, Finding, FindingKind, JsonValue, ReadingNote, Severity

__all__ = ["BoxReport", "ClassBoxes", "apply_box_report", "inspect_box_dataset", "is_dropped"]

_KEPT = frozenset(
    (
        *("assumed-format", "over-edge", "rotated", "scaled", "size-differs", "swapped"),
        *("twice", "two-classes", "two-splits", "unused-class"),
    )
)

_FEW = 10  # boxes of a class below which little can be learned or measured
_IMBALANCE = 10.0
_SAME_BOX = 0.5  # overlap from which two annotations of one object agree
_OWN_REMARKS = ("rotated",)  # said with what it means for the boxes


@dataclass(frozen=True, slots=True)
class ClassBoxes:
    """One class of boxes.

    Attributes:
        name: Its name.
        boxes: How many, by split (`none` without one).
        images: In how many images.
        median_side: Median of the square root of the area, pixels.
        side_range: 5 % and 95 % quantile of the same.
    """

    name: str
    boxes: dict[str, int]
    images: int
    median_side: float
    side_range: tuple[float, float]


@dataclass(frozen=True)
class BoxReport:
    """The judgement of a data set with boxes.

    Attributes:
        num_images, num_boxes, num_empty: Images, boxes, and images without objects.
        layout: The format.
        classes: One entry a class.
        problems: What reading mended or left out, each by name.
        images: The images' own judgement: unreadable files, copies, leaks, groups.
        findings: Further findings about images and boxes, those about the images first.
        notes: What the reader assumed and did not use.
        is_misleading: Whether a score on these data as they are would mislead, or boxes or files are lost.
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
    is_misleading: bool


def inspect_box_dataset(
    samples: DetectionSamples,
    *,
    scan: ScanResult | None = None,
    max_pixels: int = MAX_PIXELS,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    group_from: str | None = None,
) -> BoxReport:
    """Evaluate images with boxes.

    Args:
        samples: The images with their boxes.
        looks, max_pixels, threads, progress, group_from: As in `data.health.inspect`.
    """
    plain = as_unlabeled_samples(samples)
    report = inspect_dataset(
        plain,
        scan=scan,
        max_pixels=max_pixels,
        threads=threads,
        progress=progress,
        group_from=group_from,
        strata=rarest_class(samples),
    )
    remarks = tuple(r for r in report.remarks if r.kind not in _OWN_REMARKS)
    images = replace(report, remarks=remarks, overlap_fraction={})
    classes = _classes(samples)
    findings = (
        *report.findings,
        *_disagreeing_copies(samples, report),
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
        is_misleading=bool(has_losses or is_misleading or report.unreadable or report.leaks),
    )


def is_dropped(kind: str) -> bool:
    """Return whether a box or file is lost by a kind of problem; the other kinds were mended or are only reported."""
    return kind not in _KEPT


def apply_box_report(samples: DetectionSamples, report: BoxReport, *, group_from: str | None = None) -> AppliedReport:
    """Return what training does with a judgement: groups kept whole, images left out, scored images without leaks.

    Raises:
        UsageError: `group_from` fits nothing.
    """
    return apply_report(as_unlabeled_samples(samples), report.images, group_from=group_from)


def _disagreeing_copies(samples: DetectionSamples, report: DatasetReport) -> list[Finding]:
    """Find identical images with different boxes: at least one of the two annotations is wrong."""
    names: list[JsonValue] = []
    for pair in report.duplicates:
        a, b = samples.boxes[pair.index_a], samples.boxes[pair.index_b]
        if not (_are_found(a, b) and _are_found(b, a)):
            names.append([pair.a, pair.b])
    if not names:
        return []
    return [Finding(FindingKind.COPIES_WITH_OTHER_BOXES, Severity.WARNING, {"pairs": names})]


def _are_found(boxes: Boxes, others: Boxes) -> bool:
    """Return whether each box has one of its class among the others that shares most of its area."""
    for box, class_id in zip(boxes.xyxy, boxes.class_ids, strict=True):
        rest = others.xyxy[others.class_ids == class_id].astype(np.float64)
        sides = np.clip(np.minimum(rest[:, 2:], box[2:]) - np.maximum(rest[:, :2], box[:2]), 0, None)
        shared = sides.prod(axis=1)
        union = (rest[:, 2:] - rest[:, :2]).prod(axis=1) + float(np.prod(box[2:] - box[:2])) - shared
        if not (shared >= _SAME_BOX * union).any():
            return False
    return True


def _classes(samples: DetectionSamples) -> tuple[ClassBoxes, ...]:
    found = []
    for k, name in enumerate(samples.class_names):
        counts: Counter[str] = Counter()
        sides: list[NDArray[np.float64]] = []
        images = 0
        for boxes, split in zip(samples.boxes, samples.split, strict=True):
            mine = boxes.class_ids == k
            if mine.any():
                counts[split or "none"] += int(mine.sum())
                images += 1
                sides.append(np.sqrt(boxes.areas[mine]))
        every = np.concatenate(sides) if sides else np.zeros(1)
        low, middle, high = (round(float(v), 1) for v in np.quantile(every, (0.05, 0.5, 0.95)))
        found.append(ClassBoxes(name, dict(counts), images, middle, (low, high)))
    return tuple(found)


def _find_class_problems(samples: DetectionSamples, classes: tuple[ClassBoxes, ...]) -> list[Finding]:
    """Find classes that cannot be learned or measured; severity ERROR where a score would mislead."""
    found: list[Finding] = []

    def add(kind: FindingKind, evidence: Evidence, severity: Severity = Severity.WARNING) -> None:
        found.append(Finding(kind, severity, evidence))

    splits = set(samples.split) - {""}
    for entry in classes:
        in_training = entry.boxes.get("train", 0) + (entry.boxes.get("none", 0) if not splits else 0)
        count = sum(entry.boxes.values())
        about: dict[str, str] = {"class": entry.name}
        if splits and not in_training:
            where = sorted(s for s in entry.boxes if s != "none")
            add(FindingKind.CLASS_NOT_IN_TRAIN, {**about, "splits": where}, Severity.ERROR)
        elif "test" in splits and not entry.boxes.get("test", 0):
            add(FindingKind.CLASS_NOT_IN_TEST, about)
        elif count < _FEW:
            add(FindingKind.CLASS_TOO_SMALL, {**about, "count": count, "minimum": _FEW, "unit": "boxes"})
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
    return found
