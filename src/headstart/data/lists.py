"""Reads list files: one `path label` a line, with names for numbers where a file of names lies beside.

The one decision: which of the usual ways a line is cut is decided by which one finds the pictures.
"""

from __future__ import annotations

import os
import re

from headstart.data.paths import Finder
from headstart.data.tables import Table, decode_text
from headstart.data.walk import printable
from headstart.errors import DataError

__all__ = ["first_lines", "read_list"]

_NAME_LISTS = ("labels.txt", "classes.txt", "class_names.txt", "label_list.txt", "names.txt")


def read_list(path: str, finder: Finder) -> Table:
    """Reads a list file, one `path label` a line; the label is what stands after the last (or first) space.

    Raises:
        DataError: It is empty or holds no labels.
    """
    shown = printable(os.path.basename(path))
    text, notes = decode_text(path)
    numbered = [(i, t) for i, t in enumerate(text.splitlines(), start=1) if t.strip() and not t.startswith("#")]
    if not numbered:
        raise DataError(f"The list `{shown}` is empty.", hint="one picture a line: path label")
    best: list[tuple[int, dict[str, str]]] = []
    most = -1
    probe = numbered[:: max(1, len(numbered) // 50)]
    for cut in (_by_tab, _by_last, _by_first, _by_comma):
        pairs = [cut(t) for _, t in probe]
        hits = sum(bool(label) and finder.exists(place) for place, label in pairs)
        if hits > most:
            most = hits
            best = [(i, dict(zip(("image", "label"), cut(t), strict=True))) for i, t in numbered]
    if most == 0 and not any(finder.exists(t.strip()) for _, t in probe):
        raise DataError(
            f"No line of the list `{shown}` names a picture below its folder.", hint="one picture a line: path label"
        )
    if most == 0:
        return Table(path, [(i, {"image": t.strip()}) for i, t in numbered], "image", None, notes=notes)
    _name_numbers(best, os.path.dirname(path), notes)
    return Table(path, best, "image", "label", notes=notes)


def first_lines(path: str, limit: int = 20) -> list[str]:
    """The first lines of a text file, to see whether it may be a list; empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line, _ in zip(file, range(limit), strict=False)]
    except OSError:
        return []


def _by_tab(line: str) -> tuple[str, str]:
    place, _, label = line.partition("\t")
    return place.strip(), label.strip()


def _by_comma(line: str) -> tuple[str, str]:
    place, _, label = line.rpartition(",")
    return place.strip(), label.strip()


def _by_last(line: str) -> tuple[str, str]:
    place, _, label = line.strip().rpartition(" ")
    return place.strip(), label.strip()


def _by_first(line: str) -> tuple[str, str]:
    place, _, label = line.strip().partition(" ")
    return place.strip(), label.strip()


def _name_numbers(lines: list[tuple[int, dict[str, str]]], folder: str, notes: list[str]) -> None:
    """Turns numbers into names where a file of names lies beside the list."""
    if not all(cells["label"].isdigit() for _, cells in lines):
        return
    for beside in _NAME_LISTS:
        names = [t.strip() for t in first_lines(os.path.join(folder, beside), 100_000) if t.strip()]
        if not names:
            continue
        table = {str(i): n for i, n in enumerate(names)}
        if all(re.match(r"\d+[\s:,]+\S", n) for n in names):
            table = {re.split(r"[\s:,]+", n, maxsplit=1)[0]: re.split(r"[\s:,]+", n, maxsplit=1)[1] for n in names}
        if all(cells["label"] in table for _, cells in lines):
            for _, cells in lines:
                cells["label"] = table[cells["label"]]
            notes.append(f"class names were taken from `{beside}`")
            return
