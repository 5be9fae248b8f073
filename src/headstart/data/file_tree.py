"""Walks a folder of images and names everything it will not use; it reads directory entries, never images.

A walk never fails half-way.  What cannot be entered, followed or used becomes a named
`Problem`, and the rest goes on.  Links that leave the folder are not followed unless that is allowed.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, field

from headstart.data.formats import EXPORT_STEPS, IGNORED, IMAGES, PLAIN, TABLES, UNFINISHED
from headstart.errors import DataError
from headstart.records import Problem

__all__ = ["FileTree", "LocatedFile", "clean_label", "looks_like_image", "printable", "resolve_path", "walk_files"]


@dataclass(frozen=True, slots=True)
class LocatedFile:
    """One file: its path and its names below the root, `folders` outermost first."""

    path: str
    folders: tuple[str, ...]
    file: str

    @property
    def name(self) -> str:
        """Path below the root, printable, with `/`."""
        return printable("/".join((*self.folders, self.file)))


@dataclass
class FileTree:
    """What a walk found.

    Attributes:
        root: The folder, as given, made absolute.
        images: Files that are to be read as images, sorted by name.
        tables: Text files that may hold labels, at any depth.
        problems: Files and folders that cannot be used.
        empty_folders: Folders without any file or folder in them.
        others: How many files of other kinds were ignored, by extension.
        shown: What messages call the root: an archive by its own name; empty for the root itself.
    """

    root: str
    images: list[LocatedFile] = field(default_factory=list)
    tables: list[LocatedFile] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    empty_folders: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    shown: str = ""

    def shown_path(self, path: str = "") -> str:
        """Return the folder, or a path below it, as messages name it."""
        shown = self.shown or self.root
        return printable(os.path.join(shown, os.path.relpath(path, self.root)) if path else shown)


def resolve_path(data: str | os.PathLike[str], expected: str) -> tuple[str, str]:
    """Return the path that a person named, and how it is written on the screen.

    Raises:
        DataError: There is nothing, where `expected` should be.
    """
    place = os.fspath(data)
    shown = printable(place)
    if not os.path.exists(place):
        raise DataError(
            f"`{shown}` does not exist; {expected} was expected.",
            hint="check the spelling; a path with spaces needs quotes",
        )
    return place, shown


def printable(name: str) -> str:
    """Return a name that can be written as UTF-8: bytes that are not valid become backslash escapes."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        name = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return name


def walk_files(root: str, *, allow_external_paths: bool = False, shown: str = "") -> FileTree:
    """List a folder without opening images.

    Args:
        root: A folder.
        allow_external_paths: Follow links that lead out of it.
        shown: What messages call it, if not by its path.

    Returns:
        The images in a fixed order, and all that is not used, by name.

    Raises:
        DataError: The root itself is missing or may not be read.
    """
    tree = FileTree(os.path.abspath(root), shown=shown)
    real_root = os.path.realpath(tree.root)
    try:
        with os.scandir(tree.root):
            pass
    except OSError as error:
        raise DataError(
            f"The folder `{printable(shown or root)}` cannot be read ({error.strerror or error}).",
            hint="check the path and its permissions",
        ) from error
    seen = {real_root}
    stack: list[tuple[str, tuple[str, ...]]] = [(tree.root, ())]
    while stack:
        folder, names = stack.pop()
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
        except PermissionError:
            _problem(tree, names, "permission", "this folder may not be entered (permission denied)")
            continue
        except OSError as error:
            kind = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
            _problem(tree, names, kind, f"this folder cannot be listed ({error.strerror or error})")
            continue
        if not listed and names:
            tree.empty_folders.append(printable("/".join(names)))
        for entry in listed:
            _place(tree, entry, names, real_root, allow_external_paths, seen, stack)
    tree.images.sort(key=lambda f: (*f.folders, f.file))
    tree.tables.sort(key=lambda f: (len(f.folders), *f.folders, f.file))
    tree.problems.sort(key=lambda p: p.name)
    return tree


def _place(
    tree: FileTree,
    entry: os.DirEntry[str],
    names: tuple[str, ...],
    real_root: str,
    allow_external_paths: bool,
    seen: set[str],
    stack: list[tuple[str, tuple[str, ...]]],
) -> None:
    """Put one directory entry where it belongs."""
    name = entry.name
    here = (*names, name)
    if name.startswith("."):
        if name.lower().endswith(".icloud"):
            _problem(
                tree, here, "cloud-placeholder", "iCloud keeps this file elsewhere; open its folder to download it"
            )
        return
    if name.lower() in IGNORED:
        return
    is_link = False
    try:
        is_link = entry.is_symlink() or (hasattr(entry, "is_junction") and entry.is_junction())
        is_folder, is_file = entry.is_dir(), entry.is_file()
    except OSError as error:
        if not is_link:
            _problem(tree, here, "unreadable", f"this cannot be looked at ({error.strerror or error})")
            return
        is_folder = is_file = False  # a link to itself
    if is_link:
        target = os.path.realpath(entry.path)
        inside = target == real_root or target.startswith(real_root.rstrip(os.sep) + os.sep)
        if not is_folder and not is_file:
            _problem(tree, here, "broken-link", "this link leads nowhere or in a circle")
            return
        if is_folder and inside:
            return  # what it leads to is walked under its own name
        if not inside and not allow_external_paths:
            _problem(tree, here, "outside", "this link leaves the folder; --allow-external-paths follows it")
            return
        if is_folder:
            if target in seen:
                return
            seen.add(target)
    if is_folder:
        stack.append((entry.path, here))
    elif not is_file:
        _problem(tree, here, "special", "this is a pipe, socket or device, not a file")
    else:
        _sort_file(tree, LocatedFile(entry.path, names, name))


def _sort_file(tree: FileTree, found: LocatedFile) -> None:
    """Decide by the extension, and where that says nothing by the first bytes, what a file is."""
    extension = os.path.splitext(found.file)[1].lower()
    if extension in IMAGES:
        tree.images.append(found)
    elif extension in UNFINISHED:
        tree.problems.append(Problem(found.name, "unfinished-download", "an unfinished download; fetch it again"))
    elif found.file.lower().endswith(".nii.gz"):
        tree.problems.append(Problem(found.name, "foreign-format", EXPORT_STEPS[".nii"]))
    elif extension in EXPORT_STEPS:
        detail = f"{extension} cannot be read here: {EXPORT_STEPS[extension]}"
        tree.problems.append(Problem(found.name, "foreign-format", detail))
    elif extension in PLAIN:
        if extension in TABLES:
            tree.tables.append(found)
        else:
            tree.others[extension] += 1
    elif looks_like_image(found.path):
        tree.images.append(found)
    else:
        tree.others[extension or "no extension"] += 1


def looks_like_image(path: str) -> bool:
    """Return whether the first bytes are those of a format that can be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError:
        return False
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\x00", b"MM\x00*"))
        or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
        or (head.startswith(b"BM") and len(head) >= 14 and head[6:10] == b"\x00\x00\x00\x00")
    )


def clean_label(name: str) -> str:
    """Return a label from a folder's or a table's text: one Unicode form, no line breaks, writable as UTF-8."""
    return " ".join(printable(unicodedata.normalize("NFC", name)).split())


def _problem(tree: FileTree, names: tuple[str, ...], kind: str, detail: str) -> None:
    tree.problems.append(Problem(printable("/".join(names)) or ".", kind, detail))
