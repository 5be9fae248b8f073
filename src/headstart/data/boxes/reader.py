"""Detect the format of a dataset with boxes, and read it.

The format is detected from the files. If two formats hold boxes, a table next to XML, JSON or text files counts as a
copy of them; otherwise the error asks the user to choose.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from headstart.data.boxes.auxiliary import auxiliary_notes, find_auxiliary
from headstart.data.boxes.coco import choose_coco, read_coco
from headstart.data.boxes.draft import Draft
from headstart.data.boxes.files import ImageIndex, has_images, list_files, split_of_name
from headstart.data.boxes.formats import BOX_FORMATS
from headstart.data.boxes.records import DetectionSamples
from headstart.data.boxes.table import BoxTable, open_box_table, read_box_tables
from headstart.data.boxes.validation import validate_boxes
from headstart.data.boxes.voc import is_voc, read_voc
from headstart.data.boxes.yolo import find_labels, is_box_line, read_dataset, read_yolo
from headstart.data.file_tree import FileTree, LocatedFile, printable, resolve_path, walk_files
from headstart.data.lists import first_lines
from headstart.data.paths import PathFinder
from headstart.errors import DataError, UsageError
from headstart.types.codes import ReadingKind
from headstart.utils.limits import MAX_PIXELS

__all__ = ["FORMATS", "find_format", "has_boxes", "read_boxes"]

FORMATS = {"voc": "VOC XML", "coco": "COCO JSON", "yolo": "YOLO", "csv": "CSV"}
"""Names of the formats in messages."""

_PROBED = 25  # files of each kind that are opened for detection
_MAX_TEXTS = 500  # text files searched for a line of YOLO
_DATASET = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_ENDINGS = (".xml", ".json", ".yaml", ".yml", ".txt", ".csv", ".tsv")


@dataclass(frozen=True)
class _DetectedFormat:
    """A format found in the data: its name, an example file for messages, and its reader."""

    kind: str
    example: str
    read: Callable[[], Draft]


def find_format(data: str | os.PathLike[str], *, allow_external_paths: bool = False) -> str | None:
    """Return the box format of a folder or file: `voc`, `coco`, `yolo`, `csv`, or None without boxes.

    Raises:
        UsageError: Two formats hold boxes, and neither is a copy of the other.
    """
    path = os.fspath(data)
    if not os.path.exists(path):
        return None
    detected = _find(path, allow_external_paths)
    return detected.kind if detected else None


def has_boxes(data: str | os.PathLike[str], task: str = "auto", *, allow_external_paths: bool = False) -> bool:
    """Return whether the task is detection, as set by the user or detected from the data.

    Raises:
        UsageError: Unknown task.
    """
    if task not in ("auto", "classify", "detect"):
        raise UsageError(f"unknown task `{task}`.", hint="use --task classify, --task detect or --task auto")
    if task != "auto":
        return task == "detect"
    try:
        return find_format(data, allow_external_paths=allow_external_paths) is not None
    except UsageError:  # two box formats mean boxes; the reader reports which two
        return True


def read_boxes(
    data: str | os.PathLike[str],
    *,
    allow_external_paths: bool = False,
    max_pixels: int = MAX_PIXELS,
    box_format: str | None = None,
) -> DetectionSamples:
    """Read images with boxes.

    Args:
        data: A folder, a COCO JSON, a YOLO `data.yaml`, or a table of boxes.
        allow_external_paths: Follow links and paths that leave the data folder.
        max_pixels: Larger images are refused.
        box_format: Meaning of the four numbers of every box, one of `formats.BOX_FORMATS`; None uses the stated
            format of each file if it fits its values.

    Returns:
        All usable images; `problems` lists unusual or dropped boxes and files.

    Raises:
        BoxFormatError: The boxes of a file do not fit its stated format, and no other one is certain.
        DataError: There is nothing to learn from.
        UsageError: Two formats fit, a file names images outside the folder, or `box_format` is unknown.
    """
    if box_format is not None and box_format not in BOX_FORMATS:
        raise UsageError(f"unknown box format `{box_format}`.", hint="one of: " + ", ".join(BOX_FORMATS))
    path, shown = resolve_path(data, "a folder of images with boxes")
    if path.lower().endswith(".zip"):
        raise UsageError(
            f"`{shown}` is an archive; boxes are read from folders only.", hint="unpack it, and pass the folder"
        )
    detected = _find(path, allow_external_paths)
    if detected is None:
        raise DataError(
            f"`{shown}` has no boxes; expected VOC XML, COCO JSON, YOLO text files or a CSV with xmin,ymin,xmax,ymax.",
            hint="put images and annotations into one folder; class folders without boxes need --task classify",
        )
    return validate_boxes(detected.read(), max_pixels=max_pixels, box_format=box_format)


def _find(path: str, allow_external_paths: bool) -> _DetectedFormat | None:
    if os.path.isfile(path):
        return _find_file(path, allow_external_paths)
    root = _with_images(os.path.abspath(path))
    listed = _Listed(root, allow_external_paths)
    if not listed.files:
        return None
    detected = [f for f in (_voc(listed), _coco(listed), _yolo(listed)) if f]
    if len(detected) > 1:
        raise UsageError(
            "two formats fit: " + " and ".join(f"{FORMATS[f.kind]} (`{f.example}`)" for f in detected) + ".",
            hint="move one of them away, or pass the file itself (a .json, a data.yaml or a .csv)",
        )
    return detected[0] if detected else _csv(listed)


def _find_file(path: str, allow_external_paths: bool) -> _DetectedFormat | None:
    folder, file = os.path.split(os.path.abspath(path))
    ending = os.path.splitext(file)[1].lower()
    single_file = LocatedFile(os.path.join(folder, file), (), file)
    if ending in (".csv", ".tsv"):
        if open_box_table(single_file) is None:
            return None
    elif not (ending in (".yaml", ".yml") or (ending == ".json" and choose_coco([single_file]))):
        return None  # the folder of a file without boxes is not searched
    listed = _Listed(_with_images(folder), allow_external_paths)
    inner = os.path.relpath(folder, listed.root)
    located = LocatedFile(single_file.path, () if inner == "." else tuple(inner.split(os.sep)), file)
    if ending == ".json":
        return _DetectedFormat("coco", file, lambda: _read_coco(listed, [located]))
    if ending in (".yaml", ".yml"):
        return _DetectedFormat("yolo", file, lambda: _read_yolo(listed, located))
    table = open_box_table(located)
    assert table is not None
    return _DetectedFormat("csv", file, lambda: _read_csv(listed, [table]))


def _read_csv(listed: _Listed, tables: list[BoxTable]) -> Draft:
    return _finish_listed(
        read_box_tables(listed.root, tables, allow_external_paths=listed.allow_external_paths), listed
    )


class _Listed:
    """Files of a folder, listed once; images are listed only when needed.

    Args:
        root: The folder.
        allow_external_paths: Follow links that leave it.
    """

    def __init__(self, root: str, allow_external_paths: bool) -> None:
        self.root, self.allow_external_paths = root, allow_external_paths

    @cached_property
    def files(self) -> list[LocatedFile]:
        return list_files(self.root, _ENDINGS, allow_external_paths=self.allow_external_paths)

    def having(self, *endings: str) -> list[LocatedFile]:
        return [f for f in self.files if os.path.splitext(f.file)[1].lower() in endings]

    @cached_property
    def tree(self) -> FileTree:
        return walk_files(self.root, allow_external_paths=self.allow_external_paths)


def _with_images(folder: str) -> str:
    """Return the folder, or its parent if it holds annotations only (`Annotations/` next to `JPEGImages/`)."""
    if has_images(folder):
        return folder
    above = os.path.dirname(folder)
    try:
        names = {n.casefold() for n in os.listdir(above)} if above != folder else set()
    except OSError:
        return folder
    return above if names & {"images", "jpegimages", "imgs", "train", "train2017", "val2017"} else folder


def _voc(listed: _Listed) -> _DetectedFormat | None:
    files = listed.having(".xml")
    first = next((f for f in files[:_PROBED] if is_voc(f.path)), None)
    if first is None:
        return None

    def read() -> Draft:
        kept = [f for f in files if is_voc(f.path)] if any(not is_voc(f.path) for f in files[:_PROBED]) else files
        auxiliary = find_auxiliary(listed.tree.images, _by_stem(listed.tree.images, kept))
        draft = read_voc(listed.root, kept, listed.having(".txt"), ImageIndex(listed.tree.images, auxiliary))
        return _finish(draft, listed, auxiliary)

    return _DetectedFormat("voc", first.name, read)


def _coco(listed: _Listed) -> _DetectedFormat | None:
    files = choose_coco(listed.having(".json"))
    return _DetectedFormat("coco", files[0].name, lambda: _read_coco(listed, files)) if files else None


def _read_coco(listed: _Listed, files: list[LocatedFile]) -> Draft:
    finder = PathFinder(listed.root, allow_external_paths=listed.allow_external_paths)
    index = ImageIndex(listed.tree.images, find_auxiliary(listed.tree.images, {}))
    draft = read_coco(listed.root, files, index, finder)
    draft.notes += finder.notes()
    return _finish_listed(draft, listed)


def _finish_listed(draft: Draft, listed: _Listed) -> Draft:
    """Note the images that no annotation file lists; masks and previews separately."""
    used = {p.file.path: p.file.path for p in draft.images}
    auxiliary = find_auxiliary(listed.tree.images, used) - set(used)
    rest = [p for p in listed.tree.images if p.path not in used and p.path not in auxiliary]
    draft.note_images(ReadingKind.IMAGES_NOT_ANNOTATED, rest)
    return _finish(draft, listed, auxiliary)


def _finish(draft: Draft, listed: _Listed, auxiliary: set[str]) -> Draft:
    """Add problems and notes about all files of the folder."""
    auxiliary -= {p.file.path for p in draft.images}
    draft.notes += auxiliary_notes(listed.tree.images, auxiliary)
    draft.problems += listed.tree.problems
    return draft


def _by_stem(images: Sequence[LocatedFile], files: Sequence[LocatedFile]) -> dict[str, str]:
    """Return the annotation file name of each image with the same stem, by path: same folder first, then any folder."""
    by_stem: dict[str, list[LocatedFile]] = defaultdict(list)
    for image in images:
        by_stem[os.path.splitext(image.file)[0].casefold()].append(image)
    name_of: dict[str, str] = {}
    for file in files:
        members = by_stem.get(os.path.splitext(file.file)[0].casefold(), [])
        for image in [m for m in members if m.folders == file.folders] or members:
            name_of.setdefault(image.path, file.name)
    return name_of


def _yolo(listed: _Listed) -> _DetectedFormat | None:
    dataset = _dataset_file(listed)
    if dataset is not None:
        return _DetectedFormat("yolo", dataset.name, lambda: _read_yolo(listed, dataset))
    texts = [t for t in listed.having(".txt")[:_MAX_TEXTS] if _may_be_label(t)]
    if not texts:
        return None
    labels = list(find_labels(listed.tree.images, texts).values())
    return _DetectedFormat("yolo", labels[0].name, lambda: _read_yolo(listed, None)) if labels else None


def _may_be_label(text: LocatedFile) -> bool:
    """Return whether all of the first lines are label lines."""
    lines = [line for line in first_lines(text.path) if line.strip()]
    return bool(lines) and all(is_box_line(line) for line in lines)


def _dataset_file(listed: _Listed) -> LocatedFile | None:
    """Return the YAML file with `names` and `train`, the topmost first."""
    files = listed.having(".yaml", ".yml")
    files.sort(key=lambda f: (len(f.folders), f.file.lower() not in _DATASET))
    for file in files[:_PROBED]:
        lines = first_lines(file.path, 5000)
        keys = {line.partition(":")[0].strip() for line in lines if line[:1].isalpha()}
        if "names" in keys and keys & {"train", "val", "nc"}:
            return file
    return None


def _read_yolo(listed: _Listed, dataset: LocatedFile | None) -> Draft:
    if dataset is not None:
        read_dataset(dataset.path)  # a broken one is reported first
    texts = listed.having(".txt")
    labels = {path: text.name for path, text in find_labels(listed.tree.images, texts).items()}
    auxiliary = find_auxiliary(listed.tree.images, labels)
    draft = read_yolo(listed.root, dataset, texts, ImageIndex(listed.tree.images, auxiliary))
    return _finish(draft, listed, auxiliary)


def _csv(listed: _Listed) -> _DetectedFormat | None:
    files = listed.having(".csv", ".tsv")
    upper = min((len(f.folders) for f in files), default=0)
    tables = [t for t in (open_box_table(f) for f in files if len(f.folders) <= upper + 1) if t is not None]
    if not tables:
        return None
    if len(tables) > 1:
        splits = [split_of_name(t.file.file) for t in tables]
        if not all(splits) or max(Counter(splits).values()) > 1:
            raise UsageError(
                "several tables hold boxes: " + ", ".join(f"`{t.file.name}`" for t in tables[:6]) + ".",
                hint=f"pass the right one: {printable(tables[0].file.path)}",
            )
    return _DetectedFormat("csv", tables[0].file.name, lambda: _read_csv(listed, tables))
