"""Check a labeled or annotated dataset: report findings, draw duplicates and boxes, write a split without leaks."""

from __future__ import annotations

import importlib.util
import os
from abc import abstractmethod
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.config.settings import TrainSettings
from headstart.data.boxes.reader import read_boxes
from headstart.data.boxes.records import DetectionSamples
from headstart.data.boxes.split import as_samples
from headstart.data.options import ReadOptions
from headstart.data.sources import read
from headstart.data.split import write_split
from headstart.detection.box_sizes import BoxSizes, choose_spec, measure_sizes
from headstart.errors import HeadstartError, UsageError
from headstart.events import CheckFinished, Event, EventStream, FileWritten, FindingMade, Stage
from headstart.messages.numbers import pluralize
from headstart.messages.reading import reading_to_json
from headstart.messages.summaries import rank_findings
from headstart.pipelines.show import save_sheet
from headstart.quality.box_contact_sheet import draw_box_sheet
from headstart.quality.box_inspection import BoxReport, apply_box_report, inspect_box_dataset
from headstart.quality.contact_sheet import draw_pairs
from headstart.quality.inspection import AppliedReport, apply_report
from headstart.quality.inspector import DatasetInspector
from headstart.quality.report_findings import (
    box_findings,
    box_report_to_json,
    dataset_findings,
    reading_events,
    report_reading,
    report_to_json,
)
from headstart.quality.split_repair import repair_split
from headstart.results import Story, import_pandas
from headstart.runs.files import write_json
from headstart.types.codes import USER_TEST_SPLIT, Finding, NoteKind
from headstart.types.records import DatasetReport, Samples, Split
from headstart.utils.limits import MAX_PIXELS
from headstart.utils.serialization import plain

if TYPE_CHECKING:
    from headstart.features.extractor import FeatureExtractor

__all__ = [
    "BoxCheckResult",
    "CheckOptions",
    "DatasetCheck",
    "ImageCheckResult",
    "check_boxes",
    "check_images",
]

_MAX_PAIRS = 60


@dataclass(frozen=True, kw_only=True)
class CheckOptions(ReadOptions):
    """Options of a check, with those for reading the dataset.

    Attributes:
        backbone: Backbone whose features confirm near-duplicates and measure the effect of groups on the score.
        group_from, intensity_range, num_threads, offline: As in `train`.
        max_pixels: Larger images are rejected.
        box_format: As `detect.box_format` in `train`.
        use_network: Whether to extract features; never without the training extra.
        use_cache: Whether scans and reports are cached on disk.
        task: `classify`, `detect` (images with boxes), or `auto` (from the data).
    """

    backbone: str = "efficientnet_lite0"
    group_from: str | None = None
    intensity_range: tuple[float, float] | None = None
    max_pixels: int = MAX_PIXELS
    num_threads: int | None = None
    box_format: str | None = None
    offline: bool = False
    use_network: bool = True
    use_cache: bool = True
    task: str = "auto"

    def for_training(self) -> dict[str, Any]:
        """Return the given options that change what `train` reads, by name."""
        data = ("group_from", "intensity_range", "max_pixels", "box_format", "task")
        names = {*(f.name for f in fields(ReadOptions)), *data}
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name in names}
        defaults = CheckOptions()
        return {k: v for k, v in given.items() if v != getattr(defaults, k) and v != []}

    def of_images(self) -> dict[str, Any]:
        """See `ReadOptions`."""
        return {**super().of_images(), "intensity_range": self.intensity_range}


