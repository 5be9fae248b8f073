"""Read the JSON forms in which images and labels are stored as rows of a table.

Lists of objects or pairs, tasks of Label Studio, COCO annotations without boxes, and objects by class, split or image.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from headstart.data.split_words import split_name
from headstart.errors import DataError

__all__ = ["parse_json", "parse_json_lines"]

Rows: TypeAlias = "tuple[list[str], list[tuple[int, dict[str, str]]]]"


def parse_json_lines(text: str, shown: str) -> Rows:
    """Return header and numbered rows of a JSON-lines file.

    Raises:
        DataError: A line is not a JSON object.
    """
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DataError(f"line {number} of `{shown}` is not JSON ({error}).") from error
        if not isinstance(value, dict):
            raise DataError(f"line {number} of `{shown}` is not a JSON object with file_name and label.")
        lines.append((number, _cells(value)))
    return _header(lines), lines


def parse_json(text: str, shown: str) -> Rows:
    """Return header and numbered rows of a JSON file.

    Raises:
        DataError: The file is not JSON, or has none of the supported forms.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DataError(f"`{shown}` is not JSON ({error}).") from error
    lines = list(enumerate(_rows(value), start=1))
    if not lines:
        raise DataError(f"`{shown}` is not a JSON list of objects with an image and a label.")
    return _header(lines), lines


def _header(lines: Iterable[tuple[int, dict[str, str]]]) -> list[str]:
    return list(dict.fromkeys(column for _, cells in lines for column in cells))


def _rows(value: object) -> list[dict[str, str]]:
    """Return the rows of a JSON value; none if its form is unknown."""
    if isinstance(value, list):
        rows = [_row(item) for item in value]
        return [row for row in rows if row] if None not in rows else []
    if not isinstance(value, dict) or not value:
        return []
    if isinstance(value.get("images"), list) and isinstance(value.get("annotations"), list):
        return _coco_rows(value)
    lists = {str(k): v for k, v in value.items() if isinstance(v, list) and v}
    if lists and all(isinstance(v, list) for v in value.values()):
        parts = {key: _rows(items) for key, items in lists.items()}
        if all(parts.values()):
            column = "split" if all(split_name(key) for key in parts) else "label"
            return [
                {column: key, **row} if column == "split" or len(row) == 1 else row
                for key, part in parts.items()
                for row in part
            ]
    if len(lists) == 1:  # {"info": ..., "data": [...]}
        return _rows(next(iter(lists.values())))
    if all(isinstance(v, (str, int)) for v in value.values()):
        return [{"image": str(k), "label": _cell(v)} for k, v in value.items()]
    if all(isinstance(v, dict) for v in value.values()):
        return [{"image": str(k), **{str(c): _cell(cell) for c, cell in v.items()}} for k, v in value.items()]
    return []


def _row(item: object) -> dict[str, str] | None:
    """Return the cells of one item of a list: an object, a path, or a path with a label and other fields."""
    if isinstance(item, str):
        return {"image": item}
    if isinstance(item, dict):
        return _label_studio_cells(item) or _cells(item)
    if isinstance(item, list) and len(item) > 1 and isinstance(item[0], str):
        return {"image": item[0], "label": _cell(item[-1])}
    return None


def _coco_rows(value: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return image and category of annotations without boxes."""
    images = {str(i.get("id")): i for i in value["images"] if isinstance(i, dict)}
    names = {str(c.get("id")): str(c.get("name")) for c in value.get("categories") or () if isinstance(c, dict)}
    rows = []
    for annotation in value["annotations"]:
        if not isinstance(annotation, dict) or annotation.get("bbox") or annotation.get("segmentation"):
            return []
        image, category = images.get(str(annotation.get("image_id"))), str(annotation.get("category_id"))
        if image is not None:
            rows.append({"image": _cell(image.get("file_name")), "label": names.get(category, category)})
    return rows


def _label_studio_cells(task: Mapping[str, Any]) -> dict[str, str] | None:
    """Return image and label of a task exported by Label Studio; None for other objects."""
    data, annotations = task.get("data"), task.get("annotations")
    if not isinstance(data, dict) or not isinstance(annotations, list):
        return None
    choices: list[str] = []
    for annotation in annotations:
        for result in annotation.get("result", []) if isinstance(annotation, dict) else []:
            value = result.get("value") if isinstance(result, dict) else None
            if isinstance(value, dict) and isinstance(value.get("choices"), list):
                choices += [str(choice) for choice in value["choices"]]
    image = next((v for v in data.values() if isinstance(v, str)), "")
    return {"image": image, "label": _cell(list(dict.fromkeys(choices)) or None)}


def _cells(item: Mapping[str, Any]) -> dict[str, str]:
    """Return the cells of an object; those of objects inside it get both names: `label_name`."""
    cells: dict[str, str] = {}
    for key, value in item.items():
        inner = value if isinstance(value, dict) and value else {"": value}
        cells |= {f"{key}_{name}" if name else str(key): _cell(cell) for name, cell in inner.items()}
    return cells


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else json.dumps(value)
