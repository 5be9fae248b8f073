"""Read list files: one `path label` per line, with class names from a names file in the same folder.

The separator is chosen as the one with which the images are found.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from headstart.data.class_names import NAME_FILES, find_name_files, name_classes, stated_names
from headstart.data.file_tree import printable
from headstart.data.formats import IMAGES
from headstart.data.paths import PathFinder, PathMatch
from headstart.data.reading import Reading
from headstart.data.tables import Table, decode_text
from headstart.errors import DataError
from headstart.types.codes import ReadingKind, ReadingNote

__all__ = ["first_lines", "name_folders", "name_numbers", "read_list"]

_PBTXT_ITEM = re.compile(r"item\s*\{[^}]*?\bid:\s*(\d+)[^}]*?\bname:\s*['\"]([^'\"]+)['\"][^}]*\}")
_NUMBER = re.compile(r"[0-9]{1,9}")


def read_list(path: str, finder: PathFinder) -> Table:
    """Read a list file, one `path label` per line; the label follows the last (or first) space.

    Raises:
        DataError: The list is empty or names no image.
    """
    shown = printable(os.path.basename(path))
    text, notes = decode_text(path)
    numbered = [(i, t) for i, t in enumerate(text.splitlines(), start=1) if t.strip() and not t.startswith("#")]
    if not numbered:
        raise DataError(f"the list `{shown}` is empty.", hint="expected one image per line: path label")
    if os.path.basename(path).lower() in NAME_FILES and not any(_names_image(t) for _, t in numbered):
        raise DataError(f"`{shown}` lists class names, not images.", hint="pass the list of images: path label")
    names: list[str] = []
    if len(numbered) > 2 and numbered[0][1].strip() == str(len(numbered) - 2):  # a count, names and rows
        names, numbered = numbered[1][1].split(), numbered[2:]
    columns = _columns(numbered, finder)
    if columns is not None:
        header = [f"column{i}" for i in range(1, len(columns[0]) + 1)]
        header = ["image", *names] if len(names) == len(header) - 1 else header
        rows = [(i, dict(zip(header, f, strict=True))) for (i, _), f in zip(numbered, columns, strict=True)]
        heading = next((t.strip() for t in text.splitlines() if t.startswith("#")), "")
        return Table(path, rows, "", None, notes=notes, header=header, heading=heading)
    best: list[tuple[int, dict[str, str]]] = []
    most = -1
    probe = numbered[:: max(1, len(numbered) // 50)]
    for cut in (_by_tab, _by_last, _by_first, _by_comma, _by_semicolon, _by_bar):
        pairs = [cut(t) for _, t in probe]
        hits = sum(bool(label) and finder.exists(image) for image, label in pairs)
        if hits > most:
            most = hits
            best = [(i, dict(zip(("image", "label"), cut(t), strict=True))) for i, t in numbered]
    if most == 0 and not any(finder.exists(t.strip()) for _, t in probe):
        raise DataError(
            f"no line of the list `{shown}` names an image in its folder.",
            hint="expected one image per line: path label",
        )
    if most == 0:
        return Table(
            path, [(i, {"image": t.strip()}) for i, t in numbered], "image", None, notes=notes, header=["image"]
        )
    labels = [cells["label"] for _, cells in best]
    if len(labels) > 2 and labels in ([str(i) for i in range(start, start + len(labels))] for start in (0, 1)):
        for _, cells in best:  # the lines are numbered
            del cells["label"]
        return Table(path, best, "image", None, notes=notes, header=["image"])
    return Table(path, best, "image", "label", notes=notes, header=["image", "label"], label_columns=["label"])


def _columns(numbered: Sequence[tuple[int, str]], finder: PathFinder) -> list[list[str]] | None:
    """Return the fields of each line if there are three or more in every line, one of them an image."""
    for separator in ("\t", ",", ";", None):
        fields = [[f.strip() for f in t.split(separator)] for _, t in numbered]
        if len(fields[0]) < 3 or any(len(f) != len(fields[0]) for f in fields):
            continue
        probe = fields[:: max(1, len(fields) // 10)]
        if any(2 * sum(finder.exists(f[i]) for f in probe) >= len(probe) for i in range(len(fields[0]))):
            return fields
    return None


def first_lines(path: str, limit: int = 20) -> list[str]:
    """Return the first lines of a text file; empty if it is unreadable."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line, _ in zip(file, range(limit), strict=False)]
    except OSError:
        return []


def _names_image(line: str) -> bool:
    """Return whether a line contains an image file name with its extension."""
    words = re.split(r"[\s,]+", line.lower())
    return any(os.path.splitext(word)[1] in IMAGES for word in words)


def _by_tab(line: str) -> tuple[str, str]:
    path, _, label = line.partition("\t")
    return path.strip(), label.strip()


def _by_comma(line: str) -> tuple[str, str]:
    path, _, label = line.rpartition(",")
    return path.strip(), label.strip()


def _by_semicolon(line: str) -> tuple[str, str]:
    path, _, label = line.rpartition(";")
    return path.strip(), label.strip()


def _by_bar(line: str) -> tuple[str, str]:
    path, _, label = line.rpartition("|")
    return path.strip(), label.strip()


def _by_last(line: str) -> tuple[str, str]:
    path, _, label = line.strip().rpartition(" ")
    return path.strip(), label.strip()


def _by_first(line: str) -> tuple[str, str]:
    path, _, label = line.strip().partition(" ")
    return path.strip(), label.strip()


