"""Read COCO JSON: one file per split, as written by COCO, Roboflow (`_annotations.coco.json`) and most tools.

Category ids only identify names. They may be sparse, start at 0 or 1, or differ between the files of two splits;
internally, classes are numbered from 0 by name.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from typing import Any

from headstart.data.boxes.draft import Draft, DraftBox, DraftImage, Values, number
from headstart.data.boxes.files import ImageIndex, split_of_folders, split_of_name
from headstart.data.boxes.formats import BoxFormat
from headstart.data.file_tree import LocatedFile, clean_label, printable
from headstart.data.paths import PathFinder
from headstart.errors import DataError
from headstart.types.codes import ReadingKind, ReadingNote

__all__ = ["choose_coco", "load_coco", "read_coco"]

_MAX_BYTES = 2 << 30
_MAX_PROBED = 256 << 20  # the list of images of all of COCO takes 30 MB
_OTHER_KINDS = ("person_keypoints_", "captions_", "stuff_", "panoptic_", "image_info_")
_BBOX, _OUTLINE = BoxFormat("xywh"), BoxFormat("xyxy")
_KEYS = (b'"images"', b'"annotations"')


def choose_coco(files: Sequence[LocatedFile]) -> list[LocatedFile]:
    """Return the JSON files with `images` and `annotations`, without COCO's other tasks next to `instances_`."""
    selected = [f for f in files if _looks_like(f.path)]
    if any(f.file.startswith("instances_") for f in selected):
        selected = [f for f in selected if not f.file.startswith(_OTHER_KINDS)]
    return selected


def load_coco(path: str) -> Any:
    """Load a JSON file; NaN and infinity, which JSON does not allow, become numbers that are rejected later.

    Raises:
        DataError: The file is too large or not valid JSON.
    """
    shown = printable(os.path.basename(path))
    try:
        if os.path.getsize(path) > _MAX_BYTES:
            raise DataError(f"`{shown}` has more than {_MAX_BYTES >> 30} GB of JSON.", hint="split it by image")
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file)
    except OSError as error:
        raise DataError(f"cannot read `{shown}` ({error.strerror or error}).") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"`{shown}` is not JSON ({error}).", hint="export it again") from error


def read_coco(root: str, files: Sequence[LocatedFile], index: ImageIndex, finder: PathFinder) -> Draft:
    """Read annotation files.

    Args:
        root: The data folder.
        files: The JSON files, one per split or a single one.
        index: The images.
        finder: Path lookup.

    Raises:
        DataError: A file cannot be read.
        UsageError: A file names images outside the folder.
    """
    draft = Draft("COCO JSON", root)
    names: list[str] = []
    used_paths: set[tuple[str, str]] = set()
    order = {"train": 0, "val": 1, "test": 2}
    for file in sorted(files, key=lambda f: order.get(split_of_folders(f.folders) or split_of_name(f.file), 3)):
        value = load_coco(file.path)  # training images first: their categories define the class order
        if not isinstance(value, dict) or not isinstance(value.get("images"), list):
            draft.refuse(file.name, "bad-json", "no list `images`")
            continue
        split = split_of_folders(file.folders) or (split_of_name(file.file) if len(files) > 1 else "")
        categories = _categories(draft, file, value)
        names += [n for n in categories.values() if n not in names]
        images = _images(draft, file, value["images"], split, index, finder)
        _annotate(draft, file, value.get("annotations"), categories, images)
        for image in images.values():
            if image is None:
                continue
            if (image.file.path, split) in used_paths:
                draft.refuse(image.file.name, "second-annotation", f"`{file.name}` lists it a second time")
                continue
            used_paths.add((image.file.path, split))
            draft.images.append(image)
    draft.class_names = names
    return draft


def _categories(draft: Draft, file: LocatedFile, value: dict[str, Any]) -> dict[Any, str]:
    """Return names by category id."""
    names: dict[Any, str] = {}
    listed = value.get("categories")
    for item in listed if isinstance(listed, list) else ():
        if not isinstance(item, dict) or not _is_id(item.get("id")):
            draft.refuse(file.name, "bad-json", "a category has no id")
            continue
        name = clean_label(str(item.get("name") or "")) or f"category {item['id']}"
        if item["id"] in names and names[item["id"]] != name:
            draft.refuse(file.name, "bad-json", f"category {item['id']} is both `{names[item['id']]}` and `{name}`")
            continue
        names[item["id"]] = name
    return dict(sorted(names.items(), key=lambda kv: (isinstance(kv[0], str), kv[0])))


