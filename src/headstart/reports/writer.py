"""Write the report of a run: the page, its data, and files to hand in."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError, SettingError
from headstart.evaluation.score_summary import summarize_run
from headstart.events import EventStream, FileWritten, Note, RunFinished, ScoreMeasured
from headstart.messages.comment import empty_section
from headstart.messages.notes import note_to_json
from headstart.reports.card import model_card
from headstart.reports.detection_report import summarize_detection, without_box_images
from headstart.reports.detection_thumbs import make_box_thumbs
from headstart.reports.html import render
from headstart.reports.network import network_text
from headstart.reports.record import ClassifierRecord, DetectorRecord, read_metrics, read_record
from headstart.reports.summary import summarize, without_images
from headstart.reports.tables import (
    classification_csv,
    classification_text,
    comment_markdown,
    detection_class_text,
    detection_comment_text,
    detection_csv,
    detection_network_text,
)
from headstart.reports.thumbs import make_thumbs
from headstart.results import Report
from headstart.runs.files import write_json
from headstart.types.codes import NoteKind, Severity
from headstart.types.report import ReportKind
from headstart.utils.system import atomic_file

__all__ = ["emit_report", "make_report", "report_run", "summarize_record", "write_figures", "write_report"]


TEXTS: dict[str, dict[str, Callable[[Mapping[str, Any]], str]]] = {
    "classify": {
        "classification_report.txt": classification_text,
        "classification_report.csv": classification_csv,
        "summary.txt": network_text,
        "comment.md": comment_markdown,
    },
    "detect": {
        "detection_report.txt": detection_class_text,
        "detection_report.csv": detection_csv,
        "summary.txt": detection_network_text,
        "comment.md": detection_comment_text,
    },
}
"""Text files to hand in, by task."""


def report_run(folder: Path, record: ClassifierRecord | DetectorRecord, events: EventStream) -> int | None:
    """Write the page at the end of a training; a failure is a warning, not an error.

    Returns:
        Number of images in the report; None where it could not be written.
    """
    try:
        report = write_report(folder, record, has_images=record.has_images)
    except (HeadstartError, OSError) as error:
        events.warn(NoteKind.REPORT_NOT_WRITTEN, reason=str(error), run=str(folder))
        return None
    return len(report["images"])


def make_report(
    folder: Path,
    *,
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    images: bool | None = None,
    attributions: bool | None = None,
    figures: bool = True,
    curve: bool | None = None,
) -> Report:
    """See `api.report`."""
    if read_metrics(folder).get("task") == "detect":
        for name, value in (("attributions", attributions), ("curve", curve)):
            if value is not None:
                raise SettingError(f"`{name}` has no effect on the report of a detector.", hint=f"leave `{name}` out")
    record = read_record(folder, data=data)
    has_images = record.has_images if images is None else images
    target = folder if out is None else Path(out)
    report = write_report(
        folder,
        record,
        out=target,
        has_images=has_images,
        has_attributions=attributions is not False and has_images,
        has_curve=curve is not False,
        has_texts=True,
        has_figures=figures,
    )
    return Report(target, report, has_images)


def emit_report(report: Report, run: Path, events: EventStream, started: float) -> None:
    """Emit the score of the run, the problems of the report, and the files written.

    Args:
        report: The report.
        run: The run folder.
        events: The event stream.
        started: `time.monotonic()` when the command began.
    """
    score = summarize_run(read_metrics(run))
    if score is not None:
        events.emit(ScoreMeasured(score))
    for row in report.data["problems"]:
        events.emit(Note(NoteKind(row["kind"]), Severity(row["severity"]), row["evidence"]))
    evidence = {"num_images": len(report.data["images"]), "has_images": report.has_images}
    events.emit(FileWritten("report", str(report.path), evidence))
    events.emit(RunFinished(time.monotonic() - started))


def summarize_record(
    record: ClassifierRecord | DetectorRecord, curve: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the report of a run as JSON values."""
    if isinstance(record, DetectorRecord):
        return summarize_detection(record)
    return summarize(record, curve=curve)


