"""Write the report of a run: the page, its data, and files to hand in."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import HeadstartError, SettingError
from headstart.events import EventStream, FileWritten, Note, RunFinished, ScoreMeasured
from headstart.messages.notes import note_to_json
from headstart.reports.attribution import AttributionMaps, explain_images, paint_maps
from headstart.reports.classifier_report import shown_errors
from headstart.reports.html import render, render_text
from headstart.reports.learning_curve import measure_curve
from headstart.reports.record import ClassifierRecord, DetectorRecord, RunRecord
from headstart.reports.slow_sections import SlowSections
from headstart.reports.summary import summarize, without_images
from headstart.reports.tables import (
    classification_csv,
    classification_text,
    detection_class_text,
    detection_csv,
)
from headstart.reports.thumbs import make_thumbs
from headstart.results import Report
from headstart.runs.files import write_json
from headstart.types.codes import Evidence, NoteKind, Severity
from headstart.utils.system import atomic_file

__all__ = [
    "TEXTS",
    "ReportOptions",
    "emit_report",
    "make_report",
    "measure_sections",
    "report_run",
    "write_figures",
    "write_report",
]

Text = Callable[[Mapping[str, Any]], str]
_COMMON: dict[str, Text] = {name: partial(render_text, name) for name in ("summary.txt", "comment.md")}
TEXTS: dict[str, dict[str, Text]] = {
    "classification": {
        "classification_report.txt": classification_text,
        "classification_report.csv": classification_csv,
        **_COMMON,
    },
    "detection": {
        "detection_report.txt": detection_class_text,
        "detection_report.csv": detection_csv,
        **_COMMON,
    },
    "sections": _COMMON,
}
"""Text files to hand in, by page."""

Thumbs = Mapping[int, bytes | None]


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Options of a report.

    Attributes:
        data: Current folder of the images, if they were moved.
        out: Output folder; by default the run folder.
        images: Whether to include images and file names; by default as in training.
        attributions: Whether to show attribution maps (classifiers only); by default those that training computed.
        figures: Whether to write `figures/*.png`.
        curve: Whether to show the learning curve (classifiers only); by default the one that training measured.
    """

    data: str | os.PathLike[str] | None = None
    out: str | os.PathLike[str] | None = None
    images: bool | None = None
    attributions: bool | None = None
    figures: bool = True
    curve: bool | None = None


def report_run(folder: Path, record: RunRecord, events: EventStream) -> int | None:
    """Write the page at the end of a training; a failure is a warning, not an error.

    Returns:
        Number of images in the report; None where it could not be written.
    """
    try:
        report, _ = write_report(folder, record, has_images=record.has_images)
    except (HeadstartError, OSError) as error:
        events.warn(NoteKind.REPORT_NOT_WRITTEN, reason=str(error), run=str(folder))
        return None
    return len(report["images"])


def make_report(folder: Path, record: RunRecord, options: ReportOptions) -> Report:
    """Write the report of a finished run with the files to hand in; see `api.report`.

    Raises:
        SettingError: An option has no effect on the page.
    """
    if not isinstance(record, ClassifierRecord):
        for name in ("attributions", "curve"):
            if getattr(options, name) is not None:
                raise SettingError(f"`{name}` has an effect on classifiers only.", hint=f"leave `{name}` out")
    has_images = record.has_images if options.images is None else options.images
    if isinstance(record, ClassifierRecord):
        kept, wanted = record.sections, measure_sections(
            folder,
            record,
            has_curve=bool(options.curve) and record.sections.curve is None,
            has_maps=bool(options.attributions) and record.sections.maps is None and has_images,
        )  # fmt: skip
        curve = None if options.curve is False else kept.curve or wanted.curve
        maps = None if options.attributions is False else kept.maps or wanted.maps
        record = replace(record, sections=SlowSections(curve, maps))
    target = folder if options.out is None else Path(options.out)
    report, thumbs = write_report(folder, record, out=target, has_images=has_images)
    for name, text in TEXTS[report["page"]].items():
        _write_text(target / name, text(report))
    if options.figures:
        write_figures(target / "figures", report, thumbs)
    return Report(target, report, has_images)


