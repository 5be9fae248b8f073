"""Tells the judgement of pictures with boxes: in plain words for the screen, the worst first, and as JSON.

The one decision: every kind of problem is one line that says how many and what was done, then the first ten by name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from headstart.data.boxes.judge import BoxHealth, ClassBoxes, is_lost
from headstart.data.report_findings import dataset_findings
from headstart.data.wording import finding_lines, health_to_json, one_line
from headstart.messages.findings import finding_to_json
from headstart.messages.numbers import pluralize
from headstart.messages.reading import reading_line, reading_to_json
from headstart.records import Problem
from headstart.types import Severity

__all__ = ["box_health_to_json", "box_lines", "meaning_of", "problem_lines"]

_SHOWN = 10
_KINDS = {
    "unreadable-image": "images cannot be read",
    "entity": "XML files declare entities or a document type, which is refused",
    "bad-xml": "XML files cannot be read",
    "bad-json": "entries of a JSON file cannot be used",
    "bad-line": "lines cannot be read as a box",
    "too-large": "files are larger than is allowed",
    "no-picture": "annotations belong to no picture",
    "no-pictures": "places in data.yaml lead to no picture",
    "no-annotation": "pictures have no annotation and are left out",
    "second-annotation": "annotations are for a picture that has one already; the first counts",
    "two-splits": "pictures are in two splits; the first counts",
    "no-class": "boxes have no class",
    "no-box": "objects have no box",
    "not-a-number": "boxes hold a value that is no finite number",
    "not-a-share": "YOLO lines have values outside [0, 1]",
    "no-area": "boxes have no area",
    "under-a-pixel": "boxes are smaller than a pixel",
    "outside": "boxes lie outside of their picture",
    "other-picture": "pictures have another size than their annotation says, with boxes outside; they are left out",
    "size-differs": "pictures have another size than their annotation says",
    "scaled": "pictures were scaled after they were annotated; their boxes were scaled with them",
    "rotated": "pictures with boxes are turned by their camera's note (EXIF)",
    "swapped": "boxes have their corners swapped; they were put in order",
    "over-edge": "boxes reach over the edge of their picture; they were cut",
    "twice": "boxes stand there twice; one of each was kept",
    "two-classes": "boxes have two classes; both were kept",
    "unused-class": "classes are declared but have no box; they are left out",
}


def box_lines(health: BoxHealth) -> list[str]:
    """Render the findings as lines of text: what distorts the score or is lost first."""
    notes = sorted(health.notes, key=lambda note: note.severity is Severity.INFO)
    num_warnings = sum(note.severity is not Severity.INFO for note in notes)
    lines = [one_line(reading_line(note)) for note in notes]
    wrong = [
        *lines[:num_warnings],
        *finding_lines([*dataset_findings(health.pictures), *health.findings]),
        *problem_lines(health.problems),
        *lines[num_warnings:],
    ]
    lines = wrong or ["No problems found: every image and every box can be used, and no image occurs twice."]
    return [*lines, *_class_lines(health.classes)]


def problem_lines(problems: Sequence[Problem]) -> list[str]:
    """One line a kind with how many, what is lost first; below it the first ten by name."""
    by_kind: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_kind[problem.kind].append(problem)
    lines = []
    for kind, found in sorted(by_kind.items(), key=lambda kv: (not is_lost(kv[0]), -len(kv[1]))):
        word = "Left out" if is_lost(kind) else "Handled"
        lines.append(f"{word} ({len(found):,}): {meaning_of(kind)}:")
        lines += [f"  `{one_line(p.name)}`: {one_line(p.detail)}" for p in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"  ... and {len(found) - _SHOWN:,} more")
    return lines


def meaning_of(kind: str) -> str:
    """What a kind of problem is, beside a number: `boxes have no area`."""
    return _KINDS.get(kind, f"files cannot be used ({kind})")


def box_health_to_json(health: BoxHealth) -> dict[str, Any]:
    """The judgement as a JSON-able value."""
    return {
        "schema": 1,
        "task": "detect",
        "layout": health.layout,
        "num_pictures": health.num_pictures,
        "num_boxes": health.num_boxes,
        "num_empty": health.num_empty,
        "classes": [asdict(c) | {"side_range": list(c.side_range)} for c in health.classes],
        "problems": [asdict(p) for p in health.problems],
        "counts": dict(Counter(p.kind for p in health.problems)),
        "pictures": health_to_json(health.pictures),
        "findings": [finding_to_json(f) for f in health.findings],
        **reading_to_json(health.notes),
        "is_dishonest": health.is_dishonest,
    }


def _class_lines(classes: Sequence[ClassBoxes]) -> list[str]:
    """How many boxes of each class, where, and how large."""
    lines = []
    for entry in classes[:50]:
        splits = ", ".join(f"{s} {entry.boxes[s]:,}" for s in ("train", "val", "test") if s in entry.boxes)
        low, high = entry.side_range
        lines.append(
            f"Class `{entry.name}`: {pluralize(sum(entry.boxes.values()), 'box', 'boxes')} in "
            f"{pluralize(entry.pictures, 'image')}"
            + (f" ({splits})" if splits else "")
            + f", side {entry.median_side:.0f} pixels (nine of ten between {low:.0f} and {high:.0f})."
        )
    if len(classes) > 50:
        lines.append(f"... and {pluralize(len(classes) - 50, 'more class', 'more classes')}")
    return lines