def write_report(
    folder: Path,
    record: ClassifierRecord | DetectorRecord,
    *,
    out: Path | None = None,
    has_images: bool = True,
    has_attributions: bool = False,
    has_curve: bool = False,
    has_texts: bool = False,
    has_figures: bool = False,
) -> dict[str, Any]:
    """Write `report.html` and `report.json`, and the model card of a classifier's bundle.

    Args:
        folder: The run folder.
        record: The run.
        out: Output folder; the run folder by default.
        has_images: Whether the files include images and file names.
        has_attributions: Whether to compute attribution maps of the shown errors of a classifier.
        has_curve: Whether to measure the learning curve of a classifier.
        has_texts: Whether to write the tables and texts to hand in.
        has_figures: Whether to draw `figures/*.png`.

    Returns:
        The report as data.
    """
    curve = None
    if has_curve and isinstance(record, ClassifierRecord):
        from headstart.reports.learning_curve_section import measure_curve

        curve = measure_curve(record)
    report = summarize_record(record, curve)
    thumbs: Mapping[int, bytes | None] | None = None
    maps: Mapping[int, bytes] = {}
    if has_images:
        thumbs, maps = _images(folder, record, report, has_attributions=has_attributions)
    elif isinstance(record, DetectorRecord):
        report = without_box_images(report)
    else:
        report = without_images(report)
        report["attribution"] = empty_section(ReportKind.IMAGES_LEFT_OUT)
    target = out or folder
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / "report.json", report)
    _write_text(target / "report.html", render(report, thumbs, maps))
    if target == folder and isinstance(record, ClassifierRecord) and (folder / "bundle").is_dir():
        _write_text(folder / "bundle" / "README.md", model_card(report))
    for name, text in TEXTS[report["task"]].items() if has_texts else ():
        _write_text(target / name, text(report))
    if has_figures:
        write_figures(target / "figures", report, thumbs or {})
    return report


def _images(
    folder: Path, record: ClassifierRecord | DetectorRecord, report: dict[str, Any], *, has_attributions: bool
) -> tuple[Mapping[int, bytes | None], Mapping[int, bytes]]:
    """Make the thumbnails and attribution maps of the page; `report` gets the section of the maps and problems."""
    if isinstance(record, DetectorRecord):
        scored = record.scored
        paths = {int(i): scored[int(i)].path for i in report["images"]}
        return make_box_thumbs(report, paths, record.image_spec), {}
    thumbs = make_thumbs({int(i): record.path(int(i)) for i in report["images"]}, record.image_spec)
    num_missing = sum(t is None for t in thumbs.values())
    if num_missing:
        evidence = {"count": num_missing, "total": len(thumbs)}
        report["problems"].append(note_to_json(Note(NoteKind.IMAGES_MISSING, Severity.WARNING, evidence)))
    maps: dict[int, bytes] = {}
    if has_attributions:
        report["attribution"], maps = _explain(folder, record, report)
    return thumbs, maps


def _explain(
    folder: Path, record: ClassifierRecord, report: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[int, bytes]]:
    from headstart.reports.attribution_maps import explain_images

    shown = [*report["errors"]["wrong"], *report["errors"]["unsure"]]
    if not shown:
        return empty_section(ReportKind.ATTRIBUTION_NOT_NEEDED), {}
    predicted = [int(record.scored.predicted[i]) for i in shown]
    section, painted = explain_images(folder, [record.path(i) for i in shown], predicted)
    return section, {i: data for i, data in zip(shown, painted, strict=True) if data is not None}


def write_figures(folder: Path, report: Mapping[str, Any], thumbs: Mapping[int, bytes | None]) -> None:
    """Write `figures/*.png`; figures without data are skipped, and their old files removed."""
    from headstart.reports.drawing import numbered_names
    from headstart.reports.figures import FIGURES, draw_figure, figure_png

    folder.mkdir(parents=True, exist_ok=True)
    for name in FIGURES[report["task"]]:
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
