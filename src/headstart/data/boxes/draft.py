"""Represent annotations as read, before any image is opened or any box is checked.

Readers drop only what they cannot parse. Boxes with swapped corners or far outside are kept as in the file, so that
`validation` applies the same rules to all formats. `formats` decides what the four numbers of a box mean, from all
boxes of a file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from headstart.data.boxes.formats import BoxFormat
from headstart.data.file_tree import LocatedFile, printable
from headstart.data.reading_notes import images_note
from headstart.types.codes import JsonValue, ReadingKind, ReadingNote
from headstart.types.records import Problem

__all__ = ["Draft", "DraftBox", "DraftImage", "LayoutSource", "Values", "number"]

LayoutSource = Literal["definition", "names", "outline"]
Values = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class DraftBox:
    """One box as in the file.

    Attributes:
        values: Four numbers as in the file.
        format: Format stated by the file.
        label: Class name.
        where: Location for messages: `line 3`, `object 2`, `annotation 17`.
        is_crowd: COCO's `iscrowd`.
        layout_source: Source of the order of the numbers: the `definition` of the file format, `names` of
            columns or tags, or an `outline` whose bounds they are.
    """

    values: Values
    format: BoxFormat
    label: str
    where: str = ""
    is_crowd: bool = False
    layout_source: LayoutSource = "definition"


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
    """

    file: LocatedFile
    annotation: str = ""
    split: str = ""
    stated_hw: tuple[int, int] | None = None
    boxes: list[DraftBox] = field(default_factory=list)
    source: str = ""
    group: str | None = None


@dataclass
class Draft:
    """A dataset as read.

    Attributes:
        layout: Short name of the format, e.g. `VOC XML`.
        root: The folder that names are relative to.
        images: The images, unordered.
        class_names: Declared classes, in their order; empty if only boxes name classes.
        problems: Files and lines that cannot be used.
        notes: Assumptions of the reader, and data that it does not use.
    """

    layout: str
    root: str
    images: list[DraftImage] = field(default_factory=list)
    class_names: Sequence[str] = ()
    problems: list[Problem] = field(default_factory=list)
    notes: list[ReadingNote] = field(default_factory=list)

    def refuse(self, name: str, kind: str, detail: str) -> None:
        """Record a file, line or box that cannot be used."""
        self.problems.append(Problem(printable(name), kind, detail))

    def note_images(self, kind: ReadingKind, images: Sequence[LocatedFile], **evidence: JsonValue) -> None:
        """Add a note about images; none without images."""
        self.notes += [replace(n, evidence={**n.evidence, **evidence}) for n in images_note(kind, images)]

    def shown(self, path: str) -> str:
        """Return a path below the root for messages."""
        return printable(os.path.relpath(path, self.root).replace(os.sep, "/"))


def number(text: object) -> float | None:
    """Return a number from a cell or JSON value, or None; NaN and infinity count as numbers here."""
    if isinstance(text, bool) or text is None:
        return None
    if isinstance(text, (int, float)):
        try:
            return float(text)
        except OverflowError:
            return float("inf")
    try:
        return float(str(text).strip())
    except ValueError:
        return None
