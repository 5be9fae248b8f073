"""Read the events of a finished run, for `Run` in Python."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from headstart.evaluation.score_summary import summarize_run
from headstart.events import (
    CheckFinished,
    DatasetRead,
    Event,
    FileWritten,
    FindingMade,
    RunFinished,
    ScoreMeasured,
    Stage,
    StageFinished,
)
from headstart.types.codes import Finding, FindingKind, ReadingKind, ReadingNote, Severity

__all__ = ["read_story"]


def read_story(folder: Path, metrics: Mapping[str, Any]) -> tuple[Event, ...]:
    """Return the events of a run in order; the score alone where no events are stored.

    Args:
        folder: The run folder.
        metrics: Its `metrics.json`.
    """
    events: list[Event] = []
    for line in _lines(folder / "events.jsonl"):
        with suppress(KeyError, TypeError, ValueError):  # skip events of other versions
            event = _event(json.loads(line))
            if isinstance(event, DatasetRead):  # a resumed run reads the data again
                events = []
            if event is not None and event not in events:
                events.append(event)
    if not any(isinstance(event, ScoreMeasured) for event in events):
        score = summarize_run(metrics)
        events += [] if score is None else [ScoreMeasured(score)]
    seconds = float((metrics.get("duration_s") or {}).get("total") or 0.0)
    return (*events, RunFinished(seconds, str(folder)))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _event(row: Mapping[str, Any]) -> Event | None:
    """Return the event of a JSON object; None for types that are not shown."""
    match row["type"]:
        case DatasetRead.type:
            values = {name: row[name] for name in DatasetRead.__slots__}
            return DatasetRead(**{**values, "class_names": tuple(row["class_names"])})
        case FindingMade.type:
            return FindingMade(_finding(row["finding"]))
        case CheckFinished.type:
            return CheckFinished(row["data"], row["num_images"])
        case StageFinished.type:
            return StageFinished(Stage(row["stage"]), row["seconds"], row["evidence"])
        case ScoreMeasured.type:
            return ScoreMeasured(row["score"])
        case FileWritten.type:
            return FileWritten(row["role"], row["path"], row["evidence"])
    return None


def _finding(row: Mapping[str, Any]) -> Finding | ReadingNote:
    if "severity" in row:
        return Finding(FindingKind(row["kind"]), Severity(row["severity"]), row["evidence"])
    return ReadingNote(ReadingKind(row["kind"]), row["count"], tuple(row["examples"]), row["evidence"])
