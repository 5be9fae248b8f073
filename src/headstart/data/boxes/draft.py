"""Represent annotations as read, before any image is opened or any box is checked.

Readers drop only what they cannot parse. Boxes with swapped corners or far outside are kept as in the file, so that
`validation` applies the same rules to all formats. `formats` decides what the four numbers of a box mean, from all
boxes of a file. Labels are kept as typed; `class_label` cleans them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from headstart.data.boxes.formats import BoxFormat
from headstart.data.file_tree import LocatedFile, clean_label, printable
from headstart.data.name_matching import fold_name
from headstart.data.reading_notes import images_note
from headstart.types.codes import JsonValue, ReadingKind, ReadingNote, UnusedReason
from headstart.types.records import Problem

__all__ = [
    "IGNORED",
    "Draft",
    "DraftBox",
    "DraftImage",
    "LayoutSource",
    "Values",
    "class_label",
    "ignore_reason",
    "is_id",
    "is_prediction",
    "merged_spellings",
    "number",
]

LayoutSource = Literal["definition", "names", "outline"]
Values = tuple[float, float, float, float]

_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u2060\ufeff]")
_IGNORE_KEYS = {
    "iscrowd": "crowd",
    "is_crowd": "crowd",
    "isgroupof": "group",
    "is_group_of": "group",
    "difficult": "difficult",
    "ignore": "ignore",
    "ignored": "ignore",
    "is_ignored": "ignore",
}
_NESTED = ("attributes", "flags")
IGNORED = "ignore"
"""Class name that is written for ignored regions of all classes."""

_SCORE_KEYS = ("score", "confidence", "conf", "probability")
_IGNORE_CLASSES = frozenset(
    map(fold_name, ("DontCare", "ignored regions", "ignored region", "ignore region", "ignore"))
)


@dataclass(frozen=True, slots=True)
class DraftBox:
    """One box as in the file.

    Attributes:
        values: Four numbers as in the file.
        format: Format stated by the file.
        label: Class name.
        where: Location for messages: `line 3`, `object 2`, `annotation 17`.
        ignored: Why the object is neither right nor wrong: `crowd`, `group`, `difficult`, `ignore`; empty if it counts.
        layout_source: Source of the order of the numbers: the `definition` of the file format, `names` of
            columns or tags, or an `outline` whose bounds they are.
        area: Area of the object's outline as stated, in square pixels of the annotated image, or NaN.
    """

    values: Values
    format: BoxFormat
    label: str
    where: str = ""
    ignored: str = ""
    layout_source: LayoutSource = "definition"
    area: float = math.nan


@dataclass(slots=True)
class DraftImage:
    """One image with its annotation.

    Attributes:
        file: The image file.
        annotation: Name of the annotation file, for messages.
        split: `train`, `val`, `test` or empty.
        stated_hw: Height and width stated by the annotation, or None.
        boxes: Its boxes.
        source: The file or set of files written by one program, whose boxes share one format.
        group: Group that stays in one split, or None.
        num_lost: Number of annotations that the reader could not use.
    """

    file: LocatedFile
    annotation: str = ""
    split: str = ""
    stated_hw: tuple[int, int] | None = None
    boxes: list[DraftBox] = field(default_factory=list)
    source: str = ""
    group: str | None = None
    num_lost: int = 0


@dataclass
class Draft:
    """A dataset as read.

    Attributes:
        layout: Short name of the format, e.g. `VOC XML`.
        root: The folder that names are relative to.
        images: The images, unordered.
        classes: Id by declared class name, in the order of the file; None without a number. Empty if only boxes name
            classes.
        problems: Files and lines that cannot be used.
        notes: Assumptions of the reader, and data that it does not use.
        sources: Role (`splits`, `names`) by path of used files other than the annotation files of images.
        unused: Reason by path of files that the reader does not use.
    """

    layout: str
    root: str
    images: list[DraftImage] = field(default_factory=list)
    classes: dict[str, int | None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[ReadingNote] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)

    def refuse(self, name: str, kind: str, detail: str) -> None:
        """Record a file, line or box that cannot be used."""
        self.problems.append(Problem(printable(name), kind, detail))

    def leave_out(self, reason: UnusedReason, files: Iterable[LocatedFile]) -> None:
        """Record files that are not used."""
        self.unused.update({file.name: reason for file in files})

    def note_images(self, kind: ReadingKind, images: Sequence[LocatedFile], **evidence: JsonValue) -> None:
        """Add a note about images; none without images."""
        self.notes += [replace(n, evidence={**n.evidence, **evidence}) for n in images_note(kind, images)]

    def note_encodings(self, files: Mapping[str, Sequence[str]]) -> None:
        """Add a note for each guessed encoding, with the names of its files."""
        for encoding, names in files.items():
            evidence: dict[str, JsonValue] = {"file": names[0], "encoding": encoding}
            self.notes.append(ReadingNote(ReadingKind.ENCODING_GUESSED, len(names), tuple(names[:5]), evidence))


def class_label(text: object) -> str:
    """Return a class name as users see it: Unicode NFC, single spaces, no invisible characters."""
    return clean_label(_INVISIBLE.sub("", str(text))) or clean_label(str(text))


def ignore_reason(attributes: Mapping[Any, Any], label: str = "") -> str:
    """Return the reason for which an object must not be counted, or an empty string.

    Args:
        attributes: Values by name: `difficult`, `iscrowd`, `IsGroupOf`, `ignore`, also inside `attributes` or `flags`.
        label: Its class; `DontCare` and `ignored regions` are regions rather than classes.
    """
    nested = [inner for key in _NESTED if isinstance(inner := attributes.get(key), Mapping)]
    for key, value in (pair for group in (attributes, *nested) for pair in group.items()):
        reason = _IGNORE_KEYS.get(str(key).strip().lower().replace("-", "_"), "")
        if reason and str(value).strip().lower() in ("1", "1.0", "true", "yes"):
            return reason
    return "ignore" if label and fold_name(label) in _IGNORE_CLASSES else ""


def is_prediction(attributes: Mapping[Any, Any]) -> bool:
    """Return whether a score shows that an object was predicted rather than annotated."""
    scores = [number(attributes[key]) for key in _SCORE_KEYS if key in attributes]
    return any(score is not None and score not in (0.0, 1.0) for score in scores)


def is_id(value: object) -> bool:
    """Return whether a JSON value can be an id."""
    return (
        isinstance(value, (int, str, float)) and not isinstance(value, bool) and str(value).strip() not in ("", "nan")
    )


def merged_spellings(images: Sequence[DraftImage]) -> dict[str, list[str]]:
    """Return the spellings of each class that `class_label` merges, most frequent first."""
    spellings: dict[str, Counter[str]] = {}
    for image in images:
        for box in image.boxes:
            spellings.setdefault(class_label(box.label), Counter())[box.label] += 1
    return {label: [s for s, _ in found.most_common()] for label, found in spellings.items() if len(found) > 1}


def number(text: object) -> float | None:
    """Return a number from a cell or JSON value, or None; NaN and infinity count as numbers here.

    A decimal comma is read as a point (`0,5`).
    """
    if isinstance(text, bool) or text is None:
        return None
    if isinstance(text, (int, float)):
        try:
            return float(text)
        except OverflowError:
            return float("inf")
    plain = str(text).strip()
    if "_" in plain:
        return None
    try:
        return float(plain.replace(",", ".", 1) if plain.count(",") == 1 and "." not in plain else plain)
    except ValueError:
        return None
