"""Scores a saved detector on pictures with boxes, and says which of them it has seen before.

The one decision: pictures it was trained on are scored apart and never stand in the headline; classes go by their
names, so that data with other ids, or with more classes than the detector knows, are scored rightly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.boxes.reading import read_boxes
from headstart.data.boxes.records import Boxes, DetectionSamples
from headstart.data.boxes.wording import problem_lines
from headstart.data.grouping import number_groups
from headstart.data.reading_notes import alike_notes
from headstart.data.spelling import match_names
from headstart.data.wording import one_line
from headstart.deploy.detector_runtime import DetectorRuntime, PictureDetections
from headstart.detection.decode import scoring_limit
from headstart.detection.metrics import DetectionEvaluation, detection_to_json, evaluate_detections
from headstart.errors import DataError
from headstart.events import EventStream, Stage
from headstart.messages.numbers import percent, pluralize
from headstart.messages.reading import reading_line, reading_to_json
from headstart.records import Estimate, Problem
from headstart.results import html_table, import_pandas
from headstart.types import RESUBSTITUTION, USER_TEST_SPLIT, EvaluationSetup, ReadingKind, ReadingNote, Severity
from headstart.workflow.evaluation import seen_in_training
from headstart.workflow.reading_report import report_box_reading

__all__ = ["DetectionResult", "evaluate_detector"]


@dataclass(frozen=True)
class DetectionResult:
    """A saved detector judged on pictures with boxes.

    Attributes:
        evaluation: On pictures it was not trained on, None where there are none.
        known: On pictures it was trained on, None where there are none.
        new_classes: Class name to boxes that the detector cannot know; they are not scored.
        missing_classes: Classes of the detector of which the data have no box.
        num_unreadable: Pictures that could not be read.
        found: What was found, one entry a scored picture.
        problems: Boxes and files that were mended or left out, each with the reason.
        notes: What the reader of the data assumed and did not use.
    """

    evaluation: DetectionEvaluation | None
    known: DetectionEvaluation | None
    new_classes: dict[str, int]
    missing_classes: tuple[str, ...]
    num_unreadable: int
    found: tuple[PictureDetections, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[ReadingNote, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, evaluations as in `metrics.json`."""
        return {
            "task": "detect",
            "test": None if self.evaluation is None else detection_to_json(self.evaluation),
            "trained_on": None if self.known is None else detection_to_json(self.known),
            "new_classes": self.new_classes,
            "missing_classes": list(self.missing_classes),
            "num_unreadable": self.num_unreadable,
            "problems": [asdict(p) for p in self.problems],
            **reading_to_json(self.notes),
        }

    def to_pandas(self) -> Any:
        """One row a class, as a DataFrame."""
        return import_pandas().DataFrame(self._class_rows())

    def lines(self) -> list[str]:
        """What the command line prints."""
        lines = [self._headline()]
        if self.known is not None:
            lines.append(
                f"Not in this score, because it was trained on them: {pluralize(self.known.num_samples, 'image')}."
            )
        if self.new_classes:
            shown = ", ".join(f"`{name}` ({count:,})" for name, count in self.new_classes.items())
            lines.append(f"The detector does not know these classes, whose boxes are not scored: {shown}.")
        if self.missing_classes:
            lines.append(f"The data have no box of: {', '.join(self.missing_classes)}.")
        if self.num_unreadable:
            lines.append(f"Unreadable and not scored: {pluralize(self.num_unreadable, 'image')}.")
        e = self.evaluation
        if e is None:
            return lines
        lines.append(
            f"mAP50-95 {_percent(e.map50_95)}, mAP75 {_percent(e.map75)}, "
            + ", ".join(f"{k} {'-' if v is None else f'{100 * v:.1f} %'}" for k, v in e.by_size.items())
            + " (stricter overlaps; small, medium, large objects at mAP50-95)"
        )
        width = max(5, *(len(c.name) for c in e.per_class))
        lines.append(f"{'class':<{width}}   AP50  precision  recall  threshold   boxes")
        for c in e.per_class:
            point = "        -       -          -"
            if c.point is not None:
                precision = "-" if c.point.precision is None else f"{c.point.precision:.3f}"
                point = f"{precision:>9}{c.point.recall:>8.3f}{c.point.threshold:>11.3f}"
            value = "-" if c.ap50.value is None else f"{c.ap50.value:.3f}"
            lines.append(f"{c.name:<{width}}{value:>7}  {point}{c.num_boxes:>8,}")
        return lines

    def _class_rows(self) -> list[dict[str, Any]]:
        if self.evaluation is None:
            return []
        return [
            {
                "class": c.name,
                "AP50": c.ap50.value,
                "AP50_95": c.ap50_95.value,
                "precision": None if c.point is None else c.point.precision,
                "recall": None if c.point is None else c.point.recall,
                "threshold": None if c.point is None else c.point.threshold,
                "boxes": c.num_boxes,
            }
            for c in self.evaluation.per_class
        ]

    def __repr__(self) -> str:
        notes = [one_line(reading_line(note)) for note in self.notes if note.severity is not Severity.INFO]
        return "\n".join([self._headline(), *notes, *problem_lines(self.problems)])

    def _headline(self) -> str:
        if self.evaluation is None:
            return "every readable picture was trained on; nothing is left to score"
        e = self.evaluation
        where = f"{pluralize(e.num_samples, 'new image')}, {pluralize(e.num_boxes, 'box', 'boxes')}"
        return f"{where}: mAP50 {_percent(e.map50)}"

    def _repr_html_(self) -> str:
        return html_table(self._class_rows(), repr(self))


