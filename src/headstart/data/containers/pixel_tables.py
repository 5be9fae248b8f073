"""Read tables that hold the pixels of one image per row: `label,pixel1,pixel2 ...`, or all in a column `pixels`."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterator, Sequence

import numpy as np

from headstart.data.containers.pixels import encode_pixels
from headstart.data.containers.store import TableWriter
from headstart.data.file_tree import printable
from headstart.data.split_words import cell_split
from headstart.errors import DataError

__all__ = ["is_pixel_table", "write_pixel_tables"]

_MIN_SIDE = 8
_PIXEL = re.compile(r"(?:pixels?|px)?[-_. ]?\d+(?:x\d+)?", re.IGNORECASE)
_ALL_PIXELS = "pixels"


def is_pixel_table(path: str) -> bool:
    """Return whether a CSV or TSV file holds pixels of square images: as many columns, or as many numbers in a cell."""
    if not path.lower().endswith((".csv", ".tsv")):
        return False
    try:
        rows = _rows(path)
        header, first = next(rows, []), next(rows, [])
    except (OSError, csv.Error, UnicodeDecodeError):
        return False
    return _columns(header, first) is not None


def write_pixel_tables(files: Sequence[tuple[str, str]], writer: TableWriter) -> None:
    """Write the images of tables of pixels, with their other columns.

    Args:
        files: (name, path) of each table.
        writer: Gets the images.

    Raises:
        DataError: A row has other cells than pixel values from 0 to 255.
    """
    splits = {name: cell_split(os.path.splitext(os.path.basename(name))[0]) for name, _ in files}
    for name, path in files:
        split = splits[name] if len(set(splits.values())) > 1 else None
        rows = _rows(path)
        header, first = next(rows, []), next(rows, [])
        columns = _columns(header, first) or []
        is_headless = all(map(_is_number, header))
        names = [f"column{i}" if i else "label" for i in range(len(header))] if is_headless else header
        others = [i for i in range(len(names)) if i not in set(columns)]
        start = [header, first] if is_headless else [first]
        for number, row in enumerate((*start, *rows)):
            pixels = row[columns[0]].split() if len(columns) == 1 else [row[i] for i in columns if i < len(row)]
            data, suffix = _encode(pixels, f"row {number + 1} of `{printable(name)}`")
            cells = {names[i]: row[i].strip() for i in others if i < len(row)}
            if split and "split" not in cells:
                cells["split"] = split
            writer.add(f"{name}#{number}", name, data, suffix, cells)


def _rows(path: str) -> Iterator[list[str]]:
    csv.field_size_limit(1 << 20)
    with open(path, encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        separator = max(",;\t", key=first.count)
        yield from (row for row in csv.reader(file, delimiter=separator) if row)


def _columns(header: Sequence[str], first: Sequence[str]) -> list[int] | None:
    """Return the positions of the pixels, or the only one of all pixels; None if there are none."""
    named = [i for i, name in enumerate(header) if _PIXEL.fullmatch(name.strip())]
    if all(map(_is_number, header)):  # no header: label and pixels
        return [*range(1, len(header))] if _shape(len(header) - 1) else None
    if _shape(len(named)):
        return named
    whole = [i for i, name in enumerate(header) if name.strip().lower() == _ALL_PIXELS and i < len(first)]
    return whole if whole and _shape(len(first[whole[0]].split())) else None


def _shape(count: int) -> tuple[int, ...] | None:
    """Return the shape of a square image, gray or with three colors per pixel, that has so many values."""
    for shape, number in (((), max(0, count)), ((3,), count // 3 if count > 0 and count % 3 == 0 else 0)):
        side = math.isqrt(number)
        if side >= _MIN_SIDE and side * side == number:
            return (side, side, *shape)
    return None


def _encode(pixels: Sequence[str], where: str) -> tuple[bytes, str]:
    shape = _shape(len(pixels))
    try:
        values = np.array(pixels, dtype=np.float32)
    except ValueError:
        values = np.empty(0, dtype=np.float32)
    if shape is None or values.size != len(pixels) or not (values.min() >= 0 and values.max() <= 255):
        raise DataError(
            f"{where} has other cells than pixels; expected numbers from 0 to 255 for a square image.",
            hint="save each image as a PNG file, and pass a table image,label",
        )
    layout = "gray" if len(shape) == 2 else "color"
    return encode_pixels(values.reshape(shape), layout, tuple(range(len(shape))), "bytes")


def _is_number(text: str) -> bool:
    return text.strip().replace(".", "", 1).isdecimal()
