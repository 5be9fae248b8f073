"""Reads a person's pictures and labels from whatever layout they are in.

The one decision: `read` says in one sentence what it understood, and stops where two readings fit, rather
than guess.  Nothing is ever written beside the data.
"""

from __future__ import annotations

import os
from pathlib import Path

from headstart.data.folders import Reading, read_folders
from headstart.data.walk import FoundFile, Tree, printable, walk
from headstart.errors import DataError
from headstart.records import Sample, Samples

__all__ = ["read"]


def read(
    data: str | Path,
    *,
    allow_outside: bool = False,
    label_pattern: str | None = None,
    layout: str | None = None,
    task: str = "classify",
) -> Samples:
    """Reads a data set: which pictures there are, and what each is labelled.

    Args:
        data: A folder.
        allow_outside: Follow links and paths that lead out of the data's folder.
        label_pattern: Where the label stands in the file name.
        layout: The folder levels, e.g. `{group}/{label}/*`.
        task: `classify`.

    Returns:
        The labelled pictures, with the sentence that says what was understood.

    Raises:
        DataError: There is nothing that can be learned from.
        UsageError: Two readings fit, or an option does not.
    """
    place = os.fspath(data)
    if not os.path.exists(place):
        raise DataError(
            f"`{printable(place)}` does not exist; a folder of pictures was expected.", hint="check the spelling"
        )
    tree = walk(place, allow_outside=allow_outside)
    return _finish(read_folders(_pictures(tree)), tree)


def _pictures(tree: Tree) -> list[FoundFile]:
    if not tree.pictures:
        raise DataError(f"`{printable(tree.root)}` holds no picture.")
    return tree.pictures


def _finish(reading: Reading, tree: Tree) -> Samples:
    """Samples in a fixed order, with the sentence and the notes."""
    rows = sorted(reading.rows, key=lambda r: r.file.name)
    class_names = tuple(sorted({r.label for r in rows}))
    items = tuple(Sample(r.file.path, r.file.name, r.label, r.split, r.group) for r in rows)
    return Samples(items, class_names, tree.root, reading.layout, "", (), tuple(tree.problems))
