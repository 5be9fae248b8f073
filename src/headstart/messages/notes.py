"""Render notes: what a pipeline reports about its own work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headstart.events import Note
from headstart.messages.values import quote
from headstart.types import NoteKind

__all__ = ["note_message"]


def note_message(note: Note) -> str:
    """Return one sentence in lower case without a full stop, at most 90 characters where names are short."""
    return _MESSAGES[note.kind](note.evidence)


_MESSAGES: Mapping[NoteKind, Callable[[Mapping[str, Any]], str]] = {
    NoteKind.FEATURES_NOT_CACHED: lambda e: f"features could not be cached ({e['reason']}); the result is the same",
    NoteKind.NO_BACKBONE_FOR_CHECK: lambda e: f"copies are confirmed by pixels only, without features: {e['reason']}",
    NoteKind.NO_COPIES_TO_DRAW: lambda e: f"no copies found: {quote(e['path'])} is not drawn",
    NoteKind.TEXT: lambda e: str(e["text"]),
}
