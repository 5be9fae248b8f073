"""Write a dataset with boxes in the format of another tool, with the user's own class names and ids."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headstart.data.boxes.classes import ClassTable, read_class_table
from headstart.data.boxes.read_options import read_boxes_with
from headstart.data.boxes.records import DetectionSamples
from headstart.data.boxes.writers import annotation_files, image_boxes, with_regions
from headstart.errors import DataError, HeadstartError, UsageError
from headstart.events import EventStream, FileWritten, RunFinished
from headstart.messages.numbers import pluralize
from headstart.quality.report_findings import report_reading
from headstart.types.codes import ReadingKind, ReadingNote
from headstart.utils.system import atomic_folder

__all__ = ["CONVERTED", "ConvertOptions", "convert_boxes"]

CONVERTED = ("coco", "yolo", "voc", "csv")
"""Values of `to`."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Options of a conversion.

    Attributes:
        to: One of `CONVERTED`.
        out: The folder to write, new or empty.
        copy_images: Whether to copy the images too.
        like: COCO JSON, data.yaml or file of names whose class ids are written, or None.
        box_format, exclude, name_encoding, allow_external_paths: As in `read_boxes`.
    """

    to: str
    out: Path
    copy_images: bool = False
    like: str | None = None
    box_format: str | None = None
    exclude: Sequence[str] | None = None
    name_encoding: str | None = None
    allow_external_paths: bool = False


def convert_boxes(data: str, options: ConvertOptions, events: EventStream) -> Path:
    """Read boxes of any format and write them in another one.

    Returns:
        The folder.

    Raises:
        DataError: The boxes or names of the data are not certain; nothing is written.
        UsageError: The format is unknown, or the folder is not empty.
        HeadstartError: The folder cannot be written.
    """
    started = time.monotonic()
    _check(options)
    samples = read_boxes_with(data, options)
    report_reading(samples, events)
    _refuse_guesses(samples)
    if options.copy_images and options.to == "yolo" and not all("images/" in f"/{n}" for n in samples.names):
        samples = replace(samples, names=tuple(f"images/{name}" for name in samples.names))
    if options.to != "yolo":
        samples = with_regions(samples)
    table = ClassTable.of(samples.class_names, samples.declared)
    if options.like is not None:
        table = table.like(read_class_table(options.like))
    num_ignored = sum(int(boxes.is_crowd.sum()) for boxes in samples.boxes)
    if options.to == "yolo" and num_ignored:
        events.report(ReadingNote(ReadingKind.OBJECTS_NOT_WRITTEN, num_ignored, (), {"format": "YOLO"}))
    files = annotation_files(image_boxes(samples), table, options.to)
    try:
        if options.out.is_dir():
            options.out.rmdir()  # empty, see `_check`
        with atomic_folder(options.out) as folder:
            _write(folder, files, samples, options.copy_images)
    except OSError as error:
        raise HeadstartError(
            f"cannot write `{options.out}` ({error.strerror or error}).", hint="use another folder with --out"
        ) from error
    evidence = {"num_images": len(samples), "num_boxes": samples.num_boxes, "has_images": options.copy_images}
    events.emit(FileWritten("annotations", str(options.out), evidence))
    events.emit(RunFinished(time.monotonic() - started))
    return options.out


def _check(options: ConvertOptions) -> None:
    """Check format and folder before anything is read.

    Raises:
        UsageError: See `convert_boxes`.
    """
    if options.to not in CONVERTED:
        raise UsageError(f"unknown format `{options.to}`.", hint=f"use --to {', '.join(CONVERTED)}")
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise UsageError(f"`{options.out}` exists and is not an empty folder.", hint="use a new folder with --out")


def _refuse_guesses(samples: DetectionSamples) -> None:
    """Raise if boxes or names would be guesses.

    Raises:
        DataError: They would.
    """
    doubted = [p for p in samples.problems if p.kind == "orientation-unknown"]
    if doubted:
        raise DataError(
            f"{pluralize(len(doubted), 'image')} with an EXIF rotation, e.g. `{doubted[0].name}`: boxes may be drawn "
            "on the upright image or on the pixels as stored.",
            hint="use --box-format upright, or --box-format stored if the tool ignored the rotation",
        )
    garbled = [name for name in samples.class_names if "\ufffd" in name]
    if garbled:
        raise DataError(f"the class name `{garbled[0]}` is damaged.", hint="save the annotations as UTF-8")


def _write(folder: Path, files: dict[str, str], samples: DetectionSamples, copy_images: bool) -> None:
    for place, text in files.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    for name, source in zip(samples.names, samples.paths, strict=True) if copy_images else ():
        target = folder / name
        if not target.exists():  # an image may be in two splits
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
