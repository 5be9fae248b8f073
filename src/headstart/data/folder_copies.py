"""Find folders that repeat others: class folders unpacked twice, or the same images in several versions."""

from __future__ import annotations

import filecmp
import itertools
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from headstart.data.file_tree import LocatedFile
from headstart.data.split_words import split_name
from headstart.types.records import SplitName

__all__ = ["Folder", "find_copies", "find_versions", "folder_tree"]

_NUM_COMPARED = 8
_MIN_DIGITS = 8
_WORDS, _SUFFIX = re.compile(r"[a-z]+"), re.compile(r"[-_. (]")
_ORIGINALS = frozenset({"color", "original", "originals", "raw", "rgb"})
_CHANGED = frozenset(
    {
        *("augmented", "aug", "bw", "clahe", "cropped", "enhanced", "gray", "grayscale", "grey", "greyscale", "masked"),
        *("normalized", "preprocessed", "processed", "resized", "segmented"),
    }
)
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

    Folders of different splits that repeat each other are left to the check for leaks.

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
    alike: dict[tuple[SplitName | None, frozenset[tuple[tuple[str, ...], str]]], list[str]] = defaultdict(list)
    for child, (num_folders, files) in relative.items():
        if num_folders > 1:
            alike[split_name(child), frozenset(files)].append(child)
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


def find_versions(folders: Mapping[str, Sequence[tuple[str, str]]]) -> list[str]:
    """Return folders that hold the same images in several versions (color, gray, masked), the likely originals first.

    Equal file names prove nothing if they are short numbers. They do if file names of one folder are those of another
    with a suffix (`12_flip`), if all have another extension, if the names have eight digits, or if folders are named
    after versions.

    Args:
        folders: (class folder, file name) of each image, by the name of the folder.

    Returns:
        All folders, or nothing if they are no versions of each other.
    """
    stems = {
        name: {(inner, os.path.splitext(file)[0]) for inner, file in files} for name, files in folders.items() if files
    }
    words = {name: set(_WORDS.findall(name.lower())) for name in stems}
    length = {name: sum(len(stem) for _, stem in found) / len(found) for name, found in stems.items()}
    first, *others = sorted(stems, key=lambda name: (length[name], not words[name] & _ORIGINALS, name))
    digits = sorted(sum(c.isdigit() for c in stem) for _, stem in stems[first])[len(stems[first]) // 2]
    kinds = [{os.path.splitext(file)[1].lower() for _, file in folders[name]} for name in (first, *others)]
    is_proven = digits >= _MIN_DIGITS or any(w & (_ORIGINALS | _CHANGED) for w in words.values())
    is_proven |= all(not a & b for a, b in itertools.combinations(kinds, 2))
    for name in others:
        originals = {(inner, _original(inner, stem, stems[first])) for inner, stem in stems[name]}
        found = originals & stems[first]
        num_found = sum(_original(inner, stem, stems[first]) is not None for inner, stem in stems[name])
        if 10 * num_found < 9 * len(stems[name]) or 2 * len(found) < len(stems[first]):
            return []
        is_proven |= not found & stems[name]
    return [first, *others] if others and is_proven else []


def _original(inner: str, stem: str, originals: set[tuple[str, str]]) -> str | None:
    """Return the name among the originals that a name equals or extends by a suffix."""
    ends = [len(stem), *(match.start() for match in reversed([*_SUFFIX.finditer(stem)]))]
    return next((stem[:end] for end in ends if (inner, stem[:end]) in originals), None)
