"""Check images with boxes: read, inspect, draw a contact sheet, repair the split."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headstart.data.boxes.reader import read_boxes
from headstart.data.boxes.records import DetectionSamples
from headstart.data.boxes.split import as_samples
from headstart.errors import UsageError
from headstart.events import CheckFinished, Event, EventStream, FindingMade, Stage
from headstart.messages.summaries import rank_findings
from headstart.pipelines.check import DatasetCheck, save_repaired_split
from headstart.pipelines.show import save_sheet
from headstart.quality.box_contact_sheet import draw_box_sheet
from headstart.quality.box_findings import box_findings
from headstart.quality.box_inspection import BoxReport, apply_box_report, inspect_box_dataset
from headstart.quality.box_report_text import box_report_to_json
from headstart.quality.reading_events import reading_events, report_reading
from headstart.results import import_pandas
from headstart.types.codes import Finding
from headstart.utils.limits import MAX_PIXELS
from headstart.utils.serialization import plain

__all__ = ["BoxCheckResult", "check_boxes", "refuse_box_format", "refuse_without_effect", "show_boxes"]


@dataclass(frozen=True, repr=False)
class BoxCheckResult(DatasetCheck):
    """Images with boxes and their dataset report."""

    samples: DetectionSamples
    dataset_report: BoxReport
    group_from: str | None = None

    def to_json(self) -> dict[str, Any]:
        """See `DatasetCheck`."""
        return box_report_to_json(self.dataset_report)

    def to_pandas(self) -> Any:
        """Return the annotations that were fixed or dropped, as a DataFrame."""
        return import_pandas().DataFrame([asdict(p) for p in self.dataset_report.problems])

    @property
    def findings(self) -> tuple[Finding, ...]:
        """See `DatasetCheck`."""
        return tuple(rank_findings(box_findings(self.dataset_report)))

    @property
    def events(self) -> tuple[Event, ...]:
        """See `DatasetCheck`."""
        return (*reading_events(self.samples, is_checked=True), *map(FindingMade, self.findings), self.finish())

    def finish(self) -> CheckFinished:
        """See `DatasetCheck`; with the number of boxes per class."""
        classes = plain(self.dataset_report.classes)
        return CheckFinished(str(self.samples.root), len(self.samples), is_final=True, evidence={"classes": classes})

    def draw_sheet(self, out: str, events: EventStream) -> None:
        """See `DatasetCheck`: images with problems first, then each class and the near-duplicates."""
        images = self.dataset_report.images
        pairs = list(dict.fromkeys((*images.leaks, *images.duplicates, *images.near_duplicates)))
        intensity_range = images.intensity_range
        save_sheet(
            draw_box_sheet(self.samples, has_problems=True, pairs=pairs, intensity_range=intensity_range), out, events
        )

    def write_repaired_split(self, out: str, events: EventStream) -> None:
        """See `DatasetCheck`."""
        if not any(self.samples.split):
            raise UsageError("the data have no split to repair.", hint="remove --repair")
        applied = apply_box_report(self.samples, self.dataset_report, group_from=self.group_from)
        assignment = np.array(self.samples.split, dtype="<U5")
        save_repaired_split(as_samples(self.samples), assignment, applied, out, events)


def check_boxes(
    data: str,
    events: EventStream,
    *,
    group_from: str | None = None,
    allow_external_paths: bool = False,
    max_pixels: int = MAX_PIXELS,
    num_threads: int | None = None,
    box_format: str | None = None,
    **others: Any,
) -> BoxCheckResult:
    """Read and check images with boxes by their pixels; no file is changed.

    Args:
        data: As in `train`.
        events: The event stream.
        group_from, allow_external_paths, max_pixels, num_threads: As in `check_data`.
        box_format: As in `read_boxes`.
        others: Other settings of `check_data`; settings of a network are ignored.

    Raises:
        DataError, UsageError: See `read_boxes`; or a setting of classification data was given.
    """
    refuse_without_effect(
        **{name: others.get(name) for name in ("layout", "label_pattern", "first_id", "intensity_range")}
    )
    samples = read_boxes(data, allow_external_paths=allow_external_paths, max_pixels=max_pixels, box_format=box_format)
    report_reading(samples, events, is_checked=True)
    progress = events.progress(Stage.SCAN)
    report = inspect_box_dataset(
        samples, max_pixels=max_pixels, num_threads=num_threads, progress=progress, group_from=group_from
    )
    return BoxCheckResult(samples, report, group_from)


def refuse_without_effect(**settings: Any) -> None:
    """Raise an error if a setting has no effect on images with boxes.

    Raises:
        UsageError: Such a setting was given.
    """
    for name, value in settings.items():
        if value is not None:
            shown = name.replace("_", "-")
            raise UsageError(
                f"--{shown} has no effect on images with boxes.",
                hint=f"remove --{shown}, or ignore the boxes with --task classify",
            )


def refuse_box_format(box_format: str | None) -> None:
    """Raise an error if a box format was given for images without boxes.

    Raises:
        UsageError: Such a setting was given.
    """
    if box_format is not None:
        raise UsageError("--box-format has no effect on images without boxes.", hint="remove --box-format")


def show_boxes(
    data: str,
    events: EventStream,
    *,
    per_class: int,
    seed: int,
    allow_external_paths: bool = False,
    box_format: str | None = None,
) -> Any:
    """Draw random images of each class with their boxes on one contact sheet; see `api.show`."""
    samples = read_boxes(data, allow_external_paths=allow_external_paths, box_format=box_format)
    report_reading(samples, events)
    return draw_box_sheet(samples, per_class=per_class, seed=seed)
