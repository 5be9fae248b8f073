"""Define what a reader of one tool's files returns, and find the images.

Such a reader yields an `Entry` per image; the rest (images, splits, repeated images) is the same for all tools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from headstart.data.boxes.draft import Draft, DraftBox, DraftImage, LayoutSource, ignore_reason, is_prediction, number
from headstart.data.boxes.files import ImageLookup, split_of_folders, split_of_name
from headstart.data.boxes.formats import BoxFormat
from headstart.data.file_tree import LocatedFile
from headstart.types.codes import ReadingKind, ReadingNote

__all__ = ["Entry", "Tool", "read_entries", "size_of"]


@dataclass
class Entry:
    """The annotation of one image.

    Attributes:
        images: Possible paths of the image as written, the best first.
        split: Split stated for it, or empty.
        stated_hw: Stated height and width, or None.
        boxes: Its boxes.
        num_lost: Number of objects that cannot be used.
    """

    images: tuple[str, ...]
    split: str = ""
    stated_hw: tuple[int, int] | None = None
    boxes: list[DraftBox] = field(default_factory=list)
    num_lost: int = 0

    def add(
        self,
        draft: Draft,
        label: object,
        values: Sequence[object] | None,
        box_format: BoxFormat,
        *,
        is_outline: bool = False,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        """Add a box, or report why it cannot be used.

        Args:
            draft: Receives the problem.
            label: Its class.
            values: Four numbers, or None.
            box_format: Their meaning.
            is_outline: Whether they are the bounds of an outline.
            attributes: Values that may say that the object must not count.
        """
        where = f"object {len(self.boxes) + 1}"
        if is_prediction(attributes or {}):
            self._lose(draft, "prediction", f"{where} has a score, as predictions have")
            return
        numbers = [number(value) for value in values or ()]
        if len(numbers) != 4 or any(value is None for value in numbers):
            self._lose(draft, "no-box", f"{where} has no box of four numbers")
            return
        if label is None or not str(label).strip():
            self._lose(draft, "no-class", f"{where} has no class")
            return
        a, b, c, d = (value for value in numbers if value is not None)
        source: LayoutSource = "outline" if is_outline else "names"
        ignored = ignore_reason(attributes or {}, str(label))
        self.boxes.append(DraftBox((a, b, c, d), box_format, str(label), where, ignored, source))

    def _lose(self, draft: Draft, kind: str, detail: str) -> None:
        self.num_lost += 1
        draft.refuse(self.images[0], kind, detail)


@dataclass(frozen=True)
class Tool:
    """The files of one annotation tool.

    Attributes:
        kind: Short name, as `find_format` returns it.
        title: Name in messages.
        endings: Extensions of its files.
        keys: Words that every file contains.
        is_mine: Tells from the parsed content whether a file is one of the tool.
        read: Yields the entries of a file from its parsed content; problems go to the draft.
        is_numbered: Whether it stores numbers of classes, whose names are elsewhere.
    """

    kind: str
    title: str
    endings: tuple[str, ...]
    keys: tuple[bytes, ...]
    is_mine: Callable[[Any], bool]
    read: Callable[[Draft, LocatedFile, Any], Iterable[Entry]]
    is_numbered: bool = False


def read_entries(draft: Draft, files: Iterable[tuple[LocatedFile, Iterable[Entry]]], lookup: ImageLookup) -> None:
    """Add the images of all files to a draft.

    Args:
        draft: The dataset.
        files: Each annotation file with its entries.
        lookup: Finds the images.
    """
    by_image: dict[tuple[str, str], DraftImage] = {}
    contested: set[tuple[str, str]] = set()
    every = [(file, list(entries)) for file, entries in files]
    has_splits = len(every) > 1 and all(len(listed) > 1 for _, listed in every)  # not one file for each image
    for file, listed in every:
        named = split_of_name(file.file) if has_splits else ""
        for entry, image in zip(listed, _find_images(file, listed, lookup), strict=True):
            if image is None:
                draft.refuse(f"{file.name}: {entry.images[-1]}", "no-image", "no such image")
                continue
            split = entry.split or split_of_folders(image.folders) or split_of_folders(file.folders) or named
            new = DraftImage(
                image, file.name, split, entry.stated_hw, entry.boxes, draft.layout, num_lost=entry.num_lost
            )
            first = by_image.setdefault((image.path, split), new)
            if [b.values for b in first.boxes] != [b.values for b in new.boxes]:
                contested.add((image.path, split))
                detail = f"annotated differently in `{first.annotation}` and `{file.name}`: neither is used"
                draft.refuse(image.name, "repeated-id", detail)
    draft.images += [image for key, image in by_image.items() if key not in contested]
    outlines = sum(box.layout_source == "outline" for image in draft.images for box in image.boxes)
    if outlines:
        draft.notes.append(ReadingNote(ReadingKind.OUTLINES_BOXED, outlines))
    draft.notes += lookup.notes()


def _find_images(file: LocatedFile, entries: Sequence[Entry], lookup: ImageLookup) -> list[LocatedFile | None]:
    """Return the image of each entry: by its best name for all, then by the next ones for those without."""
    images: list[LocatedFile | None] = [None] * len(entries)
    for depth in range(max((len(entry.images) for entry in entries), default=0)):
        left = [i for i, entry in enumerate(entries) if images[i] is None and depth < len(entry.images)]
        found = lookup.find_all(file, (entries[i].images[depth] for i in left))
        for i in left:
            images[i] = found[entries[i].images[depth]]
    return images


def size_of(height: object, width: object) -> tuple[int, int] | None:
    """Return a stated height and width; zeros, which some tools write, count as missing."""
    h, w = number(height), number(width)
    return (round(h), round(w)) if h and w and min(h, w) >= 1 and max(h, w) < 1e6 else None
