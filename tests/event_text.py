"""Read the events of a stream or a run folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from headstart.events import EventStream, Note
from headstart.messages.log import event_lines
from headstart.messages.summaries import describe_finding, rank_findings
from headstart.messages.values import one_line
from headstart.types.codes import Finding, NoteKind, ReadingNote

__all__ = ["decisions_of", "events_of", "finding_lines", "findings_of", "lines_of", "notes_of"]


def finding_lines(findings: Iterable[Finding | ReadingNote]) -> list[str]:
    """Return one line for each finding, the most severe first, e.g. `error: 1 file skipped ...`."""
    ranked = rank_findings(list(findings))
    return [one_line(f"{finding.severity.value}: {describe_finding(finding)}") for finding in ranked]


def lines_of(events: EventStream) -> list[str]:
    """Return the log lines of all events so far."""
    return [line for event in events.history for line in event_lines(event)]


def notes_of(events: EventStream, kind: NoteKind | None = None) -> list[Note]:
    """Return the notes of one kind, or all."""
    notes = [event for event in events.history if isinstance(event, Note)]
    return [note for note in notes if kind in (None, note.kind)]


def events_of(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Return the events of one type, or all, from the `events.jsonl` of a run."""
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if kind in (None, event["type"])]


def decisions_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the last decision about each setting: `value`, `reason`, `source` and `evidence`, by its name."""
    return {event["decision"]["setting"]: event["decision"] for event in events_of(folder, "decision")}


def findings_of(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Return the findings of one kind, or all, from the `events.jsonl` of a run."""
    findings = [event["finding"] for event in events_of(folder, "finding")]
    return [f for f in findings if kind in (None, f["kind"])]
