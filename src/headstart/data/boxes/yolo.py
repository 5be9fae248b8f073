"""Read YOLO: a `data.yaml` (or `classes.txt`) and one text file per image, `class cx cy width height` as fractions.

Class names come from the data, never from guesses; without names, a class is called by its number. `data.yaml` is
read with `yaml.safe_load`, which builds values and runs nothing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from headstart.data.boxes.draft import Draft, DraftBox, DraftImage, Values, number
from headstart.data.boxes.files import ImageIndex, split_of_folders
from headstart.data.boxes.formats import BoxFormat
from headstart.data.file_tree import LocatedFile, clean_label, printable
from headstart.data.lists import first_lines
from headstart.errors import DataError, MissingExtraError
from headstart.types.codes import ReadingKind, ReadingNote

__all__ = ["Dataset", "find_labels", "is_box_line", "is_label_line", "read_dataset", "read_yolo"]

_NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "labels.txt", "class_names.txt", "names.txt")
_CENTER, _OUTLINE = BoxFormat("cxcywh", 1.0), BoxFormat("xyxy", 1.0)
_SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass
class Dataset:
    """Content of `data.yaml`.

    Attributes:
        names: Class name by number.
        places: (split, folder or list file as written).
        keypoints: Numbers per line after the box (`kpt_shape`), 0 without keypoints.
    """

    names: dict[int, str] = field(default_factory=dict)
    places: list[tuple[str, str]] = field(default_factory=list)
    keypoints: int = 0


def is_label_line(line: str) -> bool:
    """Return whether a line is `number fraction fraction fraction fraction ...`."""
    return _is_numbered(line, lambda v, _: -1 <= v <= 2)


def is_box_line(line: str) -> bool:
    """Return whether a line is a label line, or one with four numbers of any size (pixels) instead of fractions."""
    return _is_numbered(line, lambda v, count: -1 <= v <= 2 or (count == 4 and math.isfinite(v)))


def _is_numbered(line: str, is_fit: Callable[[float, int], bool]) -> bool:
    parts = line.split()
    values = [number(p) for p in parts[1:]]
    return len(values) >= 4 and parts[0].isdigit() and all(v is not None and is_fit(v, len(values)) for v in values)


def read_dataset(path: str) -> Dataset:
    """Read `data.yaml`.

    Raises:
        DataError: The file is not valid YAML, contains object tags (rejected for safety), or has no class names.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("reading a data.yaml", "train") from error
    shown = printable(os.path.basename(path))
    try:
        with open(path, encoding="utf-8-sig") as file:
            value = yaml.safe_load(file.read(1 << 22))
    except OSError as error:
        raise DataError(f"cannot read `{shown}` ({error.strerror or error}).") from error
    except yaml.constructor.ConstructorError as error:
        raise DataError(
            f"`{shown}` has a YAML tag that creates an object ({error.problem}), which is not allowed.",
            hint="use only names, numbers and lists",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(f"`{shown}` is not valid YAML: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"`{shown}` has no `name: value` lines; expected `names` and `train`.")
    dataset = Dataset(_names(value.get("names"), value.get("nc"), shown))
    shape = value.get("kpt_shape")
    if isinstance(shape, list) and len(shape) == 2 and all(isinstance(v, int) for v in shape):
        dataset.keypoints = shape[0] * shape[1]
    for key, split in _SPLIT_KEYS.items():
        places = value.get(key)
        for place in places if isinstance(places, list) else [places]:
            if isinstance(place, str) and place.strip():
                base = value.get("path")
                whole = (
                    f"{base}/{place}" if isinstance(base, str) and base.strip() and not _is_absolute(place) else place
                )
                dataset.places.append((split, whole.strip().replace("\\", "/")))
    return dataset


def find_labels(images: Sequence[LocatedFile], texts: Sequence[LocatedFile]) -> dict[str, LocatedFile]:
    """Return the label file by image path: in the parallel folder `labels`, else next to the image."""
    by_place = {(tuple(f.casefold() for f in t.folders), os.path.splitext(t.file)[0]): t for t in texts}
    label_files = {}
    for image in images:
        stem = os.path.splitext(image.file)[0]
        folders = tuple(f.casefold() for f in image.folders)
        places = [folders]
        for i in range(len(folders) - 1, -1, -1):
            if folders[i] in ("images", "jpegimages", "imgs"):
                places.insert(0, (*folders[:i], "labels", *folders[i + 1 :]))
        places += [(*folders, "labels"), ("labels", *folders)]
        text = next((by_place[p, stem] for p in places if (p, stem) in by_place), None)
        if text is not None and text.file not in _NAME_FILES:
            label_files[image.path] = text
    return label_files


def read_yolo(root: str, dataset_file: LocatedFile | None, texts: Sequence[LocatedFile], index: ImageIndex) -> Draft:
    """Read labels.

    Args:
        root: The data folder.
        dataset_file: `data.yaml`, or None.
        texts: All text files below the root.
        index: The images.

    Raises:
        DataError: `data.yaml` cannot be read.
    """
    draft = Draft("YOLO", root)
    dataset = read_dataset(dataset_file.path) if dataset_file else Dataset()
    if not dataset.names:
        dataset.names = _names_file(texts, draft)
    splits = _splits(draft, dataset, dataset_file, index)
    images = [p for p in index.images if not splits or p.path in splits]
    labels = find_labels(images, texts)
    used: set[int] = set()
    counts: dict[str, int] = {}
    for image in images:
        text = labels.get(image.path)
        split = splits.get(image.path, "") if splits else split_of_folders(image.folders)
        drafted = DraftImage(image, text.name if text else "", split)
        if text is not None:
            _read_lines(draft, drafted, text, dataset, used, counts)
        draft.images.append(drafted)
    draft.class_names = [dataset.names.get(k, str(k)) for k in sorted({*dataset.names, *used})]
    _note_use(draft, index, images, labels, texts, counts)
    if splits:
        unsplit = [p for p in index.images if p.path not in splits]
        draft.note_images(ReadingKind.IMAGES_IN_NO_SPLIT, unsplit, file=dataset_file.name if dataset_file else "")
    return draft


def _read_lines(
    draft: Draft, image: DraftImage, text: LocatedFile, dataset: Dataset, used: set[int], counts: dict[str, int]
) -> None:
    for line_number, line in enumerate(first_lines(text.path, 1_000_000), start=1):
        if not line.strip():
            continue
        where = f"line {line_number}"
        parts = line.split()
        values = [number(p) for p in parts]
        class_id = values[0]
        if len(parts) < 5 or any(v is None for v in values) or class_id is None:
            draft.refuse(text.name, "bad-line", f"{where} expected `class cx cy width height`")
            continue
        if class_id != class_id or class_id < 0 or class_id != int(min(class_id, 1e9)):
            draft.refuse(text.name, "no-class", f"{where} has the class {parts[0]}; expected a number from 0")
            continue
        if dataset.names and int(class_id) not in dataset.names:
            detail = f"{where} has the class {int(class_id)}, but there are only {len(dataset.names)} names"
            draft.refuse(text.name, "no-class", detail)
            continue
        box, kind = _box([float(v) for v in values[1:] if v is not None], dataset.keypoints)
        if kind == "odd":
            draft.refuse(
                text.name, "bad-line", f"{where} has {len(parts)} numbers, which is neither a box nor an outline"
            )
            continue
        used.add(int(class_id))
        counts[kind] = counts.get(kind, 0) + 1
        label = dataset.names.get(int(class_id), str(int(class_id)))
        if kind == "outline":
            image.boxes.append(DraftBox(box, _OUTLINE, label, where, layout_source="outline"))
        else:
            image.boxes.append(DraftBox(box, _CENTER, label, where))


def _box(values: list[float], keypoints: int) -> tuple[Values, str]:
    """Return the four numbers of a line, and whether it is a `box`, `scored`, `keypoints`, an `outline` or `odd`."""
    count = len(values)
    if count == 4 or count == 5 or (keypoints and count == 4 + keypoints):
        x, y, width, height = values[:4]
        return (x, y, width, height), "box" if count == 4 else "scored" if count == 5 else "keypoints"
    if count % 2:
        return (0.0, 0.0, 0.0, 0.0), "odd"
    return (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])), "outline"


