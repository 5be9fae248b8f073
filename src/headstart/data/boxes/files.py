"""List the files of a folder that may hold annotations, and find the image of each.

Nothing outside the folder is opened; links that leave it are followed only if that is allowed.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Sequence

from headstart.data.file_tree import LocatedFile
from headstart.data.formats import IGNORED, IMAGES
from headstart.data.split_words import split_name

__all__ = ["ImageIndex", "has_images", "list_files", "split_of_folders", "split_of_name"]


def list_files(root: str, endings: Sequence[str], *, allow_external_paths: bool = False) -> list[LocatedFile]:
    """Return files with one of some extensions (lower case, with the dot), sorted by name; hidden files are skipped."""
    real_root = os.path.realpath(root).rstrip(os.sep) + os.sep
    matches = []
    for folder, folders, files in os.walk(root, followlinks=allow_external_paths):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f.lower() not in IGNORED)
        inner = os.path.relpath(folder, root)
        names = () if inner == "." else tuple(inner.split(os.sep))
        for file in files:
            if file.startswith(".") or os.path.splitext(file)[1].lower() not in endings:
                continue
            path = os.path.join(folder, file)
            if os.path.islink(path) and not allow_external_paths and not os.path.realpath(path).startswith(real_root):
                continue
            matches.append(LocatedFile(path, names, file))
    return sorted(matches, key=lambda f: (*f.folders, f.file))


def has_images(root: str) -> bool:
    """Return whether a folder contains a file with an image extension, at any depth; stops at the first."""
    return any(os.path.splitext(f)[1].lower() in IMAGES for _, _, files in os.walk(root) for f in files)


def split_of_folders(folders: Sequence[str]) -> str:
    """Return the split named by one of the folders, or ''."""
    return next((s for s in map(split_of_name, folders) if s), "")


def split_of_name(name: str) -> str:
    """Return the split named by a file or folder name (`train2017`, `instances_val`, `valid`), or ''."""
    whole = split_name(name)
    if whole:
        return whole
    words = "".join(c if c.isalpha() else " " for c in os.path.splitext(name)[0]).split()
    return next((s for s in map(split_name, words) if s), "")


class ImageIndex:
    """Index of images by name, to find the image of an annotation.

    Args:
        images: All images below the root.
        auxiliary: Paths of masks and previews among them, which are found by their whole path, and by their name only
            if no other image has it.

    Attributes:
        images: The images without auxiliary ones.
    """

    def __init__(self, images: Sequence[LocatedFile], auxiliary: Collection[str] = ()) -> None:
        self.images = [p for p in images if p.path not in auxiliary]
        self._auxiliary = auxiliary
        self._by_stem: dict[str, list[LocatedFile]] = {}
        self._by_file: dict[str, list[LocatedFile]] = {}
        self._by_path: dict[str, LocatedFile] = {}
        for image in images:
            self._by_stem.setdefault(_plain(os.path.splitext(image.file)[0]), []).append(image)
            self._by_file.setdefault(_plain(image.file), []).append(image)
            self._by_path[_plain("/".join((*image.folders, image.file)))] = image

    def at(self, folders: Sequence[str], name: str) -> LocatedFile | None:
        """Return the image with a path (which may contain `/`) below a folder."""
        place = os.path.normpath("/".join((*folders, name.replace("\\", "/")))).replace(os.sep, "/")
        return self._by_path.get(_plain(place))

    def by_stem(self, folders: Sequence[str], stem: str) -> LocatedFile | None:
        """Return the image with this stem nearest to a folder; None if two are equally near."""
        return self._nearest(self._by_stem.get(_plain(stem), ()), folders)

    def by_file(self, folders: Sequence[str], name: str) -> LocatedFile | None:
        """Return the same by the file name."""
        return self._nearest(self._by_file.get(_plain(name.replace("\\", "/").rpartition("/")[2]), ()), folders)

    def _nearest(self, candidates: Sequence[LocatedFile], folders: Sequence[str]) -> LocatedFile | None:
        return _nearest([f for f in candidates if f.path not in self._auxiliary] or candidates, folders)


def _nearest(candidates: Sequence[LocatedFile], folders: Sequence[str]) -> LocatedFile | None:
    """Return the image in the same folder, else the one whose folders share most names with these in order."""
    if len(candidates) <= 1:
        return candidates[0] if candidates else None
    split = split_of_folders(folders)
    ranked = sorted(((_distance(f.folders, folders, split), i) for i, f in enumerate(candidates)))
    return candidates[ranked[0][1]] if ranked[0][0] < ranked[1][0] else None


def _distance(place: Sequence[str], folders: Sequence[str], split: str) -> tuple[bool, bool, int]:
    shared = len(set(place) & set(folders))
    return tuple(place) != tuple(folders), split_of_folders(place) != split, -shared


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