def _images(
    draft: Draft, file: LocatedFile, items: list[Any], split: str, index: ImageIndex, finder: PathFinder
) -> dict[Any, DraftImage | None]:
    """Return images by id; None where the file is missing, so that its boxes are not reported as well."""
    images: dict[Any, DraftImage | None] = {}
    for item in items:
        if not isinstance(item, dict) or not _is_id(item.get("id")) or not isinstance(item.get("file_name"), str):
            draft.refuse(file.name, "bad-json", "an image has no id or no file_name")
            continue
        key, name = item["id"], item["file_name"]
        if key in images:
            draft.refuse(file.name, "bad-json", f"two images have the id {key}; the second, `{name}`, is skipped")
            continue
        image = index.at(file.folders, name) or index.at((), name) or index.by_file(_image_folder(file, index), name)
        if image is None:
            resolved = finder.find(name, file.name)
            image = resolved if isinstance(resolved, LocatedFile) else None
        if image is None:
            images[key] = None
            draft.refuse(f"{file.name}: {name}", "no-image", "no such image")
            continue
        height, width = number(item.get("height")), number(item.get("width"))
        stated = None
        if height and width and 1 <= height < 1e6 and 1 <= width < 1e6:
            stated = (round(height), round(width))
        images[key] = DraftImage(image, file.name, split or split_of_folders(image.folders), stated, source=file.name)
    finder.refuse_outside(file.name)
    return images


def _image_folder(file: LocatedFile, index: ImageIndex) -> tuple[str, ...]:
    """Return the folder likely to hold the images of a file: its own, or one named after its split (`train2017`)."""
    if any(p.folders == file.folders for p in index.images):
        return file.folders
    stem = os.path.splitext(file.file)[0].removeprefix("instances_").casefold()
    for image in index.images:
        if image.folders and image.folders[-1].casefold() == stem:
            return image.folders
    return (*file.folders, split_of_name(file.file)) if split_of_name(file.file) else file.folders


def _annotate(
    draft: Draft, file: LocatedFile, items: Any, categories: dict[Any, str], images: dict[Any, DraftImage | None]
) -> None:
    """Add each annotation's box to its image."""
    outlines = 0
    for position, item in enumerate(items if isinstance(items, list) else (), start=1):
        if not isinstance(item, dict):
            draft.refuse(file.name, "bad-json", f"annotation number {position} is not an object")
            continue
        where = f"annotation {item.get('id', position)}"
        key, category = item.get("image_id"), item.get("category_id")
        if not _is_id(key) or key not in images:
            draft.refuse(file.name, "no-image", f"{where} belongs to image {key}, not in `images`")
            continue
        image = images[key]
        if image is None:
            continue
        if not _is_id(category) or category not in categories:
            draft.refuse(image.file.name, "no-class", f"{where} has the category {category}, not in `categories`")
            continue
        values, is_outline = _four_numbers(item.get("bbox")), False
        if values is None:
            values, is_outline = _bounding_box(item.get("segmentation")), True
        if values is None:
            draft.refuse(image.file.name, "no-box", f"{where} has no `bbox` of four numbers")
            continue
        is_crowd = bool(number(item.get("iscrowd")) or 0)
        outlines += is_outline
        label = categories[category]
        if is_outline:
            image.boxes.append(DraftBox(values, _OUTLINE, label, where, is_crowd, layout_source="outline"))
        else:
            image.boxes.append(DraftBox(values, _BBOX, label, where, is_crowd))
    if outlines:
        draft.notes.append(ReadingNote(ReadingKind.OUTLINES_BOXED, outlines, (), {"file": file.name}))


def _four_numbers(bbox: Any) -> Values | None:
    values = [number(v) for v in bbox] if isinstance(bbox, list) else []
    if len(values) != 4 or any(v is None for v in values):
        return None
    x, y, width, height = (float(v) for v in values if v is not None)
    return x, y, width, height


def _bounding_box(outline: Any) -> Values | None:
    """Return the bounding box of polygons `[[x, y, x, y ...] ...]`."""
    if not isinstance(outline, list):
        return None
    flat: list[float] = []
    for polygon in outline:
        values = [number(v) for v in polygon] if isinstance(polygon, list) else []
        if len(values) < 6 or len(values) % 2 or any(v is None or not math.isfinite(v) for v in values):
            return None
        flat += [v for v in values if v is not None]
    return (min(flat[::2]), min(flat[1::2]), max(flat[::2]), max(flat[1::2])) if flat else None


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _looks_like(path: str) -> bool:
    """Return whether both keys occur anywhere in the file; read in chunks, since they may be at its end."""
    missing, tail = set(_KEYS), b""
    try:
        with open(path, "rb") as file:
            while missing and file.tell() < _MAX_PROBED and (chunk := file.read(1 << 20)):
                missing = {k for k in missing if k not in tail + chunk}
                tail = chunk[-32:]
    except OSError:
        return False
    return not missing
