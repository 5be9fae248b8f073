"""Report how a dataset was read: layout, assumptions, and files that are not used."""

from __future__ import annotations

from collections import Counter

from headstart.data.boxes.records import DetectionSamples
from headstart.data.problem_findings import problem_findings
from headstart.events import DatasetRead, Event, EventStream, FindingMade, Stage, StageStarted
from headstart.quality.box_findings import box_problem_findings
from headstart.types.records import Samples, SplitName

__all__ = ["reading_events", "report_reading"]

_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


def reading_events(samples: Samples | DetectionSamples, *, is_checked: bool = False) -> list[Event]:
    """Return events for the dataset, the notes of the reader, and the files and annotations that it cannot use.

    Args:
        samples: The samples.
        is_checked: Whether a dataset check follows, which reports the problems.
    """
    if isinstance(samples, Samples):
        given: Counter[str] = Counter(s.split for s in samples if s.split)
        num_unlabeled = sum(s.label is None for s in samples)
        num_groups, num_boxes = len({s.group for s in samples if s.group}), None
        problems = problem_findings(samples.problems)
    else:
        given = Counter(s for s in samples.split if s)
        num_unlabeled, num_groups, num_boxes = 0, 0, samples.num_boxes
        problems = box_problem_findings(samples.problems)
    dataset = DatasetRead(
        data=str(samples.root),
        layout=samples.layout,
        num_images=len(samples),
        class_names=samples.class_names,
        splits={name: given[name] for name in _SPLITS if given[name]},
        num_unlabeled=num_unlabeled,
        num_groups=num_groups,
        num_boxes=num_boxes,
    )
    findings = (*samples.notes, *(() if is_checked else problems))
    return [dataset, *map(FindingMade, findings), StageStarted(Stage.SCAN)]


def report_reading(samples: Samples | DetectionSamples, events: EventStream, *, is_checked: bool = False) -> None:
    """Emit `reading_events`."""
    for event in reading_events(samples, is_checked=is_checked):
        events.emit(event)
