"""Read labels from tables: CSV, TSV, JSON lines and Hugging Face metadata.

Paths in a table are looked up below the table's own folder only; absolute paths, `..` and links that leave it are
refused unless allowed.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from headstart.data.file_tree import LocatedFile, clean_label, printable
from headstart.data.folders import Reading, Row, split_name, split_words
from headstart.data.layouts import label_matcher
from headstart.data.name_matching import fold_name
from headstart.data.paths import Claim, PathFinder, PathMatch, contested
from headstart.errors import DataError, UsageError
from headstart.messages.numbers import pluralize
from headstart.types.codes import ReadingKind, ReadingNote
from headstart.types.records import Problem

__all__ = ["Table", "decode_text", "read_table", "table_reading"]

_IMAGE = (
    *("image", "file_name", "filename", "path", "file", "image_path", "image_name", "image_file"),
    *("file_path", "filepath", "img", "img_path", "picture", "photo", "image_id"),
)
_LABEL = ("label", "class", "labels", "class_name", "label_name", "category", "target")
_SPLIT = ("split", "subset", "partition", "set")
_GROUP = ("group", "group_id")


@dataclass
class Table:
    """A table of images and labels.

    Attributes:
        path: The file.
        lines: (line number, cells by column) of each row.
        image, label, split, group: Names of the columns, None where there is none.
        notes: Assumptions made by the reader.
    """

    path: str
    lines: list[tuple[int, dict[str, str]]]
    image: str
    label: str | None
    split: str | None = None
    group: str | None = None
    notes: list[ReadingNote] = field(default_factory=list)

    @property
    def others(self) -> list[str]:
        """Return the columns without a role."""
        roles = {self.image, self.label, self.split, self.group}
        return [c for c in (self.lines[0][1] if self.lines else {}) if c not in roles]


def read_table(path: str) -> Table:
    """Read a CSV, TSV or JSON-lines table and identify its columns.

    Raises:
        DataError: The table is unreadable or empty, or has no image column.
        UsageError: Two columns could be the label.
    """
    shown = printable(os.path.basename(path))
    text, notes = decode_text(path)
    if path.lower().endswith((".jsonl", ".ndjson")):
        header, lines = _json_lines(text, shown)
    else:
        header, lines = _separated(text, shown, path)
    if not lines:
        raise DataError(
            f"the table `{shown}` has no rows.", hint="expected a header and one row per image: image,label"
        )
    image = _first(header, _IMAGE)
    if image is None:
        raise DataError(
            f"the table `{shown}` has no image column; its columns are {_listed(header)}.",
            hint="name the columns image,label (and optionally split,group)",
        )
    label_columns = [c for c in header if _plain(c) in _LABEL and c != image]
    table = Table(path, lines, image, None, _first(header, _SPLIT), _first(header, _GROUP), notes)
    table.label = _one_label(table, label_columns, shown)
    return table


def table_reading(
    table: Table, finder: PathFinder, *, split: str | None = None, label_template: str | None = None
) -> tuple[Reading, list[Problem], dict[str, list[str]]]:
    """Look up the images of a table.

    Args:
        table: The table.
        finder: Path lookup of the folder.
        split: The split of all rows, if the file name states it.
        label_template: Reads the label from the image's name instead of a column.

    Returns:
        The labeled rows, the rows that cannot be used, and the other columns aligned with the rows.

    Raises:
        DataError: No image of the table exists, a split is unknown, or there is no label.
    """
    shown = printable(os.path.basename(table.path))
    if table.label is None and label_template is None:
        raise DataError(
            f"the table `{shown}` has no label column; its columns are {_listed(table.lines[0][1])}.",
            hint="name the columns image,label (and optionally split,group)",
        )
    template = label_matcher(label_template) if label_template else None
    reading = Reading("table", table.path)
    problems: list[Problem] = []
    others = table.others
    columns: dict[str, list[str]] = {c: [] for c in others}
    used: set[tuple[str, str]] = set()
    repeated: list[str] = []
    files = _find_files(table, finder, split, problems)
    for line, cells in table.lines:
        file = files.get(line)
        if file is None:
            continue
        where = f"line {line} of {shown}"
        text = template(file.name) if template else cells.get(table.label or "", "")
        label = clean_label(text or "")
        if not label:
            problems.append(Problem(file.name, "no-label", f"{where} has no label"))
            reading.unlabeled.append(file)
            continue
        if (file.path, label) in used:
            repeated.append(file.name)
            continue
        used.add((file.path, label))
        word = cells.get(table.split, "") if table.split else (split or "")
        named = split_name(word) if word.strip() else None
        if word.strip() and named is None:
            raise DataError(
                f"line {line} of `{shown}` has the {table.split} `{word}`; expected train, val or test.",
                hint=f"correct it, or rename the column `{table.split}` to ignore it",
            )
        group = cells.get(table.group, "").strip() if table.group else ""
        reading.rows.append(Row(file, label, named, clean_label(group) or None))
        for column in others:
            columns[column].append(cells.get(column, ""))
    finder.refuse_outside(shown)
    if not reading.rows:
        raise DataError(
            _none_usable(table, shown, problems), hint="paths in a table are relative to the table's folder"
        )
    reading.notes += [*table.notes, *finder.notes()]
    if table.split is None and split is None:
        _splits_from_folders(reading)
    if repeated:
        reading.notes.append(ReadingNote(ReadingKind.REPEATED_ROWS, len(repeated), tuple(repeated[:5])))
    return reading, problems, columns


def _find_files(table: Table, finder: PathFinder, split: str | None, problems: list[Problem]) -> dict[int, LocatedFile]:
    """Return the file of each line; `problems` lists lines without one."""
    shown = printable(os.path.basename(table.path))
    of_table = frozenset({split}) if split else split_words(os.path.splitext(os.path.basename(table.path))[0])
    labels = frozenset(fold_name(clean_label(c.get(table.label, ""))) for _, c in table.lines) if table.label else None
    hits: dict[int, PathMatch] = {}
    for line, cells in table.lines:
        cell, where = cells.get(table.image, "").strip(), f"line {line} of {shown}"
        if not cell:
            problems.append(Problem(where, "missing", "the row names no image"))
            continue
        word = split_name(cells.get(table.split, "")) if table.split else None
        claim = Claim(frozenset({word}) if word else of_table)
        if labels is not None and table.label is not None:
            claim = replace(claim, label=fold_name(clean_label(cells.get(table.label, ""))), labels=labels)
        hit = finder.look_up(cell, where, claim)
        if isinstance(hit, PathMatch):
            hits[line] = hit
            continue
        if hit.kind == "outside":
            finder.outside.append(f"{where}: {printable(cell)}")
        problems.append(hit)
    paths: dict[str, set[str]] = defaultdict(set)
    for hit in hits.values():
        paths[hit.file.path].add(hit.path)
    has_train = any("train" in split_words(f) for hit in hits.values() for f in hit.file.folders)
    files = {}
    for line, hit in hits.items():
        if hit.how == "elsewhere" and len(paths[hit.file.path]) > 1:
            problems.append(contested(hit.cell, hit.file))
        elif hit.splits - {"train"} and not has_train:
            # A table without splits is about training images; the folder indicates that these are others.
            named = " and ".join(f"`{s}`" for s in sorted(hit.splits))
            detail = f"there is no such file (line {line} of {shown}); `{hit.file.name}` is in a folder for {named}"
            problems.append(Problem(printable(hit.cell), "elsewhere", detail))
        else:
            finder.record(hit)
            files[line] = hit.file
    return files


def _splits_from_folders(reading: Reading) -> None:
    """Set the splits of rows from their folders, if those name training images and others."""
    splits = [next((s for s in map(split_name, row.file.folders) if s), None) for row in reading.rows]
    counts = Counter(s for s in splits if s)
    if len(counts) < 2 or "train" not in counts:
        return
    reading.rows = [replace(row, split=s) for row, s in zip(reading.rows, splits, strict=True)]
    ordered = {s: counts[s] for s in ("train", "val", "test") if counts[s]}
    reading.notes.append(ReadingNote(ReadingKind.SPLITS_FROM_FOLDERS, sum(counts.values()), (), {"splits": ordered}))


def _none_usable(table: Table, shown: str, problems: Sequence[Problem]) -> str:
    """Return why no row of a table can be used: the most frequent kind of problem, with its first instance."""
    if not problems:
        return f"no row of `{shown}` can be used."
    kind = Counter(p.kind for p in problems).most_common(1)[0][0]
    first = next(p for p in problems if p.kind == kind)
    return f"none of {pluralize(len(table.lines), 'row')} of `{shown}` can be used: `{first.name}`: {first.detail}."


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
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace"), []
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        evidence = {"file": shown, "encoding": "Windows-1252"}
        return data.decode("cp1252", "replace"), [ReadingNote(ReadingKind.ENCODING_GUESSED, 1, (shown,), evidence)]


def _separated(text: str, shown: str, path: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return header and rows of a CSV or TSV, with the separator of its header."""
    first = text.split("\n", 1)[0]
    separator = max(("\t", ",", ";", "|"), key=first.count)
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
    if _first(header, _IMAGE) is None and len(header) >= 2:
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


