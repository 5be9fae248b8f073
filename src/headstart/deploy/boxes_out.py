"""What a detector found, as files that people, programs and annotation tools open.

The one decision: a table goes to the screen or a file row by row; the annotation formats go to a place of their own
that must not hold anything yet, so that labels a person has corrected are never written over.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from headstart.cells import guard_cell
from headstart.data.boxes.writing import PictureBoxes, annotation_files, coco_value
from headstart.data.walk import printable
from headstart.errors import HeadstartError, UsageError
from headstart.machine import atomic_file, atomic_folder
from headstart.records import Problem

if TYPE_CHECKING:
    from headstart.deploy.detector_runtime import PictureDetections

__all__ = [
    "COLUMNS",
    "FORMATS",
    "check_box_output",
    "coco_text",
    "relative_names",
    "write_box_rows",
    "write_found_boxes",
]

FORMATS = ("csv", "coco", "yolo", "voc")
"""What `--to` takes."""

COLUMNS = ("file", "label", "score", "xmin", "ymin", "xmax", "ymax", "width", "height", "error")
"""Columns of the table: a row a box, corners in pixels of the upright picture; one row for a picture without boxes."""


def check_box_output(out: str | None, to: str | None) -> str:
    """The format that is written; to be called before any work is done.

    Args:
        out: File (csv, coco) or folder (yolo, voc), or None for the screen.
        to: As the person said, or None: by the ending of `out`, else csv.

    Raises:
        UsageError: The place does not fit the format, or already holds something.
    """
    if to is None:
        to = "coco" if out is not None and out.lower().endswith(".json") else "csv"
    if to not in FORMATS:
        raise UsageError(f"There is no format `{to}`.", hint="--to csv, coco, yolo or voc")
    if out is None:
        if to in ("yolo", "voc"):
            raise UsageError(f"--to {to} writes one file a picture and needs a folder.", hint="--out labels_folder")
        return to
    target = Path(out)
    if not target.absolute().parent.is_dir():
        raise UsageError(f"The folder `{target.parent}` does not exist.", hint="make it first, or name another place")
    if to in ("yolo", "voc"):
        if target.exists() and not target.is_dir():
            raise UsageError(f"`{target}` is a file; --to {to} needs a folder.")
        if target.is_dir() and any(target.iterdir()):
            raise UsageError(
                f"The folder `{target}` already holds files, which are not written over.", hint="name a new folder"
            )
        return to
    ending = ".csv" if to == "csv" else ".json"
    if target.is_dir() or target.suffix.lower() != ending:
        raise UsageError(f"--to {to} writes a {ending} file, not `{target}`.", hint=f"for example --out boxes{ending}")
    return to


def relative_names(items: Sequence[str | Problem]) -> list[str]:
    """Names of pictures below the folder that all of them share, with `/`; what the annotation formats name them by."""
    places = [os.path.abspath(item.name if isinstance(item, Problem) else item) for item in items]
    if not places:
        return []
    try:
        shared = os.path.commonpath([os.path.dirname(p) for p in places])
    except ValueError:  # several drives
        return [printable(os.path.basename(p)) for p in places]
    return [printable(os.path.relpath(p, shared).replace(os.sep, "/")) for p in places]


def write_box_rows(stream: IO[str], found: Iterable[PictureDetections], class_names: Sequence[str]) -> None:
    """Writes the table row by row."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for picture in found:
        name, (height, width) = guard_cell(picture.file), picture.size_hw
        if picture.error is not None:
            writer.writerow([name, *[""] * 8, guard_cell(picture.error)])
            continue
        boxes = picture.detections
        if not len(boxes):
            writer.writerow([name, *[""] * 6, width, height, ""])
        for xyxy, score, class_id in zip(boxes.xyxy, boxes.scores, boxes.class_ids, strict=True):
            corners = [f"{float(v):.1f}" for v in xyxy]
            row = [name, guard_cell(class_names[class_id]), f"{float(score):.4f}", *corners, width, height, ""]
            writer.writerow(row)


def write_found_boxes(
    out: str, to: str, found: Iterable[PictureDetections], names: Sequence[str], class_names: Sequence[str]
) -> None:
    """Writes a file or folder, whole or not at all.

    Args:
        out: Where to; see `check_box_output`.
        to: One of `FORMATS`.
        found: One entry a picture; may be lazy.
        names: How the annotation formats name them, aligned with `found`.
        class_names: By class id.

    Raises:
        UsageError: Two pictures would share a file.
        HeadstartError: The place cannot be written.
    """
    target = Path(out)
    try:
        if to == "csv":
            with (
                atomic_file(target) as place,
                open(place, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
            ):
                write_box_rows(stream, found, class_names)
            return
        pictures = list(_pictures(found, names))
        if to == "coco":
            with atomic_file(target) as place:
                place.write_text(coco_text(pictures, class_names), encoding="utf-8")
            return
        files = annotation_files(pictures, class_names, to)
        if target.is_dir():
            target.rmdir()  # it is empty, as was checked
        with atomic_folder(target) as folder:
            for name, text in files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise HeadstartError(
            f"`{target}` cannot be written ({error.strerror or error}).", hint="name another place with --out"
        ) from error


def coco_text(pictures: Sequence[PictureBoxes], class_names: Sequence[str]) -> str:
    """The COCO JSON as text."""
    value: dict[str, Any] = coco_value(pictures, class_names)
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def _pictures(found: Iterable[PictureDetections], names: Sequence[str]) -> Iterator[PictureBoxes]:
    """What could be read; a picture that could not has no annotation."""
    for picture, name in zip(found, names, strict=True):
        if picture.error is None:
            boxes = picture.detections
            yield PictureBoxes(name, picture.size_hw, boxes.xyxy, boxes.class_ids, boxes.scores)
