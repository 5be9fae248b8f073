"""Read labels from text files beside the images: `1.txt` holds the class of `1.jpg`."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict

from headstart.data.file_tree import FileTree, LocatedFile, clean_label
from headstart.data.reading import LabelEvidence, Reading, Row
from headstart.data.split_words import split_name
from headstart.data.tables import decode_text
from headstart.errors import DataError
from headstart.types.inventory import TableUse

__all__ = ["read_sidecars"]

_MAX_BYTES = 256
_MAX_WORDS = 4


def read_sidecars(tree: FileTree) -> Reading | None:
    """Return the reading by one text file per image, of the same name and with one label; None without such files.

    Nearly all images must have one, and labels must be shared.
    """
    texts: dict[str, list[LocatedFile]] = defaultdict(list)
    for file in tree.tables:
        if file.file.lower().endswith(".txt"):
            texts[os.path.splitext(file.file)[0]].append(file)
    stems = Counter(os.path.splitext(image.file)[0] for image in tree.images)
    reading = Reading("list", "one text file per image", "--table '*.txt'")
    for image in tree.images:
        stem = os.path.splitext(image.file)[0]
        own = [t for t in texts[stem] if t.folders == image.folders]
        own = own or (texts[stem] if stems[stem] == 1 and len(texts[stem]) == 1 else [])
        label = _label(own[0]) if own else ""
        if not label:
            reading.unlabeled.append(image)
            if 10 * len(reading.unlabeled) > len(tree.images):
                return None
            continue
        split = next((s for s in map(split_name, image.folders) if s), None)
        reading.rows.append(Row(image, label, split))
        reading.tables.append(TableUse(own[0].name, "labels", 1, 1))
    labels = {row.label for row in reading.rows}
    if all(re.fullmatch(r"[-+\d.,;\s]+", label) for label in labels):
        reading.evidence = LabelEvidence.NUMBERS  # may be any number, such as an angle
    return reading if 1 < len(labels) <= len(reading.rows) // 2 else None


def _label(file: LocatedFile) -> str:
    """Return the only line of a small text file, if it is short and no row of numbers."""
    try:
        if os.path.getsize(file.path) > _MAX_BYTES:
            return ""
        lines = [line.strip() for line in decode_text(file.path)[0].splitlines() if line.strip()]
    except (OSError, DataError):
        return ""
    return clean_label(lines[0]) if len(lines) == 1 and len(lines[0].split()) <= _MAX_WORDS else ""
