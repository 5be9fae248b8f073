"""Render events as log lines for `train.log` and `logging`."""

from __future__ import annotations

import logging

from headstart.messages.decisions import decision_message
from headstart.messages.notes import note_message
from headstart.messages.scores import score_lines
from headstart.messages.stages import dataset_message, epoch_message, stage_line, stage_started_message
from headstart.messages.summaries import describe_finding
from headstart.messages.values import duration
from headstart.types.codes import Severity
from headstart.types.events import (
    DatasetRead,
    DecisionMade,
    EpochFinished,
    Event,
    FileWritten,
    FindingMade,
    Note,
    RunFinished,
    ScoreMeasured,
    StageFinished,
    StageStarted,
)

__all__ = ["event_lines", "log_event"]

_LEVELS = {Severity.ERROR: logging.WARNING, Severity.WARNING: logging.WARNING, Severity.INFO: logging.INFO}
_LOGGER = logging.getLogger("headstart")


def event_lines(event: Event) -> list[str]:
    """Return the log lines of an event; none for progress."""
    if isinstance(event, DatasetRead):
        return [f"dataset {event.data}: {dataset_message(event)}"]
    if isinstance(event, StageStarted):
        started = stage_started_message(event)
        return [f"stage {event.stage.value}" + ("" if started is None else f": {started}")]
    if isinstance(event, StageFinished):
        line = stage_line(event)
        text = f"stage {event.stage.value}: {duration(event.seconds)}"
        return [text if line is None else f"{text}; {line[1]}"]
    if isinstance(event, DecisionMade):
        return [f"decision {decision_message(event.decision)}"]
    if isinstance(event, FindingMade):
        return [f"{event.finding.severity.value} {event.finding.kind.value}: {describe_finding(event.finding)}"]
    if isinstance(event, EpochFinished):
        return [epoch_message(event)]
    if isinstance(event, ScoreMeasured):
        return [f"score: {text}" for _, text in score_lines(event.score)]
    if isinstance(event, FileWritten):
        return [f"written {event.role}: {event.path}"]
    if isinstance(event, Note):
        return [f"{event.severity.value} {event.kind.value}: {note_message(event)}"]
    if isinstance(event, RunFinished):
        return [f"finished in {duration(event.seconds)}"]
    return []


def log_event(event: Event) -> None:
    """Pass an event to the logger `headstart`."""
    level = logging.INFO
    if isinstance(event, (FindingMade, Note)):
        level = _LEVELS[event.severity if isinstance(event, Note) else event.finding.severity]
    if _LOGGER.isEnabledFor(level):
        for line in event_lines(event):
            _LOGGER.log(level, "%s", line)
