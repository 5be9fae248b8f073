"""Label held-out images by a list of one class per line, as in the development kit of ImageNet.

The line of an image is its number: `ILSVRC2012_val_00000007.JPEG` is line 7 of the list. Lines hold class folders, or
numbers that another file (`number class` per row, or `meta.mat`) maps to class folders. The order of a list of names
is no mapping, because numbers of development kits do not follow it.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
from collections import defaultdict
from collections.abc import Sequence

from headstart.data.file_tree import FileTree, LocatedFile, clean_label
from headstart.data.matlab import matlab_rows
from headstart.data.reading import Reading, Row, ask_between
from headstart.data.split_words import cell_split, split_words
from headstart.data.tables import decode_text
from headstart.errors import DataError
from headstart.messages.files import shell_path
from headstart.messages.numbers import pluralize
from headstart.types.codes import ReadingKind, ReadingNote
from headstart.types.inventory import TableUse
from headstart.types.records import SplitName

__all__ = ["label_by_position"]

_MAX_BYTES = 16 << 20
_EXAMPLES = 5
_NUMBERED = re.compile(r"ILSVRC\d+_(val|test)_(\d+)|\D*(\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,6}")


def label_by_position(reading: Reading, tree: FileTree) -> None:
    """Label images of a held-out folder without class folders by the list of its split.

    A list that cannot be used for lack of a mapping gives a note.

    Raises:
        UsageError: Two files map the numbers to different classes.
    """
    inside: dict[tuple[str, ...], list[LocatedFile]] = defaultdict(list)
    for image in reading.unlabeled:
        inside[image.folders].append(image)
    classes = {row.label for row in reading.rows}
    lists = [f for f in tree.tables if f.file.lower().endswith(".txt") and len(split_words(_stem(f))) == 1]
    for folders, images in inside.items():
        split = cell_split(folders[-1]) if folders else None
        if split in (None, "train"):
            continue
        for file in lists:
            lines = _lines(file) if cell_split(_stem(file)) == split else []
            positions = _positions(images, lines)
            if positions:
                _apply(reading, tree, file, [(image, lines[n - 1]) for image, n in positions], classes, split)
                break


def _apply(
    reading: Reading,
    tree: FileTree,
    file: LocatedFile,
    cells: Sequence[tuple[LocatedFile, str]],
    classes: set[str],
    split: SplitName | None,
) -> None:
    """Add the images with their classes to a reading, or a note if nothing tells the classes."""
    values = {cell for _, cell in cells}
    examples = tuple(image.name for image, _ in cells[:_EXAMPLES])
    names: dict[str, str] = {}
    if values <= classes:
        names = {value: value for value in values}
    elif all(map(_NUMBER.fullmatch, values)):
        numbers = {value: str(int(value)) for value in values}
        mapping, source = _find_mapping(tree, classes, set(numbers.values()), [numbers[cell] for _, cell in cells])
        if source is None:
            meta = next((f.name for f in tree.tables if f.file.lower() == "meta.mat"), None)
            evidence = {"file": file.name, "num_images": len(cells), "meta": meta}
            reading.notes.append(ReadingNote(ReadingKind.NUMBERS_UNMAPPED, len(cells), examples, evidence))
            return
        names = {value: mapping[number] for value, number in numbers.items()}
        reading.tables.append(TableUse(source.name, "names", len(mapping), len(set(names.values()))))
    if not names:
        return
    labeled = {image.path for image, _ in cells}
    reading.unlabeled = [image for image in reading.unlabeled if image.path not in labeled]
    for name in reading.columns:
        reading.columns[name] += [""] * len(cells)
    reading.rows += [Row(image, names[cell], split) for image, cell in cells]
    reading.tables.append(TableUse(file.name, "labels", len(_lines(file)), len(cells)))
    reading.notes.append(ReadingNote(ReadingKind.LABELS_BY_POSITION, len(cells), examples, {"file": file.name}))


def _stem(file: LocatedFile) -> str:
    return os.path.splitext(file.file)[0]


def _text(file: LocatedFile) -> str:
    try:
        return decode_text(file.path)[0] if os.path.getsize(file.path) <= _MAX_BYTES else ""
    except (OSError, DataError):
        return ""


def _lines(file: LocatedFile) -> list[str]:
    """Return the lines of a list with one word per line; otherwise nothing."""
    lines = _text(file).split("\n")
    lines = [line.strip() for line in (lines[:-1] if lines[-1] == "" else lines)]
    return lines if all(len(line.split()) == 1 for line in lines) else []


def _positions(images: Sequence[LocatedFile], lines: Sequence[str]) -> list[tuple[LocatedFile, int]]:
    """Return images with their line, from 1; nothing if the numbers in their names do not prove it."""
    found = [(image, _NUMBERED.fullmatch(_stem(image))) for image in images]
    numbers = [(image, int(m[2] or m[3])) for image, m in found if m is not None]
    different = {n for _, n in numbers}
    is_official = all(m is not None and m[2] for _, m in found)
    is_whole = len(lines) == len(images) and different == {*range(1, len(lines) + 1)}
    is_part = is_official and len(different) == len(images) and min(different) >= 1 and max(different) <= len(lines)
    return sorted(numbers, key=lambda pair: pair[1]) if is_whole or is_part else []


def _find_mapping(
    tree: FileTree, classes: set[str], numbers: set[str], cells: Sequence[str]
) -> tuple[dict[str, str], LocatedFile | None]:
    """Return the class of each number, and the file that states it.

    Raises:
        UsageError: Files differ.
    """
    found: list[tuple[dict[str, str], LocatedFile]] = []
    for file in tree.tables:
        mapping = _mapping(_rows(file), classes)
        if numbers <= mapping.keys():
            found.append((mapping, file))
    chosen = [{number: mapping[number] for number in numbers} for mapping, _ in found]
    if any(names != chosen[0] for names in chosen):
        described = []
        for names, (_, file) in zip(chosen, found, strict=True):
            counts = sorted(((n, [names[c] for c in cells].count(n)) for n in set(names.values())), key=lambda p: -p[1])
            shown = ", ".join(f"`{name}` {count:,}" for name, count in counts[:4])
            others = " ".join(f"--exclude {shell_path(f.name)}" for _, f in found if f is not file)
            described.append((f"numbers of `{file.name}`: {pluralize(len(cells), 'image')} ({shown})", others))
        raise ask_between(described)
    return found[0] if found else ({}, None)


def _rows(file: LocatedFile) -> list[list[str]]:
    """Return the fields of a table of text or MATLAB."""
    extension = os.path.splitext(file.file)[1].lower()
    if extension == ".mat":
        with contextlib.suppress(DataError):
            return [[*row.values()] for row in matlab_rows(file.path)[1]]
        return []
    if extension not in (".txt", ".csv", ".tsv"):
        return []
    lines = _text(file).splitlines()
    if extension == ".txt":
        return [line.replace(",", " ").split() for line in lines if line.strip()]
    return [row for row in csv.reader(lines, delimiter="\t" if extension == ".tsv" else ",") if row]


def _mapping(rows: Sequence[Sequence[str]], classes: set[str]) -> dict[str, str]:
    """Return the class of each number of a table with a column of all classes and one of numbers from 1."""
    width = min(map(len, rows), default=0)
    for body in (rows, rows[1:]) if width > 1 else ():
        columns = [[clean_label(row[i]) for row in body] for i in range(width)]
        named = [c for c in columns if classes <= set(c) and len(set(c)) == len(c)]
        counted = [c for c in columns if all(map(_NUMBER.fullmatch, c))]
        counted = [c for c in counted if sorted(map(int, c)) == [*range(1, len(c) + 1)]]
        if len(named) == 1 and len(counted) == 1 and named != counted:
            return dict(zip((str(int(n)) for n in counted[0]), named[0], strict=True))
    return {}