def _json_lines(text: str, shown: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    header: dict[str, None] = {}
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DataError(f"line {number} of `{shown}` is not JSON ({error}).") from error
        if not isinstance(value, dict):
            raise DataError(f"line {number} of `{shown}` is not a JSON object with file_name and label.")
        cells = {str(k): _cell(v) for k, v in value.items()}
        header.update(dict.fromkeys(cells))
        lines.append((number, cells))
    return list(header), lines


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else json.dumps(value)


def _one_label(table: Table, label_columns: list[str], shown: str) -> str | None:
    """Return the label column; two columns count as one if they map one-to-one."""
    if len(label_columns) < 2:
        return label_columns[0] if label_columns else None
    first, *rest = sorted(label_columns, key=lambda c: _LABEL.index(_plain(c)))
    for other in rest:
        pairs = {(cells.get(first, ""), cells.get(other, "")) for _, cells in table.lines}
        if len(pairs) != len({a for a, _ in pairs}) or len(pairs) != len({b for _, b in pairs}):
            raise UsageError(
                f"two columns of `{shown}` could be the label: `{first}` and `{other}`, and they disagree.",
                hint="rename the one that is not the label",
            )
        if all(a.strip().lstrip("-").isdigit() for a, _ in pairs):
            first = other  # prefer names to numbers
    return first


def _first(header: Iterable[str], wanted: Sequence[str]) -> str | None:
    plain = {_plain(c): c for c in reversed(list(header))}
    return next((plain[w] for w in wanted if w in plain), None)


def _plain(column: str) -> str:
    return re.sub(r"[\s\-]+", "_", column.strip().lower())


def _listed(names: Iterable[str]) -> str:
    shown = [f"`{n}`" for n in names]
    return ", ".join(shown[:10]) + (f" ... ({len(shown)})" if len(shown) > 10 else "")
