"""Expand command-line paths to a list of images to predict.

Named files are always tried. Folders are scanned as in training; unusable files stay in the list with their reason, and
other files are counted in a note.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from headstart.data.file_tree import walk_files
from headstart.errors import DataError, UsageError
from headstart.messages.numbers import pluralize
from headstart.types.codes import ReadingKind, ReadingNote
from headstart.types.records import Problem

__all__ = ["PredictInputs", "expand_inputs", "expand_sources", "natural_key"]

STDIN = "-"


@dataclass(frozen=True)
class PredictInputs(Sequence[str | Problem]):
    """The images to predict, in order.

    Attributes:
        items: Files as a person would write them, below what was named; or what is wrong with one.
        notes: What was passed over.
    """

    items: tuple[str | Problem, ...]
    notes: tuple[ReadingNote, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[str | Problem]:
        return iter(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]


def expand_inputs(
    names: Iterable[str | os.PathLike[str]], *, stdin: IO[bytes] | None = None, allow_external_paths: bool = False
) -> PredictInputs:
    """Expand files, folders, globs, and `-` for a list on stdin.

    Args:
        names: What was named.  A file that does not exist stays in the list: it gets its own error row.
        stdin: Source of names for `-`, one per line (or NUL-separated, as by `find -print0`); a
            folder or glob is allowed too.
        allow_external_paths: Follow links that lead out of a folder.

    Raises:
        UsageError: A glob matches nothing, or `-` is duplicated.
        DataError: A folder has no image, or nothing was named at all.
    """
    items: list[str | Problem] = []
    notes: list[ReadingNote] = []
    named = [os.fspath(name) for name in names]
    if named.count(STDIN) > 1:
        raise UsageError("`-` (a list of names on stdin) can be given once only.")
    for name in named:
        if name == STDIN:
            for line in _read_names(stdin if stdin is not None else sys.stdin.buffer):
                items += _expand(line, notes, allow_external_paths)
        else:
            items += _expand(name, notes, allow_external_paths)
    if not items:
        raise DataError("there are no images to predict: the list is empty.", hint="name files or folders")
    return PredictInputs(tuple(items), tuple(notes))


def expand_sources(images: Any) -> Any:
    """Expand folders and globs to files; keep in-memory images."""
    if isinstance(images, (str, os.PathLike)):
        return expand_inputs([os.fspath(images)])
    if isinstance(images, (list, tuple)) and images and all(isinstance(p, (str, os.PathLike)) for p in images):
        return expand_inputs([os.fspath(p) for p in images])
    return images


def natural_key(text: str) -> tuple[Any, ...]:
    """Sort `image2` before `image10`, and a folder's files before the next folder's."""
    return tuple(tuple(_pieces(part)) for part in re.split(r"[/\\]", text)), text


def _pieces(part: str) -> Iterator[tuple[int, int | str]]:
    for piece in re.split(r"([0-9]+)", part):
        if piece:
            yield (0, int(piece)) if piece.isdecimal() else (1, piece.casefold())


def _expand(name: str, notes: list[ReadingNote], allow_external_paths: bool) -> list[str | Problem]:
    if os.path.isdir(name):
        return _walk(name, notes, allow_external_paths)
    if os.path.lexists(name) or not glob.has_magic(name):
        return [name]
    found = sorted(glob.glob(name, recursive=True), key=natural_key)
    if not found:
        raise UsageError(f"`{name}` matches no file.", hint="is the pattern spelt right?")
    items: list[str | Problem] = []
    for path in found:
        if not os.path.isdir(path):
            items.append(path)
        elif "**" not in name:  # with `**` what is in a folder matches by itself
            items += _walk(path, notes, allow_external_paths)
    return items


def _walk(folder: str, notes: list[ReadingNote], allow_external_paths: bool) -> list[str | Problem]:
    """Return all images below a folder in natural order, and the problems of other files."""
    tree = walk_files(folder, allow_external_paths=allow_external_paths)
    found: dict[str, str | Problem] = {}
    for file in tree.images:
        path = os.path.join(folder, *file.folders, file.file)
        found[path] = path
    for problem in tree.problems:
        path = os.path.join(folder, problem.name)
        found[path] = Problem(path, problem.kind, problem.detail)
    passed_over = tree.others.copy()
    passed_over.update(os.path.splitext(table.file)[1].lower() for table in tree.tables)
    if passed_over:
        evidence = {"extensions": dict(passed_over.most_common())}
        notes.append(ReadingNote(ReadingKind.OTHER_FILES, passed_over.total(), (folder,), evidence))
    if not found:
        raise DataError(
            f"there is no image in `{folder}`"
            + (f" ({pluralize(passed_over.total(), 'other file')})." if passed_over else "."),
            hint="is this the right folder?",
        )
    return [found[path] for path in sorted(found, key=natural_key)]


def _read_names(stream: IO[bytes]) -> Iterator[str]:
    data = stream.read().removeprefix(b"\xef\xbb\xbf")
    for line in data.split(b"\0") if b"\0" in data else data.splitlines():
        if line.strip():
            yield os.fsdecode(line)
