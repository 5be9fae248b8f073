"""Read the text files of well-known datasets, one per image; each function reads one kind."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from headstart.data.boxes.draft import Draft, number
from headstart.data.boxes.entries import Entry, Tool, size_of
from headstart.data.boxes.formats import BoxFormat
from headstart.data.boxes.outlines import bounds
from headstart.data.file_tree import LocatedFile
from headstart.data.formats import IMAGES

__all__ = ["TEXT_TOOLS"]

_XYXY, _XYWH = BoxFormat("xyxy"), BoxFormat("xywh")
_VISDRONE = (
    *("ignored regions", "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle"),
    *("bus", "motor", "others"),
)
_PASCAL_BOX = re.compile(
    r'Bounding box for object \d+ "([^"]*)".*:'
    r"\s*\(\s*([-\d.]+)\s*,\s*([-\d.]+)\s*\)\s*-\s*\(\s*([-\d.]+)\s*,\s*([-\d.]+)\s*\)"
)
_PASCAL_IMAGE = re.compile(r'Image filename\s*:\s*"([^"]*)"')
_PASCAL_SIZE = re.compile(r"Image size .*:\s*(\d+)\s*x\s*(\d+)")


def _numbers(words: list[str]) -> bool:
    return all(number(word) is not None for word in words)


def _rows(lines: Any) -> list[list[str]]:
    return [line.split() for line in lines if line.strip() and not line.startswith("#")]


def _entry(file: LocatedFile) -> Entry:
    return Entry((os.path.splitext(file.file)[0],))


def _kitti(draft: Draft, file: LocatedFile, lines: Any) -> Iterator[Entry]:
    entry = _entry(file)
    for row in _rows(lines):
        if len(row) == 16:
            draft.refuse(file.name, "prediction", "a line ends in a score, as predictions do")
        elif _is_kitti_row(row):
            entry.add(draft, row[0], row[4:8], _XYXY)
        else:
            draft.refuse(file.name, "bad-line", "expected a class and 14 numbers")
    yield entry


def _is_kitti_row(row: list[str]) -> bool:
    return len(row) in (15, 16) and number(row[0]) is None and _numbers(row[1:])


def _visdrone(draft: Draft, file: LocatedFile, lines: Any) -> Iterator[Entry]:
    entry = _entry(file)
    for row in _rows(lines):
        cells = row[0].rstrip(",").split(",") if len(row) == 1 else []
        if not _is_visdrone_row(cells):
            draft.refuse(file.name, "bad-line", "expected eight whole numbers")
            continue
        is_ignored = cells[4] == "0" or cells[5] == "0"  # evaluation ignores objects of score 0
        entry.add(draft, _VISDRONE[int(cells[5])], cells[:4], _XYWH, attributes={"ignore": int(is_ignored)})
    yield entry


def _is_visdrone_row(cells: list[str]) -> bool:
    return (
        len(cells) == 8
        and all(re.fullmatch(r"-?\d+", c) for c in cells)
        and int(cells[5]) in range(12)
        and cells[4] in "01"
    )


def _dota(draft: Draft, file: LocatedFile, lines: Any) -> Iterator[Entry]:
    entry = _entry(file)
    for row in _rows(lines):
        if _is_dota_row(row):
            difficult = {"difficult": int(row[9:] not in ([], ["0"]))}
            entry.add(draft, row[8], bounds([float(v) for v in row[:8]]), _XYXY, is_outline=True, attributes=difficult)
        elif ":" not in row[0]:
            draft.refuse(file.name, "bad-line", "expected eight numbers, a class and a difficulty")
    yield entry


def _is_dota_row(row: list[str]) -> bool:
    return len(row) in (9, 10) and _numbers(row[:8]) and number(row[8]) is None and row[9:] in ([], ["0"], ["1"], ["2"])


def _pascal(draft: Draft, file: LocatedFile, lines: Any) -> Iterator[Entry]:
    text = "\n".join(lines)
    stated, size = _PASCAL_IMAGE.search(text), _PASCAL_SIZE.search(text)
    names = (os.path.splitext(file.file)[0], *([stated[1]] if stated else []))
    entry = Entry(names, "", size_of(size[2], size[1]) if size else None)
    first = 0.0 if re.search(r"co-ordinates\s*:\s*\(0,\s*0\)", text) else 1.0
    for label, *corners in _PASCAL_BOX.findall(text):
        x0, y0, x1, y1 = (float(v) - first for v in corners)
        entry.add(draft, label, (x0, y0, x1 + 1, y1 + 1), _XYXY)
    yield entry


def _wider_face(draft: Draft, file: LocatedFile, lines: Any) -> Iterator[Entry]:
    """Read blocks of a path, the number of faces, and a line per face."""
    left = [line.strip() for line in lines if line.strip()]
    while len(left) >= 2:
        path, count = left.pop(0), left.pop(0)
        entry = Entry((path,))
        for row in (left.pop(0).split() for _ in range(min(max(int(count), 1), len(left)))):
            if int(count):  # images without faces have one line of zeros
                entry.add(draft, "face", row[:4], _XYWH, attributes={"ignore": int(row[7:8] == ["1"])})
        yield entry


def _is_wider_face(lines: Any) -> bool:
    head = [line.strip() for line in lines[:3]]
    is_image = len(head) == 3 and os.path.splitext(head[0])[1].lower() in IMAGES
    return is_image and head[1].isdigit() and len(head[2].split()) == 10 and _numbers(head[2].split())


def _words(draft: Draft, file: LocatedFile, lines: Any) -> Iterator[Entry]:
    """Read `class xmin ymin xmax ymax` of OIDv4 and others."""
    entry = _entry(file)
    for row in _rows(lines):
        if _is_words_row(row):
            entry.add(draft, " ".join(row[:-4]), row[-4:], _XYXY)
        else:
            draft.refuse(file.name, "bad-line", "expected a class and four numbers")
    yield entry


def _is_words_row(row: list[str]) -> bool:
    is_list = os.path.splitext(row[0])[1].lower() in IMAGES  # the line names an image, not a class
    is_named = not is_list and not any(number(word) is not None for word in row[:-4])
    return len(row) >= 5 and is_named and _numbers(row[-4:])


def _all(rows: list[list[str]], is_row: Any) -> bool:
    return bool(rows) and all(map(is_row, rows))


TEXT_TOOLS = (
    Tool("kitti", "KITTI text", (".txt",), (), lambda v: _all(_rows(v), _is_kitti_row), _kitti),
    Tool(
        *("visdrone", "VisDrone text", (".txt",), (b",",)),
        lambda v: _all(_rows(v), lambda row: len(row) == 1 and _is_visdrone_row(row[0].rstrip(",").split(","))),
        _visdrone,
    ),
    Tool(
        "dota",
        "DOTA text",
        (".txt",),
        (),
        lambda v: _all([r for r in _rows(v) if ":" not in r[0]], _is_dota_row),
        _dota,
    ),
    Tool("wider-face", "WIDER FACE text", (".txt",), (), _is_wider_face, _wider_face),
    Tool("pascal", "PASCAL 1.00 text", (".txt",), (b"Bounding box for object",), lambda v: True, _pascal),
    Tool(
        "words",
        "text lines `class xmin ymin xmax ymax`",
        (".txt",),
        (),
        lambda v: _all(_rows(v), _is_words_row),
        _words,
    ),
)
