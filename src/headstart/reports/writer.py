"""Write the report of a run folder, with its figures and text files.

Everything comes from the run folder (and the images, if they are still there), so the report can be rewritten at
any time and on any machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import DataError, HeadstartError
from headstart.evaluation.score_summary import summarize_run
from headstart.events import EventStream, FileWritten, Note, RunFinished, ScoreMeasured
from headstart.messages.comment import empty_section
from headstart.messages.notes import note_to_json
from headstart.reports.calibration_section import label_errors_section
from headstart.reports.card import model_card
from headstart.reports.html import render
from headstart.reports.network import network_text
from headstart.reports.report_files import (
    image_spec,
    read_json,
    read_metrics,
    read_rows,
    read_settings,
    read_shapes,
    write_drawings,
    write_text,
)
from headstart.reports.run_data import RunData, ScoredImages
from headstart.reports.summary import summarize
from headstart.reports.tables import classification_csv, classification_text, comment_markdown
from headstart.reports.thumbs import make_thumbs
from headstart.results import Report
from headstart.runs.files import write_json
from headstart.types.codes import NoteKind, Severity
from headstart.types.report import ReportKind
from headstart.utils.csv_cells import unescape_formula

__all__ = [
    "emit_report",
    "find_images",
    "make_report",
    "read_run_data",
    "report_run",
    "without_images",
    "write_figures",
    "write_report",
]


def report_run(folder: Path, paths: Mapping[str, str], events: EventStream, *, has_images: bool = True) -> int | None:
    """Write the report at the end of a training; a failure is a warning, not an error.

    Returns:
        Number of images in the report; None where it could not be written.
    """
    try:
        report = write_report(folder, paths=paths or None, has_images=has_images)
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
    settings = read_run_data(folder, paths={}).settings
    if images is None:
        images = (settings.get("include_images") or {}).get("value") is not False
    paths = None if data is None else find_images(os.fspath(data), settings)
    target = Path(out) if out is not None else folder
    written = write_report(
        folder,
        paths=paths,
        has_images=images,
        has_attributions=attributions is not False and images,
        has_figures=figures,
        has_curve=curve is not False,
        out=None if out is None else target,
    )
    return Report(target, written, images)


def emit_report(report: Report, run: Path, events: EventStream, started: float) -> None:
    """Emit the score of the run, the problems of the report, and the files written.

    Args:
        report: The report.
        run: The run folder.
        events: The event stream.
        started: `time.monotonic()` when the command began.
    """
    score = summarize_run(read_json(run / "metrics.json"))
    if score is not None:
        events.emit(ScoreMeasured(score))
    for row in report.data["problems"]:
        events.emit(Note(NoteKind(row["kind"]), Severity(row["severity"]), row["evidence"]))
    evidence = {"num_images": len(report.data["images"]), "has_images": report.has_images}
    events.emit(FileWritten("report", str(report.path), evidence))
    events.emit(RunFinished(time.monotonic() - started))


def write_report(
    folder: Path,
    *,
    paths: Mapping[str, str] | None = None,
    has_images: bool = True,
    has_attributions: bool = False,
    has_figures: bool = False,
    has_curve: bool = False,
    out: Path | None = None,
) -> dict[str, Any]:
    """Write `report.html`, `report.json`, the classification report, the summary and the comment.

    Args:
        folder: A finished run.
        paths: Path of each image by name; None uses the data path of the run's settings.
        has_images: Whether the files include images and file names.
        has_attributions: Whether to compute attribution maps of the shown errors.
        has_figures: Whether to draw `figures/*.png`.
        has_curve: Whether to measure the learning curve.
        out: Output folder; the run folder by default.

    Returns:
        The report as data.

    Raises:
        UsageError: The folder is not a finished run.
    """
    facts = read_run_data(folder, paths=paths)
    if has_curve:
        from headstart.reports.learning_curve_section import measure_curve

        facts = replace(facts, extra={**facts.extra, "learning_curve": measure_curve(facts)})
    report = summarize(facts)
    thumbs: dict[int, bytes | None] | None = None
    maps: dict[int, bytes] = {}
    if has_images:
        image_paths = {int(i): facts.path(int(i)) for i in report["images"]}
        thumbs = make_thumbs(image_paths, image_spec(facts.bundle))
        num_missing = sum(t is None for t in thumbs.values())
        if num_missing:
            evidence = {"count": num_missing, "total": len(thumbs)}
            report["problems"].append(note_to_json(Note(NoteKind.IMAGES_MISSING, Severity.WARNING, evidence)))
        if has_attributions:
            report["attribution"], maps = _explain(folder, facts, report)
    else:
        report = without_images(report)
        report["attribution"] = empty_section(ReportKind.IMAGES_LEFT_OUT)
    target = out or folder
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / "report.json", report)
    write_text(target / "report.html", render(report, thumbs, maps))
    write_text(target / "classification_report.txt", classification_text(report))
    write_text(target / "classification_report.csv", classification_csv(report))
    write_text(target / "summary.txt", network_text(report))
    write_text(target / "comment.md", comment_markdown(report))
    if out is None and (folder / "bundle").is_dir():
        write_text(folder / "bundle" / "README.md", model_card(report))
    if has_figures:
        write_figures(target / "figures", report, thumbs)
    return report


def write_figures(folder: Path, report: Mapping[str, Any], thumbs: Mapping[int, bytes | None] | None) -> list[Path]:
    """Write `figures/*.png`; figures without data are skipped, and their old files removed."""
    from headstart.reports.figures import FIGURES, draw_figure
    from headstart.reports.fonts import drawable, names_text

    written = write_drawings(folder, FIGURES, lambda name: draw_figure(name, report, thumbs))
    key = folder / "class_names.txt"
    if drawable(report)[1]:
        write_text(key, names_text(report))
    else:
        key.unlink(missing_ok=True)
    return written


def _explain(folder: Path, facts: RunData, report: Mapping[str, Any]) -> tuple[dict[str, Any], dict[int, bytes]]:
    from headstart.reports.attribution_maps import explain_images

    shown = [*report["errors"]["wrong"], *report["errors"]["unsure"]]
    if not shown:
        return empty_section(ReportKind.ATTRIBUTION_NOT_NEEDED), {}
    scored = facts.scored
    section, painted = explain_images(
        folder, [scored.paths[i] for i in shown], [int(scored.predicted[i]) for i in shown]
    )
    return section, {i: data for i, data in zip(shown, painted, strict=True) if data is not None}


def without_images(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report without images and file names."""
    clean = dict(report)
    clean["images"] = {}
    clean["data"] = {**report["data"], "samples": [[] for _ in report["class_names"]]}
    clean["data"]["unreadable"] = [{"kind": p.get("kind")} for p in report["data"]["unreadable"]]
    clean["data"]["duplicates"] = {**report["data"]["duplicates"], "pairs": []}
    clean["data"]["conflicts"] = [{} for _ in report["data"]["conflicts"]]
    clean["data"]["shortcuts"] = [
        {k: v for k, v in row.items() if not isinstance(v, list)} for row in report["data"]["shortcuts"]
    ]
    clean["data"]["group_patterns"] = []  # derived from file names
    clean["confusion"] = {**report["confusion"], "cells": []}
    clean["errors"] = {"wrong": [], "unsure": [], "num_errors": report["errors"]["num_errors"]}
    clean["ood"] = {k: v for k, v in report["ood"].items() if k != "strangest"}
    clean["label_errors"] = {k: v for k, v in report["label_errors"].items() if k not in ("rows", "shown")}
    private = {"data", "out", "split", "weights"}
    clean["settings"] = [row for row in report["settings"] if row["name"] not in private]
    clean["environment"] = {k: v for k, v in report["environment"].items() if k != "command"}
    return clean


