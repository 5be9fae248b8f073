"""Summarize a run as data: `report.json`, from which the page, the texts and the figures are rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from headstart.messages.notes import note_to_json
from headstart.reports.classifier_report import classifier_sections, hide_classifier_images
from headstart.reports.record import ClassifierRecord, DetectorRecord, RunRecord, SectionsRecord

__all__ = ["SCHEMA", "summarize", "without_images"]

SCHEMA = 1


def _hide_sections(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of a plain page without images."""
    return {"sections": [{**section, "images": []} for section in report["sections"]]}


def _hide_box_images(report: Mapping[str, Any]) -> dict[str, Any]:
    from headstart.reports.detection_report import hide_box_images

    return hide_box_images(report)


_HIDE = {
    "classification": hide_classifier_images,
    "detection": _hide_box_images,
    "sections": _hide_sections,
}
"""Functions that return the sections of a page without images and file names."""
_PRIVATE = {"data", "out", "split", "weights"}  # settings with paths


def summarize(record: RunRecord, *, seed: int = 0) -> dict[str, Any]:
    """Return the report of a run as JSON values.

    Args:
        record: The finished run.
        seed: Random seed of the sample images.
    """
    sections = _sections(record, seed)
    notes = [note_to_json(note) for note in record.problems]
    files = record.bundle.get("files") or {}
    return {
        "schema": SCHEMA,
        "task": record.metrics.get("task"),
        "page": record.page,
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
        **_HIDE[report["page"]](report),
        "images": {},
        "settings": [row for row in report["settings"] if row["name"] not in _PRIVATE],
        "environment": {k: v for k, v in report["environment"].items() if k != "command"},
    }


def _sections(record: RunRecord, seed: int) -> dict[str, Any]:
    if isinstance(record, DetectorRecord):
        from headstart.reports.detection_report import detector_sections

        return detector_sections(record, seed)
    if isinstance(record, ClassifierRecord):
        return classifier_sections(record, seed)
    assert isinstance(record, SectionsRecord)
    shown = sorted({i for section in record.sections for i in section.images})
    return {
        "headline": {"sentence": record.sentence, "protocol": "", "score": record.metrics.get("headline")},
        "comment": {"findings": []},
        "model": {"title": record.bundle.get("backbone", {}).get("title") or record.metrics.get("backbone")},
        "sections": [asdict(section) for section in record.sections],
        "images": {str(i): {"name": record.names[i]} for i in shown},
    }
