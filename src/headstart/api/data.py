"""Check, show and embed a dataset: the functions of `headstart.api.functions` that need no trained model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from headstart.api.keywords import CheckKeywords, ConvertKeywords, EmbedKeywords, ShowKeywords, refuse_unknown
from headstart.config.keyword_settings import merge_keywords
from headstart.console import open_stream
from headstart.data.objects import as_data_path
from headstart.events import Cancel, Event, EventStream, RunFinished
from headstart.messages.files import train_command

if TYPE_CHECKING:
    from headstart.results import Embedding
    from headstart.tasks.dataset_check import DatasetCheck

__all__ = ["check", "convert", "embed", "show"]


def check(
    data: Any,
    *,
    json_file: str | os.PathLike[str] | None = None,
    sheet: str | os.PathLike[str] | None = None,
    repair: str | os.PathLike[str] | None = None,
    verbose: bool | None = None,
    on_progress: Callable[[Event], None] | None = None,
    cancel: Cancel | None = None,
    events: EventStream | None = None,
    **settings: Unpack[CheckKeywords],
) -> DatasetCheck:
    """Check a dataset without changing it: bad files and boxes, duplicates, leaks, hidden groups, shortcuts.

    Args:
        data: As in `train`.
        json_file: Path of a JSON report.
        sheet: Path of a contact sheet of duplicates (and of images with boxes), `.png` or `.jpg`.
        repair: Path of a split without leaks and divided groups, for `train(split=...)`; no image is moved.
        verbose, on_progress, cancel, events: See `train`.
        settings: Fields of `headstart.tasks.options.CheckOptions`; see `CheckKeywords`.

    Returns:
        The dataset check (`.dataset_report`, `.to_json()`); its text lists the most severe findings first.
    """
    refuse_unknown("check", settings, CheckKeywords.__annotations__)
    from headstart.tasks.options import CheckOptions
    from headstart.tasks.registry import recognize_task
    from headstart.tasks.sheets import sheet_kind

    started = time.monotonic()
    place, events = as_data_path(data), events or open_stream(verbose, on_progress, cancel)
    if sheet is not None:
        sheet_kind(os.fspath(sheet))  # fail before the scan
    options = CheckOptions(**settings)
    checked = recognize_task(place, options.task, options).check(place, options, events)
    try:
        checked.write(events, json_file=json_file, sheet=sheet, repair=repair)
    finally:
        checked.report(events)
    command = train_command(place, options.for_training())
    next_command = () if checked.dataset_report.is_misleading else ((command, None),)
    events.emit(RunFinished(time.monotonic() - started, None, next_command))
    return checked


def embed(
    data: Any,
    *,
    out: str | os.PathLike[str] | None = None,
    verbose: bool | None = None,
    on_progress: Callable[[Event], None] | None = None,
    cancel: Cancel | None = None,
    events: EventStream | None = None,
    **settings: Unpack[EmbedKeywords],
) -> Embedding:
    """Extract features with a pretrained network.

    Args:
        data: Images, labeled or not.
        out: Path of an `.npz` file (`features`, `paths`, `labels`, and one array per block).
        verbose, on_progress, cancel, events: See `train`.
        settings: Options for reading and features; see `EmbedKeywords`.

    Raises:
        DataError: No image is readable.
        SettingError: A setting has no effect.
    """
    from headstart.pipelines.embed import extract

    place = as_data_path(data, needs_labels=False)
    resolved = merge_keywords(place, None, settings).resolve()
    return extract(resolved, events or open_stream(verbose, on_progress, cancel), out)


def convert(
    data: str | os.PathLike[str],
    *,
    to: str,
    out: str | os.PathLike[str],
    copy_images: bool = False,
    like: str | os.PathLike[str] | None = None,
    verbose: bool | None = None,
    events: EventStream | None = None,
    **reading: Unpack[ConvertKeywords],
) -> Path:
    """Write images with boxes in the format of another tool, with the user's class names and ids.

    Args:
        data: Folder or annotation file, in any format that `train` reads.
        to: `coco`, `yolo`, `voc` or `csv`.
        out: Folder to write, new or empty.
        copy_images: Whether to copy the images next to the annotations; otherwise these refer to paths below `data`.
        like: COCO JSON, `data.yaml` or file of names whose class ids are written.
        verbose, events: See `train`.
        reading: `box_format`, `exclude`, `name_encoding`, `allow_external_paths`: as in `train`.

    Returns:
        The folder.

    Raises:
        DataError: Boxes or names are not certain; nothing is written.
        UsageError: The format is unknown, or the folder is not empty.
    """
    refuse_unknown("convert", reading, ConvertKeywords.__annotations__)
    from headstart.pipelines.convert import ConvertOptions, convert_boxes

    options = ConvertOptions(
        to=to, out=Path(out), copy_images=copy_images, like=None if like is None else os.fspath(like), **reading
    )
    return convert_boxes(os.fspath(data), options, events or open_stream(verbose))


def show(
    data: Any,
    *,
    out: str | os.PathLike[str] | None = None,
    verbose: bool | None = None,
    events: EventStream | None = None,
    **settings: Unpack[ShowKeywords],
) -> Any:
    """Draw random images of each class on one contact sheet, with boxes if available.

    Args:
        data: Images, labeled or not.
        out: Output path, `.png` or `.jpg`; None writes no file.
        verbose, events: See `train`.
        settings: Fields of `headstart.tasks.options.ShowOptions`; see `ShowKeywords`.

    Returns:
        The sheet, a PIL image, which a notebook shows.

    Raises:
        UsageError: The sheet cannot be written, or a setting has no effect.
    """
    refuse_unknown("show", settings, ShowKeywords.__annotations__)
    from headstart.tasks.options import ShowOptions
    from headstart.tasks.registry import recognize_task
    from headstart.tasks.sheets import save_sheet, sheet_kind

    started = time.monotonic()
    place, events = as_data_path(data, needs_labels=False), events or open_stream(verbose)
    if out is not None:
        sheet_kind(os.fspath(out))
    options = ShowOptions(**settings)
    sheet = recognize_task(place, options.task, options).show(place, options, events)
    if out is not None:
        save_sheet(sheet, os.fspath(out), events)
    events.emit(RunFinished(time.monotonic() - started))
    return sheet