def measure_sections(
    folder: Path,
    record: ClassifierRecord,
    *,
    has_curve: bool,
    has_maps: bool,
    blocks: Mapping[str, NDArray[np.float32]] | None = None,
) -> SlowSections:
    """Measure the learning curve and the attribution maps of the shown errors.

    Args:
        folder: The run folder with its bundle.
        record: The run.
        has_curve, has_maps: What to measure.
        blocks: Features of the training images; by default from the cache.
    """
    curve = measure_curve(record, blocks) if has_curve else None
    wrong, unsure = shown_errors(record)
    shown = [*wrong, *unsure]
    class_ids = {i: int(record.scored.predicted[i]) for i in shown}
    maps = explain_images(folder, {i: record.path(i) for i in shown}, class_ids) if has_maps else None
    return SlowSections(curve, maps)


def emit_report(report: Report, score: Evidence | None, events: EventStream, started: float) -> None:
    """Emit the score of the run, the problems of the report, and the files written.

    Args:
        report: The report.
        score: The headline score; None without one.
        events: The event stream.
        started: `time.monotonic()` when the command began.
    """
    if score is not None:
        events.emit(ScoreMeasured(score))
    for row in report.data["problems"]:
        events.emit(Note(NoteKind(row["kind"]), Severity(row["severity"]), row["evidence"]))
    evidence = {"num_images": len(report.data["images"]), "has_images": report.has_images}
    events.emit(FileWritten("report", str(report.path), evidence))
    events.emit(RunFinished(time.monotonic() - started))


def write_report(
    folder: Path, record: RunRecord, *, out: Path | None = None, has_images: bool = True
) -> tuple[dict[str, Any], Thumbs]:
    """Write `report.html` and `report.json`, and the model card of a classifier's bundle.

    Args:
        folder: The run folder.
        record: The run.
        out: Output folder; the run folder by default.
        has_images: Whether the files include images and file names.

    Returns:
        The report as data, and the images in it as JPEG bytes by position.
    """
    report = summarize(record)
    thumbs: Thumbs | None = None
    maps: Mapping[int, bytes] = {}
    if has_images:
        paths = {int(i): record.path(int(i)) for i in report["images"]}
        boxes = report["images"] if isinstance(record, DetectorRecord) else None
        thumbs = make_thumbs(paths, record.image_spec, boxes=boxes, class_names=record.class_names)
        missing = sum(t is None for t in thumbs.values())
        if missing:
            note = Note(NoteKind.IMAGES_MISSING, Severity.WARNING, {"count": missing, "total": len(thumbs)})
            report["problems"].append(note_to_json(note))
        mapped = record.sections.maps if isinstance(record, ClassifierRecord) else None
        if isinstance(mapped, AttributionMaps):
            maps = paint_maps(mapped, paths, record.image_spec)
    else:
        report = without_images(report)
    target = out or folder
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / "report.json", report)
    _write_text(target / "report.html", render(report, thumbs, maps))
    if target == folder and isinstance(record, ClassifierRecord) and (folder / "bundle").is_dir():
        _write_text(folder / "bundle" / "README.md", render_text("card.md", report))
    return report, thumbs or {}


def write_figures(folder: Path, report: Mapping[str, Any], thumbs: Thumbs) -> None:
    """Write `figures/*.png`; figures without data are skipped, and their old files removed."""
    from headstart.reports.drawing import numbered_names
    from headstart.reports.figures import FIGURES, draw_figure, figure_png

    folder.mkdir(parents=True, exist_ok=True)
    for name in FIGURES[report["page"]]:
        path, figure = folder / f"{name}.png", draw_figure(name, report, thumbs)
        if figure is None:
            path.unlink(missing_ok=True)
            continue
        with atomic_file(path) as temporary:
            temporary.write_bytes(figure_png(figure))
    numbers = numbered_names(report["class_names"])
    if numbers:
        rows = [f"{number}\t{' '.join(name.split())}\n" for name, number in numbers.items()]
        _write_text(folder / "class_names.txt", "".join(rows))
    else:
        (folder / "class_names.txt").unlink(missing_ok=True)


def _write_text(path: Path, text: str) -> None:
    """Write a text file atomically, with LF line ends."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n")