def _names(names: Any, count: Any, shown: str) -> dict[int, str]:
    """Return names from a list or `number: name` lines."""
    listed = names if isinstance(names, list) else names.values() if isinstance(names, dict) else ()
    if not all(isinstance(n, (str, int, float)) for n in listed):  # a name is one word, not a structure
        raise DataError(f"`names` in `{shown}` must contain only class names.")
    if isinstance(names, list):
        by_id = {i: clean_label(str(n)) or str(i) for i, n in enumerate(names)}
    elif isinstance(names, dict) and all(str(k).isdigit() for k in names):
        by_id = {int(k): clean_label(str(n)) or str(k) for k, n in names.items()}
    elif names is None:
        return {}
    else:
        raise DataError(f"`names` in `{shown}` must be a list or `number: name` lines.")
    if isinstance(count, int) and count != len(by_id):
        raise DataError(
            f"`{shown}` states nc: {count} but has {len(by_id)} names.",
            hint="correct the wrong one; class ids depend on it",
        )
    return by_id


def _names_file(texts: Sequence[LocatedFile], draft: Draft) -> dict[int, str]:
    for wanted in _NAME_FILES:
        for text in texts:
            if text.file.casefold() == wanted:
                names = [clean_label(line) for line in first_lines(text.path, 100_000) if line.strip()]
                if names and not all(is_label_line(line) for line in names):
                    by_position = dict(enumerate(names))
                    by_id = {str(k): name for k, name in by_position.items()}
                    evidence = {"file": text.name, "names": by_id, "reason": "format", "first_id": 0}
                    draft.notes.append(ReadingNote(ReadingKind.NAMES_FROM_FILE, len(names), (), evidence))
                    return by_position
    return {}


