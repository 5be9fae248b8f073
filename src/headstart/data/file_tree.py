"""List the image files below a folder and report all files that are not used, without opening images.

Unreadable or unusable files and folders do not raise an error but become `Problem` values. Symlinks that point outside
the folder are followed only if allowed.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache

from headstart.data.formats import IGNORED, IMAGES, PLAIN, TABLES, UNFINISHED, container_kind, export_step
from headstart.errors import DataError
from headstart.preprocessing.extra_formats import is_dicom
from headstart.types.codes import UnusedReason
from headstart.types.records import Problem

__all__ = [
    "FileTree",
    "LocatedFile",
    "clean_label",
    "looks_like_image",
    "matches_pattern",
    "printable",
    "resolve_path",
    "walk_files",
]


@dataclass(frozen=True, slots=True)
class LocatedFile:
    """A file: path, file name, and names of its `folders` below the root, outermost first."""

    path: str
    folders: tuple[str, ...]
    file: str

    @property
    def name(self) -> str:
        """Return the printable path below the root, with `/`."""
        return printable("/".join((*self.folders, self.file)))


@dataclass
class FileTree:
    """Files below a folder.

    Attributes:
        root: The folder as an absolute path.
        images: Image files, sorted by name.
        tables: Text files that may hold labels, at any depth.
        containers: Archives and files that hold many images.
        problems: Files and folders that cannot be used.
        empty_folders: Folders without entries.
        others: Number of ignored files of other kinds, by extension.
        other_files: These files.
        passed_over: (name, reason code) of system files and repeated links; a folder ends with `/`.
        shown: Name of the root in messages: the file name of an archive; empty for the root itself.
    """

    root: str
    images: list[LocatedFile] = field(default_factory=list)
    tables: list[LocatedFile] = field(default_factory=list)
    containers: list[LocatedFile] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    empty_folders: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    other_files: list[LocatedFile] = field(default_factory=list)
    passed_over: list[tuple[str, str]] = field(default_factory=list)
    shown: str = ""

    def shown_path(self, path: str = "") -> str:
        """Return the root, or a path below it, as shown in messages."""
        shown = self.shown or self.root
        return printable(os.path.join(shown, os.path.relpath(path, self.root)) if path else shown)


def resolve_path(data: str | os.PathLike[str], expected: str) -> tuple[str, str]:
    """Return a user path as a string, and as shown in messages.

    Raises:
        DataError: The path does not exist; `expected` describes what was expected.
    """
    path = os.fspath(data)
    shown = printable(path)
    if not os.path.exists(path):
        raise DataError(
            f"`{shown}` does not exist; expected {expected}.",
            hint="check the spelling, and quote paths with spaces",
        )
    return path, shown


def printable(name: str) -> str:
    """Return a name that can be encoded as UTF-8; invalid bytes become backslash escapes."""
    if name.isascii():
        return name
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        name = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return name


def walk_files(root: str, *, allow_external_paths: bool = False, shown: str = "") -> FileTree:
    """List the files below a folder without opening images.

    Args:
        root: Folder.
        allow_external_paths: Follow symlinks that point outside the folder.
        shown: Name of the folder in messages; by default its path.

    Returns:
        Images in a fixed order, tables, problems and counts of ignored files.

    Raises:
        DataError: The root is missing or unreadable.
    """
    tree = FileTree(os.path.abspath(root), shown=shown)
    real_root = os.path.realpath(tree.root)
    try:
        with os.scandir(tree.root):
            pass
    except OSError as error:
        raise DataError(
            f"cannot read the folder `{printable(shown or root)}` ({error.strerror or error}).",
            hint="check the path and its permissions",
        ) from error
    visited = {real_root}
    stack: list[tuple[str, tuple[str, ...]]] = [(tree.root, ())]
    while stack:
        folder, names = stack.pop()
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
        except PermissionError:
            _problem(tree, names, "permission", "permission denied")
            continue
        except OSError as error:
            kind = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
            _problem(tree, names, kind, f"cannot list this folder ({error.strerror or error})")
            continue
        if not listed and names:
            tree.empty_folders.append(printable("/".join(names)))
        for entry in listed:
            _add_entry(tree, entry, names, real_root, allow_external_paths, visited, stack)
    tree.images.sort(key=lambda f: (*f.folders, f.file))
    tree.tables.sort(key=lambda f: (len(f.folders), *f.folders, f.file))
    tree.containers.sort(key=lambda f: (*f.folders, f.file))
    tree.problems.sort(key=lambda p: p.name)
    return tree


def _add_entry(
    tree: FileTree,
    entry: os.DirEntry[str],
    names: tuple[str, ...],
    real_root: str,
    allow_external_paths: bool,
    visited: set[str],
    stack: list[tuple[str, tuple[str, ...]]],
) -> None:
    """Classify one directory entry."""
    name = entry.name
    here = (*names, name)
    if name.startswith("."):
        if name.lower().endswith(".icloud"):
            _problem(tree, here, "cloud-placeholder", "stored in iCloud only; open its folder to download it")
        else:
            _pass_over(tree, entry, here, UnusedReason.SYSTEM_FILE)
        return
    if name.lower() in IGNORED:
        _pass_over(tree, entry, here, UnusedReason.SYSTEM_FILE)
        return
    is_link = False
    try:
        is_link = entry.is_symlink() or (hasattr(entry, "is_junction") and entry.is_junction())
        is_folder, is_file = entry.is_dir(), entry.is_file()
    except OSError as error:
        if not is_link:
            _problem(tree, here, "unreadable", f"cannot be read ({error.strerror or error})")
            return
        is_folder = is_file = False  # circular link
    if is_link:
        target = os.path.realpath(entry.path)
        inside = target == real_root or target.startswith(real_root.rstrip(os.sep) + os.sep)
        if not is_folder and not is_file:
            _problem(tree, here, "broken-link", "broken or circular link")
            return
        if is_folder and inside:
            _pass_over(tree, entry, here, UnusedReason.LINK_TO_FOLDER)
            return  # the target is walked under its own name
        if not inside and not allow_external_paths:
            _problem(tree, here, "outside", "link leaves the folder; --allow-external-paths follows it")
            return
        if is_folder:
            if target in visited:
                _pass_over(tree, entry, here, UnusedReason.LINK_TO_FOLDER)
                return
            visited.add(target)
    if is_folder:
        stack.append((entry.path, here))
    elif not is_file:
        _problem(tree, here, "special", "a pipe, socket or device, not a file")
    else:
        _sort_file(tree, LocatedFile(entry.path, names, name))


def _sort_file(tree: FileTree, file: LocatedFile) -> None:
    """Classify a file by its extension, or by its first bytes if the extension is unknown."""
    extension = os.path.splitext(file.file)[1].lower()
    if extension in IMAGES:
        tree.images.append(file)
    elif extension in UNFINISHED:
        tree.problems.append(Problem(file.name, "unfinished-download", "unfinished download; download it again"))
    elif container_kind(file.file):
        tree.containers.append(file)
    elif step := export_step(file.file):
        tree.problems.append(Problem(file.name, "foreign-format", f"{extension} is not supported: {step}"))
    elif extension in PLAIN:
        if extension in TABLES:
            tree.tables.append(file)
        else:
            _add_other(tree, file, extension)
    elif looks_like_image(file.path):
        tree.images.append(file)
    elif step := export_step("", _head(file.path)):
        tree.problems.append(Problem(file.name, "foreign-format", f"this is a pickle: {step}"))
    else:
        _add_other(tree, file, extension or "no extension")


def _add_other(tree: FileTree, file: LocatedFile, kind: str) -> None:
    tree.others[kind] += 1
    tree.other_files.append(file)


def _pass_over(tree: FileTree, entry: os.DirEntry[str], names: tuple[str, ...], reason: UnusedReason) -> None:
    try:
        end = "/" if entry.is_dir() else ""
    except OSError:
        end = ""
    tree.passed_over.append((printable("/".join(names)) + end, reason))


def looks_like_image(path: str) -> bool:
    """Return whether the first bytes are those of a supported image format."""
    head = _head(path)
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\x00", b"MM\x00*"))
        or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
        or (is_dicom(head) and ".dcm" in IMAGES)
        or (head.startswith(b"BM") and len(head) >= 14 and head[6:10] == b"\x00\x00\x00\x00")
    )


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(132)
    except OSError:
        return b""


@lru_cache(maxsize=65_536)
def matches_pattern(file: LocatedFile, pattern: str) -> bool:
    """Return whether a file matches a pattern of `--exclude`.

    A pattern without `/` matches the name of a file or of a folder above it; otherwise it matches the path.
    """
    plain = pattern.strip("/")
    if "/" not in plain:
        return any(fnmatchcase(part, plain) for part in (*file.folders, file.file))
    return fnmatchcase(file.name, plain) or fnmatchcase(file.name, f"{plain}/*")


def clean_label(name: str) -> str:
    """Normalize a label from a folder or table: Unicode NFC, single spaces, encodable as UTF-8."""
    if name.isascii():
        return " ".join(name.split())
    return " ".join(printable(unicodedata.normalize("NFC", name)).split())


def _problem(tree: FileTree, names: tuple[str, ...], kind: str, detail: str) -> None:
    tree.problems.append(Problem(printable("/".join(names)) or ".", kind, detail))
