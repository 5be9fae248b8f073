"""Draw contact sheets of images, as stored or as the network sees them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from headstart.backbones.cards import find_card
from headstart.data.boxes.reader import read_boxes
from headstart.data.options import ReadOptions
from headstart.data.sources import read
from headstart.errors import DataError, UsageError
from headstart.events import EventStream, FileWritten
from headstart.preprocessing.augmentation import parse_augment
from headstart.quality.box_contact_sheet import draw_box_sheet
from headstart.quality.contact_sheet import draw_by_class, draw_views
from headstart.quality.report_findings import report_reading
from headstart.training.plan import default_augment
from headstart.utils.system import atomic_file

__all__ = ["ShowOptions", "save_sheet", "sheet_kind", "show_boxes", "show_images"]

_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@dataclass(frozen=True, kw_only=True)
class ShowOptions(ReadOptions):
    """Options of a contact sheet, with those for reading the dataset.

    Attributes:
        per_class: Images per class.
        seed: Random seed.
        preprocessed: Whether to show the network inputs (`backbone`, `image_size`, `resize_mode`).
        num_augmented: Number of augmented views to show of each of `per_class` images.
        augment: Augmentations as in `train`; None: the default of training.
        backbone, image_size, resize_mode: As in `train`.
        box_format: As `detect.box_format` in `train`.
        task: `classify`, `detect` (images with boxes), or `auto` (from the data).
    """

    per_class: int = 8
    seed: int = 0
    preprocessed: bool = False
    num_augmented: int | None = None
    augment: str | None = None
    backbone: str = "efficientnet_lite0"
    image_size: int | None = None
    resize_mode: str = "crop"
    box_format: str | None = None
    task: str = "auto"

    def of_images(self) -> dict[str, Any]:
        """See `ReadOptions`."""
        own = ("num_augmented", "augment", "image_size")
        preprocessed = self.preprocessed or None
        return {**super().of_images(), "preprocessed": preprocessed, **{name: getattr(self, name) for name in own}}


def show_images(data: str, options: ShowOptions, events: EventStream) -> Any:
    """Draw random images of each class, as stored or as network inputs; see `api.show`."""
    samples = read(data, options, task="images")
    report_reading(samples, events)
    if not len(samples):
        raise DataError("there are no images to show.")
    draw = partial(draw_by_class, samples, per_class=options.per_class, seed=options.seed)
    if not options.preprocessed and options.num_augmented is None:
        return draw(side=128)
    spec = find_card(options.backbone).image_spec(options.image_size).with_(resize_mode=options.resize_mode)
    if options.num_augmented is None:
        return draw(side=max(spec.size_hw), preprocessed=spec)
    strengths = parse_augment(options.augment if options.augment is not None else default_augment("finetune"))
    count = options.num_augmented
    return draw_views(samples, spec, strengths, count=count, num_images=options.per_class, seed=options.seed)


def show_boxes(data: str, options: ShowOptions, events: EventStream) -> Any:
    """Draw random images of each class with their boxes on one contact sheet; see `api.show`."""
    samples = read_boxes(
        data,
        allow_external_paths=options.allow_external_paths,
        box_format=options.box_format,
        exclude=options.exclude,
    )
    report_reading(samples, events)
    return draw_box_sheet(samples, per_class=options.per_class, seed=options.seed)


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
