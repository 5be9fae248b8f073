"""Unpack datasets with boxes that are archives, alone or several in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import astuple

from headstart.data.archive_names import check_encoding
from headstart.data.archives import Unpacked, member_names, unpack
from headstart.data.boxes.endings import ENDINGS
from headstart.data.boxes.files import has_images
from headstart.data.containers.columnar import export_boxes, has_box_column
from headstart.data.containers.store import UNPACKED, content_key
from headstart.data.containers.webdataset import is_webdataset
from headstart.data.file_tree import LocatedFile, printable, walk_files
from headstart.data.formats import IMAGES, container_kind
from headstart.errors import HeadstartError
from headstart.types.records import Problem
from headstart.utils.system import atomic_folder, cache_root, private_folder

__all__ = ["may_hold_boxes", "unpack_boxes"]

_MAX_NESTING = 2
_NOTES = ("README", "LICENSE", "LICENCE", "COPYING", "CHANGELOG")


def may_hold_boxes(path: str) -> bool:
    """Return whether data are no archives, or a file beside or in them may be an annotation by its extension.

    Raises:
        DataError: An archive cannot be opened.
    """
    archives, others, _ = _archives(path)
    names = [*(f.file for f in others), *(name for archive in archives for name in member_names(archive))]
    return not archives or any(container_kind(name) or name.lower().endswith(ENDINGS) for name in names)


def unpack_boxes(path: str, name_encoding: str | None = None) -> Unpacked:
    """Return data as they are, or unpacked in the cache if they are archives; archives in archives are unpacked too.

    Args:
        path: The data.
        name_encoding: As in `ReadOptions`.

    Raises:
        DataError: An archive is damaged, encrypted or too large.
        CacheError: The cache folder is full or not writable.
        UsageError: The encoding is unknown.
    """
    if name_encoding:
        check_encoding(name_encoding)
    place = Unpacked(path)
    for depth in range(_MAX_NESTING + 1):
        archives, others, images = _archives(place.folder)
        if not archives:
            break
        new = unpack(archives, others, linked=images, name_encoding=name_encoding, shown=printable(path))
        place = Unpacked(new.folder, new.shown, place.problems + new.problems, place.notes + new.notes, depth + 1)
    tables = _box_tables(place.folder)
    return _export(tables, place) if tables else place


def _box_tables(path: str) -> list[LocatedFile]:
    """Return the parquet and arrow files with boxes that are the data; none beside images and other containers."""
    if os.path.isfile(path):
        files = [LocatedFile(os.path.abspath(path), (), os.path.basename(path))]
    elif os.path.isdir(path) and not has_images(path):
        files = walk_files(path).containers
    else:
        return []
    is_table = all(container_kind(file.file) == "parquet" and has_box_column(file.path) for file in files)
    return files if is_table else []


def _export(tables: Sequence[LocatedFile], place: Unpacked) -> Unpacked:
    """Return tables with boxes as a folder of images in the cache."""
    named = [(file.name, file.path) for file in tables]
    target = private_folder(cache_root() / UNPACKED) / content_key("boxes", named)
    if not (target / "problems.json").is_file():
        with atomic_folder(target) as temporary:
            problems = export_boxes(named, temporary / "files")
            (temporary / "problems.json").write_text(json.dumps([astuple(p) for p in problems]), encoding="utf-8")
    os.utime(target)
    problems = [Problem(*p) for p in json.loads((target / "problems.json").read_text(encoding="utf-8"))]
    return Unpacked(str(target / "files"), place.shown, place.problems + problems, place.notes, place.depth + 1)


def _archives(path: str) -> tuple[list[LocatedFile], list[LocatedFile], list[LocatedFile]]:
    """Return the archives that are the data, the files and the images beside them; none with other containers.

    Beside images, archives are data only if all annotations are in them.
    """
    if os.path.isfile(path):
        file = LocatedFile(os.path.abspath(path), (), os.path.basename(path))
        return ([file] if _is_archive(file) else []), [], []
    if not os.path.isdir(path) or (has_images(path) and not _has_archives(path)):
        return [], [], []
    tree = walk_files(path)
    others = [*tree.tables, *tree.other_files]
    if not all(map(_is_archive, tree.containers)):
        return [], [], []
    if tree.images and (_may_be_annotations(f.file for f in others) or not _hold_annotations_only(tree.containers)):
        return [], [], []
    return tree.containers, others, tree.images


def _has_archives(path: str) -> bool:
    """Return whether a file below a folder is an archive by its name."""
    return any(container_kind(f) in ("zip", "tar") for _, _, files in os.walk(path) for f in files)


def _may_be_annotations(names: Iterable[str]) -> bool:
    """Return whether a file may hold boxes, by its name; notes such as README.txt hold none."""
    return any(name.lower().endswith(ENDINGS) and not name.upper().startswith(_NOTES) for name in names)


def _hold_annotations_only(archives: Sequence[LocatedFile]) -> bool:
    """Return whether archives hold annotations and no images, so that they belong to the images beside them."""
    try:
        names = [name for archive in archives for name in member_names(archive)]
    except HeadstartError:  # a damaged archive; it is named as unused
        return False
    has_picture = any(os.path.splitext(name)[1].lower() in IMAGES for name in names)
    return not has_picture and _may_be_annotations(name.rpartition("/")[2] for name in names)


def _is_archive(file: LocatedFile) -> bool:
    kind = container_kind(file.file)
    return kind == "zip" or (kind == "tar" and not is_webdataset(file.path))
