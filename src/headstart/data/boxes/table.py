"""Read tables of boxes: one row per box, with any of the usual column names.

Columns are identified by name only, in the forms that tools write (corners; x, y, width, height; a list in one cell).
A table without a header is read only in the forms of `_HEADLESS`. A table with scores holds predictions.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from headstart.data.boxes.coco import holds, load_json
from headstart.data.boxes.draft import Draft, DraftBox, DraftImage, LayoutSource, ignore_reason, number
from headstart.data.boxes.files import ImageLookup, split_of_folders, split_of_name
from headstart.data.boxes.formats import BoxFormat, Layout
from headstart.data.file_tree import LocatedFile, clean_label
from headstart.data.formats import IMAGES
from headstart.data.reading_notes import group_notes
from headstart.data.tables import Table, load_table
from headstart.data.text import read_text, text_lines
from headstart.data.unit_names import is_placeholder
from headstart.errors import DataError, HeadstartError
from headstart.types.codes import JsonValue, ReadingKind, ReadingNote
from headstart.utils.csv_cells import unescape_formula

__all__ = ["BoxTable", "open_box_table", "read_box_tables"]

_HEADLESS = (
    ("image", "x1", "y1", "x2", "y2", "label"),  # keras-retinanet
    ("label", "x", "y", "w", "h", "image", "width", "height"),  # makesense.ai
    ("split", "image", "label", "x1", "y1", "", "", "x2", "y2", "", ""),  # Google AutoML
    ("image", "label", "x1", "y1", "", "", "x2", "y2", "", ""),
)
_SCORES = ("score", "confidence", "conf", "prob", "probability", "detection_score")
_MAX_BYTES = 64 << 20  # of a JSON file that is read as a table
_RECORD_KEYS = (b'"xmin"', b'"x1"', b'"bbox"', b'"left"', b'"x"', b'"cx"', b'"x_min"', b'"XMin"', b'"x_center"')
_NO_SPLIT = ("unassigned", "none", "-")

_IMAGE = (
    *("image", "filename", "file_name", "path", "file", "image_path", "image_name", "imagename", "image_file"),
    *("file_path", "filepath", "img", "img_path", "picture", "photo", "image_id", "imageid", "id"),
)
_LABEL = (
    *("label", "class", "class_name", "label_name", "labelname", "category", "name", "cell_type", "object", "target"),
    *("labels", "category_name", "object_class"),
)
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
    ("left", "top", "right", "bottom"),
    ("bbox_xmin", "bbox_ymin", "bbox_xmax", "bbox_ymax"),
    ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"),
)
_LABEL_IDS = ("class_id", "classid", "label_id", "labelid", "category_id", "cls", "class_index", "class_num")
_BY_CENTER = (
    ("x_center", "y_center", "width", "height"),
    ("xcenter", "ycenter", "width", "height"),
    ("center_x", "center_y", "width", "height"),
    ("cx", "cy", "w", "h"),
    ("cx", "cy", "width", "height"),
    ("xc", "yc", "w", "h"),
    ("x_center", "y_center", "w", "h"),
)
_OTHERS = ("difficult", "truncated", "occluded", "iscrowd", "area", "pose", "source", "depth", "ignore")
_BY_SIZE = (
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
    ("left", "top", "width", "height"),
    ("xmin", "ymin", "width", "height"),
)
_LIST = ("bbox", "box")
_VAGUE = ("x", "bbox_x", *_LIST)
_SIZE = (("height", "width"), ("image_height", "image_width"), ("img_height", "img_width"))
_SPLIT = ("split", "subset", "set", "partition")


@dataclass(frozen=True)
class BoxTable:
    """A table of boxes with the roles of its columns.

    Attributes:
        file: The table file.
        lines: (line number, cells by plain column name) of each row.
        image, label: Columns of the image and of the class; without a label column all boxes have one class.
        corners: Four columns, or one that holds a list.
        layout: Meaning of the four numbers by the names of their columns.
        layout_source: `names` if the column names leave a single meaning; `x` and `y` may be a corner or the center,
            and a list may be anything.
        size: Columns of the image's height and width, or None.
        split: Column of the split, or None.
        has_scores: Whether a column of scores shows that these are predictions.
        others: Columns without a role, any of which could be the class if there is no label column.
    """

    file: LocatedFile
    lines: list[tuple[int, dict[str, str]]]
    image: str
    label: str | None
    corners: tuple[str, ...]
    layout: Layout
    layout_source: LayoutSource
    size: tuple[str, str] | None
    split: str | None
    group: str | None
    has_scores: bool = False
    others: tuple[str, ...] = ()


def open_box_table(file: LocatedFile) -> BoxTable | None:
    """Return the table, or None if it has no box columns."""
    headless = _headless(file)
    try:
        table = headless or _records(file) or load_table(file.path)
    except HeadstartError:
        return None
    lines = [(line, {_plain(k): v for k, v in cells.items()}) for line, cells in table.lines]
    header = list(lines[0][1]) if lines else []
    image = next((c for c in _IMAGE if c in header), None)
    if image is None:
        return None
    corners: tuple[str, ...] | None = next((c for c in _CORNERS if set(c) <= set(header)), None)
    layout: Layout = "xyxy" if corners else "xywh"
    if corners is None:
        corners = next((c for c in _BY_CENTER if set(c) <= set(header)), None)
        layout = "cxcywh" if corners else "xywh"
    if corners is None:
        corners = next((c for c in _BY_SIZE if set(c) <= set(header)), None)
    if corners is None:
        column = next((c for c in _LIST if c in header), None)
        if column is None or not any(_listed(cells.get(column, "")) for _, cells in lines[:20]):
            return None
        corners = (column,)
    free = [c for c in header if c not in corners and c != image]
    size = next((s for s in _SIZE if set(s) <= set(free)), None)
    label = next((c for c in (*_LABEL, *_LABEL_IDS) if c in free), None)
    split, group = (next((c for c in names if c in free), None) for names in (_SPLIT, ("group", "group_id")))
    is_vague = corners[0] in _VAGUE or (headless is not None and tuple(header) == _HEADLESS[0])
    layout_source: LayoutSource = "definition" if is_vague else "names"
    scores = [cells.get(c, "").strip() for c in _SCORES if c in free for _, cells in lines]
    has_scores = any(value not in ("", "0", "1", "0.0", "1.0") for value in scores)
    known = {label, split, group, *(size or ()), *_OTHERS, *_SCORES, *_IMAGE}
    others = tuple(c for c in free if c and c not in known)
    return BoxTable(file, lines, image, label, corners, layout, layout_source, size, split, group, has_scores, others)


def read_box_tables(root: str, tables: Sequence[BoxTable], lookup: ImageLookup) -> Draft:
    """Read one table, or one per split (`train.csv`, `test.csv`).

    Raises:
        DataError: A row has an unknown split, or there is no class column.
        UsageError: A table names images outside its folder.
    """
    draft = Draft("CSV", root)
    for table in tables:
        if table.label is None and table.others:
            raise DataError(
                f"`{table.file.name}` has no class column; its other columns are "
                + ", ".join(f"`{c}`" for c in table.others[:8])
                + ".",
                hint="rename the column of the class to `label`",
            )
        images = _read_rows(draft, table, lookup, _split_of(table) if len(tables) > 1 else "")
        draft.images += images
        if table.group:
            draft.notes += group_notes(table.group, [i.group for i in images], [i.file.name for i in images])
    draft.notes += lookup.notes()
    return draft


def _split_of(table: BoxTable) -> str:
    return split_of_name(table.file.file) or split_of_folders(table.file.folders)


def name_open_images(draft: Draft, files: Sequence[LocatedFile]) -> None:
    """Replace the machine names of Open Images (`/m/01g317`) by those in `class-descriptions*.csv`."""
    file = next((f for f in files if f.file.startswith("class-descriptions")), None)
    labels = {box.label for image in draft.images for box in image.boxes}
    if file is None or not labels or not all(label.startswith("/m/") for label in labels):
        return
    rows = [line.partition(",") for line in text_lines(file.path)]
    names = {key.strip(): name.strip().strip('"') for key, _, name in rows}
    for image in draft.images:
        image.boxes = [replace(box, label=names.get(box.label, box.label)) for box in image.boxes]
    shown = {key: names[key] for key in sorted(labels & names.keys())[:5]}
    evidence: dict[str, JsonValue] = {"file": file.name, "names": shown, "reason": "stated", "first_id": None}
    draft.notes.append(ReadingNote(ReadingKind.NAMES_FROM_FILE, len(labels), (), evidence))


def _read_rows(draft: Draft, table: BoxTable, lookup: ImageLookup, split_of_file: str) -> list[DraftImage]:
    """Return the images of one table with their boxes."""
    rows = [(line, unescape_formula(cells.get(table.image, "").strip()), cells) for line, cells in table.lines]
    found = lookup.find_all(table.file, (cell for _, cell, _ in rows if cell))
    lookup.finder.refuse_outside(table.file.name)
    images: dict[str, DraftImage] = {}
    reported: set[tuple[str, str]] = set()
    for line, cell, cells in rows:
        where = f"line {line} of {table.file.name}"
        if not cell:
            draft.refuse(where, "bad-line", "the row names no image")
            continue
        file = found[cell]
        if file is None:
            if (cell, "") not in reported:
                draft.refuse(f"{table.file.name}: {cell}", "no-image", f"no such image, from line {line} on")
            reported.add((cell, ""))
            continue
        split = _split(table, cells, where) or split_of_file or split_of_folders(file.folders)
        image = images.get(file.path)
        if image is None:
            cell = cells.get(table.group, "") if table.group else ""
            group = None if is_placeholder(cell) else clean_label(cell)
            image = DraftImage(file, table.file.name, split, _size(table, cells), source=table.file.name, group=group)
            images[file.path] = image
        elif split != image.split and (file.path, split) not in reported:
            reported.add((file.path, split))
            detail = f"in {image.split or 'no split'} and in {split or 'no split'}; the first one counts"
            draft.refuse(image.file.name, "two-splits", detail)
        _add_box(draft, table, image, cells, f"line {line}")
    return [*images.values()]


def _add_box(draft: Draft, table: BoxTable, image: DraftImage, cells: dict[str, str], where: str) -> None:
    texts = [cells.get(c, "").strip() for c in table.corners]
    if len(texts) == 1:
        texts = _listed(texts[0]) or texts
    if not any(texts):
        return  # row of an image without objects
    values = [number(t) for t in texts]
    name = f"{table.file.name}, {where}"
    if len(values) != 4 or any(v is None for v in values):
        image.num_lost += 1
        draft.refuse(name, "bad-line", f"{' '.join(texts)[:60]!r} is not a box of four numbers")
        return
    label = unescape_formula(cells.get(table.label, "")) if table.label else "object"
    if not label.strip():
        image.num_lost += 1
        draft.refuse(name, "no-class", "the row has a box but no class")
        return
    a, b, c, d = (float(v) for v in values if v is not None)
    stated = BoxFormat(table.layout)
    where = f"{where} of {table.file.name}"
    ignored = ignore_reason(cells, label)
    image.boxes.append(DraftBox((a, b, c, d), stated, label, where, ignored, layout_source=table.layout_source))


def _size(table: BoxTable, cells: dict[str, str]) -> tuple[int, int] | None:
    if table.size is None:
        return None
    height, width = (number(cells.get(c, "")) for c in table.size)
    if not height or not width or not (1 <= height < 1e6 and 1 <= width < 1e6):
        return None
    return round(height), round(width)


def _split(table: BoxTable, cells: dict[str, str], where: str) -> str:
    word = cells.get(table.split, "").strip() if table.split else ""
    split = split_of_name(word) if word else ""
    if word and not split and word.lower() not in _NO_SPLIT:
        raise DataError(
            f"the {table.split} of {where} is `{clean_label(word)}`; expected train, val or test.",
            hint=f"correct it, or rename the column `{table.split}` to ignore it",
        )
    return split


def _listed(cell: str) -> list[str]:
    """Parse four numbers in one cell: `[x, y, w, h]`, with or without brackets."""
    parts = re.split(r"[,;\s]+", re.sub(r"[\[\](){}]|[A-Za-z_]+[\"']*\s*[:=]", " ", cell.replace('"', "")).strip())
    return parts if len(parts) == 4 and all(number(p) is not None for p in parts) else []


def _records(file: LocatedFile) -> Table | None:
    """Read a JSON list, or JSON lines, of one flat object per box.

    Raises:
        DataError: The file is JSON of another kind.
    """
    if not file.file.lower().endswith((".json", ".jsonl")):
        return None
    if os.path.getsize(file.path) > _MAX_BYTES or not any(holds(file.path, [key]) for key in _RECORD_KEYS):
        raise DataError(f"`{file.name}` is no table of boxes.")
    is_lines = file.file.lower().endswith(".jsonl")
    try:
        value = [json.loads(t) for t in text_lines(file.path) if t.strip()] if is_lines else load_json(file.path)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) for row in value):
        raise DataError(f"`{file.name}` is no table of boxes.")
    rows = [{str(k): "" if v is None else str(v) for k, v in row.items()} for row in value]
    return Table(file.path, [*enumerate(rows, start=1)], "image", None)


def _headless(file: LocatedFile) -> Table | None:
    """Read one of the conventional forms without a header, if all lines have it."""
    if not file.file.lower().endswith(".csv"):
        return None
    try:
        rows = [[c.strip() for c in row] for row in csv.reader(read_text(file.path)[0].splitlines())]
    except (OSError, csv.Error):
        return None
    numbered = [(i, row) for i, row in enumerate(rows, start=1) if any(row)]
    for form in _HEADLESS:
        if numbered and all(_has_form(row, form) for _, row in numbered):
            lines = [(i, {k: v for k, v in zip(form, row, strict=True) if k}) for i, row in numbered]
            return Table(file.path, lines, "image", "label")
    return None


def _has_form(row: list[str], form: Sequence[str]) -> bool:
    if len(row) != len(form):
        return False
    cells = dict(zip(form, row, strict=True))
    numbers = [cells[k] for k in form if k in ("x", "y", "w", "h", "x1", "y1", "x2", "y2", "width", "height")]
    is_image = os.path.splitext(cells["image"])[1].lower() in IMAGES or any(numbers)
    return is_image and all(n == "" or number(n) is not None for n in numbers)


def _plain(column: str) -> str:
    return re.sub(r"[\s\-]+", "_", column.strip().lower())
