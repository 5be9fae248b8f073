"""Send the events of a pipeline to listeners: screen, log, files of the run, callbacks.

Listeners are called in order, one event at a time, in the emitting thread.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, TextIO

from headstart.errors import CancelledError
from headstart.messages.log import event_lines
from headstart.messages.values import one_line
from headstart.types.codes import Finding, JsonValue, NoteKind, ReadingNote, Severity
from headstart.types.events import (
    CheckFinished,
    DatasetRead,
    DecisionMade,
    EpochFinished,
    Event,
    FileWritten,
    FindingMade,
    Note,
    Progress,
    RunFinished,
    RunsCompared,
    ScoreMeasured,
    Stage,
    StageFinished,
    StageStarted,
)
from headstart.types.records import Decision
from headstart.utils.serialization import plain

__all__ = [
    "Cancel",
    "CancelToken",
    "CheckFinished",
    "DatasetRead",
    "DecisionMade",
    "EpochFinished",
    "Event",
    "EventStream",
    "FileWritten",
    "FindingMade",
    "JsonLines",
    "Listener",
    "Note",
    "Progress",
    "RunFinished",
    "RunRecorder",
    "RunsCompared",
    "ScoreMeasured",
    "Stage",
    "StageFinished",
    "StageStarted",
    "event_to_json",
    "json_line",
]


Listener = Callable[[Event], None]


class CancelToken:
    """Thread-safe token that cancels a running pipeline."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Cancel the pipeline at its next progress event or stage; a saved run can be resumed."""
        self._event.set()

    def is_set(self) -> bool:
        """Return whether `cancel` was called."""
        return self._event.is_set()


class Cancel(Protocol):
    """What cancels a pipeline: a `CancelToken`, or an event such as `threading.Event`."""

    def is_set(self) -> bool:
        """Return whether the pipeline is to stop."""


class EventStream:
    """Send events to listeners; raise CancelledError if the pipeline was canceled.

    Args:
        listeners: Functions called with each event.
        cancel: Token or event that is checked at every stage, progress event and training step.
    """

    def __init__(self, listeners: Iterable[Listener] = (), *, cancel: Cancel | None = None) -> None:
        self._listeners = list(listeners)
        self._history: list[Event] = []
        self._lock = threading.RLock()
        self.cancel: Cancel = CancelToken() if cancel is None else cancel

    @property
    def history(self) -> tuple[Event, ...]:
        """All events so far, except progress."""
        with self._lock:
            return tuple(self._history)

    def subscribe(self, listener: Listener, *, replay: bool = False) -> None:
        """Add a listener; with `replay`, it first receives all earlier events except progress."""
        with self._lock:
            for event in self._history if replay else ():
                listener(event)
            self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Send an event to all listeners."""
        with self._lock:
            if not isinstance(event, Progress):
                self._history.append(event)
            for listener in tuple(self._listeners):
                listener(event)

    def note(self, kind: NoteKind, **evidence: JsonValue) -> None:
        """Emit a `Note` of severity INFO."""
        self.emit(Note(kind, Severity.INFO, evidence))

    def warn(self, kind: NoteKind, **evidence: JsonValue) -> None:
        """Emit a `Note` of severity WARNING."""
        self.emit(Note(kind, Severity.WARNING, evidence))

    def warn_once(self, kind: NoteKind, **evidence: JsonValue) -> None:
        """Emit a warning unless one of this kind was emitted before."""
        if not any(isinstance(event, Note) and event.kind is kind for event in self.history):
            self.warn(kind, **evidence)

    def decide(self, *decisions: Decision) -> None:
        """Emit a `DecisionMade` for each decision."""
        for decision in decisions:
            self.emit(DecisionMade(decision))

    def report(self, *findings: Finding | ReadingNote) -> None:
        """Emit a `FindingMade` for each finding."""
        for finding in findings:
            self.emit(FindingMade(finding))

    @contextmanager
    def stage(self, stage: Stage, **evidence: Any) -> Iterator[dict[str, Any]]:
        """Emit `StageStarted` and `StageFinished` around a block, which may add evidence to the yielded dict."""
        self.raise_if_cancelled()
        self.emit(StageStarted(stage, dict(evidence)))
        started = time.monotonic()
        yield evidence
        self.emit(StageFinished(stage, time.monotonic() - started, evidence))

    def progress(self, stage: Stage, unit: str = "image", *, pause: float = 0.5) -> Callable[[int, int], None]:
        """Return a function to call with (done, total); it emits `Progress` at most every `pause` seconds.

        Raises:
            CancelledError: From the returned function, if the pipeline was canceled.
        """
        started = last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            self.raise_if_cancelled()
            now = time.monotonic()
            if now - last < pause and done < total:
                return
            last = now
            self.emit(Progress(stage, done, total, unit, now - started))

        return report

    def raise_if_cancelled(self) -> None:
        """Raise `CancelledError` if the pipeline was canceled."""
        if self.cancel.is_set():
            raise CancelledError("canceled; computed results are kept.", hint="headstart resume")


class JsonLines:
    """Listener that writes one JSON object per line: `events.jsonl`, and stdout for `--progress json`."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __call__(self, event: Event) -> None:
        self._file.write(json_line(event))
        self._file.flush()


class RunRecorder:
    """Event listener that appends each event to the files of a run immediately; a resumed run continues them.

    Args:
        folder: The run folder; it exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, event: Event) -> None:
        self._append("events.jsonl", json_line(event))
        if not isinstance(event, Progress):
            self._append("train.log", "".join(one_line(line) + "\n" for line in event_lines(event)))

    def _append(self, name: str, text: str) -> None:
        if text:
            with (self._folder / name).open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)


def json_line(event: Event) -> str:
    """Return an event as one line of `events.jsonl`."""
    return json.dumps(event_to_json(event), default=str) + "\n"


def event_to_json(event: Event) -> dict[str, Any]:
    """Return an event as `{"type": ..., "time": ..., ...}` with plain values; time is in seconds since the epoch."""
    value: dict[str, Any] = {"type": event.type, "time": round(time.time(), 3)}
    for item in fields(event):
        value[item.name] = plain(getattr(event, item.name))
    if isinstance(event, Progress):
        value["rate"] = round(event.rate, 3)
        value["remaining_seconds"] = None if event.remaining_seconds is None else round(event.remaining_seconds, 1)
    return value
