"""Define the options of the commands that any task may serve, with those for reading the dataset."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from headstart.data.options import ReadOptions
from headstart.errors import UsageError
from headstart.utils.limits import MAX_PIXELS

if TYPE_CHECKING:
    from headstart.config.settings import ResolvedConfig

__all__ = [
    "REPEATED",
    "CheckOptions",
    "EvaluateOptions",
    "ShowOptions",
    "given_options",
    "refuse_box_format",
    "refuse_image_options",
]

REPEATED = (
    *(field.name for field in fields(ReadOptions)),
    *("group_from", "intensity_range", "max_pixels", "exclude_classes", "label_corrections", "split", "test_size"),
    *("task", "positive", "backbone", "image_size", "resize_mode", "seed"),
)
"""Settings that the next command of a training repeats where they were given."""


@dataclass(frozen=True, kw_only=True)
class CheckOptions(ReadOptions):
    """Options of a check.

    Attributes:
        backbone: Backbone whose features confirm near-duplicates and measure the effect of groups on the score.
        group_from, intensity_range, num_threads, offline: As in `train`.
        max_pixels: Larger images are rejected.
        box_format: As `detect.box_format` in `train`.
        use_network: Whether to extract features; never without the training extra.
        use_cache: Whether scans and reports are cached on disk.
        task: Name of a task, or `auto` (from the data).
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


@dataclass(frozen=True, kw_only=True)
class ShowOptions(ReadOptions):
    """Options of a contact sheet.

    Attributes:
        per_class: Images per class.
        seed: Random seed.
        preprocessed: Whether to show the network inputs (`backbone`, `image_size`, `resize_mode`).
        num_augmented: Number of augmented views to show of each of `per_class` images.
        augment: Augmentations as in `train`; None: the default of training.
        backbone, image_size, resize_mode: As in `train`.
        box_format: As `detect.box_format` in `train`.
        task: Name of a task, or `auto` (from the data).
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


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ReadOptions):
    """Options of an evaluation of a saved model.

    Attributes:
        positive: Positive class of two; None: as in training.
        box_format: As `detect.box_format` in `train`.
    """

    positive: str | None = None
    box_format: str | None = None

    def of_images(self) -> dict[str, Any]:
        """See `ReadOptions`."""
        return {**super().of_images(), "positive": self.positive}


def given_options(resolved: ResolvedConfig) -> dict[str, Any]:
    """Return the given settings among `REPEATED`, by name."""
    return {name: getattr(resolved.settings, name) for name in REPEATED if name in resolved.sources}


def refuse_image_options(options: ReadOptions) -> None:
    """Raise an error if a given option has no effect on images with boxes.

    Raises:
        UsageError: It has none.
    """
    for name, value in options.of_images().items():
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