def read_run_data(folder: Path, *, paths: Mapping[str, str] | None = None) -> RunData:
    """Read a run folder.

    Raises:
        UsageError: The folder is not a finished run.
    """
    metrics = read_metrics(folder)
    problems: list[Note] = []
    settings = read_settings(folder / "config.resolved.yaml", problems)
    if paths is None:
        paths = _find_images(settings, problems)
    facts = RunData(
        run=folder.resolve().name,
        metrics=metrics,
        scored=_read_scored(folder, metrics, paths, problems),
        settings=settings,
        environment=read_json(folder / "environment.json"),
        dataset_report=read_json(folder / "dataset_report.json"),
        bundle=read_json(folder / "bundle" / "bundle.json"),
        tensors=read_shapes(folder / "bundle" / "model.safetensors"),
        epochs=tuple(read_rows(folder / "results.csv")),
        extra={k: metrics[k] for k in _SECTIONS if metrics.get(k)},
        problems=tuple(problems),
    )
    facts = replace(facts, beside=_read_leaking(facts, paths))
    if (folder / "label_errors.csv").is_file() and "label_errors" not in facts.extra:
        rows = [
            {k: unescape_formula(v or "") for k, v in row.items() if k}
            for row in read_rows(folder / "label_errors.csv")
        ]
        facts = replace(facts, extra={**facts.extra, "label_errors": label_errors_section(facts, rows)})
    return facts


def _read_leaking(facts: RunData, paths: Mapping[str, str]) -> tuple[tuple[str, str | None, str], ...]:
    """Return the leaking images of the dataset report, which were not scored."""
    known = set(facts.scored.names)
    images: dict[str, tuple[str, str | None, str]] = {}
    for row in facts.dataset_report.get("leaks") or ():
        for side in ("a", "b"):
            name = str(row.get(side))
            if name not in known:
                images[name] = (name, paths.get(name), str(row.get(f"label_{side}") or ""))
    return tuple(images.values())


