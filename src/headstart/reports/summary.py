"""Summarize a run as data: `report.json`, from which the page, the texts and the figures are rendered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.messages.notes import note_to_json
from headstart.reports.classifier_report import classifier_sections, hide_classifier_images
from headstart.reports.detection_report import detector_sections, hide_box_images
from headstart.reports.record import ClassifierRecord, DetectorRecord

__all__ = ["SCHEMA", "summarize", "without_images"]

SCHEMA = 1
_PRIVATE = {"data", "out", "split", "weights"}  # settings with paths


def summarize(record: ClassifierRecord | DetectorRecord, *, seed: int = 0) -> dict[str, Any]:
    """Return the report of a run as JSON values.

    Args:
        record: The finished run.
        seed: Random seed of the sample images.
    """
    if isinstance(record, DetectorRecord):
        sections = detector_sections(record, seed)
    else:
        sections = classifier_sections(record, seed)
    notes = [note_to_json(note) for note in record.problems]
    files = record.bundle.get("files") or {}
    return {
        "schema": SCHEMA,
        "task": "detect" if isinstance(record, DetectorRecord) else "classify",
        "run": record.run,
        "class_names": list(record.class_names),
        **sections,
        "settings": [{"name": k, **dict(v)} for k, v in record.settings.items()],
        "environment": dict(record.environment),
        "digests": {name: file.get("sha256") for name, file in files.items() if name != "trained_on"},
        "duration_s": record.metrics.get("duration_s"),
        "parity": record.metrics.get("parity"),
        "problems": [*notes, *sections.get("problems", ())],
    }


def without_images(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report without images and file names."""
    return {
        **report,
        **(hide_box_images if report["task"] == "detect" else hide_classifier_images)(report),
        "images": {},
        "settings": [row for row in report["settings"] if row["name"] not in _PRIVATE],
        "environment": {k: v for k, v in report["environment"].items() if k != "command"},
    }
