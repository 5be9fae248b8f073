"""Find folders that repeat others: class folders unpacked again inside themselves, or beside themselves."""

from __future__ import annotations

import filecmp
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from headstart.data.file_tree import LocatedFile
from headstart.data.split_words import split_name

__all__ = ["Folder", "find_copies", "folder_tree"]

_NUM_COMPARED = 8
_Files: TypeAlias = dict[tuple[tuple[str, ...], str], LocatedFile]  # by path below a folder


@dataclass
class Folder:
    """A folder with its own images and its subfolders."""

    images: list[LocatedFile] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)

    def walk(self) -> Iterator[LocatedFile]:
        """Yield all images below."""
        yield from self.images
        for folder in self.folders.values():
            yield from folder.walk()


def folder_tree(images: Sequence[LocatedFile]) -> Folder:
    """Return the root of the folders that hold these images."""
    root = Folder()
    known: dict[tuple[str, ...], Folder] = {(): root}

    def find(folders: tuple[str, ...]) -> Folder:
        found = known.get(folders)
        if found is None:
            found = known[folders] = find(folders[:-1]).folders.setdefault(folders[-1], Folder())
        return found

    for image in images:
        find(image.folders).images.append(image)
    return root


def find_copies(folder: Folder, depth: int, name: str | None) -> list[str]:
    """Return the subfolders that repeat the rest of a folder, or another subfolder, file by file.

    Split folders that repeat each other are left to the check for leaks.

    Args:
        folder: The folder.
        depth: Its number of levels below the root.
        name: Its own name; None for the root.
    """
    relative = {child: _relative(inner, depth + 1) for child, inner in folder.folders.items()}
    num_images = len(folder.images) + sum(len(files) for _, files in relative.values())
    for child, (num_folders, files) in relative.items():
        if 2 * len(files) == num_images and (num_folders > 1 or child == name):
            rest = {(image.folders[depth:], image.file): image for image in folder.walk()}
            others = {key: file for key, file in rest.items() if key[0][:1] != (child,)}
            if _is_same(files, others):
                return [child]
    alike: dict[frozenset[tuple[tuple[str, ...], str]], list[str]] = defaultdict(list)
    for child, (num_folders, files) in relative.items():
        if num_folders > 1 and split_name(child) is None:
            alike[frozenset(files)].append(child)
    copies = []
    for same in alike.values():
        first, *repeats = sorted(same, key=lambda child: (_depth(relative[child][1]), child))
        copies += [child for child in repeats if _is_same(relative[child][1], relative[first][1])]
    return copies


def _relative(folder: Folder, depth: int) -> tuple[int, _Files]:
    """Return the number of subfolders, and the files by their path, below the wrappers of a folder."""
    while len(folder.folders) == 1 and not folder.images:
        (folder,) = folder.folders.values()
        depth += 1
    return len(folder.folders), {(image.folders[depth:], image.file): image for image in folder.walk()}


def _depth(files: _Files) -> int:
    return min((len(file.folders) for file in files.values()), default=0)


def _is_same(files: _Files, others: _Files) -> bool:
    """Return whether all files have the same names and sizes, and some of them the same bytes."""
    if not files or files.keys() != others.keys():
        return False
    try:
        if any(os.stat(files[key].path).st_size != os.stat(others[key].path).st_size for key in files):
            return False
        compared = list(files)[:: max(1, len(files) // _NUM_COMPARED)]
        return all(filecmp.cmp(files[key].path, others[key].path, shallow=False) for key in compared)
    except OSError:
        return False
