"""Read COCO JSON: one file per split, as written by COCO, Roboflow (`_annotations.coco.json`) and most tools.

Category ids only identify names. They may be sparse, start at 0 or 1, or differ between the files of two splits;
internally, classes are numbered from 0 by name.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from headstart.data.boxes.draft import Draft, DraftBox, DraftImage, Values, class_label, ignore_reason, is_id, number
from headstart.data.boxes.files import ImageLookup, split_of_folders, split_of_name
from headstart.data.boxes.formats import BoxFormat
from headstart.data.boxes.outlines import bounds, mask_bounds
from headstart.data.file_tree import LocatedFile, printable
from headstart.data.text import decode
from headstart.errors import DataError
from headstart.types.codes import ReadingKind, ReadingNote

__all__ = ["choose_coco", "has_scores", "holds", "load_json", "read_coco"]

_MAX_BYTES = 2 << 30
_MAX_PROBED = 256 << 20  # the list of images of all of COCO takes 30 MB
_OTHER_KINDS = ("person_keypoints_", "captions_", "stuff_", "panoptic_", "image_info_")
_BBOX, _OUTLINE = BoxFormat("xywh"), BoxFormat("xyxy")
_KEYS = (b'"images"', b'"annotations"')


def choose_coco(files: Sequence[LocatedFile]) -> list[LocatedFile]:
    """Return the JSON files with `images` and `annotations`, without COCO's other tasks next to `instances_`.

    Files of predictions, whose annotations have scores, are left out; see `has_scores`.
    """
    selected = [f for f in files if holds(f.path, _KEYS) and not has_scores(f) and not _has_labels_only(f)]
    if any(f.file.startswith("instances_") for f in selected):
        selected = [f for f in selected if not f.file.startswith(_OTHER_KINDS)]
    return selected


def _has_labels_only(file: LocatedFile) -> bool:
    """Return whether the annotations give categories to whole images, without boxes and outlines."""
    shapes = ((b'"bbox"',), (b'"segmentation"',), (b'"keypoints"',))
    return holds(file.path, (b'"category_id"',)) and not any(holds(file.path, shape) for shape in shapes)


def has_scores(file: LocatedFile) -> bool:
    """Return whether a JSON file holds predictions in COCO's form: boxes with a `score`."""
    if not holds(file.path, (b'"score"', b'"image_id"', b'"bbox"')):
        return False
    try:
        value = load_json(file.path)
    except DataError:
        return False
    items = value.get("annotations") if isinstance(value, dict) else value
    return bool(items) and isinstance(items, list) and all(isinstance(i, dict) and "score" in i for i in items)


def load_json(path: str) -> Any:
    """Load a JSON file; NaN and infinity, which JSON does not allow, become numbers that are rejected later.

    Raises:
        DataError: The file is too large or not valid JSON.
    """
    shown = printable(os.path.basename(path))
    try:
        if os.path.getsize(path) > _MAX_BYTES:
            raise DataError(f"`{shown}` has more than {_MAX_BYTES >> 30} GB of JSON.", hint="split it by image")
        with open(path, "rb") as file:
            return json.loads(decode(file.read())[0])
    except OSError as error:
        raise DataError(f"cannot read `{shown}` ({error.strerror or error}).") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"`{shown}` is not JSON ({error}).", hint="export it again") from error


def read_coco(root: str, files: Sequence[LocatedFile], lookup: ImageLookup) -> Draft:
    """Read annotation files.

    Args:
        root: The data folder.
        files: The JSON files, one per split or a single one.
        lookup: The images.

    Raises:
        DataError: A file cannot be read.
        UsageError: A file names images outside the folder.
    """
    draft = Draft("COCO JSON", root)
    used_paths: set[tuple[str, str]] = set()
    order = {"train": 0, "val": 1, "test": 2}
    for file in sorted(files, key=lambda f: order.get(split_of_folders(f.folders) or split_of_name(f.file), 3)):
        value = load_json(file.path)  # training images first: their categories define the class order
        if not isinstance(value, dict) or not isinstance(value.get("images"), list):
            draft.refuse(file.name, "bad-json", "no list `images`")
            continue
        split = split_of_folders(file.folders) or (split_of_name(file.file) if len(files) > 1 else "")
        categories = _categories(draft, file, value)
        images = _images(draft, file, value["images"], split, lookup)
        _annotate(draft, file, value.get("annotations"), categories, images)
        for image in images.values():
            if image is None:
                continue
            if (image.file.path, split) in used_paths:
                draft.refuse(image.file.name, "second-annotation", f"`{file.name}` lists it a second time")
                continue
            used_paths.add((image.file.path, split))
            draft.images.append(image)
    return draft