_SECTIONS = ("ood", "coverage", "operating", "learning_curve", "calibration", "label_errors", "finetune", "sizes")


def _read_scored(
    folder: Path, metrics: Mapping[str, Any], paths: Mapping[str, str], problems: list[Note]
) -> ScoredImages:
    names = [str(n) for n in metrics["class_names"]]
    position = {name: i for i, name in enumerate(names)}
    rows = []
    for row in read_rows(folder / "predictions.csv"):
        clean = {k: unescape_formula(v or "") for k, v in row.items() if k}
        if clean.get("label") in position and clean.get("prediction") in position:
            rows.append(clean)
    if not rows:
        problems.append(Note(NoteKind.RUN_WITHOUT_PREDICTIONS, Severity.WARNING, {"file": "predictions.csv"}))
    kept = [r["file"] for r in rows]
    logits, digests, ood_score = _read_logits(folder, kept, len(names))
    if logits is None and rows:
        problems.append(Note(NoteKind.RUN_WITHOUT_SCORES, Severity.WARNING))
    groups = _read_groups(folder / "split.csv", kept)
    return ScoredImages(
        names=tuple(kept),
        paths=tuple(paths.get(name) for name in kept),
        split=np.array([r.get("split", "") for r in rows], dtype=str),
        truth=np.array([position[r["label"]] for r in rows], dtype=np.int64),
        predicted=np.array([position[r["prediction"]] for r in rows], dtype=np.int64),
        confidence=np.array([_float(r.get("probability")) for r in rows], dtype=np.float64),
        logits=logits,
        groups=groups,
        digests=digests,
        ood_score=ood_score,
    )


def _read_logits(
    folder: Path, names: Sequence[str], num_classes: int
) -> tuple[NDArray[np.float32] | None, tuple[str, ...], NDArray[np.float64] | None]:
    """Read (N, K) logits, digests and (N,) OOD scores of `scores.npz`; None where missing or inconsistent."""
    try:
        with np.load(folder / "scores.npz", allow_pickle=False) as file:
            stored, logits = [str(p) for p in file["paths"]], np.asarray(file["logits"], dtype=np.float32)
            digests = [str(d) for d in file["digests"]] if "digests" in file else []
            ood_score = np.asarray(file["ood_score"], dtype=np.float64) if "ood_score" in file else None
    except (OSError, ValueError, KeyError):
        return None, (), None
    if logits.shape != (len(stored), num_classes):
        return None, (), None
    at = {name: i for i, name in enumerate(stored)}
    if not all(name in at for name in names):
        return None, (), None
    index = [at[name] for name in names]
    scores = ood_score[index] if ood_score is not None and len(ood_score) == len(stored) else None
    return logits[index], tuple(digests[i] for i in index) if digests else (), scores


def _read_groups(path: Path, names: Sequence[str]) -> NDArray[np.int64] | None:
    by_name = {unescape_formula(r.get("image") or ""): (r.get("group") or "") for r in read_rows(path)}
    texts = [by_name.get(name, "") for name in names]
    if not any(texts):
        return None
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(t, len(numbers)) if t else -1 for t in texts], dtype=np.int64)


def _find_images(settings: Mapping[str, Mapping[str, Any]], problems: list[Note]) -> dict[str, str]:
    """Return the path of each image by name; empty with a problem where the data have moved."""
    from headstart.data.sources import read

    def value(name: str) -> Any:
        """Return an explicit setting; a recognized layout is not a pattern to read with."""
        row = settings.get(name) or {}
        is_explicit = row.get("source") in ("config", "cli", "python")
        return row["asked"] if "asked" in row else row.get("value") if is_explicit else None

    data = (settings.get("data") or {}).get("value")
    if not data:
        problems.append(Note(NoteKind.RUN_WITHOUT_DATA_PATH, Severity.WARNING))
        return {}
    try:
        samples = read(
            data,
            allow_external_paths=bool(value("allow_external_paths")),
            label_pattern=value("label_pattern"),
            layout=value("layout"),
            first_id=value("first_id"),
        )
    except HeadstartError:
        problems.append(Note(NoteKind.DATA_MOVED, Severity.WARNING))
        return {}
    return {s.name: s.path for s in samples}


def find_images(data: str, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the path of each image by name in a given folder.

    Raises:
        DataError: The folder has no such images.
    """
    problems: list[Note] = []
    changed = {**settings, "data": {"value": data}}
    paths = _find_images(changed, problems)
    if not paths:
        raise DataError(f"`{data}` has no images in the layout of the run's data.")
    return paths


def _float(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
