"""Check images with boxes: invalid boxes, near-duplicates, leaks, box sizes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from headstart.config.settings import TrainSettings
from headstart.data.boxes.read_options import read_boxes_with
from headstart.data.boxes.records import DetectionSamples
from headstart.data.boxes.split import as_samples
from headstart.detection.box_sizes import BoxSizes, choose_spec, measure_sizes
from headstart.errors import UsageError
from headstart.events import CheckFinished, EventStream, Stage
from headstart.messages.summaries import rank_findings
from headstart.quality.box_contact_sheet import draw_box_sheet
from headstart.quality.box_inspection import BoxReport, apply_box_report, inspect_box_dataset
from headstart.quality.report_findings import box_findings, box_report_to_json, report_reading
from headstart.results import import_pandas
from headstart.tasks.dataset_check import DatasetCheck, save_repaired_split
from headstart.tasks.detect import NAME
from headstart.tasks.options import CheckOptions
from headstart.tasks.sheets import save_sheet
from headstart.types.codes import Finding
from headstart.utils.serialization import plain

__all__ = ["BoxCheckResult", "check_boxes"]


@dataclass(frozen=True, repr=False)
class BoxCheckResult(DatasetCheck):
    """Images with boxes, their dataset report, and the sizes of training boxes at the default input size."""

    samples: DetectionSamples
    dataset_report: BoxReport
    sizes: BoxSizes
    group_from: str | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """See `DatasetCheck`."""
        return tuple(rank_findings(box_findings(self.dataset_report)))

    def finish(self) -> CheckFinished:
        """See `DatasetCheck`; with the number of boxes per class."""
        return replace(super().finish(), evidence={"classes": plain(self.dataset_report.classes)})

    def to_json(self) -> dict[str, Any]:
        """See `DatasetCheck`."""
        return {"task": NAME} | box_report_to_json(self.dataset_report) | {"sizes": self.sizes.to_json()}

    def to_pandas(self) -> Any:
        """Return the annotations that were fixed or dropped, as a DataFrame."""
        return import_pandas().DataFrame([asdict(p) for p in self.dataset_report.problems])

    def draw_sheet(self, out: str, events: EventStream) -> None:
        """See `DatasetCheck`: images with problems first, then each class and the near-duplicates."""
        images = self.dataset_report.images
        pairs = list(dict.fromkeys((*images.leaks, *images.duplicates, *images.near_duplicates)))
        sheet = draw_box_sheet(self.samples, has_problems=True, pairs=pairs, intensity_range=images.intensity_range)
        save_sheet(sheet, out, events)

    def write_repaired_split(self, out: str, events: EventStream) -> None:
        """See `DatasetCheck`."""
        if not any(self.samples.split):
            raise UsageError("the data have no split to repair.", hint="remove --repair")
        applied = apply_box_report(self.samples, self.dataset_report, group_from=self.group_from)
        assignment = np.array(self.samples.split, dtype="<U5")
        save_repaired_split(as_samples(self.samples), assignment, applied, out, events)


def check_boxes(data: str, options: CheckOptions, events: EventStream) -> BoxCheckResult:
    """Read and check images with boxes by their pixels; no file is changed."""
    samples = read_boxes_with(data, options, max_pixels=options.max_pixels)
    report_reading(samples, events, is_checked=True)
    report = inspect_box_dataset(
        samples,
        max_pixels=options.max_pixels,
        num_threads=options.num_threads,
        progress=events.progress(Stage.SCAN),
        group_from=options.group_from,
    )
    is_training = np.array([split not in ("val", "test") for split in samples.split], dtype=bool)
    train = np.flatnonzero(is_training)
    boxes, sizes_hw = [samples.boxes[i] for i in train], samples.sizes_hw[train]
    settings = TrainSettings(data=data, backbone=options.backbone, max_pixels=options.max_pixels)
    sizes = measure_sizes(boxes, sizes_hw, samples.class_names, choose_spec(settings, boxes, sizes_hw)[0])
    report = replace(report, findings=(*report.findings, *sizes.findings()))
    return BoxCheckResult(samples, report, sizes, options.group_from)
