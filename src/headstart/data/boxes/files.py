"""List the files of a folder that may hold annotations, and find the image of each.

Nothing outside the folder is opened; links that leave it are followed only if that is allowed.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from urllib.parse import unquote

from headstart.data.file_tree import LocatedFile, printable
from headstart.data.formats import IGNORED, IMAGES
from headstart.data.paths import PathFinder
from headstart.data.split_words import split_name, split_words
from headstart.types.codes import ReadingKind, ReadingNote

__all__ = ["ImageIndex", "ImageLookup", "has_images", "list_files", "split_of_folders", "split_of_name"]

_EXAMPLES = 5
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DRIVE = re.compile(r"^(?:[A-Za-z][A-Za-z0-9+.-]*:/*|/+)")


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
    """Return the split named by the innermost of the folders that names one, or ''."""
    return next((s for s in map(split_of_name, reversed(folders)) if s), "")


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
        return self.nearest(self._by_stem.get(_plain(stem), ()), folders)

    def by_file(self, folders: Sequence[str], name: str) -> LocatedFile | None:
        """Return the same by the file name."""
        return self.nearest(self._by_file.get(_plain(name.replace("\\", "/").rpartition("/")[2]), ()), folders)

    def named(self, name: str) -> list[LocatedFile]:
        """Return all images of a file name, or of a stem if the name has no image extension."""
        has_ending = os.path.splitext(name)[1].lower() in IMAGES
        return list((self._by_file if has_ending else self._by_stem).get(_plain(name), ()))

    def nearest(self, candidates: Sequence[LocatedFile], folders: Sequence[str]) -> LocatedFile | None:
        """Return the candidate nearest to a folder, masks and previews last; None if two are equally near."""
        return _nearest([f for f in candidates if f.path not in self._auxiliary] or candidates, folders)


class ImageLookup:
    """Find the images that annotation files name by a path, which may come from another machine.

    Args:
        index: The images below the data folder.
        finder: Finds files outside the data folder, if that is allowed, and records paths that leave it.
    """

    def __init__(self, index: ImageIndex, finder: PathFinder) -> None:
        self.index, self.finder = index, finder
        self._moved: dict[str, LocatedFile] = {}
        self._respelled: dict[str, LocatedFile] = {}

    def find_all(self, file: LocatedFile, names: Iterable[str]) -> dict[str, LocatedFile | None]:
        """Return the image of each name, None without a certain one.

        Images at their path come first. Another name means an image of the same file name elsewhere, unless a folder
        contradicts its split, a second one fits as well, or another name means the same image.
        """
        names = list(dict.fromkeys(names))
        found = {name: self._exact(file, name) for name in names}
        taken = {image.path for image in found.values() if image is not None}
        moved = {name: self._elsewhere(file, name, taken) for name in names if found[name] is None}
        uses = Counter(image.path for image in moved.values() if image is not None)
        for name, image in moved.items():
            if image is not None and uses[image.path] == 1:
                found[name] = image
                ending = os.path.splitext(name)[1].lower()
                if ending in IMAGES and ending != os.path.splitext(image.file)[1].lower():
                    self._respelled[name] = image
                elif "/" in name.replace("\\", "/"):
                    self._moved[name] = image
            elif image is None and (self.finder.allow_external_paths or _leaves(name)):
                resolved = self.finder.find(name, file.name)  # records paths that leave the folder
                if self.finder.allow_external_paths and isinstance(resolved, LocatedFile):
                    found[name] = resolved
        return found

    def notes(self) -> list[ReadingNote]:
        """Return a note about images that are not at the path of their annotation."""
        notes = []
        for kind, hits in ((ReadingKind.FOUND_ELSEWHERE, self._moved), (ReadingKind.PATHS_RESPELLED, self._respelled)):
            pairs = [[printable(name), image.name] for name, image in hits.items()]
            examples = tuple(image for _, image in pairs[:_EXAMPLES])
            if pairs:
                notes.append(ReadingNote(kind, len(pairs), examples, {"pairs": pairs[:_EXAMPLES]}))
        return [*notes, *self.finder.notes()]

    def _exact(self, file: LocatedFile, name: str) -> LocatedFile | None:
        places = [file.folders[:depth] for depth in range(len(file.folders), -1, -1)]
        return next((image for image in (self.index.at(place, name) for place in places) if image), None)

    def _elsewhere(self, file: LocatedFile, name: str, taken: Collection[str]) -> LocatedFile | None:
        path = _DRIVE.sub("", name.replace("\\", "/"))
        path = unquote(path.partition("?")[0]) if _URL.match(name) else path
        *folders, base = [part for part in path.split("/") if part not in ("", ".", "..")] or [""]
        named = self.index.named(base) or self.index.named(os.path.splitext(base)[0])
        stated = frozenset().union(*map(split_words, folders))
        candidates = [c for c in named if c.path not in taken and not _contradicts(c, folders, stated)]
        if not folders or len(candidates) == 1:
            return self.index.nearest(candidates, (*self._image_folder(file), *folders))
        common = [_common_end(candidate.folders, folders) for candidate in candidates]
        best = [c for c, n in zip(candidates, common, strict=True) if n == max(common) and n]
        return best[0] if len(best) == 1 else None

    def _image_folder(self, file: LocatedFile) -> tuple[str, ...]:
        """Return the folder likely to hold the images of a file: its own, or one named after its split."""
        if any(image.folders == file.folders for image in self.index.images):
            return file.folders
        stem = _plain(os.path.splitext(file.file)[0].removeprefix("instances_"))
        for image in self.index.images:
            if image.folders and _plain(image.folders[-1]) == stem:
                return image.folders
        return (*file.folders, split_of_name(file.file)) if split_of_name(file.file) else file.folders


def _leaves(name: str) -> bool:
    return bool(_DRIVE.match(name)) or ".." in name.replace("\\", "/").split("/")


def _contradicts(image: LocatedFile, folders: Sequence[str], stated: frozenset[str]) -> bool:
    """Return whether the folders of an image name another split than the path of an annotation."""
    return bool(stated and frozenset().union(*map(split_words, image.folders)) - stated)


def _common_end(a: Sequence[str], b: Sequence[str]) -> int:
    count = 0
    for x, y in zip(reversed(a), reversed(b), strict=False):
        if _plain(x) != _plain(y):
            break
        count += 1
    return count


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
