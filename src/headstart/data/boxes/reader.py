"""Detect the format of a dataset with boxes, and read it.

The format is detected from the files. Formats that hold the same boxes are one dataset, read in the first format; a
table next to other annotations counts as a copy of them. Files of predictions are never read.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headstart.data.archives import Unpacked, is_unsupported_archive
from headstart.data.boxes.auxiliary import auxiliary_notes, find_auxiliary
from headstart.data.boxes.coco import choose_coco, has_scores, holds, load_json, read_coco
from headstart.data.boxes.cvat import CVAT
from headstart.data.boxes.draft import Draft
from headstart.data.boxes.entries import Entry, Tool, read_entries
from headstart.data.boxes.files import ImageIndex, has_images, split_of_folders, split_of_name
from headstart.data.boxes.formats import parse_requested
from headstart.data.boxes.inventory import box_inventory
from headstart.data.boxes.json_tools import JSON_TOOLS
from headstart.data.boxes.listing import Listing, refuse_predictions, refuse_unknown
from headstart.data.boxes.packed import may_hold_boxes, unpack_boxes
from headstart.data.boxes.records import DetectionSamples
from headstart.data.boxes.table import BoxTable, name_open_images, open_box_table, read_box_tables
from headstart.data.boxes.text_tools import TEXT_TOOLS
from headstart.data.boxes.validation import validate_boxes
from headstart.data.boxes.voc import is_voc, parse_xml, read_voc
from headstart.data.boxes.yolo import find_labels, is_box_line, read_yolo
from headstart.data.boxes.yolo_dataset import find_name_lists, is_name_file, name_numbers, read_dataset
from headstart.data.file_tree import LocatedFile, printable, resolve_path
from headstart.data.text import head_lines, text_lines
from headstart.errors import DataError, HeadstartError, UsageError
from headstart.types.codes import ReadingKind, ReadingNote, UnusedReason
from headstart.utils.limits import MAX_PIXELS

__all__ = ["FORMATS", "find_format", "has_boxes", "read_boxes"]

_TOOLS = (*JSON_TOOLS, CVAT, *TEXT_TOOLS)
FORMATS = {"voc": "VOC XML", "coco": "COCO JSON", "yolo": "YOLO", "csv": "CSV"} | {t.kind: t.title for t in _TOOLS}
"""Names of the formats in messages."""

_PROBED = 25  # files of each kind that are opened for detection
_MAX_TEXTS = 500  # text files searched for a line of YOLO
_MAX_PROBED = 64 << 20  # bytes of a file that is parsed for detection
_DATASET = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


@dataclass(frozen=True)
class _DetectedFormat:
    """A format found in the data: its name, an example file for messages, and its reader."""

    kind: str
    example: str
    read: Callable[[], Draft]


def find_format(
    data: str | os.PathLike[str],
    *,
    allow_external_paths: bool = False,
    exclude: Sequence[str] = (),
    name_encoding: str | None = None,
) -> str | None:
    """Return the box format of a folder or file, a key of `FORMATS` (the first of several), or None without boxes.

    Raises:
        DataError: The only annotations are predictions.
    """
    path = os.fspath(data)
    try:
        if not os.path.exists(path) or not may_hold_boxes(path):
            return None
    except HeadstartError:  # an archive that cannot be read; the reader of labels says why
        return None
    _, detected = _find(unpack_boxes(path, name_encoding), allow_external_paths, exclude)
    return detected[0].kind if detected else None


def has_boxes(
    data: str | os.PathLike[str],
    *,
    allow_external_paths: bool = False,
    exclude: Sequence[str] | None = None,
    name_encoding: str | None = None,
) -> bool:
    """Return whether a dataset has boxes, readable or not."""
    try:
        return (
            find_format(
                data, allow_external_paths=allow_external_paths, exclude=exclude or (), name_encoding=name_encoding
            )
            is not None
        )
    except HeadstartError:  # boxes that cannot be read; the reader says why
        return True


def read_boxes(
    data: str | os.PathLike[str],
    *,
    allow_external_paths: bool = False,
    max_pixels: int = MAX_PIXELS,
    box_format: str | None = None,
    exclude: Sequence[str] | None = None,
    name_encoding: str | None = None,
) -> DetectionSamples:
    """Read images with boxes.

    Args:
        data: A folder, an archive (.zip, .tar), a folder of them, a COCO JSON, a YOLO `data.yaml`, a table.
        allow_external_paths: Follow links and paths that leave the data folder.
        max_pixels: Larger images are refused.
        box_format: Meaning of the four numbers of every box, see `formats.parse_requested`; None uses the stated
            format of each file if it fits its values.
        exclude: Patterns of annotation files and folders that are not read, e.g. `*.xml` or `old/*`.
        name_encoding: Encoding of file names in archives that do not state it; None guesses it.

    Returns:
        All usable images; `problems` lists unusual or dropped boxes and files.

    Raises:
        BoxFormatError: The boxes of a file do not fit its stated format, and no other one is certain.
        DataError: There is nothing to learn from.
        UsageError: Two formats fit, a file names images outside the folder, a pattern of `exclude` matches no file, or
            `box_format` or `name_encoding` is unknown.
    """
    requested = parse_requested(box_format)
    path, shown = resolve_path(data, "a folder of images with boxes")
    if is_unsupported_archive(path):
        raise UsageError(f"`{shown}` is an unsupported archive.", hint="unpack it, and pass the folder")
    place = unpack_boxes(path, name_encoding)
    listed, detected = _find(place, allow_external_paths, exclude or ())
    listed.check_exclude()
    if not detected:
        raise DataError(
            f"`{shown}` has no boxes; expected VOC XML, COCO JSON, YOLO text files, a CSV with xmin,ymin,xmax,ymax, or "
            "files of an annotation tool.",
            hint="put images and annotations into one folder; class folders without boxes need --task classify",
        )
    every = [(f, f.read()) for f in detected]
    kept = [(f, draft) for f, draft in every if not _is_predicted(draft)] or every
    listed.predictions += [LocatedFile("", (), f.example) for f, draft in every if (f, draft) not in kept]
    detected, drafts = [f for f, _ in kept], [draft for _, draft in kept]
    samples = validate_boxes(drafts[0], max_pixels=max_pixels, requested=requested)
    notes = [*place.notes, *samples.notes, *listed.prediction_notes()]
    for other, draft in zip(detected[1:], drafts[1:], strict=True):
        _refuse_other(samples, detected[0], other, validate_boxes(draft, max_pixels=max_pixels, requested=requested))
        notes.append(ReadingNote(ReadingKind.ANNOTATIONS_COPIED, len(draft.images), (other.example,)))
    is_folder = os.path.isdir(place.folder)
    notes += listed.unused_notes(drafts[0], notes) if is_folder else []
    inventory = box_inventory(samples, drafts, listed if is_folder else None)
    return replace(samples, notes=tuple(notes), inventory=inventory)


def _is_predicted(draft: Draft) -> bool:
    """Return whether a format holds predictions only."""
    has_predictions = any(p.kind == "prediction" for p in draft.problems)
    return has_predictions and not any(image.boxes for image in draft.images)


def _refuse_other(
    samples: DetectionSamples, first: _DetectedFormat, second: _DetectedFormat, other: DetectionSamples
) -> None:
    """Raise if two formats hold different boxes.

    Raises:
        UsageError: They do.
    """
    if _box_set(samples) != _box_set(other) and not _are_close(samples, other):
        raise UsageError(
            f"two formats fit and differ: {FORMATS[first.kind]} (`{first.example}`) and {FORMATS[second.kind]} "
            f"(`{second.example}`).",
            hint=f"ignore one with --exclude, e.g. --exclude '*{os.path.splitext(second.example)[1]}', or pass the "
            "file itself",
        )


def _box_set(samples: DetectionSamples) -> dict[str, list[tuple[Any, ...]]]:
    return {
        name: sorted(
            (samples.class_names[k], *np.rint(xyxy).tolist()) for xyxy, k in zip(b.xyxy, b.class_ids, strict=True)
        )
        for name, b in zip(samples.names, samples.boxes, strict=True)
    }


def _are_close(samples: DetectionSamples, other: DetectionSamples) -> bool:
    """Return whether two readings have the same images, classes and boxes within two pixels."""
    a, b = _box_set(samples), _box_set(other)
    if a.keys() != b.keys() or any(len(a[name]) != len(b[name]) for name in a):
        return False
    pairs = [(x, y) for name in a for x, y in zip(a[name], b[name], strict=True)]
    return all(x[0] == y[0] and max(abs(p - q) for p, q in zip(x[1:], y[1:], strict=True)) <= 2 for x, y in pairs)


def _find(place: Unpacked, allow_external_paths: bool, exclude: Sequence[str]) -> tuple[Listing, list[_DetectedFormat]]:
    """Return the files and the formats that hold boxes.

    Raises:
        DataError: The only annotations are predictions.
    """
    if os.path.isfile(place.folder):
        return _find_file(place.folder, allow_external_paths, exclude)
    root = os.path.abspath(place.folder) if place.depth else _with_images(os.path.abspath(place.folder))
    listed = Listing(root, allow_external_paths and not place.depth, exclude, place.problems)
    if not listed.files:
        return listed, []
    detected = [f for f in (_voc(listed), _coco(listed), _yolo(listed)) if f]
    detected += [found for tool in _TOOLS if (found := _tool(listed, tool, detected)) is not None]
    detected = detected or [f for f in (_csv(listed),) if f]
    predictions = listed.predictions
    if not detected and predictions and listed.tree.images:
        refuse_predictions(predictions[0])
    if not detected:
        refuse_unknown(listed)
    return listed, detected


def _find_file(path: str, allow_external_paths: bool, exclude: Sequence[str]) -> tuple[Listing, list[_DetectedFormat]]:
    folder, file = os.path.split(os.path.abspath(path))
    ending = os.path.splitext(file)[1].lower()
    single = LocatedFile(os.path.join(folder, file), (), file)
    nothing = Listing(folder, allow_external_paths, exclude)
    tool = next((tool for tool in _TOOLS if ending in tool.endings and ending != ".txt" and _is_of(tool, single)), None)
    is_coco, table = False, None
    if ending in (".csv", ".tsv"):
        table = open_box_table(single)
        if table is not None and table.has_scores:
            refuse_predictions(single)
    elif ending == ".json":
        if has_scores(single):
            refuse_predictions(single)
        is_coco = bool(choose_coco([single]))
    if ending in (".json", ".jsonl") and not is_coco and tool is None:
        table = open_box_table(single)
    if tool is None and table is None and not is_coco and ending not in (".yaml", ".yml"):
        return nothing, []  # the folder of a file without boxes is not searched
    listed = Listing(_with_images(folder), allow_external_paths, exclude)
    inner = os.path.relpath(folder, listed.root)
    located = LocatedFile(single.path, () if inner == "." else tuple(inner.split(os.sep)), file)
    if is_coco:
        return listed, [_DetectedFormat("coco", file, lambda: _read_coco(listed, [located]))]
    if tool is not None:
        return listed, [_DetectedFormat(tool.kind, file, lambda: _read_tool(listed, tool, [located]))]
    if table is None:
        return listed, [_DetectedFormat("yolo", file, lambda: _read_yolo(listed, located))]
    opened = replace(table, file=located)
    return listed, [_DetectedFormat("csv", file, lambda: _read_csv(listed, [opened]))]


def _read_csv(listed: Listing, tables: list[BoxTable]) -> Draft:
    draft = read_box_tables(listed.root, tables, listed.lookup(find_auxiliary(listed.tree.images, {})))
    name_numbers(draft, find_name_lists([f for f in listed.files if is_name_file(f)]))
    name_open_images(draft, listed.having(".csv"))
    return _finish_listed(draft, listed)


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


def _voc(listed: Listing) -> _DetectedFormat | None:
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


def _coco(listed: Listing) -> _DetectedFormat | None:
    files = choose_coco(listed.having(".json"))
    return _DetectedFormat("coco", files[0].name, lambda: _read_coco(listed, files)) if files else None


def _read_coco(listed: Listing, files: list[LocatedFile]) -> Draft:
    lookup = listed.lookup(find_auxiliary(listed.tree.images, {}))
    draft = read_coco(listed.root, files, lookup)
    draft.notes += lookup.notes()
    return _finish_listed(draft, listed)


def _tool(listed: Listing, tool: Tool, others: Sequence[_DetectedFormat]) -> _DetectedFormat | None:
    """Return the files of a tool; text files only where no YOLO was found."""
    if ".txt" in tool.endings and any(f.kind in ("yolo", *(t.kind for t in TEXT_TOOLS)) for f in others):
        return None
    candidates = [f for f in listed.having(*tool.endings) if not is_name_file(f) or f.file.endswith(".labels")]
    files = [f for f in candidates[:_PROBED] if _is_of(tool, f)]
    if not files or not listed.tree.images:
        return None
    if ".txt" in tool.endings:  # others of the same folders are empty or damaged
        folders = {f.folders for f in files}
        files = [f for f in candidates if f.folders in folders]
    else:
        files += [f for f in candidates[_PROBED:] if _is_of(tool, f)]
    return _DetectedFormat(tool.kind, files[0].name, lambda: _read_tool(listed, tool, files))


def _is_of(tool: Tool, file: LocatedFile) -> bool:
    """Return whether a file is one of a tool, from its words and its content."""
    try:
        if os.path.getsize(file.path) > _MAX_PROBED or not holds(file.path, tool.keys):
            return False
        value = _parse(file)
        return value is not None and bool(tool.is_mine(value))
    except (HeadstartError, OSError, AttributeError, TypeError, ValueError):
        return False


def _parse(file: LocatedFile, draft: Draft | None = None) -> Any:
    """Return the content of a file: the value of JSON, the objects of JSON lines, the root of XML, lines of text.

    Raises:
        DataError: It is not JSON.
    """
    ending = os.path.splitext(file.file)[1].lower()
    if ending == ".xml":
        return parse_xml(draft or Draft("", ""), file, "annotations", defaultdict(list))
    if ending in (".manifest", ".jsonl", ".odgt"):
        return [json.loads(line) for line in text_lines(file.path) if line.strip()]
    if ending == ".csv":
        return [*csv.DictReader(text_lines(file.path))]
    return text_lines(file.path) if ending == ".txt" else load_json(file.path)


def _read_tool(listed: Listing, tool: Tool, files: Sequence[LocatedFile]) -> Draft:
    draft = Draft(tool.title, listed.root)
    lookup = listed.lookup(find_auxiliary(listed.tree.images, _by_stem(listed.tree.images, files)))

    def entries(file: LocatedFile) -> list[Entry]:
        try:
            return list(tool.read(draft, file, _parse(file, draft)))
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            draft.refuse(file.name, "bad-json", f"not as {tool.title} is written ({type(error).__name__}: {error})")
            return []

    read_entries(draft, ((file, entries(file)) for file in files), lookup)
    if tool.is_numbered:
        name_numbers(draft, find_name_lists([f for f in listed.files if is_name_file(f)]))
    return _finish_listed(draft, listed)


def _finish_listed(draft: Draft, listed: Listing) -> Draft:
    """Note the images that no annotation file lists; masks and previews separately."""
    used = {p.file.path: p.file.path for p in draft.images}
    auxiliary = find_auxiliary(listed.tree.images, used) - set(used)
    rest = [p for p in listed.tree.images if p.path not in used and p.path not in auxiliary]
    draft.note_images(ReadingKind.IMAGES_NOT_ANNOTATED, rest)
    draft.leave_out(UnusedReason.NOT_IN_TABLE, rest)
    return _finish(draft, listed, auxiliary)


def _finish(draft: Draft, listed: Listing, auxiliary: set[str]) -> Draft:
    """Add problems and notes about all files of the folder."""
    auxiliary -= {p.file.path for p in draft.images}
    draft.notes += auxiliary_notes(listed.tree.images, auxiliary)
    draft.leave_out(UnusedReason.AUXILIARY, (f for f in listed.tree.images if f.path in auxiliary))
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


def _yolo(listed: Listing) -> _DetectedFormat | None:
    dataset = _dataset_file(listed)
    if dataset is not None:
        return _DetectedFormat("yolo", dataset.name, lambda: _read_yolo(listed, dataset))
    texts = [t for t in listed.having(".txt")[:_MAX_TEXTS] if not is_name_file(t) and _may_be_label(t)]
    if not texts:
        return None
    labels = list(find_labels(listed.tree.images, texts).values())
    if labels and any(_is_of(tool, labels[0]) for tool in TEXT_TOOLS):
        return None
    return _DetectedFormat("yolo", labels[0].name, lambda: _read_yolo(listed, None)) if labels else None


def _may_be_label(text: LocatedFile) -> bool:
    """Return whether all of the first lines are label lines."""
    lines = [line for line in head_lines(text.path) if line.strip()]
    return bool(lines) and all(is_box_line(line) for line in lines)


def _dataset_file(listed: Listing) -> LocatedFile | None:
    """Return the YAML file with `names` and `train`, the topmost first."""
    files = listed.having(".yaml", ".yml")
    files.sort(key=lambda f: (len(f.folders), f.file.lower() not in _DATASET))
    for file in files[:_PROBED]:
        lines = head_lines(file.path, 5000)
        keys = {line.partition(":")[0].strip() for line in lines if line[:1].isalpha()}
        if "names" in keys and keys & {"train", "val", "nc"}:
            return file
    return None


def _read_yolo(listed: Listing, dataset: LocatedFile | None) -> Draft:
    if dataset is not None:
        read_dataset(dataset.path)  # a broken one is reported first
    elif darknet := [f for f in listed.having(".data") if any("=" in line for line in head_lines(f.path))]:
        dataset = darknet[0]
    texts = listed.having(".txt")
    labels = {path: text.name for path, text in find_labels(listed.tree.images, texts).items()}
    auxiliary = find_auxiliary(listed.tree.images, labels)
    names = [f for f in listed.files if is_name_file(f)]
    draft = read_yolo(listed.root, dataset, texts, ImageIndex(listed.tree.images, auxiliary), names)
    return _finish(draft, listed, auxiliary)


def _csv(listed: Listing) -> _DetectedFormat | None:
    files = listed.having(".csv", ".tsv", ".json", ".jsonl")
    upper = min((len(f.folders) for f in files), default=0)
    tables = [t for t in (open_box_table(f) for f in files if len(f.folders) <= upper + 1) if t and not t.has_scores]
    if not tables:
        return None
    if len(tables) > 1:
        splits = [split_of_name(t.file.file) or split_of_folders(t.file.folders) for t in tables]
        if not all(splits) or max(Counter(splits).values()) > 1:
            raise UsageError(
                "several tables hold boxes: " + ", ".join(f"`{t.file.name}`" for t in tables[:6]) + ".",
                hint=f"pass the right one: {printable(tables[0].file.path)}",
            )
    return _DetectedFormat("csv", tables[0].file.name, lambda: _read_csv(listed, tables))
