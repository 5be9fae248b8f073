"""The data doctor for pictures with boxes, composed: read, judged, shown on a sheet, the split mended."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headstart.data.boxes.findings import box_findings
from headstart.data.boxes.judge import BoxHealth, apply_box_health, inspect_boxes
from headstart.data.boxes.reading import read_boxes
from headstart.data.boxes.records import DetectionSamples
from headstart.data.boxes.sheet import draw_box_sheet
from headstart.data.boxes.split import as_samples
from headstart.data.boxes.wording import box_health_to_json
from headstart.errors import UsageError
from headstart.events import CheckFinished, Event, EventStream, FindingMade, Stage
from headstart.limits import MAX_PIXELS
from headstart.messages.summaries import rank_findings
from headstart.results import import_pandas
from headstart.serialization import plain
from headstart.types import Finding
from headstart.workflow.checking import Judged, save_repaired_split
from headstart.workflow.reading_report import box_reading_events, report_box_reading
from headstart.workflow.showing import save_sheet

__all__ = ["CheckedBoxes", "check_boxes", "refuse_box_format", "refuse_without_effect", "show_boxes"]


@dataclass(frozen=True, repr=False)
class CheckedBoxes(Judged):
    """Pictures with boxes and the doctor's judgement of them."""

    samples: DetectionSamples
    health: BoxHealth
    group_from: str | None = None

    def to_json(self) -> dict[str, Any]:
        """See `Judged`."""
        return box_health_to_json(self.health)

    def to_pandas(self) -> Any:
        """What reading mended or left out, as a DataFrame."""
        return import_pandas().DataFrame([asdict(p) for p in self.health.problems])

    @property
    def findings(self) -> tuple[Finding, ...]:
        """See `Judged`."""
        return tuple(rank_findings(box_findings(self.health)))

    @property
    def events(self) -> tuple[Event, ...]:
        """See `Judged`."""
        return (*box_reading_events(self.samples, is_checked=True), *map(FindingMade, self.findings), self.finish())

    def finish(self) -> CheckFinished:
        """See `Judged`; with the boxes of each class."""
        classes = plain(self.health.classes)
        return CheckFinished(str(self.samples.root), len(self.samples), is_final=True, evidence={"classes": classes})

    def draw_sheet(self, out: str, events: EventStream) -> None:
        """See `Judged`: pictures with problems first, each class, and the copies."""
        pictures = self.health.pictures
        pairs = list(dict.fromkeys((*pictures.leaks, *pictures.duplicates, *pictures.near_duplicates)))
        value_range = pictures.value_range
        save_sheet(draw_box_sheet(self.samples, has_problems=True, pairs=pairs, value_range=value_range), out, events)

    def write_repaired_split(self, out: str, events: EventStream) -> None:
        """See `Judged`."""
        if not any(self.samples.split):
            raise UsageError("the data have no split, so there is nothing to repair.", hint="leave --repair away")
        applied = apply_box_health(self.samples, self.health, group_from=self.group_from)
        assignment = np.array(self.samples.split, dtype="<U5")
        save_repaired_split(as_samples(self.samples), assignment, applied, out, events)


def check_boxes(
    data: str,
    events: EventStream,
    *,
    group_from: str | None = None,
    allow_outside: bool = False,
    max_pixels: int = MAX_PIXELS,
    threads: int | None = None,
    box_format: str | None = None,
    **others: Any,
) -> CheckedBoxes:
    """Reads and judges pictures with boxes by their pixels, changing nothing.

    Args:
        data: As in `train`.
        events: The event stream.
        group_from, allow_outside, max_pixels, threads: As in `check_data`.
        box_format: As in `read_boxes`.
        others: Its other settings; those of a network change nothing here.

    Raises:
        DataError, UsageError: As in `read_boxes`, or a setting of labelled pictures was given.
    """
    refuse_without_effect(**{name: others.get(name) for name in ("layout", "label_pattern", "first_id", "value_range")})
    samples = read_boxes(data, allow_outside=allow_outside, max_pixels=max_pixels, box_format=box_format)
    report_box_reading(samples, events, is_checked=True)
    progress = events.progress(Stage.SCAN)
    health = inspect_boxes(samples, max_pixels=max_pixels, threads=threads, progress=progress, group_from=group_from)
    return CheckedBoxes(samples, health, group_from)


def refuse_without_effect(**settings: Any) -> None:
    """Stops where a setting was given that means nothing for pictures with boxes.

    Raises:
        UsageError: It was.
    """
    for name, value in settings.items():
        if value is not None:
            shown = name.replace("_", "-")
            raise UsageError(
                f"--{shown} has no effect on pictures with boxes.",
                hint=f"leave --{shown} away, or say --task classify to pass the boxes over",
            )


def refuse_box_format(box_format: str | None) -> None:
    """Stop where a box format was given for images without boxes.

    Raises:
        UsageError: It was.
    """
    if box_format is not None:
        raise UsageError("--box-format has no effect on images without boxes.", hint="leave --box-format out")


def show_boxes(
    data: str,
    events: EventStream,
    *,
    per_class: int,
    seed: int,
    allow_outside: bool = False,
    box_format: str | None = None,
) -> Any:
    """Random pictures of each class with their boxes on one sheet; see `api.show`."""
    samples = read_boxes(data, allow_outside=allow_outside, box_format=box_format)
    report_box_reading(samples, events)
    return draw_box_sheet(samples, per_class=per_class, seed=seed)
