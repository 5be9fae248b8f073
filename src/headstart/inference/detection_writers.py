"""Write detections as tables or annotation formats.

Annotation folders must be new or empty, so that corrected labels are never overwritten.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from headstart.data.boxes.writers import ImageBoxes, annotation_files, coco_value
from headstart.data.file_tree import printable
from headstart.errors import HeadstartError, UsageError
from headstart.types.records import Problem
from headstart.utils.csv_cells import escape_formula
from headstart.utils.system import atomic_file, atomic_folder

if TYPE_CHECKING:
    from headstart.inference.detector_runtime import ImageDetections

__all__ = [
    "COLUMNS",
    "FORMATS",
    "check_box_output",
    "coco_text",
    "relative_names",
    "write_box_rows",
    "write_detections",
]

FORMATS = ("csv", "coco", "yolo", "voc")
"""Values of `--to`."""

COLUMNS = ("file", "label", "score", "xmin", "ymin", "xmax", "ymax", "width", "height", "error")
"""Columns of the CSV: one row per box, corners in pixels after EXIF orientation; one row for an image without boxes."""


def check_box_output(out: str | None, to: str | None) -> str:
    """Validate the output path and return the output format; call before any prediction.

    Args:
        out: File (csv, coco) or folder (yolo, voc), or None for stdout.
        to: Requested format; None uses the suffix of `out`, else csv.

    Raises:
        UsageError: The format is unknown, or `out` does not match it or is a non-empty folder.
    """
    if to is None:
        to = "coco" if out is not None and out.lower().endswith(".json") else "csv"
    if to not in FORMATS:
        raise UsageError(f"unknown format `{to}`.", hint="use --to csv, coco, yolo or voc")
    if out is None:
        if to in ("yolo", "voc"):
            raise UsageError(f"--to {to} writes one file per image and needs a folder.", hint="use --out labels_folder")
        return to
    target = Path(out)
    if not target.absolute().parent.is_dir():
        raise UsageError(f"the folder `{target.parent}` does not exist.", hint="create it first, or use another folder")
    if to in ("yolo", "voc"):
        if target.exists() and not target.is_dir():
            raise UsageError(f"`{target}` is a file; --to {to} needs a folder.")
        if target.is_dir() and any(target.iterdir()):
            raise UsageError(f"the folder `{target}` is not empty.", hint="use a new folder; files are not overwritten")
        return to
    suffix = ".csv" if to == "csv" else ".json"
    if target.is_dir() or target.suffix.lower() != suffix:
        raise UsageError(f"--to {to} writes a {suffix} file, not `{target}`.", hint=f"for example --out boxes{suffix}")
    return to


def relative_names(items: Sequence[str | Problem]) -> list[str]:
    """Return image paths relative to their common folder, with `/`, for annotation formats."""
    paths = [os.path.abspath(item.name if isinstance(item, Problem) else item) for item in items]
    if not paths:
        return []
    try:
        common = os.path.commonpath([os.path.dirname(p) for p in paths])
    except ValueError:  # several drives
        return [printable(os.path.basename(p)) for p in paths]
    return [printable(os.path.relpath(p, common).replace(os.sep, "/")) for p in paths]


def write_box_rows(stream: IO[str], results: Iterable[ImageDetections], class_names: Sequence[str]) -> None:
    """Write detections as CSV, row by row."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for image in results:
        name, (height, width) = escape_formula(image.file), image.size_hw
        if image.error is not None:
            writer.writerow([name, *[""] * 8, escape_formula(image.error)])
            continue
        boxes = image.detections
        if not len(boxes):
            writer.writerow([name, *[""] * 6, width, height, ""])
        for xyxy, score, class_id in zip(boxes.xyxy, boxes.scores, boxes.class_ids, strict=True):
            corners = [f"{float(v):.1f}" for v in xyxy]
            row = [name, escape_formula(class_names[class_id]), f"{float(score):.4f}", *corners, width, height, ""]
            writer.writerow(row)


def write_detections(
    out: str, to: str, results: Iterable[ImageDetections], names: Sequence[str], class_names: Sequence[str]
) -> None:
    """Write detections to a file or folder atomically.

    Args:
        out: Output file or folder; see `check_box_output`.
        to: One of `FORMATS`.
        results: Detections per image; may be lazy.
        names: Image names in annotation formats, aligned with `results`.
        class_names: Class names by class id.

    Raises:
        UsageError: Two images would have the same annotation file.
        HeadstartError: The output cannot be written.
    """
    target = Path(out)
    try:
        if to == "csv":
            with (
                atomic_file(target) as temporary,
                open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
            ):
                write_box_rows(stream, results, class_names)
            return
        images = list(_images(results, names))
        if to == "coco":
            with atomic_file(target) as temporary:
                temporary.write_text(coco_text(images, class_names), encoding="utf-8")
            return
        files = annotation_files(images, class_names, to)
        if target.is_dir():
            target.rmdir()  # empty, see `check_box_output`
        with atomic_folder(target) as folder:
            for name, text in files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise HeadstartError(
            f"cannot write `{target}` ({error.strerror or error}).", hint="use another path with --out"
        ) from error


def coco_text(images: Sequence[ImageBoxes], class_names: Sequence[str]) -> str:
    """Return the COCO JSON as text."""
    value: dict[str, Any] = coco_value(images, class_names)
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def _images(results: Iterable[ImageDetections], names: Sequence[str]) -> Iterator[ImageBoxes]:
    """Yield the boxes of each readable image."""
    for image, name in zip(results, names, strict=True):
        if image.error is None:
            boxes = image.detections
            yield ImageBoxes(name, image.size_hw, boxes.xyxy, boxes.class_ids, boxes.scores)
