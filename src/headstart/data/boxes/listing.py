"""List the files of a dataset with boxes once, and name those that cannot be used as annotations."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cached_property

from headstart.data.boxes.coco import has_scores
from headstart.data.boxes.draft import Draft
from headstart.data.boxes.endings import ENDINGS
from headstart.data.boxes.files import ImageIndex, ImageLookup, list_files
from headstart.data.boxes.table import BoxTable, open_box_table
from headstart.data.boxes.yolo_dataset import is_name_file
from headstart.data.file_tree import FileTree, LocatedFile, matches_pattern, walk_files
from headstart.data.paths import PathFinder
from headstart.data.text import head_lines
from headstart.errors import DataError, UsageError
from headstart.types.codes import ReadingKind, ReadingNote
from headstart.types.records import Problem

__all__ = ["Listing", "refuse_predictions", "refuse_unknown"]

_PROBED = 25  # files of each kind that are opened for detection
_MAX_FOLDERS = 3
_UNREAD = (".tfrecord", ".ndjson", ".mdb")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:[.,]\d+)?(?![\w.])")


class Listing:
    """Files of a folder, listed once; images are listed only when needed.

    Args:
        root: The folder.
        allow_external_paths: Follow links that leave it.
        exclude: Patterns of files that are not read.
        problems: Members of archives that could not be unpacked.
    """

    def __init__(
        self, root: str, allow_external_paths: bool, exclude: Sequence[str] = (), problems: Sequence[Problem] = ()
    ) -> None:
        self.root, self.allow_external_paths, self.exclude = root, allow_external_paths, tuple(exclude)
        self.unpack_problems = tuple(problems)
        self.excluded: list[LocatedFile] = []

    def _is_excluded(self, file: LocatedFile) -> bool:
        return any(matches_pattern(file, pattern) for pattern in self.exclude)

    def check_exclude(self) -> None:
        """Raise an error if a pattern of `exclude` matches no file, as for labeled images.

        Raises:
            UsageError: It matches none.
        """
        if not self.exclude:
            return
        tree = walk_files(self.root, allow_external_paths=self.allow_external_paths)
        files = [*tree.images, *tree.tables, *tree.other_files, *tree.containers]
        for pattern in self.exclude:
            if not any(matches_pattern(file, pattern) for file in files):
                raise UsageError(
                    f"--exclude '{pattern}' matches no file.", hint="patterns are names or paths, e.g. '*.xml' or old/"
                )

    @cached_property
    def files(self) -> list[LocatedFile]:
        files = list_files(self.root, ENDINGS, allow_external_paths=self.allow_external_paths)
        return [f for f in files if not self._is_excluded(f)]

    @cached_property
    def tables(self) -> list[BoxTable]:
        """Return the first tables of boxes."""
        return [t for f in self.having(".csv", ".tsv")[:_PROBED] if (t := open_box_table(f)) is not None]

    @cached_property
    def predictions(self) -> list[LocatedFile]:
        """Return the files of predictions."""
        return [f for f in self.having(".json") if has_scores(f)] + [t.file for t in self.tables if t.has_scores]

    def prediction_notes(self) -> list[ReadingNote]:
        names = [f.name for f in self.predictions]
        return [ReadingNote(ReadingKind.PREDICTIONS_UNUSED, len(names), tuple(names[:5]))] if names else []

    def unused_notes(self, draft: Draft, notes: Sequence[ReadingNote]) -> list[ReadingNote]:
        """Return a note about files that may hold annotations, but were neither read nor named."""
        used = {image.annotation for image in draft.images} | {p.name.partition(": ")[0] for p in draft.problems}
        used |= {name for note in notes for name in (*note.examples, str(note.evidence.get("file", "")))}
        files = self.having(".xml", ".json", ".jsonl", ".csv", ".tsv", ".manifest", ".odgt", ".labels", ".ndjson")
        names = [f.name for f in files if f.name not in used and not is_name_file(f)]
        return [ReadingNote(ReadingKind.TABLES_UNUSED, len(names), tuple(names[:5]))] if names else []

    def lookup(self, auxiliary: set[str]) -> ImageLookup:
        """Return the lookup of images."""
        finder = PathFinder(self.root, allow_external_paths=self.allow_external_paths)
        return ImageLookup(ImageIndex(self.tree.images, auxiliary), finder)

    def having(self, *endings: str) -> list[LocatedFile]:
        return [f for f in self.files if os.path.splitext(f.file)[1].lower() in endings]

    @cached_property
    def tree(self) -> FileTree:
        tree = walk_files(self.root, allow_external_paths=self.allow_external_paths)
        tree.problems += self.unpack_problems
        for files in (tree.images, tree.tables, tree.other_files, tree.containers):
            self.excluded += [f for f in files if self._is_excluded(f)]
            files[:] = [f for f in files if not self._is_excluded(f)]
        return tree


def refuse_unknown(listed: Listing) -> None:
    """Raise if files accompany the images and hold numbers, but have no known format.

    Raises:
        DataError: They do.
    """
    few = len({image.folders for image in listed.tree.images}) <= _MAX_FOLDERS  # not folders of classes
    known = [f for f in listed.files if few and any(word in f.file.lower() for word in _UNREAD)]
    stems = {os.path.splitext(image.file)[0] for image in listed.tree.images}
    known = [f for f in known if not f.file.lower().endswith(".ndjson") or _names_boxes(f, 5)]
    tables = listed.having(".csv", ".tsv")[:_PROBED]
    known += tables if all(map(_names_boxes, tables)) else []  # other tables may hold labels of whole images
    sidecars = [f for f in listed.having(".txt", ".json", ".xml") if os.path.splitext(f.file)[0] in stems]
    numbered = [f for f in sidecars[:_PROBED] if _has_numbers(f)]
    if known or (stems and 2 * len(sidecars) >= len(stems) and 2 * len(numbered) > len(sidecars[:_PROBED])):
        files = known or numbered
        more = f", like {len(sidecars) - 1:,} more" if not known and len(sidecars) > 1 else ""
        raise DataError(
            f"`{files[0].name}` holds boxes in an unknown format{more}.",
            hint="export the annotations as COCO JSON, YOLO or Pascal VOC; --exclude leaves files out, "
            "and --task classify reads no boxes",
        )


def _names_boxes(file: LocatedFile, num_lines: int = 1) -> bool:
    """Return whether the first lines of a table have a name of boxes: its header, or JSON lines."""
    header = " ".join(head_lines(file.path, num_lines)).lower()
    return any(word in header for word in ("bbox", "boxes", "bounding", "xmin", "x_min", "ymin"))


def _has_numbers(file: LocatedFile) -> bool:
    """Return whether one of the first lines has at least four numbers."""
    return any(len(_NUMBER.findall(line)) >= 4 for line in head_lines(file.path, 40))


def refuse_predictions(file: LocatedFile) -> None:
    """Raise.

    Raises:
        DataError: Always.
    """
    raise DataError(
        f"`{file.name}` holds predictions (boxes with a score), which are not used as annotations.",
        hint="add the annotations, or remove the scores if these boxes are corrected ones",
    )
