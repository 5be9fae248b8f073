"""Expand paths, folders and globs to a list of images to predict.

Files given by path are always included. Folders are scanned as in training: unusable images are included with the
reason, and other files are counted in a note.
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
from headstart.data.formats import container_kind
from headstart.data.label_files import LISTS, TABLES, find_listed_images
from headstart.data.memory import images_of, is_image
from headstart.data.paths import PathFinder, PathMatch
from headstart.data.sources import read
from headstart.errors import DataError, UsageError
from headstart.inference.image_inputs import NamedPath
from headstart.messages.numbers import pluralize
from headstart.types.codes import ReadingKind, ReadingNote
from headstart.types.records import Problem

__all__ = ["PredictInputs", "expand_inputs", "expand_sources", "natural_key"]

STDIN = "-"


@dataclass(frozen=True)
class PredictInputs(Sequence[str | Problem]):
    """The images to predict, in order.

    Attributes:
        items: Paths as given, or below a given folder; a `Problem` for an unusable file.
        notes: Notes about skipped files.
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
    paths: Iterable[str | os.PathLike[str]], *, stdin: IO[bytes] | None = None, allow_external_paths: bool = False
) -> PredictInputs:
    """Expand files, folders, globs, and `-` for a list on stdin.

    Args:
        paths: Paths, globs or `-`. Files that do not exist are kept and get an error row.
        stdin: Stream for `-` with one path or glob per line, or NUL-separated as from `find -print0`.
        allow_external_paths: Follow symlinks that point outside a folder.

    Raises:
        UsageError: A glob matches no file, or `-` is given twice.
        DataError: A folder has no images, or no path was given.
    """
    items: list[str | Problem] = []
    notes: list[ReadingNote] = []
    given = [os.fspath(path) for path in paths]
    if given.count(STDIN) > 1:
        raise UsageError("`-` (a list of paths on stdin) can be given only once.")
    for path in given:
        if path == STDIN:
            for line in _read_names(stdin if stdin is not None else sys.stdin.buffer):
                items += _expand(line, notes, allow_external_paths)
        else:
            items += _expand(path, notes, allow_external_paths)
    if not items:
        raise DataError("there are no images to predict.", hint="give at least one file or folder")
    return PredictInputs(tuple(items), tuple(notes))


def expand_sources(images: Any) -> Any:
    """Expand folders and globs to files; images in memory are returned unchanged."""
    if isinstance(images, (str, os.PathLike)):
        return expand_inputs([os.fspath(images)])
    if not is_image(images) and not isinstance(images, (list, tuple, Iterator)) and not _is_pixels(images):
        images = list(images_of(images))
    if isinstance(images, (list, tuple)) and images and all(isinstance(p, (str, os.PathLike)) for p in images):
        return expand_inputs([os.fspath(p) for p in images])
    return images


def _is_pixels(images: Any) -> bool:
    return getattr(getattr(images, "dtype", None), "kind", "O") in "buif"


def natural_key(text: str) -> tuple[Any, ...]:
    """Return a sort key that puts `image2` before `image10` and compares paths folder by folder."""
    return tuple(tuple(_pieces(part)) for part in re.split(r"[/\\]", text)), text


def _pieces(part: str) -> Iterator[tuple[int, int | str]]:
    for piece in re.split(r"([0-9]+)", part):
        if piece:
            yield (0, int(piece)) if piece.isdecimal() else (1, piece.casefold())


def _expand(path: str, notes: list[ReadingNote], allow_external_paths: bool) -> list[str | Problem]:
    if os.path.isfile(path) and container_kind(path):
        return _contained(path, notes)
    if os.path.isdir(path):
        return _walk(path, notes, allow_external_paths)
    if os.path.isfile(path) and path.lower().endswith((*TABLES, *LISTS)):
        return _rows(path, notes, allow_external_paths)
    if os.path.lexists(path) or not glob.has_magic(path):
        return [path]
    matches = sorted(glob.glob(path, recursive=True), key=natural_key)
    if not matches:
        raise UsageError(f"`{path}` matches no file.", hint="check the spelling of the pattern")
    items: list[str | Problem] = []
    for match in matches:
        if not os.path.isdir(match):
            items.append(match)
        elif "**" not in path:  # `**` also matches the files in each folder
            items += _walk(match, notes, allow_external_paths)
    return items


def _rows(table: str, notes: list[ReadingNote], allow_external_paths: bool) -> list[str | Problem]:
    """Return the image of each row of a table, or its problem, in the order of the rows."""
    finder = PathFinder(os.path.dirname(os.path.abspath(table)), allow_external_paths=allow_external_paths)
    hits = find_listed_images(table, finder)
    for hit in hits:
        if isinstance(hit, PathMatch):
            finder.record(hit)
    notes += finder.notes()
    folder = os.path.dirname(table)
    return [os.path.join(folder, *h.file.folders, h.file.file) if isinstance(h, PathMatch) else h for h in hits]


def _contained(path: str, notes: list[ReadingNote]) -> list[str | Problem]:
    """Return the images of a container, named by their places in it."""
    samples = read(path, needs_labels=False)
    notes += samples.notes
    folder, file = os.path.split(path)

    def name_of(name: str) -> str:
        return os.path.join(folder, name) if name.startswith(file) else os.path.join(path, name)

    images: list[str | Problem] = [NamedPath.of(s.path, name_of(s.name)) for s in samples]
    return [*images, *(Problem(name_of(p.name), p.kind, p.detail) for p in samples.problems)]


def _walk(folder: str, notes: list[ReadingNote], allow_external_paths: bool) -> list[str | Problem]:
    """Return all images below a folder in natural order, with a `Problem` for each unusable one."""
    tree = walk_files(folder, allow_external_paths=allow_external_paths)
    if tree.containers and not tree.images:
        return _contained(folder, notes)
    items: dict[str, str | Problem] = {}
    for file in tree.images:
        path = os.path.join(folder, *file.folders, file.file)
        items[path] = path
    beside = [
        Problem(f.name, "container", "a container beside image files; pass it by itself") for f in tree.containers
    ]
    for problem in (*tree.problems, *beside):
        path = os.path.join(folder, problem.name)
        items[path] = Problem(path, problem.kind, problem.detail)
    skipped = tree.others.copy()
    skipped.update(os.path.splitext(table.file)[1].lower() for table in tree.tables)
    if skipped:
        evidence = {"extensions": dict(skipped.most_common())}
        notes.append(ReadingNote(ReadingKind.OTHER_FILES, skipped.total(), (folder,), evidence))
    if not items:
        raise DataError(
            f"there are no images in `{folder}`"
            + (f" ({pluralize(skipped.total(), 'other file')})." if skipped else "."),
            hint="check the path",
        )
    return [items[path] for path in sorted(items, key=natural_key)]


def _read_names(stream: IO[bytes]) -> Iterator[str]:
    data = stream.read().removeprefix(b"\xef\xbb\xbf")
    for line in data.split(b"\0") if b"\0" in data else data.splitlines():
        if line.strip():
            yield os.fsdecode(line)
