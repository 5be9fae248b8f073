"""Write the report of a detector's run folder: page, data, figures and table.

The report can be rewritten at any time. Where the data are gone, it says so and shows the rest.
"""

from __future__ import annotations

import csv
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headstart.data.boxes.reader import read_boxes
from headstart.data.boxes.records import Boxes, Detections, DetectionSamples
from headstart.errors import HeadstartError, SettingError, UsageError
from headstart.events import EventStream, Note
from headstart.reports.detection_report import (
    DetectionFacts,
    ScoredImage,
    headline_block,
    summarize_detection,
    without_box_images,
)
from headstart.reports.detection_tables import detection_network_text
from headstart.reports.detection_thumbs import make_box_thumbs
from headstart.reports.html import render
from headstart.reports.report_files import (
    image_spec,
    read_json,
    read_metrics,
    read_rows,
    read_settings,
    write_drawings,
    write_text,
)
from headstart.results import Report
from headstart.runs.files import write_json
from headstart.types.codes import NoteKind, Severity
from headstart.utils.csv_cells import escape_formula, unescape_formula

__all__ = [
    "detector_summary",
    "is_detector_run",
    "make_detection_report",
    "read_detection_data",
    "report_detector_run",
]

_TEMPLATE = "detection.html"


def is_detector_run(folder: Path) -> bool:
    """Return whether a run folder holds a detector."""
    return read_json(folder / "metrics.json").get("task") == "detect"


def detector_summary(folder: Path) -> str:
    """Return a text summary of a run's detector.

    Raises:
        UsageError: The folder is not a finished detector run.
    """
    return detection_network_text(summarize_detection(read_detection_data(folder)))


def report_detector_run(
    folder: Path, samples: DetectionSamples, events: EventStream, *, has_images: bool = True
) -> int | None:
    """Write the report at the end of a training; a failure is a warning, not an error.

    Returns:
        Number of images in the report; None where it could not be written.
    """
    try:
        report = make_detection_report(folder, samples=samples, images=has_images, figures=False)
    except (HeadstartError, OSError) as error:
        events.warn(NoteKind.REPORT_NOT_WRITTEN, reason=str(error), run=str(folder))
        return None
    return len(report.data["images"])


def make_detection_report(
    folder: Path,
    *,
    data: str | os.PathLike[str] | None = None,
    samples: DetectionSamples | None = None,
    out: str | os.PathLike[str] | None = None,
    images: bool = True,
    figures: bool = True,
    attributions: bool | None = None,
    curve: bool | None = None,
) -> Report:
    """Write the report of a finished run.

    Args:
        folder: The run folder.
        data: Current path of the data, if moved.
        samples: The data, if already read.
        out: Output folder; the run folder by default.
        images: Whether the files include images and file names.
        figures: Whether `figures/*.png` are drawn.
        attributions, curve: Of classifiers only; refused.

    Raises:
        SettingError: `attributions` or `curve` is set.
        UsageError: The folder is not a finished detector run.
        DataError: `data` has no images with boxes.
    """
    for name, value in (("attributions", attributions), ("curve", curve)):
        if value is not None:
            raise SettingError(f"`{name}` has no effect on the report of a detector.", hint=f"leave `{name}` out")
    facts = read_detection_data(folder, data=data, samples=samples)
    report = summarize_detection(facts)
    thumbs: dict[int, bytes | None] | None = None
    if images:
        paths = {int(i): facts.scored[int(i)].path for i in report["images"]}
        thumbs = make_box_thumbs(report, paths, image_spec(facts.bundle))
    else:
        report = without_box_images(report)
    target = Path(out) if out is not None else folder
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / "report.json", report)
    write_text(target / "report.html", render(report, thumbs, template=_TEMPLATE))
    write_text(target / "detection_report.csv", _class_table(report))
    if figures:
        _write_figures(target / "figures", report, thumbs)
    return Report(target, report, images)


def read_detection_data(
    folder: Path, *, data: str | os.PathLike[str] | None = None, samples: DetectionSamples | None = None
) -> DetectionFacts:
    """Read a run folder.

    Raises:
        UsageError: The folder is not a finished detector run.
        DataError: `data` has no images with boxes.
    """
    metrics = read_metrics(folder, task="detect")
    problems: list[Note] = []
    settings = read_settings(folder / "config.resolved.yaml", problems)
    if samples is None:
        samples = _read_data(settings, data, problems)
    splits = {unescape_formula(r.get("image") or ""): r.get("split") or "" for r in read_rows(folder / "split.csv")}
    dataset_report = read_json(folder / "dataset_report.json")
    return DetectionFacts(
        run=folder.resolve().name,
        metrics=metrics,
        dataset_report=dataset_report,
        environment=read_json(folder / "environment.json"),
        bundle=read_json(folder / "bundle" / "bundle.json"),
        settings=[{"name": name, **row} for name, row in settings.items()],
        epochs=read_rows(folder / "results.csv"),
        scored=_read_scored(folder, metrics, samples, splits, frozenset(dataset_report.get("leaking") or ()), problems),
        training=_training(metrics, samples, splits),
        problems=tuple(problems),
    )


