"""Read classes from a file that lists their folders, e.g. `ClassName.txt` with lines `/a/abbey`, `/b/bazaar/indoor`.

Only such a file can tell that folders of different depths are classes, and that `a` and `b` are none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from headstart.data.file_tree import FileTree, LocatedFile, clean_label
from headstart.data.reading import Reading, Row
from headstart.data.split_words import split_name
from headstart.data.tables import decode_text
from headstart.errors import DataError
from headstart.types.codes import ReadingKind, ReadingNote
from headstart.types.inventory import TableUse

__all__ = ["choose_listed", "read_listed_folders"]

_MAX_LINES = 50_000
_MAX_BYTES = 4 << 20
_MAX_FILES = 200
_NUMBER = re.compile(r"^\d+[\s,;:]+|[\s,;:]+\d+$")


def read_listed_folders(tree: FileTree) -> Reading | None:
    """Return the reading in which classes are the folders that a file lists, or None without such a file.

    One of the folders must be nested, and nearly all images must be in folders of the list.
    """
    for file in tree.tables[:_MAX_FILES]:
        listed = _listed(file) if file.file.lower().endswith((".txt", ".lst", ".csv")) else {}
        if not any(len(parts) > 1 for parts in listed):
            continue
        reading = Reading("listed class folders", file.name)
        for image in tree.images:
            start = next((i for i in range(len(image.folders)) if image.folders[i:] in listed), None)
            if start is None:
                reading.unlabeled.append(image)
                continue
            split = next((s for s in map(split_name, image.folders[:start]) if s), None)
            reading.rows.append(Row(image, listed[image.folders[start:]], split))
        used = {row.label for row in reading.rows}
        if len(used) > 1 and 2 * len(used) > len(listed) and 10 * len(reading.rows) >= 9 * len(tree.images):
            note = ReadingNote(ReadingKind.CLASSES_FROM_LIST, len(used), tuple(sorted(used)[:5]), {"file": file.name})
            reading.notes.append(note)
            reading.tables.append(TableUse(file.name, "names", len(listed), len(used)))
            return reading
    return None


def choose_listed(readings: Sequence[Reading], tree: FileTree) -> list[Reading]:
    """Return the only one of several readings of class folders whose classes a file lists; all without one."""
    for file in tree.tables[:_MAX_FILES] if len(readings) > 1 else ():
        names = set(_listed(file).values()) if file.file.lower().endswith((".txt", ".lst", ".csv")) else set()
        fitting = [reading for reading in readings if set(reading.labels.values()) == names]
        if len(fitting) == 1:
            note = ReadingNote(ReadingKind.CLASSES_FROM_LIST, len(names), tuple(sorted(names)[:5]), {"file": file.name})
            fitting[0].notes.append(note)
            fitting[0].tables.append(TableUse(file.name, "names", len(names), len(names)))
            return fitting
    return list(readings)


def _listed(file: LocatedFile) -> Mapping[tuple[str, ...], str]:
    """Return the class of each listed folder; empty unless every line is a path, with or without a number."""
    try:
        if os.path.getsize(file.path) > _MAX_BYTES:
            return {}
        lines = [line.strip() for line in decode_text(file.path)[0].splitlines() if line.strip()]
    except (OSError, DataError):
        return {}
    if not 1 < len(lines) <= _MAX_LINES:
        return {}
    paths = [_NUMBER.sub("", line).replace("\\", "/").strip("/") for line in lines]
    listed = {tuple(path.split("/")): clean_label(path) for path in paths}
    return listed if len(listed) == len(lines) else {}
