"""Hold everything that a report is made of: built by training from memory, or read from a run folder.

The files of a run hold the record in full precision, so both give the same page. Missing or damaged files read as
empty.
"""

from __future__ import annotations

import csv
import json
import os
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from headstart.data.boxes.records import Boxes, Detections, DetectionSamples
from headstart.errors import DataError, HeadstartError, UsageError
from headstart.events import Note
from headstart.preprocessing.image_spec import ImageSpec
from headstart.reports.slow_sections import SlowSections, read_sections
from headstart.runs.scores import ScoredImages, read_scores, stored_name
from headstart.types.codes import NoteKind, Severity
from headstart.types.report import ReportSection
from headstart.utils.csv_cells import unescape_formula

__all__ = [
    "BLOCKS",
    "ClassifierRecord",
    "DetectorRecord",
    "RunRecord",
    "ScoredBoxes",
    "SectionsRecord",
    "has_boxes",
    "headline_block",
    "parse_number",
    "read_bundle_info",
    "read_common",
    "read_json",
    "read_metrics",
    "read_record",
]

BLOCKS = {"test": "test images", "cv": "cross-validation", "val": "validation images"}
"""Blocks of a detector's `metrics.json`, in order of precedence for the headline, with display names."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What the runs of all tasks have in common.

    Attributes:
        run: Name of the run folder.
        metrics: `metrics.json`.
        settings: Rows of `config.resolved.yaml`: value, source and reason by name.
        environment: `environment.json`.
        dataset_report: `dataset_report.json`.
        bundle: `bundle.json`.
        tensors: Shape of each tensor of the model by name (`backbone.*`, `head.*`).
        epochs: Rows of `results.csv`, empty without gradient training.
        problems: Notes about unreadable parts.
    """

    page: ClassVar[str] = "sections"
    """Layout of the report: `classification`, `detection`, or `sections` for a plain list of sections."""

    run: str
    metrics: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    dataset_report: Mapping[str, Any] = field(default_factory=dict)
    bundle: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    epochs: Sequence[Mapping[str, str]] = ()
    problems: tuple[Note, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self.metrics["class_names"])

    def path(self, i: int) -> str | None:
        """Return the path of image `i`; None if unknown."""
        return None

    @property
    def image_spec(self) -> ImageSpec:
        """The image spec of the bundle, or the default."""
        try:
            return ImageSpec.from_json(dict(self.bundle["pixels"]))
        except (KeyError, TypeError, ValueError):
            return ImageSpec()

    def dataset_rows(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a list in `dataset_report.json`; empty if it is missing or damaged."""
        rows = self.dataset_report.get(name)
        return [dict(row) for row in rows if isinstance(row, Mapping)] if isinstance(rows, list | tuple) else []

    @property
    def has_images(self) -> bool:
        """Whether reports of the run may include images and file names."""
        return (self.settings.get("include_images") or {}).get("value") is not False


@dataclass(frozen=True, kw_only=True)
class ClassifierRecord(RunRecord):
    """A run of a classifier.

    Attributes:
        scored: Scores of every image.
        paths: Path of each image by name; images that have moved are missing.
        label_errors: Rows of `label_errors.csv`, most probable errors first; None if not checked.
        sections: Learning curve and attribution maps.
    """

    page: ClassVar[str] = "classification"

    scored: ScoredImages
    paths: Mapping[str, str] = field(default_factory=dict)
    label_errors: Sequence[Mapping[str, str]] | None = None
    sections: SlowSections = field(default_factory=SlowSections)

    @property
    def unscored(self) -> list[tuple[str, str]]:
        """(name, label) of the leaking images, which are shown but not scored; positions follow the scored ones."""
        known = set(self.scored.names)
        rows = self.dataset_rows("leaks")
        sides = [(str(row.get(s)), str(row.get(f"label_{s}") or "")) for row in rows for s in ("a", "b")]
        return list(dict(side for side in sides if side[0] not in known).items())

    def path(self, i: int) -> str | None:
        """Return the path of image `i`; None if unknown."""
        count = len(self.scored)
        return self.paths.get(self.scored.names[i] if i < count else self.unscored[i - count][0])

    @property
    def headline_split(self) -> str:
        """Split of the headline."""
        return "test" if self.metrics.get("test") else "train"

    @property
    def headline_block(self) -> Mapping[str, Any]:
        """Block of `metrics.json` of the headline."""
        return dict(self.metrics.get("test") or self.metrics.get("cv") or {})


@dataclass(frozen=True, kw_only=True)
class SectionsRecord(RunRecord):
    """A run of a task whose report is a plain list of sections.

    Attributes:
        sentence: The result in one sentence.
        sections: Sections of the report.
        names, paths: Name and path of each image by position; paths of images that have moved are None.
    """

    sentence: str
    sections: Sequence[ReportSection] = ()
    names: Sequence[str] = ()
    paths: Sequence[str | None] = ()

    def path(self, i: int) -> str | None:
        """Return the path of image `i`; None if unknown."""
        return self.paths[i]


@dataclass(frozen=True)
class ScoredBoxes:
    """One scored image of a detector.

    Attributes:
        name: Path relative to the data root.
        path: Current path, or None.
        size_hw: Upright size in pixels; None if the file is missing.
        ground_truth: True boxes; None if the data are missing.
        predictions: Detections with calibrated scores.
    """

    name: str
    path: str | None
    size_hw: tuple[int, int] | None
    ground_truth: Boxes | None
    predictions: Detections


@dataclass(frozen=True, kw_only=True)
class DetectorRecord(RunRecord):
    """A run of a detector.

    Attributes:
        splits: Split of each image by name.
        detections: Calibrated detections by (split, name) of the scored images.
        samples: Images and true boxes of the data; None if the data are missing.
    """

    page: ClassVar[str] = "detection"

    splits: Mapping[str, str] = field(default_factory=dict)
    detections: Mapping[tuple[str, str], Detections] = field(default_factory=dict)
    samples: DetectionSamples | None = None

    def path(self, i: int) -> str | None:
        """Return the path of scored image `i`; None if unknown."""
        return self.scored[i].path

    @cached_property
    def scored(self) -> list[ScoredBoxes]:
        """The images of the headline's block, in the order of the splits, without leaks."""
        headline = headline_block(self.metrics)
        part = None if headline is None else "train" if headline[0] == "cv" else headline[0]
        leaking, ground_truth = frozenset(self.dataset_report.get("leaking") or ()), self._ground_truth()
        scored = []
        for name, split in self.splits.items():
            found = self.detections.get((split, name))
            if split != part or name in leaking or found is None:
                continue
            if self.samples is None or name not in ground_truth:
                scored.append(ScoredBoxes(name, None, None, None, found))
                continue
            i, boxes = ground_truth[name]
            height, width = (int(v) for v in self.samples.sizes_hw[i])
            scored.append(ScoredBoxes(name, str(self.samples.paths[i]), (height, width), boxes, found))
        return scored

    @property
    def training(self) -> list[tuple[str, Boxes]]:
        """(split, true boxes) of every image of the data; empty if the data are missing."""
        return [
            (self.splits[name], boxes) for name, (_, boxes) in self._ground_truth().items() if self.splits.get(name)
        ]

    def _ground_truth(self) -> dict[str, tuple[int, Boxes]]:
        """Return position and true boxes by name, with the run's class ids; unknown classes are dropped."""
        if self.samples is None:
            return {}
        id_of = {k: self.class_names.index(n) for k, n in enumerate(self.samples.class_names) if n in self.class_names}
        kept = {}
        for i, (name, boxes) in enumerate(zip(self.samples.names, self.samples.boxes, strict=True)):
            is_known = np.isin(boxes.class_ids, list(id_of))
            ids = [id_of[int(k)] for k in boxes.class_ids[is_known]]
            kept[name] = i, replace(boxes.take(is_known), class_ids=np.array(ids, dtype=np.int64))
        return kept


def headline_block(metrics: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Return name and block of a detector's headline, leaky splits last; None without held-out images."""
    blocks = [(name, metrics[name]) for name in BLOCKS if metrics.get(name)]
    return min(blocks, key=lambda b: bool(b[1].get("is_leaky")), default=None)


def read_common(folder: Path, problems: list[Note]) -> dict[str, Any]:
    """Read what the records of all tasks have in common, as arguments of `RunRecord`.

    Args:
        folder: A finished run.
        problems: Receives notes about unreadable parts.

    Raises:
        UsageError: The folder is not a finished run.
    """
    metrics = read_metrics(folder)
    bundle, tensors = read_bundle_info(folder)
    return {
        "run": folder.resolve().name,
        "metrics": metrics,
        "settings": _read_settings(folder / "config.resolved.yaml", problems),
        "environment": read_json(folder / "environment.json"),
        "dataset_report": read_json(folder / "dataset_report.json"),
        "bundle": bundle,
        "tensors": tensors,
        "epochs": tuple(_read_rows(folder / "results.csv") or ()),
    }


def read_record(
    folder: Path, *, data: str | os.PathLike[str] | None = None, has_paths: bool = True
) -> ClassifierRecord | DetectorRecord:
    """Read the run folder of a classifier or detector.

    Args:
        folder: A finished run.
        data: Current path of the data, if moved.
        has_paths: Whether to look for the images of a classifier.

    Raises:
        UsageError: The folder is not a finished run.
        DataError: `data` has no images of the run's kind.
    """
    problems: list[Note] = []
    common = read_common(folder, problems)
    metrics, settings = common["metrics"], common["settings"]
    rows, num_classes = _read_rows(folder / "split.csv") or [], len(metrics["class_names"])
    if has_boxes(metrics):
        splits = {row["image"]: row.get("split", "") for row in rows if "image" in row}
        detections = _read_detections(folder / "scores.npz", {stored_name(n): n for n in splits}, num_classes, problems)
        samples = _read_boxes(settings, data, problems)
        return DetectorRecord(**common, splits=splits, detections=detections, samples=samples, problems=tuple(problems))
    names = {stored_name(row["image"]): row["image"] for row in rows if "image" in row}
    groups = {row["image"]: int(row["group"]) for row in rows if row.get("group", "").lstrip("-").isdecimal()}
    scored = read_scores(folder / "scores.npz", names, groups, num_classes)
    if scored is None:
        problems.append(Note(NoteKind.RUN_WITHOUT_PREDICTIONS, Severity.WARNING, {"file": "scores.npz"}))
        empty = np.empty(0, np.int64)
        scored = ScoredImages((), np.empty(0, dtype=str), empty, np.empty((0, num_classes), np.float32))
    paths = _find_images(settings, data, problems) if has_paths else {}
    label_errors = _read_rows(folder / "label_errors.csv")
    return ClassifierRecord(
        **common,
        scored=scored,
        paths=paths,
        label_errors=label_errors,
        sections=read_sections(folder),
        problems=tuple(problems),
    )


def has_boxes(metrics: Mapping[str, Any]) -> bool:
    """Return whether `metrics.json` is that of a detector."""
    return "num_boxes" in metrics


def parse_number(text: Any) -> float | None:
    """Return a finite number in a text; None for other texts."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read `metrics.json` of a finished run.

    Raises:
        UsageError: The folder is not a finished run.
    """
    metrics = read_json(folder / "metrics.json")
    if "class_names" not in metrics:
        raise UsageError(
            f"`{folder}` is not a finished run: it has no readable `metrics.json`.",
            hint="pass a folder written by `headstart train`, e.g. runs/train1",
        )
    return metrics


def read_bundle_info(folder: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Read `bundle.json` of a run's bundle, and the tensor shapes in the header of `model.safetensors`."""
    try:
        with open(folder / "bundle" / "model.safetensors", "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 50 << 20)))
        shapes = {k: tuple(int(n) for n in v["shape"]) for k, v in header.items() if k != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        shapes = {}
    return read_json(folder / "bundle" / "bundle.json"), shapes


def _read_rows(path: Path) -> list[dict[str, str]] | None:
    """Read the rows of a CSV file as dicts; None if it cannot be read."""
    try:
        with open(path, encoding="utf-8", newline="", errors="surrogateescape") as file:
            return [{k: unescape_formula(v or "") for k, v in row.items() if k} for row in csv.DictReader(file)]
    except (OSError, csv.Error):
        return None


def _read_settings(path: Path, problems: list[Note]) -> dict[str, dict[str, Any]]:
    """Read settings with value, source and reason; a missing file is added to `problems`."""
    import yaml

    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        problems.append(Note(NoteKind.RUN_WITHOUT_SETTINGS, Severity.WARNING, {"file": path.name}))
        return {}
    return {str(k): dict(v) for k, v in value.items() if isinstance(v, Mapping)} if isinstance(value, Mapping) else {}


def _read_detections(
    path: Path, names: Mapping[str, str], num_classes: int, problems: list[Note]
) -> dict[tuple[str, str], Detections]:
    """Read `scores.npz` of a detector; a missing or damaged file is added to `problems`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            stored, splits, counts = (file[k].tolist() for k in ("paths", "split", "num_found"))
            every = Detections.of(file["xyxy"], file["scores"], file["class_ids"])
        ends = np.cumsum([0, *counts])
        is_whole = len(stored) == len(splits) == len(counts) and ends[-1] == len(every) == len(every.scores)
        if not is_whole or not ((every.class_ids >= 0) & (every.class_ids < num_classes)).all():
            raise ValueError("the arrays differ in length or have unknown classes")
        keys = [(split, names.get(name, name)) for name, split in zip(stored, splits, strict=True)]
        return {key: every.take(np.arange(a, b)) for key, a, b in zip(keys, ends, ends[1:], strict=False)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        problems.append(Note(NoteKind.RUN_WITHOUT_PREDICTIONS, Severity.WARNING, {"file": path.name}))
        return {}


def _find_images(
    settings: Mapping[str, Mapping[str, Any]], data: str | os.PathLike[str] | None, problems: list[Note]
) -> dict[str, str]:
    """Return the path of each image by name; empty with a problem where the data have moved.

    Raises:
        DataError: `data` has no such images.
    """

    def value(name: str) -> Any:
        """Return an explicit setting; a recognized layout is not a pattern to read with."""
        row = settings.get(name) or {}
        is_explicit = row.get("source") in ("config", "cli", "python")
        return row["requested"] if "requested" in row else row.get("value") if is_explicit else None

    source = os.fspath(data) if data is not None else (settings.get("data") or {}).get("value")
    if not source:
        problems.append(Note(NoteKind.RUN_WITHOUT_DATA_PATH, Severity.WARNING))
        return {}
    from headstart.data.sources import read

    columns = ("table", "image_column", "label_column", "split_column", "group_column")
    keys = ("label_pattern", "layout", "first_id", "exclude", "name_encoding", "pages", *columns)
    try:
        samples = read(
            source, allow_external_paths=bool(value("allow_external_paths")), **{key: value(key) for key in keys}
        )
    except HeadstartError as error:
        if data is not None:
            raise DataError(f"`{source}` has no images in the layout of the run's data.") from error
        problems.append(Note(NoteKind.DATA_MOVED, Severity.WARNING))
        return {}
    return {s.name: s.path for s in samples}


def _read_boxes(
    settings: Mapping[str, Mapping[str, Any]], data: str | os.PathLike[str] | None, problems: list[Note]
) -> DetectionSamples | None:
    """Read the boxes; None where the stored path is gone. An explicit path must exist."""
    from headstart.data.boxes.reader import read_boxes

    row = settings.get("detect.box_format") or {}
    source = data if data is not None else (settings.get("data") or {}).get("value")
    try:
        if not source:
            raise UsageError("the run does not record the path of its data.")
        return read_boxes(
            source,
            allow_external_paths=bool((settings.get("allow_external_paths") or {}).get("value")),
            box_format=row.get("value") if row.get("reason") is None else None,
            exclude=(settings.get("exclude") or {}).get("value"),
            name_encoding=(settings.get("name_encoding") or {}).get("value"),
        )
    except HeadstartError:
        if data is not None:
            raise
        problems.append(Note(NoteKind.DATA_MOVED, Severity.WARNING))
        return None