def _read_data(
    settings: Mapping[str, Mapping[str, Any]], data: str | os.PathLike[str] | None, problems: list[Note]
) -> DetectionSamples | None:
    """Read the data; return None where the stored path is gone. An explicit path must exist."""
    is_outside = bool((settings.get("allow_external_paths") or {}).get("value"))
    row = settings.get("detect.box_format") or {}
    box_format = row.get("value") if row.get("reason") is None else None
    if data is not None:
        return read_boxes(data, allow_external_paths=is_outside, box_format=box_format)
    data = (settings.get("data") or {}).get("value")
    try:
        if not data:
            raise UsageError("the run does not record the path of its data.")
        return read_boxes(str(data), allow_external_paths=is_outside, box_format=box_format)
    except HeadstartError:
        problems.append(Note(NoteKind.DATA_MOVED, Severity.WARNING))
        return None


def _training(
    metrics: Mapping[str, Any], samples: DetectionSamples | None, splits: Mapping[str, str]
) -> list[tuple[str, Boxes]]:
    if samples is None:
        return []
    boxes = _by_name(samples, [str(n) for n in metrics["class_names"]])
    return [(splits[n], boxes[i]) for i, n in enumerate(samples.names) if splits.get(n)]


def _read_scored(
    folder: Path,
    metrics: Mapping[str, Any],
    samples: DetectionSamples | None,
    splits: Mapping[str, str],
    leaking: frozenset[str],
    problems: list[Note],
) -> list[ScoredImage]:
    """Return the images of the headline's block with their detections, in the order of `split.csv`, without leaks."""
    block = headline_block(metrics)
    if block is None:
        return []
    names = [str(n) for n in metrics["class_names"]]
    part = "train" if block[0] == "cv" else block[0]
    stored = _read_detections(folder / "scores.npz", part, len(names))
    if stored is None:
        problems.append(Note(NoteKind.RUN_WITHOUT_PREDICTIONS, Severity.WARNING, {"file": "scores.npz"}))
        return []
    ground_truth = _by_name(samples, names) if samples is not None else []
    at = {n: i for i, n in enumerate(samples.names)} if samples is not None else {}
    scored = []
    for name in (n for n, split in splits.items() if split == part and n not in leaking):
        i, detections = at.get(name), stored.get(_stored(name))
        if detections is None:
            continue
        path, size = None, None
        if i is not None and samples is not None:
            path, size = str(samples.paths[i]), (int(samples.sizes_hw[i, 0]), int(samples.sizes_hw[i, 1]))
        scored.append(ScoredImage(name, path, size, ground_truth[i] if i is not None else None, detections))
    return scored


def _read_detections(path: Path, part: str, num_classes: int) -> dict[str, Detections] | None:
    """Return the detections of a split by stored image name; None where the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names, splits, counts = (file[k].tolist() for k in ("paths", "split", "num_found"))
            every = Detections.of(file["xyxy"], file["scores"], file["class_ids"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    ends = np.cumsum([0, *counts])
    is_whole = len(names) == len(splits) == len(counts) and ends[-1] == len(every) == len(every.scores)
    if not is_whole or not ((every.class_ids >= 0) & (every.class_ids < num_classes)).all():
        return None
    return {
        str(name): every.take(np.arange(start, end))
        for name, split, start, end in zip(names, splits, ends, ends[1:], strict=False)
        if split == part
    }


def _stored(name: str) -> str:
    """Return a name as stored in `scores.npz`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _by_name(samples: DetectionSamples, names: list[str]) -> list[Boxes]:
    """Return ground-truth boxes with the run's class ids; classes unknown to the run are dropped."""
    id_of = [names.index(n) if n in names else -1 for n in samples.class_names]
    kept = []
    for boxes in samples.boxes:
        ids = [id_of[k] for k in boxes.class_ids]
        keep = [j for j, k in enumerate(ids) if k >= 0]
        kept.append(Boxes.of(boxes.xyxy[keep], [ids[j] for j in keep], boxes.is_crowd[keep]))
    return kept


def _class_table(report: Mapping[str, Any]) -> str:
    """Return a CSV with one row per class."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("class", "boxes", "images", "AP50", "AP50_low", "AP50_high", "AP50_95", "precision", "recall",
                     "threshold"))  # fmt: skip
    for c in report["per_class"]:
        point = c.get("threshold") or {}
        cells = (c["AP50"]["value"], c["AP50"]["low"], c["AP50"]["high"], c["AP50_95"]["value"], point.get("precision"),
                 point.get("recall"), c.get("used_threshold"))  # fmt: skip
        texts = ["" if v is None else f"{v:.5f}" for v in cells]
        writer.writerow([escape_formula(c["name"]), c["num_boxes"], c["num_images"], *texts])
    return stream.getvalue()


def _write_figures(folder: Path, report: Mapping[str, Any], thumbs: Mapping[int, bytes | None] | None) -> None:
    """Write `figures/*.png`; figures without data are skipped, and their old files removed."""
    from headstart.reports.detection_figures import DETECTION_FIGURES, draw_detection_figure

    write_drawings(folder, DETECTION_FIGURES, lambda name: draw_detection_figure(name, report, thumbs))
