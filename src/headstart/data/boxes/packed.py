"""Unpack datasets with boxes that are archives, alone or several in a folder."""

from __future__ import annotations

import os

from headstart.data.archives import Unpacked, member_names, unpack
from headstart.data.boxes.files import has_images
from headstart.data.containers.webdataset import is_webdataset
from headstart.data.file_tree import LocatedFile, printable, walk_files
from headstart.data.formats import container_kind

__all__ = ["may_hold_boxes", "unpack_boxes"]

_MAX_NESTING = 2


def may_hold_boxes(path: str, endings: tuple[str, ...]) -> bool:
    """Return whether data are no archives, or a file beside or in them may be an annotation by its extension.

    Raises:
        DataError: An archive cannot be opened.
    """
    archives, others = _archives(path)
    names = [*(f.file for f in others), *(name for archive in archives for name in member_names(archive))]
    return not archives or any(container_kind(name) or name.lower().endswith(endings) for name in names)


def unpack_boxes(path: str) -> Unpacked:
    """Return data as they are, or unpacked in the cache if they are archives; archives in archives are unpacked too.

    Raises:
        DataError: An archive is damaged, encrypted or too large.
        CacheError: The cache folder is full or not writable.
    """
    place = Unpacked(path)
    for depth in range(_MAX_NESTING + 1):
        archives, others = _archives(place.folder)
        if not archives:
            break
        new = unpack(archives, others, shown=printable(path))
        place = Unpacked(new.folder, new.shown, place.problems + new.problems, place.notes + new.notes, depth + 1)
    return place


def _archives(path: str) -> tuple[list[LocatedFile], list[LocatedFile]]:
    """Return the archives that are the data, and the files beside them; none where there are images or containers."""
    if os.path.isfile(path):
        file = LocatedFile(os.path.abspath(path), (), os.path.basename(path))
        return ([file] if _is_archive(file) else []), []
    if not os.path.isdir(path) or has_images(path):
        return [], []
    tree = walk_files(path)
    if tree.images or not all(map(_is_archive, tree.containers)):
        return [], []
    return tree.containers, [*tree.tables, *tree.other_files]


def _is_archive(file: LocatedFile) -> bool:
    kind = container_kind(file.file)
    return kind == "zip" or (kind == "tar" and not is_webdataset(file.path))
