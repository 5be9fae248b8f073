"""Report how a dataset was read: layout, assumptions, and files that are not used."""

from __future__ import annotations

from collections import Counter

from headstart.data.boxes.records import DetectionSamples
from headstart.data.problem_findings import problem_findings
from headstart.events import DatasetRead, Event, EventStream, FindingMade, Stage, StageStarted
from headstart.quality.box_findings import box_problem_findings
from headstart.types.records import Samples, SplitName

__all__ = [
    "box_reading_events",
    "reading_events",
    "report_box_reading",
    "report_reading",
]

_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


def reading_events(samples: Samples, *, is_checked: bool = False) -> list[Event]:
    """Return events for the dataset, the notes of the reader and the files that it cannot use.

    Args:
        samples: The samples.
        is_checked: Whether a dataset check follows, which reports the unusable files.
    """
    splits = Counter(s.split for s in samples if s.split)
    read = DatasetRead(
        data=samples.root,
        layout=samples.layout,
        num_images=len(samples),
        class_names=samples.class_names,
        splits={name: splits[name] for name in _SPLITS if splits[name]},
        num_unlabeled=sum(s.label is None for s in samples),
        num_groups=len({s.group for s in samples if s.group}),
    )
    problems = [] if is_checked else problem_findings(samples.problems)
    return [read, *map(FindingMade, samples.notes), *map(FindingMade, problems), StageStarted(Stage.SCAN)]


def box_reading_events(samples: DetectionSamples, *, is_checked: bool = False) -> list[Event]:
    """Return events for a dataset with boxes, the notes of the reader, and fixed or dropped annotations.

    Args:
        samples: The samples.
        is_checked: As in `reading_events`.
    """
    splits = Counter(s for s in samples.split or () if s)
    read = DatasetRead(
        data=str(samples.root),
        layout=samples.layout,
        num_images=len(samples.names),
        class_names=tuple(samples.class_names),
        splits={name: splits[name] for name in _SPLITS if splits[name]},
        num_boxes=samples.num_boxes,
    )
    problems = [] if is_checked else box_problem_findings(samples.problems)
    return [read, *map(FindingMade, samples.notes), *map(FindingMade, problems), StageStarted(Stage.SCAN)]


def report_reading(samples: Samples, events: EventStream, *, is_checked: bool = False) -> None:
    """Emit `reading_events`."""
    for event in reading_events(samples, is_checked=is_checked):
        events.emit(event)


def report_box_reading(samples: DetectionSamples, events: EventStream, *, is_checked: bool = False) -> None:
    """Emit `box_reading_events`."""
    for event in box_reading_events(samples, is_checked=is_checked):
        events.emit(event)
