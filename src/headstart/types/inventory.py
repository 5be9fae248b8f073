"""Define the inventory of a dataset: what was used, and why the rest was not."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Inventory", "TableUse", "UnusedFile"]


@dataclass(frozen=True, slots=True)
class UnusedFile:
    """A file that is not used.

    Attributes:
        path: Path below the data folder; a folder ends with `/` and stands for everything in it.
        reason: Stable code, an `UnusedReason` or the kind of a `Problem`.
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class TableUse:
    """A table, list or annotation file that was used.

    Attributes:
        path: Path below the data folder.
        role: What it gave: `labels`, `splits` or `names`.
        num_rows: Rows of the file, or its annotated objects.
        num_used: Rows that were used.
        unused_rows: Number of the other rows by reason.
    """

    path: str
    role: str
    num_rows: int
    num_used: int
    unused_rows: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything below the data: each file is in exactly one of `images`, `tables` and `unused`.

    Attributes:
        images: Paths of the used images below the data folder.
        tables: Used tables, lists and names files.
        unused: All other files, with the reason.
    """

    images: tuple[str, ...] = ()
    tables: tuple[TableUse, ...] = ()
    unused: tuple[UnusedFile, ...] = ()
