"""Define the typed events of pipelines; they carry codes and numbers, which `headstart.messages` renders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from headstart.types.codes import Evidence, Finding, NoteKind, ReadingNote, Severity
from headstart.types.records import Decision

__all__ = [
    "CheckFinished",
    "DatasetRead",
    "DecisionMade",
    "EpochFinished",
    "Event",
    "FileWritten",
    "FindingMade",
    "Note",
    "Progress",
    "RunFinished",
    "RunsCompared",
    "ScoreMeasured",
    "Stage",
    "StageFinished",
    "StageStarted",
]


class Stage(StrEnum):
    """Stages of a pipeline, in their usual order."""

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
    """Base class of all events; `type` is the stable code in JSON."""

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
        num_boxes: Number of boxes; None except for detection.
        num_unlabeled: Images without a label.
        num_groups: Groups defined by the data; 0 without groups.
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
    def remaining_seconds(self) -> float | None:
        """Estimated remaining time in seconds; None before the first unit."""
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
    """A finding or a reading note was reported."""

    type: ClassVar[str] = "finding"
    finding: Finding | ReadingNote


@dataclass(frozen=True, slots=True)
class CheckFinished(Event):
    """The check of a dataset ended; all its findings were reported.

    Attributes:
        data: Data path given by the user.
        num_images: Number of checked images.
        is_final: Whether the pipeline consists of the check only; the screen then shows all kinds of findings.
        evidence: For detection, `classes`: number and size of the boxes of each class.
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
    """A note from a pipeline, e.g. that features could not be cached.

    The screen shows notes of severity INFO only with `-v`; the log and `events.jsonl` contain all notes.
    """

    type: ClassVar[str] = "note"
    kind: NoteKind
    severity: Severity = Severity.INFO
    evidence: Evidence = field(default_factory=dict)