def evaluate_detector(
    runtime: DetectorRuntime, data: str, allow_outside: bool, events: EventStream, *, box_format: str | None = None
) -> DetectionResult:
    """See `api.evaluate`.

    Raises:
        DataError: The data hold no boxes, or none of a class that the detector knows.
    """
    names = runtime.class_names
    samples = _match_classes(read_boxes(data, allow_outside=allow_outside, box_format=box_format), names)
    report_box_reading(samples, events)
    new = Counter(
        samples.class_names[k] for b in samples.boxes for k in b.class_ids if samples.class_names[k] not in names
    )
    if not set(samples.class_names) & set(names):
        raise DataError(
            "no box is of a class that the detector knows.",
            hint=f"it knows: {', '.join(names[:20])}; the data have: {', '.join(samples.class_names[:20])}",
        )
    truth = _by_name(samples, names)
    paths = [str(p) for p in samples.paths]
    progress = events.progress(Stage.EVALUATE)
    found = []
    most = min(runtime.decoding.num_kept, scoring_limit(max(len(boxes) for boxes in truth)))
    for done, picture in enumerate(runtime.iter_predict(paths, min_score=0.0, max_detections=most), start=1):
        found.append(picture)
        progress(done, len(paths))
    is_read = np.array([p.error is None for p in found], dtype=bool)
    if not is_read.any():
        raise DataError(
            f"not one image can be read, so nothing can be scored: `{found[0].file}`: {found[0].error}.",
            hint="headstart check lists every file that cannot be read",
        )
    seen = seen_in_training(paths, runtime.bundle.trained_on())
    groups = number_groups(list(samples.group)) if any(samples.group) else None
    thresholds = [float(t) for t in runtime.thresholds]

    def score(which: NDArray[np.bool_], setup: EvaluationSetup) -> DetectionEvaluation | None:
        index = np.flatnonzero(which)
        if not len(index):
            return None
        return evaluate_detections(
            [truth[i] for i in index],
            [found[i].detections for i in index],
            names,
            groups=None if groups is None else groups[index],
            setup=setup,
            thresholds=thresholds,
            max_detections=runtime.decoding.num_kept,
        )

    present = set(samples.class_names)
    lost = sum(p.kind == "unreadable-image" for p in samples.problems)
    return DetectionResult(
        evaluation=score(is_read & ~seen, USER_TEST_SPLIT),
        known=score(is_read & seen, RESUBSTITUTION),
        new_classes=dict(new),
        missing_classes=tuple(n for n in names if n not in present),
        num_unreadable=int((~is_read).sum()) + lost,
        found=tuple(found),
        problems=samples.problems,
        notes=samples.notes,
    )


def _match_classes(samples: DetectionSamples, names: Sequence[str]) -> DetectionSamples:
    """Give classes that differ from one of the detector only in case, blanks or Unicode form its name.

    What was matched is added to the notes.
    """
    matched = match_names(samples.class_names, names)
    changed = {label: name for label, name in matched.items() if label != name}
    if not changed:
        return samples
    class_names = tuple(dict.fromkeys(changed.get(n, n) for n in samples.class_names))
    new_id = np.array([class_names.index(changed.get(n, n)) for n in samples.class_names], dtype=np.int64)
    boxes = tuple(replace(b, class_ids=new_id[b.class_ids]) for b in samples.boxes)
    is_changed = np.array([n in changed for n in samples.class_names], dtype=bool)
    count = sum(int(is_changed[b.class_ids].sum()) for b in samples.boxes)
    kept = [n for n in samples.notes if n.kind is not ReadingKind.CLASSES_ALIKE]
    note = ReadingNote(ReadingKind.LABELS_MATCHED, count, tuple(changed)[:5], {"names": changed})
    return replace(samples, boxes=boxes, class_names=class_names, notes=(note, *alike_notes(class_names), *kept))


def _by_name(samples: DetectionSamples, names: Sequence[str]) -> list[Boxes]:
    """The true boxes with the detector's class ids, without classes it does not know."""
    place = {name: i for i, name in enumerate(names)}
    new_id = np.array([place.get(name, -1) for name in samples.class_names], dtype=np.int64)
    kept = []
    for boxes in samples.boxes:
        ids = new_id[boxes.class_ids]
        kept.append(Boxes(boxes.xyxy[ids >= 0], ids[ids >= 0], boxes.is_crowd[ids >= 0]))
    return kept


def _percent(estimate: Estimate) -> str:
    if estimate.value is None:
        return "cannot be measured"
    text = percent(estimate.value)
    if estimate.low is not None and estimate.high is not None:
        text += f" (95 %: {100 * estimate.low:.1f}-{100 * estimate.high:.1f})"
    return text
