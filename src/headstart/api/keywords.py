"""Declare the keyword options of the public functions by name and type, for editors and type checkers."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypedDict

from headstart.errors import SettingError

__all__ = [
    "CheckKeywords",
    "CompareKeywords",
    "ConvertKeywords",
    "EmbedKeywords",
    "EvaluateKeywords",
    "PredictKeywords",
    "ReadKeywords",
    "ReportKeywords",
    "ShowKeywords",
    "TrainKeywords",
    "refuse_unknown",
]

_Switch = Literal["auto", "on", "off"] | bool


class ReadKeywords(TypedDict, total=False):
    """How a dataset is read: the fields of `headstart.data.options.ReadOptions`."""

    layout: str | None
    label_pattern: str | None
    first_id: int | str | None
    table: str | None
    image_column: str | None
    label_column: str | None
    split_column: str | None
    group_column: str | None
    exclude: Sequence[str] | None
    name_encoding: str | None
    pages: str | None
    allow_external_paths: bool


class CheckKeywords(ReadKeywords, total=False):
    """Options of `check`: the fields of `headstart.tasks.options.CheckOptions`."""

    backbone: str
    group_from: str | None
    intensity_range: tuple[float, float] | None
    max_pixels: int
    num_threads: int | None
    box_format: str | None
    offline: bool
    use_network: bool
    use_cache: bool
    task: str


class ShowKeywords(ReadKeywords, total=False):
    """Options of `show`: the fields of `headstart.tasks.options.ShowOptions`."""

    per_class: int
    seed: int
    preprocessed: bool
    num_augmented: int | None
    augment: str | None
    backbone: str
    image_size: int | None
    resize_mode: str
    box_format: str | None
    task: str


class EvaluateKeywords(ReadKeywords, total=False):
    """Options of `evaluate`: the fields of `headstart.tasks.options.EvaluateOptions`."""

    positive: str | None
    box_format: str | None


class CompareKeywords(ReadKeywords, total=False):
    """Options of `compare`; they have an effect with `data` only."""


class ConvertKeywords(TypedDict, total=False):
    """Options of `convert` for reading, as in `train`."""

    box_format: str | None
    exclude: Sequence[str] | None
    name_encoding: str | None
    allow_external_paths: bool


class PredictKeywords(TypedDict, total=False):
    """Options of `predict`; each has an effect with classifiers or detectors only, except `channel_order`."""

    channel_order: Literal["rgb", "bgr"]
    top: int
    ood_fpr: float | None
    coverage: float | None
    min_score: float | None
    max_detections: int | None
    nms_iou: float | None
    class_agnostic_nms: bool | None


class ReportKeywords(TypedDict, total=False):
    """Options of `report`: the fields of `headstart.reports.writer.ReportOptions`."""

    data: str | os.PathLike[str] | None
    out: str | os.PathLike[str] | None
    images: bool | None
    attributions: bool | None
    figures: bool
    curve: bool | None


class EmbedKeywords(ReadKeywords, total=False):
    """Options of `embed`, as in `train`."""

    backbone: str
    weights: str | os.PathLike[str] | None
    image_size: int | None
    resize_mode: str
    intensity_range: tuple[float, float] | str | None
    max_pixels: int
    device: str | int
    num_threads: int | None
    offline: bool
    cache: bool


class TrainKeywords(EmbedKeywords, total=False):
    """Settings of `train`; `probe`, `finetune` and `detect` take a dict of their group.

    Names of other tools (`headstart.config.aliases`) work as well, in `config`.
    """

    task: str
    out: str | os.PathLike[str] | None
    strategy: Literal["auto", "probe", "head", "finetune", "full", "scratch"]
    train_from: str | None
    epochs: int | None
    batch_size: int | None
    lr: float | None
    optimizer: str | None
    schedule: str | None
    augment: str | None
    unfreeze: str | None
    num_views: int | None
    folds: int | None
    patience: int | None
    select: Literal["requested", "best"]
    seed: int
    time_budget: float | str | None
    budget: float | str | None
    group_from: str | None
    split: str | os.PathLike[str] | None
    test_size: float | str | None
    exclude_classes: Sequence[str] | str
    positive: str | None
    label_corrections: str | os.PathLike[str] | None
    ood_fpr: float | str
    coverage: float | str
    include_images: bool
    class_weights: str | Mapping[str, float]
    head: str | None
    box_format: str | None
    probe: Mapping[str, _Switch | str]
    finetune: Mapping[str, object]
    detect: Mapping[str, object]


def refuse_unknown(verb: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise an error if an option does not exist.

    Args:
        verb: Name of the function.
        given: Names of the given options.
        known: Names of its options.

    Raises:
        SettingError: An option is unknown; the hint names the closest one.
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1, 0.6)
            hint = f"did you mean `{near[0]}`?" if near else f"options: {', '.join(names)}"
            raise SettingError(f"unknown option `{name}` of {verb}.", hint=hint)
