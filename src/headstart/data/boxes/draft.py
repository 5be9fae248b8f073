"""What a reader of annotations understood, before any image was opened or any box judged.

Readers drop nothing but what they cannot read; a box with swapped corners or far outside is
passed on as it stands in the file, so that all formats are judged by the same rules in one place (`settle`).
What the four numbers of a box mean is decided there too, from all boxes of a file (`formats`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from headstart.data.boxes.formats import BoxFormat
from headstart.data.file_tree import LocatedFile, printable
from headstart.data.reading_notes import images_note
from headstart.records import Problem
from headstart.types import JsonValue, ReadingKind, ReadingNote

__all__ = ["Draft", "DraftBox", "DraftImage", "LayoutSource", "Values", "number"]

LayoutSource = Literal["definition", "names", "outline"]
Values = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class DraftBox:
    """One box as the file has it.

    Attributes:
        values: Four numbers as in the file.
        format: What the file states that they mean.
        label: Class name.
        where: Where it stands, for a person: `line 3`, `object 2`, `annotation 17`.
        is_crowd: COCO's `iscrowd`.
        layout_source: What says in which order the numbers are: the `definition` of the file format, `names` of
            columns or tags, or an `outline` that they are the bounds of.
    """

    values: Values
    format: BoxFormat
    label: str
    where: str = ""
    is_crowd: bool = False
    layout_source: LayoutSource = "definition"


@dataclass(slots=True)
class DraftImage:
    """One image with what its annotation says.

    Attributes:
        file: Where it is.
        annotation: Name of the annotation file, for a person.
        split: `train`, `val`, `test` or empty.
        stated_hw: Height and width that the annotation states, or None.
        boxes: Its boxes.
        source: The file or set of files that one program wrote, whose boxes share one format.
        group: What must not be parted from it, or None.
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
    """A whole data set as it was read.

    Attributes:
        layout: Short name of the format, e.g. `VOC XML`.
        root: The folder that names are relative to.
        images: In no particular order.
        class_names: The classes that the data declare, in their order; empty where only boxes name them.
        problems: Files and lines that cannot be used.
        notes: What the reader assumed and what it did not use; stops nothing.
    """

    layout: str
    root: str
    images: list[DraftImage] = field(default_factory=list)
    class_names: Sequence[str] = ()
    problems: list[Problem] = field(default_factory=list)
    notes: list[ReadingNote] = field(default_factory=list)

    def refuse(self, name: str, kind: str, detail: str) -> None:
        """Names something that cannot be used."""
        self.problems.append(Problem(printable(name), kind, detail))

    def note_images(self, kind: ReadingKind, images: Sequence[LocatedFile], **evidence: JsonValue) -> None:
        """Add a note about images; nothing without images."""
        self.notes += [replace(n, evidence={**n.evidence, **evidence}) for n in images_note(kind, images)]

    def shown(self, path: str) -> str:
        """Return a path below the root as a person would write it."""
        return printable(os.path.relpath(path, self.root).replace(os.sep, "/"))


def number(text: object) -> float | None:
    """Return a number from a cell or JSON value; None where it is none (NaN and infinity are numbers here)."""
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
