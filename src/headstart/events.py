"""Define the typed events of pipelines and the stream that sends them to listeners (screen, log, callbacks).

An event carries codes and numbers; `headstart.messages` renders it. Listeners are called in order, one event at a
time, in the thread that emits it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, TextIO

from headstart.errors import CancelledError
from headstart.types.codes import Evidence, Finding, JsonValue, NoteKind, ReadingNote, Severity
from headstart.types.records import Decision
from headstart.utils.serialization import plain

__all__ = [
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
    "RunsCompared",
    "ScoreMeasured",
    "Stage",
    "StageFinished",
    "StageStarted",
    "event_to_json",
    "json_line",
]


class Stage(StrEnum):
    """The stages of a pipeline, in the order in which they usually run."""

    READ = "read"
    SCAN = "scan"
    EXPORT_BACKBONE = "export_backbone"
    FEATURES = "features"
    FLIPPED_FEATURES = "flipped_features"
    CHECK = "check"
    PROBE = "probe"
    VIEWS = "views"
    PILOT = "pilot"
    TRAIN = "train"
    FINAL_TRAINING = "final_training"
    EVALUATE = "evaluate"
    UNCERTAINTY = "uncertainty"
    EXPORT_MODEL = "export_model"
    PREDICT = "predict"
    REPORT = "report"
    DOWNLOAD = "download"


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events; `type` is the stable code in JSON."""

    type: ClassVar[str] = "event"


@dataclass(frozen=True, slots=True)
class DatasetRead(Event):
    """A dataset was read.

    Attributes:
        data: Data path given by the user.
        layout: Short name of the recognized layout.
        num_images: Number of images.
        class_names: Names of all classes, empty without labels.
        splits: Images by split name; empty without a split.
        num_boxes: Boxes, or None for other tasks.
        num_unlabeled: Images without a label.
        num_groups: Groups given by the data; 0 without groups.
    """

    type: ClassVar[str] = "dataset_read"
    data: str
    layout: str
    num_images: int
    class_names: tuple[str, ...] = ()
    splits: Mapping[str, int] = field(default_factory=dict)
    num_boxes: int | None = None
    num_unlabeled: int = 0
    num_groups: int = 0


@dataclass(frozen=True, slots=True)
class StageStarted(Event):
    """A stage began; `evidence` may hold `expected_seconds`."""

    type: ClassVar[str] = "stage_started"
    stage: Stage
    evidence: Evidence = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """Progress of a stage: `done` of `total` units after `seconds`."""

    type: ClassVar[str] = "progress"
    stage: Stage
    done: int
    total: int
    unit: str
    seconds: float

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.done / max(self.seconds, 1e-6)

    @property
    def seconds_left(self) -> float | None:
        """Expected remaining time, None before the first unit."""
        return (self.total - self.done) / self.rate if self.done else None


@dataclass(frozen=True, slots=True)
class StageFinished(Event):
    """A stage ended after `seconds`; the keys of `evidence` depend on the stage."""

    type: ClassVar[str] = "stage_finished"
    stage: Stage
    seconds: float
    evidence: Evidence = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DecisionMade(Event):
    """A setting was chosen."""

    type: ClassVar[str] = "decision"
    decision: Decision


@dataclass(frozen=True, slots=True)
class FindingMade(Event):
    """A reader, a check or a pipeline reports a finding."""

    type: ClassVar[str] = "finding"
    finding: Finding | ReadingNote


@dataclass(frozen=True, slots=True)
class CheckFinished(Event):
    """All findings about the dataset are known.

    Attributes:
        data: Data path given by the user.
        num_images: Images that were checked.
        is_final: Whether the check is the whole pipeline; all kinds of findings are then shown.
        evidence: `classes` of a dataset with boxes: number and size of the boxes of each class.
    """

    type: ClassVar[str] = "check_finished"
    data: str
    num_images: int
    is_final: bool = False
    evidence: Evidence = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EpochFinished(Event):
    """One epoch of a training ended; `metrics` has the columns of `results.csv`."""

    type: ClassVar[str] = "epoch"
    phase: str
    epoch: int
    num_epochs: int
    metrics: Mapping[str, float | int | None]


@dataclass(frozen=True, slots=True)
class ScoreMeasured(Event):
    """The headline score of a model: see `headstart.messages.scores` for the keys of `score`."""

    type: ClassVar[str] = "score"
    score: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunsCompared(Event):
    """Two runs were compared: see `headstart.messages.comparisons` for the keys of `comparison`."""

    type: ClassVar[str] = "comparison"
    comparison: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FileWritten(Event):
    """A file or folder was written; `role` is `run`, `report`, `bundle`, `predictions`, `sheet` ..."""

    type: ClassVar[str] = "file"
    role: str
    path: str
    evidence: Evidence = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """A pipeline ended after `seconds`; `next_commands` are suggested commands."""

    type: ClassVar[str] = "finished"
    seconds: float
    folder: str | None = None
    next_commands: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Note(Event):
    """A note of a pipeline, e.g. that features could not be cached.

    The screen shows a note of severity INFO with `-v` only; log and `events.jsonl` hold every note.
    """

    type: ClassVar[str] = "note"
    kind: NoteKind
    severity: Severity = Severity.INFO
    evidence: Evidence = field(default_factory=dict)


Listener = Callable[[Event], None]


class CancelToken:
    """Token that stops a running pipeline; thread-safe."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Request a stop at the next opportunity; a saved run can be resumed."""
        self._event.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._event.is_set()


class EventStream:
    """Send events to listeners and stop the pipeline if canceled.

    Args:
        listeners: Called with each event.
        cancel: Checked at every progress event.
    """

    def __init__(self, listeners: Iterable[Listener] = (), *, cancel: CancelToken | None = None) -> None:
        self._listeners = list(listeners)
        self._history: list[Event] = []
        self._lock = threading.RLock()
        self.cancel = cancel or CancelToken()

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

    def decide(self, *decisions: Decision) -> None:
        """Emit a `DecisionMade` for each decision."""
        for decision in decisions:
            self.emit(DecisionMade(decision))

    def find(self, *findings: Finding | ReadingNote) -> None:
        """Emit a `FindingMade` for each finding."""
        for finding in findings:
            self.emit(FindingMade(finding))

    @contextmanager
    def stage(self, stage: Stage, **evidence: Any) -> Iterator[dict[str, Any]]:
        """Emit `StageStarted` and `StageFinished` around a block; the block may add evidence to the yielded dict."""
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
        if self.cancel.is_cancelled:
            raise CancelledError("canceled; computed results are kept.", hint="headstart resume")


class JsonLines:
    """A listener that writes one JSON object per event: `events.jsonl`, and stdout for `--progress json`."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __call__(self, event: Event) -> None:
        self._file.write(json_line(event))
        self._file.flush()


def json_line(event: Event) -> str:
    """Return an event as one line of `events.jsonl`."""
    return json.dumps(event_to_json(event), default=str) + "\n"


def event_to_json(event: Event) -> dict[str, Any]:
    """Return `{"type": ..., "time": seconds since the epoch, ...}` with plain values."""
    value: dict[str, Any] = {"type": event.type, "time": round(time.time(), 3)}
    for item in fields(event):
        value[item.name] = plain(getattr(event, item.name))
    if isinstance(event, Progress):
        value["rate"] = round(event.rate, 3)
        value["seconds_left"] = None if event.seconds_left is None else round(event.seconds_left, 1)
    return value
