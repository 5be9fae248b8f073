"""Check, show and embed a dataset: the functions of `headstart.api` that need no trained model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headstart.console import open_stream, quoted
from headstart.events import CancelToken, Event, EventStream, RunFinished
from headstart.keyword_settings import resolve_keywords

if TYPE_CHECKING:
    from headstart.results import Embedding
    from headstart.workflow.box_checking import CheckedBoxes
    from headstart.workflow.checking import Checked

__all__ = ["check", "embed", "show"]


def check(
    data: str | os.PathLike[str],
    *,
    json_file: str | os.PathLike[str] | None = None,
    sheet: str | os.PathLike[str] | None = None,
    repair: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    box_format: str | None = None,
    task: str = "auto",
    verbose: bool | None = None,
    on_progress: Callable[[Event], None] | None = None,
    cancel: CancelToken | None = None,
    events: EventStream | None = None,
    **settings: Any,
) -> Checked | CheckedBoxes:
    """Judges a data set and changes nothing: bad files, bad boxes, copies, leaks, hidden groups, shortcuts.

    Args:
        data: As in `train`.
        json_file: Where to write the judgement as JSON.
        sheet: Where to draw the pairs of copies (of pictures with boxes: these too), `.png` or `.jpg`.
        repair: Where to write your split without what leaks, groups whole, for `train(split=...)`; no file is moved.
        workers: Threads; one a core by default.
        box_format: As `detect.box_format` in `train`.
        task: `classify`, `detect` (pictures with boxes), or `auto`: seen from the data.
        verbose, on_progress, cancel, events: See `train`.
        settings: `layout`, `label_pattern`, `first_id`, `group_from`, `backbone`, `value_range`, `max_pixels`,
            `use_network`, `allow_outside`, `offline`.

    Returns:
        The judgement (`.health`, `.to_json()`); its text says the worst first.
    """
    from headstart.data.boxes.reading import has_boxes
    from headstart.workflow.showing import sheet_kind

    started = time.monotonic()
    place, events = os.fspath(data), events or open_stream(verbose, on_progress, cancel)
    if sheet is not None:
        sheet_kind(os.fspath(sheet))  # refused before a long look, not after it
    checked: Checked | CheckedBoxes
    if has_boxes(place, task, allow_outside=bool(settings.get("allow_outside", False))):
        from headstart.workflow.box_checking import check_boxes

        checked = check_boxes(place, events, threads=workers, box_format=box_format, **settings)
    else:
        from headstart.workflow.box_checking import refuse_box_format
        from headstart.workflow.checking import check_data

        refuse_box_format(box_format)
        checked = check_data(place, events, threads=workers, **settings)
    try:
        checked.write(events, json_file=json_file, sheet=sheet, repair=repair)
    finally:
        checked.report(events)
    next_command = () if checked.health.is_dishonest else ((f"headstart train {quoted(place)}", None),)
    events.emit(RunFinished(time.monotonic() - started, None, next_command))
    return checked


def embed(
    data: str | os.PathLike[str],
    *,
    backbone: str = "efficientnet_lite0",
    out: str | os.PathLike[str] | None = None,
    verbose: bool | None = None,
    on_progress: Callable[[Event], None] | None = None,
    cancel: CancelToken | None = None,
    events: EventStream | None = None,
    **settings: Any,
) -> Embedding:
    """Uses a pretrained network as a feature extractor, without training anything.

    Args:
        data: Pictures, labelled or not.
        backbone: The network.
        out: A `.npz` file to write (`features`, `paths`, `labels`, and one array a block).
        verbose, on_progress, cancel, events: See `train`.
        settings: `size`, `fit`, `value_range`, `max_pixels`, `weights`, `layout`, `label_pattern`, `first_id`,
            `device`, `workers`, `offline`, `cache`, `allow_outside`.

    Raises:
        DataError: No picture can be read.
        SettingError: A setting would be without effect.
    """
    from headstart.workflow.extraction import extract

    resolved = resolve_keywords(data, None, {"backbone": backbone, **settings})
    return extract(resolved, events or open_stream(verbose, on_progress, cancel), out)


def show(
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    per_class: int = 8,
    seed: int = 0,
    as_seen: bool = False,
    views: int | None = None,
    augment: str | None = None,
    backbone: str = "efficientnet_lite0",
    size: int | None = None,
    fit: str = "crop",
    layout: str | None = None,
    first_id: int | str | None = None,
    allow_outside: bool = False,
    box_format: str | None = None,
    task: str = "auto",
    verbose: bool | None = None,
    events: EventStream | None = None,
) -> Any:
    """Random pictures of each class on one sheet, with their boxes where there are any.

    Args:
        data: Pictures, labelled or not.
        out: Where to write it, `.png` or `.jpg`; None writes nothing.
        per_class: Pictures of each class.
        seed: Of the draw.
        as_seen: Show them exactly as the network gets them (`backbone`, `size`, `fit`).
        views: Show so many augmented views of each of `per_class` pictures instead, as training would store them.
        augment: How views differ, as in `train`; None as training would choose.
        backbone, size, fit: As in `train`.
        layout, first_id, allow_outside: As in `train`.
        box_format: As `detect.box_format` in `train`.
        task: `classify`, `detect` (pictures with boxes), or `auto`: seen from the data.
        verbose, events: See `train`.

    Returns:
        The sheet, a PIL picture, which a notebook shows.

    Raises:
        UsageError: The sheet cannot be written.
    """
    from headstart.data.boxes.reading import has_boxes
    from headstart.workflow.showing import save_sheet, sheet_kind, show_pictures

    started = time.monotonic()
    place, events = os.fspath(data), events or open_stream(verbose)
    if out is not None:
        sheet_kind(os.fspath(out))
    if has_boxes(place, task, allow_outside=allow_outside):
        from headstart.workflow.box_checking import refuse_without_effect, show_boxes

        refuse_without_effect(
            as_seen=as_seen or None, views=views, augment=augment, size=size, layout=layout, first_id=first_id
        )
        sheet = show_boxes(
            place, events, per_class=per_class, seed=seed, allow_outside=allow_outside, box_format=box_format
        )
    else:
        from headstart.workflow.box_checking import refuse_box_format

        refuse_box_format(box_format)
        sheet = show_pictures(
            place,
            events,
            per_class=per_class,
            seed=seed,
            as_seen=(backbone, size, fit) if as_seen or views is not None else None,
            views=views,
            augment=augment,
            layout=layout,
            first_id=first_id,
            allow_outside=allow_outside,
        )
    if out is not None:
        save_sheet(sheet, os.fspath(out), events)
    events.emit(RunFinished(time.monotonic() - started))
    return sheet
