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
from typing import Any

from headstart.data.file_tree import LocatedFile, clean_label, printable
from headstart.data.layouts import label_matcher
from headstart.data.name_matching import fold_name
from headstart.data.paths import Claim, PathFinder, PathMatch, contested
from headstart.data.reading import Reading, Row
from headstart.data.split_words import split_name, split_words
from headstart.errors import DataError, UsageError
from headstart.messages.numbers import pluralize
from headstart.types.codes import ReadingKind, ReadingNote, UnusedReason
from headstart.types.records import Problem

__all__ = [
    "GROUP_NAMES",
    "IMAGE_NAMES",
    "LABEL_NAMES",
    "SPLIT_NAMES",
    "Table",
    "decode_text",
    "load_table",
    "plain_name",
    "read_table",
    "table_reading",
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
    loaded = load_table(path)
    header, lines, notes = loaded.header, loaded.lines, loaded.notes
    if not lines:
        raise DataError(
            f"the table `{shown}` has no rows.", hint="expected a header and one row per image: image,label"
        )
    image = _first(header, IMAGE_NAMES)
    if image is None:
        raise DataError(
            f"the table `{shown}` has no image column; its columns are {_listed(header)}.",
            hint="name the columns image,label (and optionally split,group)",
        )
    label_columns = [c for c in header if plain_name(c) in LABEL_NAMES and c != image]
    table = Table(path, lines, image, None, _first(header, SPLIT_NAMES), _first(header, GROUP_NAMES), notes, header)
    table.label = _one_label(table, label_columns, shown)
    return table


def load_table(path: str) -> Table:
    """Read header and rows of a CSV, TSV, JSON or JSON-lines table, without looking for its columns.

    Raises:
        DataError: The table is unreadable or empty.
    """
    shown = printable(os.path.basename(path))
    text, notes = decode_text(path)
    if path.lower().endswith((".jsonl", ".ndjson")):
        header, lines = _json_lines(text, shown)
    elif path.lower().endswith(".json"):
        header, lines = _json_array(text, shown)
    else:
        header, lines = _separated(text, shown, path)
    return Table(path, lines, "", None, notes=notes, header=header)


def table_reading(
    table: Table, finder: PathFinder, *, split: str | None = None, label_template: str | None = None
) -> Reading:
    """Look up the images of a table.

    Args:
        table: The table.
        finder: Path lookup of the folder.
        split: The split of all rows, if the file name states it.
        label_template: Reads the label from the image's name instead of a column.

    Returns:
        The labeled rows, with the rows that cannot be used and the other columns.

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
    if table.label is not None and template is None:
        _refuse_other_tasks([cells.get(table.label, "").strip() for _, cells in table.lines], table.label, shown)
    reading = Reading("table", table.path)
    problems = reading.problems
    others = table.others
    columns = reading.columns
    columns.update({c: [] for c in others})
    files = _find_files(table, finder, split, problems)
    for line, cells in table.lines:
        file = files.get(line)
        if file is None:
            continue
        where = f"line {line} of {shown}"
        text = template(file.name) if template else cells.get(table.label or "", "")
        label = clean_label(text or "")
        if not label or label.casefold() == "nan":
            problems.append(Problem(file.name, "no-label", f"{where} has no label"))
            reading.unlabeled.append(file)
            continue
        word = cells.get(table.split, "") if table.split else (split or "")
        named = split_name(word) if word.strip() else None
        if word.strip() and named is None:
            raise DataError(
                f"line {line} of `{shown}` has the {table.split} `{word}`; expected train, val or test.",
                hint="correct it, or use --split-column none to ignore the column",
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
    _take_majority(reading)
    reading.notes += [*table.notes, *finder.notes()]
    if table.split is None and split is None:
        _splits_from_folders(reading)
    return reading


def _refuse_other_tasks(cells: Sequence[str], column: str, shown: str) -> None:
    """Raise if cells hold several labels each, or measured numbers.

    Raises:
        DataError: They do.
    """
    filled = [cell for cell in cells if cell]
    different = set(filled)
    for separator in ("|", ";", ",", " "):
        several = [cell for cell in filled if len([p for p in cell.split(separator) if p.strip()]) > 1]
        parts = {part.strip() for cell in filled for part in cell.split(separator)} - {""}
        whole = [cell for cell in several if any(p.strip() in different for p in cell.split(separator))]
        if several and len(parts) <= 0.6 * len(different) and 2 * len(whole) >= len(several):
            raise DataError(
                f"the column `{column}` of `{shown}` has several labels in a cell, e.g. "
                f"`{max(several, key=len)}`: multi-label data are not supported; expected one label per image.",
                hint="keep one label per image",
            )
    numbers = []
    for cell in different:
        try:
            numbers.append(float(cell))
        except ValueError:
            return
    counts = Counter(filled)
    is_measured = len(numbers) > 10 and any(not number.is_integer() for number in numbers)
    num_single = sum(count == 1 for count in counts.values())
    if is_measured or (len(numbers) > 50 and num_single >= 0.2 * len(numbers)):
        raise DataError(
            f"the column `{column}` of `{shown}` has {len(numbers):,} different numbers: regression is not supported; "
            "expected class names.",
            hint="write class names, e.g. by ranges, or name another column with --label-column",
        )


def _take_majority(reading: Reading) -> None:
    """Keep one row per image: the most frequent label of its rows; images with a tie are not used."""
    columns = reading.columns
    by_image: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(reading.rows):
        by_image[row.file.path].append(i)
    several = {path: rows for path, rows in by_image.items() if len(rows) > 1}
    for rows in several.values():
        if len({reading.rows[i].split for i in rows}) > 1:
            raise DataError(
                f"`{reading.rows[rows[0]].file.name}` is in two splits; expected each image in one split.",
                hint="correct the rows, or use --split-column none to ignore the column",
            )
    chosen: list[int] = []
    num_disagreeing = num_repeated = 0
    repeated: list[str] = []
    tied: list[LocatedFile] = []
    for rows in by_image.values():
        (label, most), *others = Counter(reading.rows[i].label for i in rows).most_common()
        num_disagreeing += bool(others)
        if not others and len(rows) > 1:
            num_repeated += len(rows) - 1
            repeated.append(reading.rows[rows[0]].file.name)
        if others and others[0][1] == most:
            tied.append(reading.rows[rows[0]].file)
        else:
            chosen.append(next(i for i in rows if reading.rows[i].label == label))
    for name in list(columns):
        if any(len({columns[name][i] for i in rows}) > 1 for rows in several.values()):
            del columns[name]  # a property of the row, such as the rater
        else:
            columns[name] = [columns[name][i] for i in chosen]
    if num_disagreeing:
        examples = tuple(f.name for f in tied[:5])
        evidence = {"num_rows": len(reading.rows), "num_images": len(by_image), "num_tied": len(tied)}
        reading.notes.append(ReadingNote(ReadingKind.LABELS_BY_MAJORITY, num_disagreeing, examples, evidence))
    elif num_repeated:
        reading.notes.append(ReadingNote(ReadingKind.REPEATED_ROWS, num_repeated, tuple(repeated[:5])))
    reading.rows = [reading.rows[i] for i in chosen]
    if tied:
        reading.unused[UnusedReason.TIED_LABELS] = tied


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


def _json_array(text: str, shown: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return header and rows of a JSON list of objects; a task of Label Studio gives `image` and `label`."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise DataError(f"`{shown}` is not JSON ({error}).") from error
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise DataError(f"`{shown}` is not a JSON list of objects with an image and a label.")
    header: dict[str, None] = {}
    lines = []
    for number, value in enumerate(values, start=1):
        cells = _label_studio_cells(value) or {str(k): _cell(v) for k, v in value.items()}
        header.update(dict.fromkeys(cells))
        lines.append((number, cells))
    return list(header), lines


def _label_studio_cells(task: dict[str, Any]) -> dict[str, str] | None:
    """Return image and label of a task exported by Label Studio; None for other objects."""
    data, annotations = task.get("data"), task.get("annotations")
    if not isinstance(data, dict) or not isinstance(annotations, list):
        return None
    choices: list[str] = []
    for annotation in annotations:
        for result in annotation.get("result", []) if isinstance(annotation, dict) else []:
            value = result.get("value") if isinstance(result, dict) else None
            if isinstance(value, dict) and isinstance(value.get("choices"), list):
                choices += [str(choice) for choice in value["choices"]]
    image = next((v for v in data.values() if isinstance(v, str)), "")
    return {"image": image, "label": _cell(list(dict.fromkeys(choices)) or None)}


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
    first, *rest = sorted(label_columns, key=lambda c: LABEL_NAMES.index(plain_name(c)))
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
    plain = {plain_name(c): c for c in reversed(list(header))}
    return next((plain[w] for w in wanted if w in plain), None)


def plain_name(column: str) -> str:
    return re.sub(r"[\s\-]+", "_", column.strip().lower())


def _listed(names: Iterable[str]) -> str:
    shown = [f"`{n}`" for n in names]
    return ", ".join(shown[:10]) + (f" ... ({len(shown)})" if len(shown) > 10 else "")
