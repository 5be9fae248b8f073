"""Render box annotation problems, dropped or corrected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headstart.messages.values import count, plural, with_example
from headstart.types.codes import FindingKind

__all__ = ["BOX_PROBLEMS", "BOX_PROBLEM_MESSAGES", "BOX_PROBLEM_SUMMARIES", "box_problem_name"]

BOX_PROBLEMS: Mapping[str, tuple[str, str, str]] = {
    "unreadable-image": ("image", "cannot be read", "cannot be read"),
    "entity": (
        "XML file",
        "declares entities or a document type; refused",
        "declare entities or a document type; refused",
    ),
    "bad-xml": ("XML file", "cannot be read", "cannot be read"),
    "bad-json": ("JSON entry", "cannot be used", "cannot be used"),
    "bad-line": ("line", "cannot be read as a box", "cannot be read as boxes"),
    "too-large": ("file", "is larger than allowed", "are larger than allowed"),
    "no-image": ("annotation", "belongs to no image", "belong to no image"),
    "no-images": ("path in data.yaml", "leads to no image", "lead to no image"),
    "no-annotation": ("image", "has no annotation and is skipped", "have no annotation and are skipped"),
    "second-annotation": (
        "annotation",
        "is the second of its image; the first is used",
        "are the second of their image; the first is used",
    ),
    "two-splits": ("image", "is in two splits; the first is used", "are in two splits; the first is used"),
    "no-class": ("box", "has no class", "have no class"),
    "no-box": ("object", "has no box", "have no box"),
    "not-a-number": ("box", "has a value that is not a finite number", "have a value that is not a finite number"),
    "not-a-share": ("YOLO line", "has values outside [0, 1]", "have values outside [0, 1]"),
    "no-area": ("box", "has zero area", "have zero area"),
    "under-a-pixel": ("box", "is smaller than a pixel", "are smaller than a pixel"),
    "outside": ("box", "is outside its image", "are outside their image"),
    "other-image": (
        "image",
        "differs in size from its annotation, with boxes outside, and is skipped",
        "differ in size from their annotation, with boxes outside, and are skipped",
    ),
    "size-differs": (
        "image",
        "differs in size from its annotation",
        "differ in size from their annotation",
    ),
    "scaled": (
        "image",
        "was resized after annotation; its boxes were rescaled",
        "were resized after annotation; their boxes were rescaled",
    ),
    "rotated": ("image with boxes", "has an EXIF rotation", "have an EXIF rotation"),
    "swapped": ("box", "has swapped corners; reordered", "have swapped corners; reordered"),
    "over-edge": ("box", "extends over the edge of its image; clipped", "extend over the edge of their image; clipped"),
    "no-usable-box": (
        "image",
        "has no usable annotation and is skipped",
        "have no usable annotation and are skipped",
    ),
    "orientation-unknown": (
        "image",
        "has an EXIF rotation that its boxes may not follow",
        "have an EXIF rotation that their boxes may not follow",
    ),
    "prediction": ("box", "has a score, as predictions have, and is not used", "have a score, as predictions have"),
    "repeated-id": ("name or id", "means two things and is not used", "mean two things and are not used"),
    "duplicate": ("box", "is a duplicate; one is used", "are duplicates; one of each is used"),
    "two-classes": ("box", "has two classes; both are used", "have two classes; both are used"),
    "unused-class": ("class", "is declared but has no box; ignored", "are declared but have no box; ignored"),
}
"""Problem code to its unit and the predicate in singular and plural."""

_PLURALS = {
    "name or id": "names or ids",
    "JSON entry": "JSON entries",
    "path in data.yaml": "paths in data.yaml",
    "box": "boxes",
} | {"image with boxes": "images with boxes"}


def box_problem_name(problem: str, number: int) -> str:
    """Return the problem without its count, e.g. `boxes have zero area`."""
    unit, one, many = BOX_PROBLEMS.get(problem, ("file", f"cannot be used ({problem})", f"cannot be used ({problem})"))
    return f"{unit} {one}" if number == 1 else f"{_PLURALS.get(unit, plural(unit))} {many}"


def _message(e: Mapping[str, Any]) -> str:
    examples = ", ".join(f"`{name}`" for name in e["examples"][:3]) + (" ..." if e["count"] > 3 else "")
    return f"{e['count']:,} {box_problem_name(e['problem'], e['count'])}: {examples} ({e['detail']})"


def _summary(verb: str) -> Callable[[Sequence[Mapping[str, Any]]], tuple[str, ...]]:
    def render(es: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        example = es[0]["examples"][0]
        if len(es) == 1:
            return with_example(f"{es[0]['count']:,} {box_problem_name(es[0]['problem'], es[0]['count'])}", example)
        text = f"{count(sum(int(e['count']) for e in es), 'annotation')} {verb} ({count(len(es), 'problem')})"
        return with_example(text, example, after=f": {box_problem_name(es[0]['problem'], 1)}")

    return render


BOX_PROBLEM_MESSAGES = {FindingKind.ANNOTATIONS_CORRECTED: _message, FindingKind.ANNOTATIONS_NOT_USED: _message}
BOX_PROBLEM_SUMMARIES = {
    FindingKind.ANNOTATIONS_CORRECTED: _summary("corrected"),
    FindingKind.ANNOTATIONS_NOT_USED: _summary("not used"),
}