def name_numbers(
    tables: Sequence[Table],
    finder: PathFinder,
    *,
    first_id: int | str | None = None,
    stated: Mapping[str, Sequence[str]] | None = None,
) -> bool:
    """Replace the numeric labels of lists by names from a names file in the same folder.

    Args:
        tables: Lists read by `read_list`; their labels are changed in place.
        finder: Path lookup of their folder.
        first_id: As in `class_names.name_classes`.
        stated: Lines `number name` by file, used if they name all numbers.

    Returns:
        Whether there were numbers and names, so that `first_id` has an effect.

    Raises:
        UsageError: Several interpretations of the numbers fit.
    """
    tables = [table for table in tables if table.label is not None]
    lines = [
        {"image": cells.get(table.image, ""), "label": cells.get(column, "").strip()}
        for table in tables
        for _, cells in table.lines
        for column in table.votes
    ]
    numbered = [cells for cells in lines if _NUMBER.fullmatch(cells["label"])]
    if not numbered or any(finder.exists(cells["image"]) for cells in _others(lines)):
        return False
    used = {table.path for table in tables}
    folders = [os.path.join(finder.root, *finder.base[:i]) for i in range(len(finder.base), -1, -1)]
    files: dict[str, list[str]] = {}
    for folder in folders:
        for path in find_name_files(folder):
            if path not in used and not finder.is_excluded(path):
                files.setdefault(finder.name_of(path), decode_text(path)[0].splitlines())
        files |= _stated_files(folder, {cells["label"] for cells in numbered}, finder, used)
    for name, listed in (stated or {}).items():
        if {int(cells["label"]) for cells in numbered} <= set(stated_names(listed) or {}):
            files.setdefault(name, list(listed))
    if not any(line.strip() for listed in files.values() for line in listed):
        return False
    rows = []
    for cells in numbered:
        hit = finder.look_up(cells["image"], "")
        rows.append((int(cells["label"]), hit.file.name if isinstance(hit, PathMatch) else cells["image"]))
    shown = printable(os.path.basename(tables[0].path))
    naming = name_classes(files, rows, shown, first_id=first_id)
    for table in tables:
        for _, cells in table.lines:
            for column in table.votes:
                number = cells.get(column, "").strip()
                if _NUMBER.fullmatch(number):
                    cells[column] = naming.names.get(int(number), number)
    tables[0].notes += naming.notes
    return True


def name_folders(reading: Reading, finder: PathFinder) -> None:
    """Replace numbers of class folders by names, if exactly one file states a name for each number."""
    numbers = {row.label for row in reading.rows}
    if not numbers or not all(map(_NUMBER.fullmatch, numbers)):
        return
    files = _stated_files(finder.root, numbers, finder, set())
    if len(files) != 1:
        return
    ((file, lines),) = files.items()
    names = stated_names(lines) or {}
    chosen = {number: names[int(number)] for number in sorted(numbers, key=int)}
    reading.rows = [replace(row, label=chosen[row.label]) for row in reading.rows]
    evidence = {
        "file": file,
        "first_id": None,
        "reason": "stated",
        "num_images": len(reading.rows),
        "num_agreeing": 0,
        "names": dict([*chosen.items()][:5]),
    }
    examples = tuple([*chosen.values()][:5])
    reading.notes.append(ReadingNote(ReadingKind.NAMES_FROM_FILE, len(chosen), examples, evidence))


def _stated_files(folder: str, numbers: set[str], finder: PathFinder, used: set[str]) -> dict[str, list[str]]:
    """Return lines `number name` of each text or JSON file in a folder that gives a name to all numbers."""
    found = {}
    for file in sorted(os.listdir(folder)):
        path = os.path.join(folder, file)
        extension = os.path.splitext(file)[1].lower()
        if (
            extension not in (".json", ".txt", ".csv", ".tsv", ".names", ".yaml", ".yml", ".pbtxt")
            or file.lower() in NAME_FILES
        ):
            continue
        if path in used or finder.is_excluded(path) or os.path.getsize(path) > 1 << 20:
            continue
        try:
            text = decode_text(path)[0]
            lines = _PBTXT_ITEM.sub(r"\1 \2", text).splitlines() if extension == ".pbtxt" else text.splitlines()
            names = _json_names(text) if extension == ".json" else stated_names(lines)
        except (ValueError, DataError):
            continue
        listed = {str(number): name for number, name in (names or {}).items()}
        is_named = {str(int(n)) for n in numbers} <= set(listed) and all(map(_is_name, listed.values()))
        if is_named and not any(finder.exists(name) for name in list(listed.values())[:3]):
            found[finder.name_of(path)] = [f"{number} {name}" for number, name in listed.items()]
    return found


def _is_name(text: str) -> bool:
    """Return whether a text has letters and is not the name of an image."""
    first = re.split(r"[;,\s]", text)[0]
    return re.search(r"[^\W\d_]", text) is not None and os.path.splitext(first)[1].lower() not in IMAGES


def _json_names(text: str) -> dict[int, str] | None:
    """Return names by number of a JSON object that maps numbers to names, or names to numbers."""
    value = json.loads(text)
    if isinstance(value, list) and all(isinstance(v, dict) and {"id", "name"} <= v.keys() for v in value):
        value = {str(v["id"]): v["name"] for v in value}
    if isinstance(value, dict) and isinstance(value.get("id2label"), dict):  # a configuration of transformers
        value = value["id2label"]
    if not isinstance(value, dict):
        return None
    if all(isinstance(v, int) for v in value.values()):
        value = {str(number): name for name, number in value.items()}
    is_map = all(str(k).isdigit() and isinstance(v, str) for k, v in value.items())
    return {int(k): v for k, v in value.items()} if is_map else None


def _others(lines: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return lines whose label is not a number: the header, or labels that turn numbers into plain names."""
    return [cells for cells in lines if not _NUMBER.fullmatch(cells["label"])]
