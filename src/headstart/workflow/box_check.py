"""The data doctor for images with boxes, composed: read, judged, shown on a sheet, the split mended."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headstart.data.boxes.contact_sheet import draw_box_sheet
from headstart.data.boxes.findings import box_findings
from headstart.data.boxes.inspection import BoxReport, apply_box_report, inspect_box_dataset
from headstart.data.boxes.reader import read_boxes
from headstart.data.boxes.records import DetectionSamples
from headstart.data.boxes.report_text import box_report_to_json
from headstart.data.boxes.split import as_samples
from headstart.errors import UsageError
from headstart.events import CheckFinished, Event, EventStream, FindingMade, Stage
from headstart.limits import MAX_PIXELS
from headstart.messages.summaries import rank_findings
from headstart.results import import_pandas
from headstart.serialization import plain
from headstart.types import Finding
from headstart.workflow.image_check import Judged, save_repaired_split
from headstart.workflow.image_sheets import save_sheet
from headstart.workflow.reading_report import box_reading_events, report_box_reading

__all__ = ["BoxCheckResult", "check_boxes", "refuse_box_format", "refuse_without_effect", "show_boxes"]


@dataclass(frozen=True, repr=False)
class BoxCheckResult(Judged):
    """Images with boxes and the doctor's judgement of them."""

    samples: DetectionSamples
    health: BoxReport
    group_from: str | None = None

    def to_json(self) -> dict[str, Any]:
        """See `Judged`."""
        return box_report_to_json(self.health)

    def to_pandas(self) -> Any:
        """Return what reading mended or left out, as a DataFrame."""
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
        """See `Judged`: images with problems first, each class, and the copies."""
        images = self.health.images
        pairs = list(dict.fromkeys((*images.leaks, *images.duplicates, *images.near_duplicates)))
        intensity_range = images.intensity_range
        save_sheet(
            draw_box_sheet(self.samples, has_problems=True, pairs=pairs, intensity_range=intensity_range), out, events
        )

    def write_repaired_split(self, out: str, events: EventStream) -> None:
        """See `Judged`."""
        if not any(self.samples.split):
            raise UsageError("the data have no split, so there is nothing to repair.", hint="leave --repair away")
        applied = apply_box_report(self.samples, self.health, group_from=self.group_from)
        assignment = np.array(self.samples.split, dtype="<U5")
        save_repaired_split(as_samples(self.samples), assignment, applied, out, events)


def check_boxes(
    data: str,
    events: EventStream,
    *,
    group_from: str | None = None,
    allow_external_paths: bool = False,
    max_pixels: int = MAX_PIXELS,
    threads: int | None = None,
    box_format: str | None = None,
    **others: Any,
) -> BoxCheckResult:
    """Read and judges images with boxes by their pixels, changing nothing.

    Args:
        data: As in `train`.
        events: The event stream.
        group_from, allow_external_paths, max_pixels, threads: As in `check_data`.
        box_format: As in `read_boxes`.
        others: Its other settings; those of a network change nothing here.

    Raises:
        DataError, UsageError: As in `read_boxes`, or a setting of labeled images was given.
    """
    refuse_without_effect(
        **{name: others.get(name) for name in ("layout", "label_pattern", "first_id", "intensity_range")}
    )
    samples = read_boxes(data, allow_external_paths=allow_external_paths, max_pixels=max_pixels, box_format=box_format)
    report_box_reading(samples, events, is_checked=True)
    progress = events.progress(Stage.SCAN)
    health = inspect_box_dataset(
        samples, max_pixels=max_pixels, threads=threads, progress=progress, group_from=group_from
    )
    return BoxCheckResult(samples, health, group_from)


def refuse_without_effect(**settings: Any) -> None:
    """Stop where a setting was given that means nothing for images with boxes.

    Raises:
        UsageError: It was.
    """
    for name, value in settings.items():
        if value is not None:
            shown = name.replace("_", "-")
            raise UsageError(
                f"--{shown} has no effect on images with boxes.",
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
    allow_external_paths: bool = False,
    box_format: str | None = None,
) -> Any:
    """Return random images of each class with their boxes on one sheet; see `api.show`."""
    samples = read_boxes(data, allow_external_paths=allow_external_paths, box_format=box_format)
    report_box_reading(samples, events)
    return draw_box_sheet(samples, per_class=per_class, seed=seed)