class DatasetCheck(Story):
    """A dataset with the findings of its check.

    Attributes:
        samples: The images.
        group_from: As in `train`.
        events: Events of the check, rendered by its text and HTML.
        findings: All findings, most severe first.
    """

    samples: Samples | DetectionSamples
    group_from: str | None

    @property
    @abstractmethod
    def findings(self) -> tuple[Finding, ...]:
        """Return all findings, most severe first."""

    @property
    def events(self) -> tuple[Event, ...]:
        """See `Story`."""
        return (*reading_events(self.samples, is_checked=True), *map(FindingMade, self.findings), self.finish())

    def finish(self) -> CheckFinished:
        """Return the event that ends the check."""
        return CheckFinished(str(self.samples.root), len(self.samples), is_final=True)

    def report(self, events: EventStream) -> None:
        """Emit the findings and the end of the check."""
        events.report(*self.findings)
        events.emit(self.finish())

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the dataset report as JSON values; image paths are relative to the data."""

    @abstractmethod
    def draw_sheet(self, out: str, events: EventStream) -> None:
        """Draw the contact sheet of problems.

        Raises:
            UsageError: The sheet cannot be written.
        """

    @abstractmethod
    def write_repaired_split(self, out: str, events: EventStream) -> None:
        """Write the user's split without leaks and without divided groups; moves no file.

        Raises:
            DataError: No split without leaks is possible.
            UsageError: The file cannot be written, or there is no split to repair.
        """

    def write(
        self,
        events: EventStream,
        *,
        json_file: str | os.PathLike[str] | None,
        sheet: str | os.PathLike[str] | None,
        repair: str | os.PathLike[str] | None,
    ) -> None:
        """Write the dataset report, the sheet and the repaired split, where a path is given."""
        if json_file is not None:
            try:
                write_json(Path(json_file), self.to_json())
            except OSError as error:
                raise UsageError(f"cannot write `{json_file}` ({error.strerror or error}).") from error
            events.emit(FileWritten("check", os.fspath(json_file)))
        if sheet is not None:
            self.draw_sheet(os.fspath(sheet), events)
        if repair is not None:
            self.write_repaired_split(os.fspath(repair), events)


@dataclass(frozen=True, repr=False)
class ImageCheckResult(DatasetCheck):
    """Images with one label each, and their dataset report."""

    samples: Samples
    dataset_report: DatasetReport
    group_from: str | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """See `DatasetCheck`."""
        return tuple(rank_findings(dataset_findings(self.dataset_report)))

    def to_json(self) -> dict[str, Any]:
        """See `DatasetCheck`."""
        return {**report_to_json(self.dataset_report), **reading_to_json(self.samples.notes, self.samples.inventory)}

    def to_pandas(self) -> Any:
        """Return the pairs of near-duplicates as a DataFrame."""
        pairs = (*self.dataset_report.leaks, *self.dataset_report.duplicates, *self.dataset_report.near_duplicates)
        return import_pandas().DataFrame([asdict(p) for p in dict.fromkeys(pairs)])

    def draw_sheet(self, out: str, events: EventStream) -> None:
        """See `DatasetCheck`: near-duplicates side by side, leaks and label conflicts first, or a warning."""
        report = self.dataset_report
        pairs = (*report.leaks, *report.label_conflicts, *report.duplicates, *report.near_duplicates)
        pairs = tuple(dict.fromkeys(pairs))
        if not pairs:
            events.warn(NoteKind.NO_DUPLICATES_TO_DRAW, path=out)
            return
        rows = []
        for p in pairs[:_MAX_PAIRS]:
            caption = f"{p.kind}, similarity {p.similarity:.3f}"
            if p.split_a != p.split_b:
                caption += f", leak: {p.split_a} / {p.split_b}"
            if p.label_a != p.label_b:
                caption += f", labels: {p.label_a} / {p.label_b}"
            rows.append((p.index_a, p.index_b, caption))
        left = len(pairs) - len(rows)
        title = f"{pluralize(len(pairs), 'pair')} of near-duplicates" + (f", first {len(rows)} shown" if left else "")
        save_sheet(draw_pairs(self.samples, rows, title=title), out, events)

    def write_repaired_split(self, out: str, events: EventStream) -> None:
        """See `DatasetCheck`; images with conflicting labels are excluded too."""
        applied = apply_report(self.samples, self.dataset_report, group_from=self.group_from)
        assignment = np.array([s.split or "train" for s in self.samples], dtype="<U5")
        _save_repaired_split(self.samples, assignment, applied, out, events)


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
        return box_report_to_json(self.dataset_report) | {"sizes": self.sizes.to_json()}

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
        _save_repaired_split(as_samples(self.samples), assignment, applied, out, events)


def check_images(data: str, options: CheckOptions, events: EventStream) -> ImageCheckResult:
    """Read and check labeled images; no file is changed."""
    samples = read(data, options)
    report_reading(samples, events, is_checked=True)
    inspector = DatasetInspector(
        samples,
        events,
        intensity_range=options.intensity_range,
        max_pixels=options.max_pixels,
        group_from=options.group_from,
        num_threads=options.num_threads,
        use_cache=options.use_cache,
    )
    embedder = None
    if options.use_network and importlib.util.find_spec("torch") is not None:
        embedder = _open(options, inspector.find_range()[0], events)
    if embedder is None:
        inspector.scan()
        return ImageCheckResult(samples, inspector.inspect(), options.group_from)
    features = embedder.embed(samples.paths, samples.names, events, scanner=inspector.scanner).features
    report = inspector.inspect(features, embedder.key) if features.is_ok.any() else inspector.inspect()
    return ImageCheckResult(samples, report, options.group_from)


def check_boxes(data: str, options: CheckOptions, events: EventStream) -> BoxCheckResult:
    """Read and check images with boxes by their pixels; no file is changed."""
    samples = read_boxes(
        data,
        allow_external_paths=options.allow_external_paths,
        max_pixels=options.max_pixels,
        box_format=options.box_format,
        exclude=options.exclude,
    )
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


def _save_repaired_split(
    samples: Samples, assignment: NDArray[np.str_], applied: AppliedReport, out: str, events: EventStream
) -> None:
    """Repair (N,) assignments, write them as a split file, and report how many images moved or were dropped.

    A scored near-duplicate of a training image is dropped; a group in two splits moves as a whole to one.

    Raises:
        DataError: No split without leaks can be made.
        UsageError: The file cannot be written.
    """
    user_split = Split(assignment, applied.groups, "given", USER_TEST_SPLIT, 0)
    excluded = applied.excluded | (applied.test_including_leaks & ~applied.test)
    split = repair_split(samples, user_split, applied.groups, excluded)
    try:
        write_split(out, samples, split)
    except OSError as error:
        raise UsageError(f"cannot write `{out}` ({error.strerror or error}).") from error
    num_excluded = int((split.assignment == "").sum())
    evidence = {"num_left_out": num_excluded, "repair": split.reason.value, **split.evidence}
    events.emit(FileWritten("split", out, evidence))


def _open(
    options: CheckOptions, intensity_range: tuple[float, float] | None, events: EventStream
) -> FeatureExtractor | None:
    """Open the feature extractor; return None with a warning where that fails."""
    from headstart.features.extractor import ExtractorOptions, open_embedder

    wanted = ExtractorOptions(
        options.backbone,
        intensity_range=intensity_range,
        max_pixels=options.max_pixels,
        num_threads=options.num_threads,
        offline=options.offline,
    )
    try:
        return open_embedder(wanted, events)
    except HeadstartError as error:
        events.warn(NoteKind.NO_BACKBONE_FOR_CHECK, reason=error.message)
        return None