def _splits(draft: Draft, dataset: Dataset, dataset_file: LocatedFile | None, index: ImageIndex) -> dict[str, str]:
    """Return splits by image path, from `data.yaml`; paths are looked up below the root only."""
    splits: dict[str, str] = {}
    if dataset_file is None:
        return splits
    moved: list[str] = []
    for split, path in dataset.places:
        images, is_moved = _look_up(path, dataset_file, index)
        if not images:
            shown = clean_label(path)
            draft.refuse(dataset_file.name, "no-images", f"`{split}: {shown}` has no image below the data folder")
        elif is_moved:
            moved.append(f"{split}: {clean_label(path)}")
        for image in images:
            if splits.get(image.path, split) != split:
                draft.refuse(image.name, "two-splits", f"in {splits[image.path]} and in {split}; the first one counts")
            splits.setdefault(image.path, split)
    if moved:
        note = ReadingNote(ReadingKind.PLACES_MOVED, len(moved), tuple(moved), {"file": dataset_file.name})
        draft.notes.append(note)
    return splits


def _look_up(path: str, dataset_file: LocatedFile, index: ImageIndex) -> tuple[list[LocatedFile], bool]:
    """Return the images at a path: below the YAML's folder, else where the path's end fits; and whether it moved."""
    parts = [p for p in path.split("/") if p not in ("", ".")]
    is_plain = ".." not in parts and not _is_absolute(path)
    plain = [p for p in parts if p != ".."]
    for start in range(len(plain)):
        tail = plain[start:]
        bases = [dataset_file.folders] if not dataset_file.folders else [dataset_file.folders, ()]
        for base in bases:
            folder = (*base, *tail)
            if tail[-1].casefold().endswith(".txt"):
                images = _listed(folder, dataset_file, index)
            else:
                images = [p for p in index.images if p.folders[: len(folder)] == folder]
            if images:
                return images, not is_plain or start > 0
    whole = [p for p in index.images if p.folders[: len(dataset_file.folders)] == dataset_file.folders]
    return (whole, False) if not plain and is_plain else ([], False)


def _listed(path: tuple[str, ...], dataset_file: LocatedFile, index: ImageIndex) -> list[LocatedFile]:
    """Return images of a list file (`train.txt`), one path per line."""
    root = dataset_file.path
    for _ in range(len(dataset_file.folders) + 1):
        root = os.path.dirname(root)
    images = []
    for line in first_lines(os.path.join(root, *path), 10_000_000):
        name = line.strip().removeprefix("./")
        image = index.at(path[:-1], name) or index.at((), name) or index.by_file(path[:-1], name)
        if name and image is not None:
            images.append(image)
    return images


def _is_absolute(path: str) -> bool:
    return path.startswith(("/", "\\")) or (len(path) > 1 and path[1] == ":")


def _note_use(
    draft: Draft,
    index: ImageIndex,
    images: Sequence[LocatedFile],
    labels: dict[str, LocatedFile],
    texts: Sequence[LocatedFile],
    counts: dict[str, int],
) -> None:
    """Note assumptions and unused parts of the dataset, and label files without image."""
    draft.note_images(ReadingKind.IMAGES_ASSUMED_EMPTY, [p for p in images if p.path not in labels])
    used = {t.path for t in find_labels(index.images, texts).values()}
    for text in texts:
        if text.path in used or text.file.casefold() in _NAME_FILES:
            continue
        first = next((line for line in first_lines(text.path) if line.strip()), "")
        if is_label_line(first):
            draft.refuse(text.name, "no-image", "no image with this name")
    if counts.get("outline"):
        evidence = {"is_mixed": bool(counts.get("box"))}
        draft.notes.append(ReadingNote(ReadingKind.OUTLINES_BOXED, counts["outline"], (), evidence))
    for kind, note in (("scored", ReadingKind.BOX_SCORES), ("keypoints", ReadingKind.KEYPOINTS)):
        if counts.get(kind):
            draft.notes.append(ReadingNote(note, counts[kind]))
