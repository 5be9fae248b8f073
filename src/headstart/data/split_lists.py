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
from headstart.data.reading import Reading, ask, listed
from headstart.data.split_words import cell_split, is_train_and_val, split_name, split_words
from headstart.data.tables import Table, decode_text
from headstart.errors import DataError
from headstart.messages.files import shell_path
from headstart.types.codes import ReadingKind, ReadingNote, UnusedReason
from headstart.types.inventory import TableUse
from headstart.types.records import SplitName

__all__ = ["NUMBERED_SPLITS", "apply_split_lists"]

NUMBERED_SPLITS = "train_test_split.txt"  # lines `number 0|1`; `images.txt` beside it has lines `number path`


def apply_split_lists(
    reading: Reading, tree: FileTree, finder: PathFinder, tables: Sequence[tuple[LocatedFile, Table]] = ()
) -> None:
    """Set the splits of a reading from lists of paths and tables; images in none of them are not used,
    or are training images if no list is for training.

    Args:
        reading: The reading, changed in place.
        tables: Tables with a column of splits and no labels.

    Raises:
        DataError: An image is in two lists, or a list names images that do not exist.
        UsageError: The reading has other splits than the lists.
    """
    splits, used = _read_splits(reading, tree, finder, tables)
    if not used:
        return
    others: SplitName | None = None if "train" in splits.values() else "train"  # lists of held-out images only
    rows = [replace(row, split=splits.get(row.file.path, row.split or others)) for row in reading.rows]
    pairs = zip(reading.rows, rows, strict=True)
    if any(old.split is not None and new.split not in (None, old.split) for old, new in pairs):
        by_lists = replace(reading, layout=f"{reading.layout}, splits of {listed([t.path for t in used])}", rows=rows)
        by_lists.option = f"--layout '{reading.template.replace('{split}', '*')}'"
        reading.option = " ".join(f"--exclude {shell_path(table.path)}" for table in used)
        raise ask([by_lists, reading])
    reading.tables += used
    if reading.has_splits:
        return
    missing = [row.file for row in rows if row.split is None]
    reading.columns = {
        name: [cell for cell, row in zip(cells, rows, strict=True) if row.split]
        for name, cells in reading.columns.items()
    }
    reading.rows = [row for row in rows if row.split is not None]
    if missing:
        reading.unused[UnusedReason.IN_NO_SPLIT] = missing
    counts = Counter(row.split for row in reading.rows)
    ordered = {name: counts[name] for name in ("train", "val", "test") if counts[name]}
    files = tuple(table.path for table in used)
    reading.notes.append(ReadingNote(ReadingKind.SPLITS_FROM_LISTS, len(reading.rows), files, {"splits": ordered}))


def _read_splits(
    reading: Reading, tree: FileTree, finder: PathFinder, tables: Sequence[tuple[LocatedFile, Table]]
) -> tuple[dict[str, SplitName], list[TableUse]]:
    """Return the split of each image path, and the files that gave them.

    Raises:
        DataError: An image is in two splits, or a list names images that do not exist.
    """
    numbered = next((f for f in tree.tables if f.file.lower() == NUMBERED_SPLITS), None)
    if numbered is not None:
        return _read_numbered(numbered, tree, finder)
    labeled = {table.path for table in reading.tables}
    lists = _first_partition([(f, split) for f in tree.tables if (split := _split_of(f)) is not None])
    if {"train", "val"} <= {split for _, split in lists}:
        lists = [(file, split) for file, split in lists if not is_train_and_val(file.file)]
    named: list[tuple[LocatedFile, dict[str, SplitName], int]] = []
    for file, split in lists:
        if file.name not in labeled:
            found, num_rows = _read_paths(file, finder.of_table(file))
            named.append((file, dict.fromkeys(found, split), num_rows))
    named += [(file, _splits_of_table(file, table, finder.of_table(file)), len(table.lines)) for file, table in tables]
    splits: dict[str, SplitName] = {}
    used: list[TableUse] = []
    for file, of_file, num_rows in named:
        if not of_file:
            continue
        if 10 * len(of_file) < 9 * num_rows:
            raise DataError(
                f"`{file.name}` names images that do not exist: {num_rows - len(of_file):,} of {num_rows:,}.",
                hint=f"put the images at their paths, or ignore the list with --exclude '{file.name}'",
            )
        for path, split in of_file.items():
            if splits.setdefault(path, split) != split:
                raise DataError(
                    f"`{finder.name_of(path)}` is in the lists of two splits.",
                    hint=f"correct the lists, or ignore one with --exclude '{file.name}'",
                )
        unused = {"missing": num_rows - len(of_file)} if len(of_file) < num_rows else {}
        used.append(TableUse(file.name, "splits", num_rows, len(of_file), unused))
    return splits, used


def _splits_of_table(file: LocatedFile, table: Table, finder: PathFinder) -> dict[str, SplitName]:
    """Return the split of each image of a table without labels.

    Raises:
        DataError: A cell names no split.
    """
    splits: dict[str, SplitName] = {}
    for line, cells in table.lines:
        word = cells.get(table.split or "", "")
        split = cell_split(word)
        if word.strip() and split is None:
            raise DataError(
                f"line {line} of `{file.name}` has the {table.split} `{word}`; expected train, val or test.",
                hint=f"correct it, or ignore the table with --exclude '{file.name}'",
            )
        hit = finder.look_up(cells.get(table.image, "").strip(), file.name)
        if split is not None and isinstance(hit, PathMatch):
            splits[hit.file.path] = split
    return splits


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
