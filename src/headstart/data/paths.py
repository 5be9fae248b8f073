"""Looks up the pictures that a person's table names, without ever leaving the data's folder unasked.

The one decision: what is refused is collected and refused at once, by name, so a table with a thousand
absolute paths gives one message.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import PureWindowsPath

from headstart.data.walk import FoundFile, printable, walk
from headstart.errors import UsageError
from headstart.records import Problem

__all__ = ["Finder"]


class Finder:
    """Finds files below one folder.

    Args:
        root: The folder of the table.
        allow_outside: Whether paths may be absolute, hold `..` or leave the folder by a link.
    """

    def __init__(self, root: str, *, allow_outside: bool = False) -> None:
        self.root = os.path.abspath(root)
        self.allow_outside = allow_outside
        self.outside: list[str] = []
        self._real_root = os.path.realpath(self.root)
        self._real_folders: dict[str, str] = {}
        self._by_file: dict[str, list[FoundFile]] | None = None
        self._num_by_name = 0

    def find(self, cell: str, where: str) -> FoundFile | Problem:
        """The file that a cell names, or why there is none.

        A file that is not at its place is looked for by its name (with or without its ending) among all
        pictures below the root, and taken where there is exactly one.
        """
        place = cell.replace("\\", "/") if "\\" in cell and not os.path.isfile(self._join(cell)) else cell
        windows = PureWindowsPath(cell)
        is_out = os.path.isabs(place) or bool(windows.drive) or place.startswith("/") or ".." in place.split("/")
        if is_out and not self.allow_outside:
            self.outside.append(f"{where}: {printable(cell)}")
            return Problem(printable(cell), "outside", "the path leaves the table's folder")
        for form in dict.fromkeys((place, unicodedata.normalize("NFC", place), unicodedata.normalize("NFD", place))):
            path = os.path.normpath(self._join(form))
            if os.path.isfile(path):
                if not self.allow_outside and not self._is_inside(path):
                    self.outside.append(f"{where}: {printable(cell)}")
                    return Problem(printable(cell), "outside", "a link leads out of the table's folder")
                return self._named(path, form)
        if not is_out:
            found = self._index().get(unicodedata.normalize("NFC", place.rpartition("/")[2]).lower(), [])
            if len(found) == 1:
                self._num_by_name += 1
                return found[0]
            if len(found) > 1:
                return Problem(printable(cell), "missing", f"{len(found)} files have this name, none at this place")
        return Problem(printable(cell), "missing", f"there is no such file ({where})")

    def exists(self, cell: str) -> bool:
        """Whether a cell leads to a file, as `find` would look for it, without recording anything."""
        before, by_name = len(self.outside), self._num_by_name
        found = self.find(cell, "") if cell else None
        refused = len(self.outside) > before
        del self.outside[before:]
        self._num_by_name = by_name
        return isinstance(found, FoundFile) or refused

    def refuse_outside(self, shown: str) -> None:
        """Stops where the table named files outside.

        Raises:
            UsageError: It did.
        """
        if self.outside:
            first = "; ".join(self.outside[:10])
            more = f" ... ({len(self.outside)} in all)" if len(self.outside) > 10 else ""
            raise UsageError(
                f"`{shown}` names pictures outside of its folder, which is refused: {first}{more}.",
                hint="put the table beside its pictures with relative paths, or say --allow-outside if you trust it",
            )

    def notes(self) -> list[str]:
        """What was unusual about the looking."""
        if not self._num_by_name:
            return []
        return [f"{self._num_by_name} pictures were not at the place the table gives and were found by their name"]

    def _join(self, place: str) -> str:
        return os.path.join(self.root, place)

    def _is_inside(self, path: str) -> bool:
        folder, file = os.path.split(path)
        real = self._real_folders.get(folder)
        if real is None:
            real = self._real_folders[folder] = os.path.realpath(folder)
        target = os.path.realpath(path) if os.path.islink(path) else os.path.join(real, file)
        return target.startswith(self._real_root.rstrip(os.sep) + os.sep)

    def _named(self, path: str, form: str) -> FoundFile:
        root = self.root.rstrip(os.sep) + os.sep
        name = path[len(root) :].replace(os.sep, "/") if path.startswith(root) else form
        *folders, file = name.split("/")
        return FoundFile(path, tuple(folders), file)

    def _index(self) -> dict[str, list[FoundFile]]:
        """All pictures below the root by file name and by file name without its ending, lower case."""
        if self._by_file is None:
            self._by_file = {}
            for found in walk(self.root, allow_outside=self.allow_outside).pictures:
                name = unicodedata.normalize("NFC", found.file).lower()
                for key in dict.fromkeys((name, os.path.splitext(name)[0])):
                    self._by_file.setdefault(key, []).append(found)
        return self._by_file
