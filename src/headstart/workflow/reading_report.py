"""Report what the reader of a dataset understood, assumed and did not use, for all commands and Python alike."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from headstart.data.boxes.records import DetectionSamples
from headstart.events import DatasetRead, EventStream, Stage, StageStarted
from headstart.records import Problem, Samples, SplitName
from headstart.types import Finding, FindingKind, Severity

__all__ = ["problem_findings", "report_box_reading", "report_reading"]

_EXAMPLES = 5
_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


def report_reading(samples: Samples, events: EventStream) -> None:
    """Emit what was read, the notes of the reader and the files that it cannot use, warnings first."""
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
    events.emit(read)
    events.find(*samples.notes, *problem_findings(samples.problems))
    events.emit(StageStarted(Stage.SCAN))


def report_box_reading(samples: DetectionSamples, events: EventStream) -> None:
    """Emit what was read of images with boxes, the notes of the reader, and what was corrected or left out."""
    splits = Counter(s for s in samples.split or () if s)
    read = DatasetRead(
        data=str(samples.root),
        layout=samples.layout,
        num_images=len(samples.names),
        class_names=tuple(samples.class_names),
        splits={name: splits[name] for name in _SPLITS if splits[name]},
        num_boxes=samples.num_boxes,
    )
    events.emit(read)
    events.find(*samples.notes, *problem_findings(samples.problems))
    events.emit(StageStarted(Stage.SCAN))


def problem_findings(problems: Iterable[Problem]) -> list[Finding]:
    """Return one finding for each kind of problem that the reader met, the most frequent first."""
    by_kind: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_kind[problem.kind].append(problem)
    return [
        Finding(
            FindingKind.FILES_NOT_USED,
            Severity.WARNING,
            {
                "problem": kind,
                "count": len(same),
                "examples": [p.name for p in same[:_EXAMPLES]],
                "detail": same[0].detail,
            },
        )
        for kind, same in sorted(by_kind.items(), key=lambda item: -len(item[1]))
    ]
