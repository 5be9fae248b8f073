"""What a person names on the command line, to a list of picture files.

The one decision: nothing is dropped silently.  A file that is named is tried whatever it is called; in a
folder only pictures are taken, and what was passed over is said.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from headstart.errors import DataError, UsageError

__all__ = ["EXTENSIONS", "Inputs", "expand_inputs", "natural_key"]

EXTENSIONS = frozenset(
    [
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "bmp", "dib", "gif"),
        *("tif", "tiff", "webp", "ppm", "pgm", "pbm", "pnm"),
    ]
)
"""Endings (lower case) of what is taken for a picture in a folder."""

STDIN = "-"


@dataclass(frozen=True)
class Inputs(Sequence[str]):
    """The files to predict, in order.

    Attributes:
        files: As a person would write them: below what was named.
        notes: What was passed over, in plain words.
    """

    files: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __getitem__(self, index: Any) -> Any:
        return self.files[index]


def expand_inputs(names: Iterable[str | os.PathLike[str]], stdin: IO[bytes] | None = None) -> Inputs:
    """Files, folders, globs, and `-` for a list on stdin.

    Args:
        names: What was named.  A file that does not exist stays in the list: it gets its own error row.
        stdin: Where `-` reads names from, one a line (or parted by NUL, as `find -print0` writes); a
            folder or glob may stand there too.

    Raises:
        UsageError: A glob matches nothing, or `-` stands twice.
        DataError: There is no picture in a folder, or nothing at all.
    """
    files: list[str] = []
    notes: list[str] = []
    named = [os.fspath(name) for name in names]
    if named.count(STDIN) > 1:
        raise UsageError("`-` (a list of names on stdin) can be given once only.")
    for name in named:
        if name == STDIN:
            for line in _read_names(stdin if stdin is not None else sys.stdin.buffer):
                files += _expand(line, notes)
        else:
            files += _expand(name, notes)
    if not files:
        raise DataError("There are no pictures to predict: the list is empty.", hint="name files or folders")
    return Inputs(tuple(files), tuple(notes))


def natural_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """Sorts `picture2` before `picture10`."""
    parts = re.split(r"([0-9]+)", text)
    return (*((0, int(p)) if p.isdecimal() else (1, p.casefold()) for p in parts if p), (2, text))


def _expand(name: str, notes: list[str]) -> list[str]:
    if os.path.isdir(name):
        return _walk(name, notes)
    if not os.path.lexists(name) and glob.has_magic(name):
        found = sorted(glob.glob(name, recursive=True), key=natural_key)
        if not found:
            raise UsageError(f"`{name}` matches no file.", hint="is the pattern spelt right?")
        files = [f for f in found if not os.path.isdir(f)]
        # With `**` the folders' contents match too; otherwise a folder stands for what is in it.
        folders = [] if "**" in name else [f for f in found if os.path.isdir(f)]
        return files + [inner for folder in folders for inner in _walk(folder, notes)]
    return [name]


def _walk(folder: str, notes: list[str]) -> list[str]:
    """All pictures below a folder, in natural order; folders and files whose names begin with a dot are not entered."""
    files: list[str] = []
    others: list[str] = []
    linked: list[str] = []
    unreadable: list[str] = []
    for place, folders, names in os.walk(folder, onerror=lambda error: unreadable.append(str(error.filename))):
        folders[:] = sorted((f for f in folders if not f.startswith(".")), key=natural_key)
        linked += [os.path.join(place, f) for f in folders if os.path.islink(os.path.join(place, f))]
        for name in sorted(names, key=natural_key):
            if name.startswith("."):
                continue
            path = os.path.join(place, name)
            (files if _extension(name) in EXTENSIONS else others).append(path)
    files.sort(key=natural_key)
    if unreadable:
        notes.append(f"folders that may not be read: {_shorten(unreadable)}")
    if linked:
        notes.append(f"linked folders were not entered: {_shorten(linked)}")
    if others:
        notes.append(f"{len(others)} files in `{folder}` are no pictures by their names: {_shorten(others)}")
    if not files:
        what = f"There is no picture in `{folder}`" + ("; " + "; ".join(notes) if notes else "")
        raise DataError(f"{what}.", hint=f"endings that are known: {', '.join(sorted(EXTENSIONS))}")
    return files


def _extension(name: str) -> str:
    return os.path.splitext(name)[1][1:].lower()


def _shorten(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _read_names(stream: IO[bytes]) -> Iterator[str]:
    data = stream.read()
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    for line in data.split(b"\0") if b"\0" in data else data.splitlines():
        if line.strip():
            yield os.fsdecode(line)
