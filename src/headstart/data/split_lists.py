"""Read splits from lists of image paths beside class folders: `train.txt`, `meta/test.txt`, `train_test_split.txt`.

Numbered lists (`train1.txt`, `train2.txt`) are several partitions of the same images; the first is used.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from headstart.data.file_tree import FileTree, LocatedFile
from headstart.data.paths import PathFinder, PathMatch
from headstart.data.reading import Reading
from headstart.data.split_words import is_train_and_val, split_name, split_words
from headstart.data.tables import decode_text
from headstart.errors import DataError, UsageError
from headstart.messages.numbers import pluralize
from headstart.types.codes import ReadingKind, ReadingNote, UnusedReason
from headstart.types.inventory import TableUse
from headstart.types.records import SplitName

__all__ = ["NUMBERED_SPLITS", "apply_split_lists"]

NUMBERED_SPLITS = "train_test_split.txt"  # lines `number 0|1`; `images.txt` beside it has lines `number path`


def apply_split_lists(reading: Reading, tree: FileTree, finder: PathFinder) -> None:
    """Set the splits of a reading from lists of paths; images in no list are not used.

    Raises:
        DataError: An image is in two lists, or a list names images that do not exist.
        UsageError: The folders name other splits than the lists.
    """
    labeled = {table.path for table in reading.tables}
    splits: dict[str, SplitName] = {}
    used: list[TableUse] = []
    numbered = next((f for f in tree.tables if f.file.lower() == NUMBERED_SPLITS), None)
    lists = _first_partition([(f, split) for f in tree.tables if (split := _split_of(f)) is not None])
    if {"train", "val"} <= {split for _, split in lists}:
        lists = [(file, split) for file, split in lists if not is_train_and_val(file.file)]
    if numbered is not None:
        splits, used = _read_numbered(numbered, tree, finder)
    else:
        for file, split in lists:
            if file.name in labeled:
                continue
            found, num_rows = _read_paths(file, finder.of_table(file))
            if not found:
                continue
            if 10 * len(found) < 9 * num_rows:
                raise DataError(
                    f"`{file.name}` names images that do not exist: {num_rows - len(found):,} of {num_rows:,}.",
                    hint=f"put the images at their paths, or ignore the list with --exclude '{file.name}'",
                )
            for path in found:
                if splits.setdefault(path, split) != split:
                    raise DataError(
                        f"`{os.path.relpath(path, tree.root)}` is in the lists of two splits.",
                        hint=f"correct the lists, or ignore one with --exclude '{file.name}'",
                    )
            used.append(TableUse(file.name, "splits", num_rows, len(found)))
    if not used:
        return
    rows = [replace(row, split=splits.get(row.file.path)) for row in reading.rows]
    differing = sum(
        a.split is not None and b.split not in (None, a.split) for a, b in zip(reading.rows, rows, strict=True)
    )
    if differing:
        raise UsageError(
            f"the folders and `{used[0].path}` give different splits to {pluralize(differing, 'image')}.",
            hint=f"ignore the list with --exclude '{used[0].path}', or the folders with --layout",
        )
    if reading.has_splits:
        reading.tables += used
        return
    missing = [row.file for row in rows if row.split is None]
    reading.rows = [row for row in rows if row.split is not None]
    if missing:
        reading.unused[UnusedReason.IN_NO_SPLIT] = missing
    counts = Counter(row.split for row in reading.rows)
    ordered = {name: counts[name] for name in ("train", "val", "test") if counts[name]}
    files = [table.path for table in used]
    reading.notes.append(
        ReadingNote(ReadingKind.SPLITS_FROM_LISTS, len(reading.rows), tuple(files), {"splits": ordered})
    )
    reading.tables += used


def _split_of(file: LocatedFile) -> SplitName | None:
    """Return the split that the name of a list states: as a whole, or by its only split word."""
    stem, extension = os.path.splitext(file.file)
    if extension.lower() not in (".txt", ".lst"):
        return None
    words = split_words(stem)
    return split_name(stem) or (next(iter(words)) if len(words) == 1 else None)


def _first_partition(lists: Sequence[tuple[LocatedFile, SplitName]]) -> list[tuple[LocatedFile, SplitName]]:
    """Return the lists without those that repeat a split with a higher number: `train2.txt` beside `train1.txt`."""
    numbered: dict[tuple[object, ...], list[tuple[int, LocatedFile, SplitName]]] = defaultdict(list)
    for file, split in lists:
        digits = re.findall(r"\d+", os.path.splitext(file.file)[0])
        key = (file.folders, split, re.sub(r"\d+", "#", file.file))
        numbered[key].append((int(digits[-1]) if digits else 0, file, split))
    return [min(same, key=lambda entry: entry[0])[1:] for same in numbered.values()]


def _lines(file: LocatedFile) -> list[str]:
    return [line.strip() for line in decode_text(file.path)[0].splitlines() if line.strip() and line[0] != "#"]


def _read_paths(file: LocatedFile, finder: PathFinder) -> tuple[list[str], int]:
    """Return the images of a list and its number of lines; no images if its lines are not paths."""
    lines = _lines(file)
    probe = lines[:: max(1, len(lines) // 20)]
    if not any(finder.exists(line) for line in probe):
        return [], len(lines)
    hits = [finder.look_up(line, file.name) for line in lines]
    return [hit.file.path for hit in hits if isinstance(hit, PathMatch)], len(lines)


def _read_numbered(
    numbered: LocatedFile, tree: FileTree, finder: PathFinder
) -> tuple[dict[str, SplitName], list[TableUse]]:
    """Join `train_test_split.txt` with `images.txt` by number; 1 is training."""
    images = next((f for f in tree.tables if f.file.lower() == "images.txt" and f.folders == numbered.folders), None)
    pairs = [line.split() for line in _lines(numbered)]
    if images is None or not all(len(pair) == 2 and pair[1] in ("0", "1") for pair in pairs):
        raise DataError(
            f"`{numbered.name}` cannot be parsed; expected lines `number 0|1`, and `images.txt` with `number path`.",
            hint=f"ignore it with --exclude '{numbered.name}'",
        )
    paths = dict(line.split(maxsplit=1) for line in _lines(images) if " " in line)
    splits: dict[str, SplitName] = {}
    for number, flag in pairs:
        hit = finder.look_up(paths.get(number, ""), numbered.name)
        if isinstance(hit, PathMatch):
            splits[hit.file.path] = "train" if flag == "1" else "test"
    uses = [TableUse(f.name, "splits", len(pairs), len(splits)) for f in (numbered, images)]
    return splits, uses if splits else []
