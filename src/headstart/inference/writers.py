"""Write predictions and detections: rows as CSV or JSON Lines, and annotation formats.

A classifier has one row per image: `file, label, probability, label2, probability2 ..., ood_score, is_ood,
prediction_set, error`; a detector has one per box. CSV cells are escaped against formula injection. Files are replaced
atomically; annotation folders must be new or empty, so that corrected labels are never overwritten.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from headstart.data.file_tree import printable
from headstart.errors import HeadstartError, UsageError
from headstart.types.records import Prediction, Problem
from headstart.utils.csv_cells import escape_formula, join_prediction_set
from headstart.utils.system import atomic_file, atomic_folder

if TYPE_CHECKING:
    from headstart.data.boxes.classes import ClassTable
    from headstart.inference.decoders import ImageDetections

__all__ = [
    "BOX_COLUMNS",
    "BOX_FORMATS",
    "check_box_output",
    "check_new_folder",
    "check_output",
    "columns",
    "open_output",
    "relative_names",
    "row_of",
    "write_boxes",
    "write_detections",
    "write_predictions",
    "write_rows",
]

BOX_FORMATS = ("csv", "coco", "coco-results", "yolo", "voc")
"""Values of `--to`."""

BOX_COLUMNS = ("file", "label", "score", "xmin", "ymin", "xmax", "ymax", "width", "height", "error")
"""Columns of the CSV: one row per box, corners in pixels after EXIF orientation; one row for an image without boxes."""

_PROBABILITY_DIGITS = 6
_OOD_SCORE_DIGITS = 3


@contextmanager
def open_output(out: str | os.PathLike[str] | None) -> Iterator[IO[str]]:
    """Open a text file for atomic writing, or stdout if `out` is None.

    File names that are not valid Unicode are written as raw bytes in CSV and as escapes in JSON; characters that stdout
    cannot encode are escaped.

    Raises:
        HeadstartError: The file cannot be written.
    """
    if out is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
            with contextlib.suppress(io.UnsupportedOperation):
                sys.stdout.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")
        yield sys.stdout
        sys.stdout.flush()
        return
    errors = "surrogateescape" if Path(out).suffix.lower() == ".csv" else "backslashreplace"
    with (
        _reported_errors(Path(out)),
        atomic_file(Path(out)) as temporary,
        open(temporary, "w", encoding="utf-8", errors=errors, newline="") as stream,
    ):
        yield stream


@contextmanager
def _reported_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HeadstartError(
            f"cannot write `{target}` ({error.strerror or error}).", hint="use another path with --out"
        ) from error


def _csv_writer(stream: IO[str], names: Sequence[str]) -> Callable[[Sequence[Any]], None]:
    """Write the header and return a function that writes the cells of one row."""
    plain = csv.writer(stream, lineterminator="\n")
    quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(names)

    def write(cells: Sequence[Any]) -> None:
        # Before Python 3.13, the csv module does not quote a lone carriage return, which would end the row.
        (quoted if any("\r" in str(cell) for cell in cells) else plain).writerow(cells)

    return write


# Classifiers


def columns(top: int) -> list[str]:
    """Return the column names for `top` classes per image."""
    ranks = [f"{what}{rank}" for rank in range(2, top + 1) for what in ("label", "probability")]
    return ["file", "label", "probability", *ranks, "ood_score", "is_ood", "prediction_set", "error"]


def row_of(prediction: Prediction, top: int) -> dict[str, Any]:
    """Return the values of one prediction by column; None for missing values."""
    row: dict[str, Any] = dict.fromkeys(columns(top))
    row["file"], row["error"] = prediction.file, prediction.error
    for rank, (name, probability) in enumerate(prediction.top[:top], start=1):
        suffix = "" if rank == 1 else str(rank)
        row[f"label{suffix}"], row[f"probability{suffix}"] = name, round(probability, _PROBABILITY_DIGITS)
    if prediction.ood_score is not None:
        row["ood_score"] = round(prediction.ood_score, _OOD_SCORE_DIGITS)
    row["is_ood"] = prediction.is_ood
    row["prediction_set"] = None if prediction.prediction_set is None else list(prediction.prediction_set)
    return row


def write_predictions(stream: IO[str], predictions: Iterable[Prediction], top: int, *, is_json: bool = False) -> None:
    """Write predictions as CSV or JSON Lines, row by row."""
    if is_json:
        for prediction in predictions:
            stream.write(json.dumps(row_of(prediction, top), ensure_ascii=False) + "\n")
        return
    write = _csv_writer(stream, columns(top))
    for prediction in predictions:
        write([_cell(name, value) for name, value in row_of(prediction, top).items()])


def write_rows(path: str | os.PathLike[str], predictions: Iterable[Prediction], top: int | None = None) -> None:
    """Write a `.csv` or `.jsonl` file atomically, replacing an existing one.

    Args:
        path: Output file; its suffix selects the format.
        predictions: Predictions; may be lazy.
        top: Number of classes per image; None uses the maximum of all predictions, which are then kept in memory.

    Raises:
        UsageError: The suffix is not supported, or the folder does not exist.
        HeadstartError: The file cannot be written.
    """
    is_json = check_output(path)
    if top is None:
        predictions = list(predictions)
        top = max((len(p.top) for p in predictions), default=1) or 1
    with open_output(path) as stream:
        write_predictions(stream, predictions, top, is_json=is_json)


def check_output(path: str | os.PathLike[str]) -> bool:
    """Validate the output path and return whether it is JSON Lines (otherwise CSV).

    Raises:
        UsageError: The suffix is not supported, the path is a folder, or its parent does not exist.
    """
    target = Path(path)
    if target.suffix.lower() not in (".csv", ".jsonl"):
        raise UsageError(f"`{target}` must end in .csv or .jsonl.", hint="for example --out predictions.csv")
    if target.is_dir():
        raise UsageError(f"`{target}` is a folder; expected a file.")
    _check_parent(target)
    return target.suffix.lower() == ".jsonl"


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.{_OOD_SCORE_DIGITS if name == 'ood_score' else _PROBABILITY_DIGITS}f}"
    return escape_formula(join_prediction_set(value) if isinstance(value, list) else value)


# Detectors


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
    if to not in BOX_FORMATS:
        raise UsageError(f"unknown format `{to}`.", hint=f"use --to {', '.join(BOX_FORMATS[:-1])} or {BOX_FORMATS[-1]}")
    if out is None:
        if to in ("yolo", "voc"):
            raise UsageError(f"--to {to} writes one file per image and needs a folder.", hint="use --out labels_folder")
        return to
    if to in ("yolo", "voc"):
        check_new_folder(out, f"--to {to}")
        return to
    target = Path(out)
    suffix = ".csv" if to == "csv" else ".json"
    if target.is_dir() or target.suffix.lower() != suffix:
        raise UsageError(f"--to {to} writes a {suffix} file, not `{target}`.", hint=f"for example --out boxes{suffix}")
    _check_parent(target)
    return to


def check_new_folder(folder: str, option: str) -> None:
    """Check the output folder of an option; call before any prediction.

    Raises:
        UsageError: The path is a file or a non-empty folder, or its parent does not exist.
    """
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise UsageError(f"`{target}` is a file; {option} needs a folder.")
    if target.is_dir() and any(target.iterdir()):
        raise UsageError(f"the folder `{target}` is not empty.", hint="use a new folder; files are not overwritten")
    _check_parent(target)


def _check_parent(target: Path) -> None:
    if not target.absolute().parent.is_dir():
        raise UsageError(f"the folder `{target.parent}` does not exist.", hint="create it first, or use another path")


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


def write_boxes(stream: IO[str], results: Iterable[ImageDetections], class_names: Sequence[str]) -> None:
    """Write detections as CSV, row by row."""
    write = _csv_writer(stream, BOX_COLUMNS)
    for image in results:
        name, (height, width) = escape_formula(image.file), image.size_hw
        if image.error is not None:
            write([name, *[""] * 8, escape_formula(image.error)])
            continue
        boxes = image.detections
        if not len(boxes):
            write([name, *[""] * 6, width, height, ""])
        for xyxy, score, class_id in zip(boxes.xyxy, boxes.scores, boxes.class_ids, strict=True):
            corners = [f"{float(v):.1f}" for v in xyxy]
            write([name, escape_formula(class_names[class_id]), f"{float(score):.4f}", *corners, width, height, ""])


def write_detections(
    out: str | None, to: str, results: Iterable[ImageDetections], names: Sequence[str], classes: ClassTable
) -> None:
    """Write detections to a file or folder atomically, or to stdout.

    Args:
        out: Output file or folder, or None for stdout; see `check_box_output`.
        to: One of `BOX_FORMATS`.
        results: Detections per image; may be lazy.
        names: Image names in annotation formats, aligned with `results`.
        classes: Class names by class id, with the ids to write.

    Raises:
        DataError: coco-results without the annotations of these images.
        UsageError: Two images would have the same annotation file.
        HeadstartError: The output cannot be written.
    """
    if to == "csv":
        with open_output(out) as stream:
            write_boxes(stream, results, classes.names)
        return
    from headstart.data.boxes.writers import ImageBoxes, annotation_files, coco_results, coco_value

    images = [
        ImageBoxes(name, image.size_hw, image.detections.xyxy, image.detections.class_ids, image.detections.scores)
        for image, name in zip(results, names, strict=True)
        if image.error is None
    ]
    if to in ("coco", "coco-results"):
        value = coco_value(images, classes) if to == "coco" else coco_results(images, classes)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        with open_output(out) as stream:
            stream.write(text + "\n")
        return
    target, files = Path(str(out)), annotation_files(images, classes, to)
    with _reported_errors(target):
        if target.is_dir():
            target.rmdir()  # empty, see `check_new_folder`
        with atomic_folder(target) as folder:
            for name, text in files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="")
