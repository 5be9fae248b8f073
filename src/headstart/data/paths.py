"""Look up the images that a table or annotation file names, below one folder.

A row means the file at its path. A file of the same name elsewhere is used only if nothing contradicts that it was
moved, and that is reported. Paths that leave the folder are collected and refused together, so a table with a
thousand absolute paths gives one message.
"""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal
from urllib.parse import unquote

from headstart.data.file_tree import LocatedFile, printable, walk_files
from headstart.data.folder_words import AUXILIARY
from headstart.data.formats import IMAGES
from headstart.data.name_matching import fold_name
from headstart.data.split_words import split_words
from headstart.errors import UsageError
from headstart.messages.numbers import pluralize
from headstart.types.codes import ReadingKind, ReadingNote
from headstart.types.records import Problem

__all__ = ["MISSING", "Claim", "PathFinder", "PathMatch"]

MISSING = frozenset({"missing", "elsewhere", "ambiguous"})
"""Kinds of problems of rows without an image: no such file, only files in other folders, several candidates."""

_EXAMPLES = 5
_DRIVE = re.compile(r"[A-Za-z]:|[\\/]{2}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class Claim:
    """Properties of a row besides its path, used to look up its image.

    Attributes:
        splits: Splits that the row or its table names; empty if neither names one.
        label: Class of the row, as `fold_name` gives it, or None.
        labels: Classes of the whole table, as `fold_name` gives them.
    """

    splits: frozenset[str] = frozenset()
    label: str | None = None
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PathMatch:
    """The file of a row.

    Attributes:
        file: The file.
        how: `exact`; `respelled` if only case, Unicode form or the extension differ; `elsewhere` in another folder.
        cell: The path as written in the row.
        path: The normalized path, to compare rows.
        splits: Splits named by the folders of the file, if the row states none.
    """

    file: LocatedFile
    how: Literal["exact", "respelled", "elsewhere"]
    cell: str
    path: str
    splits: frozenset[str] = frozenset()


class PathFinder:
    """Find files below one folder.

    Args:
        root: The data folder; names of files are relative to it.
        allow_external_paths: Whether paths may be absolute, contain `..` or leave the folder by a link.
        base: Folders of the table below the root; paths are relative to it, or else to the root.
        images: All images below the root, if they are known.
        excluded: Paths of files that are not used.
    """

    def __init__(
        self,
        root: str,
        *,
        allow_external_paths: bool = False,
        base: tuple[str, ...] = (),
        images: Sequence[LocatedFile] | None = None,
        excluded: Collection[str] = (),
    ) -> None:
        self.root = os.path.abspath(root)
        self.allow_external_paths = allow_external_paths
        self.base = base
        self._images = images
        self._excluded = excluded
        self.outside: list[str] = []
        self._real_root = os.path.realpath(self.root)
        self._real_folders: dict[str, str] = {}
        self._by_file: dict[str, list[LocatedFile]] | None = None
        self._by_place: dict[str, LocatedFile] | None = None
        self._matches: dict[str, PathMatch] = {}  # by file path; files that are not exactly at their path

    def of_table(self, file: LocatedFile) -> PathFinder:
        """Return the lookup for a table in another folder below the same root; listed files are shared."""
        other = PathFinder(self.root, allow_external_paths=self.allow_external_paths, base=file.folders)
        other._images, other._excluded = self._images, self._excluded
        other._by_file, other._real_folders = self._index(), self._real_folders
        other._by_place = self._places()
        return other

    @property
    def has_images(self) -> bool:
        """Return whether the images below the root are listed."""
        return self._images is not None

    @cached_property
    def names_splits(self) -> bool:
        """Return whether any folder of images names a split."""
        folders = {image.folders for image in self._images or ()}
        return any(split_words(folder) for parts in folders for folder in parts)

    def name_of(self, path: str) -> str:
        """Return the printable path of a file below the root, with `/`."""
        return printable(os.path.relpath(path, self.root).replace(os.sep, "/"))

    def is_excluded(self, path: str) -> bool:
        """Return whether a file is not used, as requested."""
        return path in self._excluded

    def find(self, cell: str, where: str) -> LocatedFile | Problem:
        """Return the file that a cell names, or the problem.

        See `look_up`; a file that another row uses from elsewhere is not used twice.
        """
        hit = self.look_up(cell, where)
        if isinstance(hit, Problem):
            if hit.kind == "outside":
                self.outside.append(f"{where}: {printable(cell)}")
            return hit
        before = self._matches.get(hit.file.path)
        if before is not None and before.path != hit.path and "elsewhere" in (before.how, hit.how):
            return contested(cell, hit.file)
        self.record(hit)
        return hit.file

    def look_up(self, cell: str, where: str, claim: Claim | None = None) -> PathMatch | Problem:
        """Return the file that a cell names, or the problem, without recording anything.

        A file at the path of the cell is used. Otherwise files of that name (with or without extension) are candidates
        if their folders and those of the cell agree to the end of the shorter one, no further folder names another
        split or class than the row, and one of them fits best.

        Args:
            cell: Path in the table.
            where: Location of the row, for messages.
            claim: Other properties of the row.

        Returns:
            The file, or a problem of the kinds `MISSING` or `outside`.
        """
        listed = None if self.allow_external_paths else self._places().get("/".join((*self.base, cell)))
        if listed is not None:  # the usual case
            return PathMatch(listed, "exact", cell, _fold(cell))
        claim = claim or Claim()
        place = cell.replace("\\", "/") if "\\" in cell and not os.path.isfile(self._join(cell)) else cell
        if _URL.match(place):
            place = unquote(re.split(r"[?#]", place)[0])
        place = self._below_root(place)
        if self.base and ".." in place.split("/"):
            inside = posixpath.normpath("/".join((*self.base, place)))
            place = place if inside.startswith("..") else inside
        has_parent = ".." in place.split("/")
        is_foreign = os.path.isabs(place) or bool(_DRIVE.match(cell)) or bool(_URL.match(place))
        path = _fold(place)
        if self.allow_external_paths or not (has_parent or is_foreign):
            is_listed = self._images is not None and not self.allow_external_paths
            if is_listed and not os.path.splitext(place)[1]:  # only a listed image can have this name
                return self._by_name(path, cell, where, claim)
            for form in self._forms(place):
                full = os.path.normpath(self._join(form))
                if os.path.isfile(full):
                    if full in self._excluded:
                        return Problem(printable(cell), "excluded", f"excluded as requested ({where})")
                    if not self.allow_external_paths and not self._is_inside(full):
                        return Problem(printable(cell), "outside", "a link leaves the table's folder")
                    return PathMatch(self._named(full, form), "exact", cell, path)
        if has_parent:
            if self.allow_external_paths:
                return Problem(printable(cell), "missing", f"there is no such file ({where})")
            return Problem(printable(cell), "outside", "the path leaves the table's folder")
        result = self._by_name(path, cell, where, claim)
        if is_foreign and isinstance(result, Problem) and result.kind == "missing" and not self.allow_external_paths:
            return Problem(printable(cell), "outside", "the path leaves the table's folder")
        return result

    def exists(self, cell: str) -> bool:
        """Return whether a cell looks like an image path: a file of its name exists anywhere below the root."""
        result = self.look_up(cell, "") if cell else None
        if isinstance(result, Problem) and result.kind == "outside":
            return os.path.splitext(cell)[1].lower() in IMAGES
        return isinstance(result, PathMatch) or (result is not None and result.kind != "missing")

    def record(self, hit: PathMatch) -> None:
        """Record the use of a file, for `notes`."""
        self._matches.setdefault(hit.file.path, hit)

    def matches(self) -> dict[str, PathMatch]:
        """Return the matches by file path; one row per file."""
        return dict(self._matches)

    def refuse_outside(self, shown: str) -> None:
        """Raise an error if the table lists files outside its folder.

        Raises:
            UsageError: The table lists files outside its folder.
        """
        if self.outside:
            first = "; ".join(self.outside[:10])
            more = f" ... ({len(self.outside)} in all)" if len(self.outside) > 10 else ""
            raise UsageError(
                f"`{shown}` names images outside its folder, which is not allowed: {first}{more}.",
                hint="move the table next to its images and use relative paths, or pass --allow-external-paths if you "
                "trust the table",
            )

    def notes(self) -> list[ReadingNote]:
        """Return notes about images that were not exactly at their path."""
        notes = []
        for kind, how in ((ReadingKind.FOUND_ELSEWHERE, "elsewhere"), (ReadingKind.PATHS_RESPELLED, "respelled")):
            hits = [hit for hit in self._matches.values() if hit.how == how]
            if hits:
                pairs = [[printable(hit.cell), hit.file.name] for hit in hits[:_EXAMPLES]]
                names = tuple(hit.file.name for hit in hits[:_EXAMPLES])
                notes.append(ReadingNote(kind, len(hits), names, {"pairs": pairs}))
        return notes

    def _forms(self, place: str) -> dict[str, None]:
        """Return the places where a path may lead, the likeliest first."""
        inside = "/".join((*self.base, place)) if self.base and not os.path.isabs(place) else place
        if place.isascii():
            return dict.fromkeys((inside, place))
        forms = [(p, unicodedata.normalize("NFC", p), unicodedata.normalize("NFD", p)) for p in (inside, place)]
        return dict.fromkeys(form for same in forms for form in same)

    def _below_root(self, place: str) -> str:
        """Return an absolute path inside the folder as a relative one."""
        root = self.root.replace(os.sep, "/").rstrip("/") + "/"
        return place[len(root) :] if place.startswith(root) and len(place) > len(root) else place

    def _by_name(self, path: str, cell: str, where: str, claim: Claim) -> PathMatch | Problem:
        """Return the best file of the same name, or the reason why none is used."""
        *folders, file = _parts(path)
        index = self._index()
        stem, extension = os.path.splitext(file)
        stem = stem if extension in IMAGES else file
        same = index.get(file) or index.get(_without_zeros(file)) or index.get(stem) or []
        if not AUXILIARY.intersection(folders):  # masks have the names of their images
            same = [c for c in same if not AUXILIARY.intersection(map(_fold, c.folders))] or same
        if self.base:  # files below the folder of the table come first
            same = [c for c in same if c.folders[: len(self.base)] == self.base] or same
        fitting: dict[int, list[PathMatch]] = {}
        reasons: list[tuple[LocatedFile, str]] = []
        for candidate in same:
            own = [_fold(f) for f in candidate.folders]
            is_below = bool(self.base) and candidate.folders[: len(self.base)] == self.base
            if folders in (own, own[len(self.base) :] if is_below else own):
                fitting.setdefault(len(own) + 1, []).append(PathMatch(candidate, "respelled", cell, path))
                continue
            common = min(len(own), len(folders))
            if own[len(own) - common :] != folders[len(folders) - common :]:
                reasons.append((candidate, "is a different file: the row names another folder"))
                continue
            further = candidate.folders[: len(own) - common]
            stated = claim.splits.union(*(split_words(f) for f in folders))
            named = frozenset().union(*(split_words(f) for f in further))
            reason = _contradiction(further, named, stated, claim)
            if reason is not None:
                reasons.append((candidate, reason))
                continue
            # A bare file name is ambiguous: the deepest common path decides, and without one all files are equal.
            hit = PathMatch(candidate, "elsewhere", cell, path, named if not stated else frozenset())
            fitting.setdefault(common, []).append(hit)
        if fitting:
            best = fitting[max(fitting)]
            if len(best) == 1:
                return best[0]
            return Problem(
                printable(cell),
                "ambiguous",
                f"{pluralize(len(best), 'file')} with this name, none at this path ({where})",
            )
        missing = f"there is no such file ({where})"
        if folders and not os.path.isdir(self._join("/".join(_parts(cell.replace("\\", "/"))[:-1]))):
            missing = f"there is no folder `{printable(cell.replace(chr(92), '/').rpartition('/')[0])}/` ({where})"
        if reasons:
            other, reason = reasons[0]
            return Problem(printable(cell), "elsewhere", f"{missing}; `{other.name}` {reason}")
        return Problem(printable(cell), "missing", missing)

    def _join(self, place: str) -> str:
        return os.path.join(self.root, place)

    def _is_inside(self, path: str) -> bool:
        folder, file = os.path.split(path)
        real = self._real_folders.get(folder)
        if real is None:
            real = self._real_folders[folder] = os.path.realpath(folder)
        target = os.path.realpath(path) if os.path.islink(path) else os.path.join(real, file)
        return target.startswith(self._real_root.rstrip(os.sep) + os.sep)

    def _named(self, path: str, form: str) -> LocatedFile:
        root = self.root.rstrip(os.sep) + os.sep
        name = path[len(root) :].replace(os.sep, "/") if path.startswith(root) else form
        *folders, file = name.split("/")
        return LocatedFile(path, tuple(folders), file)

    def _places(self) -> dict[str, LocatedFile]:
        """Return the listed images by their path below the root, with `/`."""
        if self._by_place is None:
            self._by_place = {"/".join((*image.folders, image.file)): image for image in self._images or ()}
        return self._by_place

    def _index(self) -> dict[str, list[LocatedFile]]:
        """Return all images below the root by case-folded file name, with and without extension."""
        if self._by_file is None:
            self._by_file = {}
            if self._images is None:
                self._images = walk_files(self.root, allow_external_paths=self.allow_external_paths).images
            for result in self._images:
                name = _fold(result.file)
                stem, extension = os.path.splitext(name)
                for key in dict.fromkeys((name, stem, _without_zeros(stem), _without_zeros(stem) + extension)):
                    self._by_file.setdefault(key, []).append(result)
        return self._by_file


def contested(cell: str, file: LocatedFile) -> Problem:
    """Return the problem of a row whose only candidate is also that of a row with another path."""
    return Problem(printable(cell), "ambiguous", f"there is no such file, and `{file.name}` matches several rows")


def _contradiction(folders: Iterable[str], named: frozenset[str], stated: frozenset[str], claim: Claim) -> str | None:
    """Return why the folders of a file contradict the row, or None."""
    if stated and named - stated:
        return f"is in a folder for {_some(named)}, and the row is for {_some(stated)}"
    classes = {fold_name(folder): folder for folder in folders}
    others = [shown for key, shown in classes.items() if key in claim.labels and key != claim.label]
    if others and claim.label not in classes:
        return f"is in the folder of another class, `{printable(others[0])}`"
    return None


def _some(names: Iterable[str]) -> str:
    return " and ".join(f"`{name}`" for name in sorted(names))


def _without_zeros(name: str) -> str:
    """Return a number without leading zeros; other names as they are."""
    return re.sub(r"^0+(?=\d)", "", name) if name.split(".")[0].isdigit() else name


def _fold(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def _parts(path: str) -> list[str]:
    """Return the folders and the file name of a path, without drive, scheme and empty parts."""
    plain = _URL.sub("", path)
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    return parts[1:] if len(parts) > 1 and re.fullmatch(r"[A-Za-z]:", parts[0]) else parts or [""]
