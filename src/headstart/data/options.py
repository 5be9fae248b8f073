"""Define the options of dataset reading, shared by all commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["ReadOptions", "read_options"]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a dataset is read; None decides by evidence.

    Attributes:
        layout: Role of each folder level, e.g. `{group}/{label}/*`; fields are label, group and split.
        label_pattern: Where the label is in the file name: a template such as `{label}_*` or a regular expression
            with a capture group.
        first_id: For numbered classes with a names file: the number of the first name, 0 or 1, or `none` to keep the
            numbers as class names.
        table: Path of the table or list with the labels, relative to the data folder.
        image_column, label_column, split_column, group_column: Columns of a table; `none` ignores a split or group.
        exclude: Patterns of files and folders that are not read, e.g. `masks` or `train/*_mask.png`.
        pages: Page of files with several: a number from 1, `first`, `max`, `mean` or `R=1,G=3`; None: the first.
        name_encoding: Encoding of file names in archives that do not state it; None guesses it.
        allow_external_paths: Follow links and paths that leave the data folder.
    """

    layout: str | None = None
    label_pattern: str | None = None
    first_id: int | str | None = None
    table: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    group_column: str | None = None
    exclude: Sequence[str] | None = None
    name_encoding: str | None = None
    pages: str | None = None
    allow_external_paths: bool = False

    def portable(self) -> dict[str, Any]:
        """Return the given options that can apply to other data of the same layout, as JSON values by name."""
        given = {f.name: getattr(self, f.name) for f in fields(ReadOptions) if f.name != "allow_external_paths"}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in given.items() if v not in (None, (), [])}

    def of_images(self) -> dict[str, Any]:
        """Return the options that have no effect on images with boxes, by name."""
        both = ("allow_external_paths", "exclude", "name_encoding")
        return {f.name: getattr(self, f.name) for f in fields(ReadOptions) if f.name not in both}


def read_options(settings: object) -> ReadOptions:
    """Return the attributes of settings that say how a dataset is read."""
    return ReadOptions(**{field.name: getattr(settings, field.name) for field in fields(ReadOptions)})