def _key(value: Any) -> str:
    """Return an id as text, equal for 7, "7", 7.0 and "007"."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    return str(int(text)) if text.isdecimal() else text


def _categories(draft: Draft, file: LocatedFile, value: dict[str, Any]) -> dict[str, str | None]:
    """Return names by category id; None for an id of two names. Declares the classes."""
    names: dict[str, str | None] = {}
    listed = value.get("categories")
    for item in listed if isinstance(listed, list) else ():
        if not isinstance(item, dict) or not is_id(item.get("id")):
            draft.refuse(file.name, "bad-json", "a category has no id")
            continue
        key, name = _key(item["id"]), _category_name(item)
        if key in names and names[key] != name:
            detail = f"category {key} is both `{printable(str(names[key]))}` and `{printable(name)}`: neither is used"
            draft.refuse(file.name, "repeated-id", detail)
            names[key] = None
            continue
        names[key] = name
    for key, declared in sorted(names.items(), key=lambda kv: (not kv[0].isdecimal(), len(kv[0]), kv[0])):
        if declared is not None:
            draft.classes.setdefault(class_label(declared), int(key) if key.isdecimal() else None)
    return names


def _category_name(item: Mapping[str, Any]) -> str:
    """Return the name as typed; numbers and booleans as JSON writes them."""
    name = item.get("name")
    text = name if isinstance(name, str) else "" if name is None else json.dumps(name)
    return text.strip() or f"category {item['id']}"


def _images(
    draft: Draft, file: LocatedFile, items: list[Any], split: str, lookup: ImageLookup
) -> dict[str, DraftImage | None]:
    """Return images by id; None where the file is missing or the id repeated, whose boxes are not reported as well."""
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for item in items:
        if not isinstance(item, dict) or not is_id(item.get("id")) or not isinstance(item.get("file_name"), str):
            draft.refuse(file.name, "bad-json", "an image has no id or no file_name")
        elif not any(item["file_name"] == other["file_name"] for other in by_id.setdefault(_key(item["id"]), [])):
            by_id[_key(item["id"])].append(item)
    found = lookup.find_all(file, (item["file_name"] for same in by_id.values() for item in same))
    lookup.finder.refuse_outside(file.name)
    images: dict[str, DraftImage | None] = {}
    for key, same in by_id.items():
        item, name = same[0], same[0]["file_name"]
        images[key] = None
        if len(same) > 1:
            names = " and ".join(f"`{printable(other['file_name'])}`" for other in same[:2])
            draft.refuse(file.name, "repeated-id", f"image id {key} is {names}: their boxes cannot be told apart")
        elif (image := found[name]) is None:
            draft.refuse(f"{file.name}: {name}", "no-image", "no such image")
        else:
            split_used = split or split_of_folders(image.folders)
            images[key] = DraftImage(image, file.name, split_used, _stated_size(item), source=file.name)
    return images


def _stated_size(item: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = number(item.get("height")), number(item.get("width"))
    return (
        (round(height), round(width))
        if height and width and 1 <= min(height, width) <= max(height, width) < 1e6
        else None
    )


def _annotate(
    draft: Draft, file: LocatedFile, items: Any, categories: dict[str, str | None], images: dict[str, DraftImage | None]
) -> None:
    """Add each annotation's box to its image."""
    outlines = 0
    for position, item in enumerate(items if isinstance(items, list) else (), start=1):
        if not isinstance(item, dict):
            draft.refuse(file.name, "bad-json", f"annotation number {position} is not an object")
            continue
        where = f"annotation {item.get('id', position)}"
        image_id, category = item.get("image_id"), item.get("category_id")
        if not is_id(image_id) or _key(image_id) not in images:
            draft.refuse(file.name, "no-image", f"{where} belongs to image {image_id}, not in `images`")
            continue
        image = images[_key(image_id)]
        if image is None:
            continue
        label = categories.get(_key(category)) if is_id(category) else None
        if label is None:
            draft.refuse(image.file.name, "no-class", f"{where} has the category {category}, not in `categories`")
            continue
        if "score" in item:
            draft.refuse(image.file.name, "prediction", f"{where} has a score, as predictions have")
            continue
        values, is_outline = _four_numbers(item.get("bbox")), False
        if values is None or values[2:] == (0.0, 0.0):
            outline = item.get("segmentation")
            enclosing = mask_bounds(outline) or bounds(outline)
            values, is_outline = (enclosing, True) if enclosing else (values, False)
        if values is None:
            draft.refuse(image.file.name, "no-box", f"{where} has no `bbox` of four numbers")
            continue
        outlines += is_outline
        ignored = ignore_reason(item, label)
        area = number(item.get("area"))
        image.boxes.append(
            DraftBox(
                values,
                _OUTLINE if is_outline else _BBOX,
                label,
                where,
                ignored,
                "outline" if is_outline else "definition",
                math.nan if area is None or area < 0 else area,
            )
        )
    if outlines:
        draft.notes.append(ReadingNote(ReadingKind.OUTLINES_BOXED, outlines, (), {"file": file.name}))


def _four_numbers(bbox: Any) -> Values | None:
    values = [number(v) for v in bbox] if isinstance(bbox, list) else []
    if len(values) != 4 or any(v is None for v in values):
        return None
    x, y, width, height = (float(v) for v in values if v is not None)
    return x, y, width, height


def holds(path: str, keys: Sequence[bytes]) -> bool:
    """Return whether all keys occur anywhere in the file; read in chunks, since they may be at its end."""
    missing, tail = set(keys), b""
    try:
        with open(path, "rb") as file:
            while missing and file.tell() < _MAX_PROBED and (chunk := file.read(1 << 20)):
                chunk = chunk.replace(b"\0", b"")  # UTF-16
                missing = {k for k in missing if k not in tail + chunk}
                tail = chunk[-32:]
    except OSError:
        return False
    return not missing
