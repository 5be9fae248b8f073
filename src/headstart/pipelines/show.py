"""Draw contact sheets of images, as stored or as the network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.backbones.cards import find_card
from headstart.data.boxes.reader import read_boxes
from headstart.data.sources import read
from headstart.errors import DataError, UsageError
from headstart.events import EventStream, FileWritten
from headstart.preprocessing.augmentation import parse_augment
from headstart.quality.box_contact_sheet import draw_box_sheet
from headstart.quality.contact_sheet import draw_by_class, draw_views
from headstart.quality.reading_events import report_reading
from headstart.training.plan import default_augment
from headstart.utils.system import atomic_file

__all__ = ["NetworkView", "save_sheet", "sheet_kind", "show_boxes", "show_images"]

_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@dataclass(frozen=True)
class NetworkView:
    """Network inputs to draw instead of the stored images; `num_augmented` views of each image, or None for one."""

    backbone: str
    image_size: int | None
    resize_mode: str
    num_augmented: int | None = None
    augment: str | None = None


def show_images(
    data: str,
    events: EventStream,
    *,
    per_class: int,
    seed: int,
    view: NetworkView | None,
    **reading: Any,
) -> Any:
    """Draw images per class; see `api.show`. `reading` are fields of `ReadOptions`."""
    samples = read(data, task="images", **reading)
    report_reading(samples, events)
    if not len(samples):
        raise DataError("there are no images to show.")
    if view is None:
        return draw_by_class(samples, per_class=per_class, seed=seed, side=128)
    spec = find_card(view.backbone).image_spec(view.image_size).with_(resize_mode=view.resize_mode)
    if view.num_augmented is None:
        return draw_by_class(samples, per_class=per_class, seed=seed, side=max(spec.size_hw), preprocessed=spec)
    strengths = parse_augment(view.augment if view.augment is not None else default_augment("finetune"))
    return draw_views(samples, spec, strengths, count=view.num_augmented, num_images=per_class, seed=seed)


def show_boxes(
    data: str,
    events: EventStream,
    *,
    per_class: int,
    seed: int,
    allow_external_paths: bool = False,
    box_format: str | None = None,
    exclude: Sequence[str] | None = None,
) -> Any:
    """Draw random images of each class with their boxes on one contact sheet; see `api.show`."""
    samples = read_boxes(data, allow_external_paths=allow_external_paths, box_format=box_format, exclude=exclude)
    report_reading(samples, events)
    return draw_box_sheet(samples, per_class=per_class, seed=seed)


def sheet_kind(out: str) -> str:
    """Return Pillow's format name for the suffix of a path.

    Raises:
        UsageError: The suffix is not supported.
    """
    kind = _KINDS.get(Path(out).suffix.lower())
    if kind is None:
        raise UsageError(f"unsupported image format: `{out}`.", hint="use .png or .jpg, e.g. --out samples.png")
    return kind


def save_sheet(sheet: Any, out: str, events: EventStream) -> None:
    """Write a sheet atomically.

    Raises:
        UsageError: The path cannot be written, or its suffix is not supported.
    """
    kind = sheet_kind(out)
    try:
        with atomic_file(Path(out)) as temporary:
            sheet.save(temporary, format=kind)
    except OSError as error:
        raise UsageError(f"cannot write `{out}` ({error.strerror or error}).") from error
    events.emit(FileWritten("sheet", out, {"width": sheet.width, "height": sheet.height}))
