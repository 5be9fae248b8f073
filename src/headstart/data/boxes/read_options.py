"""Read images with boxes by the options of a command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headstart.data.boxes.reader import read_boxes
from headstart.data.boxes.records import DetectionSamples
from headstart.utils.limits import MAX_PIXELS

__all__ = ["BoxReadOptions", "read_boxes_with"]


class BoxReadOptions(Protocol):
    """Options of a command that `read_boxes` takes; see there."""

    @property
    def allow_external_paths(self) -> bool: ...
    @property
    def box_format(self) -> str | None: ...
    @property
    def exclude(self) -> Sequence[str] | None: ...
    @property
    def name_encoding(self) -> str | None: ...


def read_boxes_with(data: str, options: BoxReadOptions, *, max_pixels: int = MAX_PIXELS) -> DetectionSamples:
    """Read images with boxes; see `read_boxes`."""
    return read_boxes(
        data,
        allow_external_paths=options.allow_external_paths,
        max_pixels=max_pixels,
        box_format=options.box_format,
        exclude=options.exclude,
        name_encoding=options.name_encoding,
    )
