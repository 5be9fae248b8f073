"""Load tables of images and labels: CSV, TSV, JSON and JSON lines."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from headstart.data.file_tree import printable
from headstart.data.formats import IMAGES
from headstart.data.json_tables import parse_json, parse_json_lines
from headstart.data.matlab import matlab_rows
from headstart.data.reading import LabelEvidence
from headstart.data.text import decode
from headstart.errors import DataError
from headstart.types.codes import ReadingKind, ReadingNote

__all__ = [
    "GROUP_NAMES",
    "IMAGE_NAMES",
    "LABEL_NAMES",
    "SPLIT_NAMES",
    "Table",
    "decode_text",
    "load_table",
    "plain_name",
]

IMAGE_NAMES = (
    *("image", "file_name", "filename", "path", "file", "image_path", "image_name", "image_file"),
    *("file_path", "filepath", "img", "img_path", "picture", "photo", "image_id"),
)
LABEL_NAMES = (
    *("label", "class", "labels", "class_name", "label_name", "category", "target"),
    *("classname", "labelname", "classid", "class_id", "label_id", "labelid"),
)
SPLIT_NAMES = ("split", "subset", "partition", "set")
GROUP_NAMES = ("group", "group_id")
_MAX_TITLE_LINES = 5


@dataclass
class Table:
    """A table of images and labels.

    Attributes:
        path: The file.
        lines: (line number, cells by column) of each row.
        image, label, split, group: Names of the columns, None where there is none.
        notes: Assumptions made by the reader.
        header: All columns.
        heading: A comment line above the rows, which may name the columns.
        label_columns: All columns that may be the label, likeliest first.
        annotators: Columns with the labels of several annotators, whose majority is the label; the first is `label`.
        evidence: Why `label` is the label.
    """

    path: str
    lines: list[tuple[int, dict[str, str]]]
    image: str
    label: str | None
    split: str | None = None
    group: str | None = None
    notes: list[ReadingNote] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    heading: str = ""
    label_columns: list[str] = field(default_factory=list)
    annotators: list[str] = field(default_factory=list)
    evidence: LabelEvidence = LabelEvidence.NAMED

    @property
    def votes(self) -> list[str]:
        """Return the columns that hold labels: one, or that of each annotator."""
        return self.annotators if self.label in self.annotators else [self.label] if self.label else []

    @property
    def others(self) -> list[str]:
        """Return the columns without a role."""
        roles = {self.image, self.label, self.split, self.group, *self.votes}
        return [c for c in (self.lines[0][1] if self.lines else {}) if c not in roles]


def load_table(path: str) -> Table:
    """Read header and rows of a CSV, TSV, JSON, JSON-lines or MATLAB table, without looking for its columns.

    Raises:
        DataError: The table is unreadable or empty.
    """
    shown = printable(os.path.basename(path))
    if path.lower().endswith(".mat"):
        header, rows = matlab_rows(path)
        return Table(path, list(enumerate(rows, start=1)), "", None, header=header)
    text, notes = decode_text(path)
    if path.lower().endswith((".jsonl", ".ndjson")):
        header, lines = parse_json_lines(text, shown)
    elif path.lower().endswith(".json"):
        header, lines = parse_json(text, shown)
    else:
        header, lines = _separated(text, shown, path)
    return Table(path, lines, "", None, notes=notes, header=header)


def decode_text(path: str) -> tuple[str, list[ReadingNote]]:
    """Decode text as Excel, Notepad or newer tools write it; adds a note if the encoding is uncertain.

    Raises:
        DataError: The file cannot be read.
    """
    shown = printable(os.path.basename(path))
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise DataError(f"cannot read `{shown}` ({error.strerror or error}).") from error
    text, encoding = decode(data)
    if encoding.startswith("utf-"):
        return text, []
    return text, [ReadingNote(ReadingKind.ENCODING_GUESSED, 1, (shown,), {"file": shown, "encoding": encoding})]


def _separated(text: str, shown: str, path: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return header and rows of a CSV or TSV, with the separator of its header."""
    first = text.split("\n", 1)[0]
    while first.startswith("#") and not re.search(r"[\t,;|]", first) and "\n" in text:  # a comment
        text = text.partition("\n")[2]
        first = text.split("\n", 1)[0]
    text = text if first.lower().startswith("sep=") else _without_title(text)
    first = text.split("\n", 1)[0]
    separator = _separator(first)
    if first.lower().startswith("sep="):  # written by Excel
        separator, text = first.strip()[4:] or separator, text.partition("\n")[2]
    csv.field_size_limit(1 << 20)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        rows = [(reader.line_num, row) for row in reader if any(c.strip() for c in row)]
    except csv.Error as error:
        raise DataError(f"cannot read the table `{shown}` ({error}).") from error
    if not rows:
        raise DataError(f"the table `{shown}` is empty.", hint="expected a header and a row per image: image,label")
    header = [c.strip() for c in rows[0][1]]
    start = 1
    if _first(header, IMAGE_NAMES) is None and len(header) >= 2:
        first_path = os.path.join(os.path.dirname(path), header[0])
        if os.path.isfile(first_path):  # no header
            header, start = ["image", "label", *(f"column{i}" for i in range(3, len(header) + 1))], 0
    lines = []
    for number, row in rows[start:]:
        if len(row) > len(header) and any(c.strip() for c in row[len(header) :]):
            raise DataError(
                f"line {number} of `{shown}` has {len(row)} cells, the header has {len(header)}.",
                hint=f"quote cells that contain `{separator}`",
            )
        lines.append((number, dict(zip(header, row, strict=False))))
    return header, lines


def _separator(line: str) -> str:
    """Return the most frequent separator of a line."""
    return max(("\t", ",", ";", "|"), key=line.count)


def _without_title(text: str) -> str:
    """Return a table without the lines above its header that have text in their first cell only.

    A header has two or more names and no image; without such a header among the first lines nothing is removed.
    """
    lines = text.split("\n", _MAX_TITLE_LINES + 1)
    for i, line in enumerate(lines[: _MAX_TITLE_LINES + 1]):
        separator = _separator(line)
        header = [cell for cell in _cells(line, separator) if cell]
        if len(header) < 2:
            continue
        titles = [_cells(above, separator) for above in lines[:i]]
        if any(any(cells[1:]) for cells in titles):
            return text
        texts = [cells[0] for cells in titles if cells]
        is_known = any(plain_name(t) in IMAGE_NAMES or os.path.splitext(t)[1].lower() in IMAGES for t in texts)
        are_names = all(c[0].isalpha() and os.path.splitext(c)[1].lower() not in IMAGES for c in header)
        return text if is_known or not are_names else "\n".join(lines[i:])
    return text


def _cells(line: str, separator: str) -> list[str]:
    """Return the cells of one line; quotes are plain characters if they cannot be parsed."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:
        return [cell.strip() for cell in line.split(separator)]


def _first(header: Iterable[str], wanted: Sequence[str]) -> str | None:
    plain = {plain_name(c): c for c in reversed(list(header))}
    return next((plain[w] for w in wanted if w in plain), None)


def plain_name(column: str) -> str:
    return re.sub(r"[\s\-]+", "_", column.strip().lower())
