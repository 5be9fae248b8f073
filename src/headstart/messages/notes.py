"""Render notes: what a pipeline reports about its own work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headstart.events import Note
from headstart.messages.numbers import percent
from headstart.messages.values import count, quote, shorten
from headstart.types import NoteKind

__all__ = ["note_message", "note_to_json"]


def note_message(note: Note) -> str:
    """Return one sentence in lower case without a full stop, at most 90 characters where names are short."""
    return _MESSAGES[note.kind](note.evidence)


def note_to_json(note: Note) -> dict[str, Any]:
    """Return kind, severity, evidence and the rendered message."""
    return {
        "kind": note.kind.value,
        "severity": note.severity.value,
        "evidence": dict(note.evidence),
        "message": note_message(note),
    }


_MESSAGES: Mapping[NoteKind, Callable[[Mapping[str, Any]], str]] = {
    NoteKind.COVERAGE_NOT_KEPT: lambda e: (
        f"the model has no prediction sets at {percent(e['asked'], 0)}; those at {percent(e['used'], 0)} are used"
    ),
    NoteKind.DATA_MOVED: lambda e: "the data are not at the path of the run, so no images are shown (--data FOLDER)",
    NoteKind.FEATURES_NOT_CACHED: lambda e: f"features could not be cached ({e['reason']}); the result is the same",
    NoteKind.IMAGES_MISSING: lambda e: (
        f"{e['count']:,} of {count(e['total'], 'image')} of the report cannot be opened (moved, renamed or deleted)"
    ),
    NoteKind.LABELS_CHANGED: lambda e: (
        "the labels have changed since the run: errors drawn on images differ from the numbers"
    ),
    NoteKind.NO_BACKBONE_FOR_CHECK: lambda e: f"copies are confirmed by pixels only, without features: {e['reason']}",
    NoteKind.NO_COPIES_TO_DRAW: lambda e: f"no copies found: {quote(e['path'])} is not drawn",
    NoteKind.REPORT_NOT_WRITTEN: lambda e: (
        f"no report ({shorten(str(e['reason']), 30)}), the run is complete: headstart report {shorten(e['run'], 20)}"
    ),
    NoteKind.RUN_WITHOUT_DATA_PATH: lambda e: "the run has no path of the data, so no images are shown",
    NoteKind.RUN_WITHOUT_PREDICTIONS: lambda e: f"the run has no readable {e['file']}, so no single images are shown",
    NoteKind.RUN_WITHOUT_SCORES: lambda e: "the run has no scores of images, so calibration is shown in part only",
    NoteKind.RUN_WITHOUT_SETTINGS: lambda e: f"the run has no readable {e['file']}, so no settings are shown",
    NoteKind.TEXT: lambda e: str(e["text"]),
}
