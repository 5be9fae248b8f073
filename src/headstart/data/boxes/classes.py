"""Keep the user's class ids: from their annotation files to what is written for them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headstart.data.boxes.coco import load_json
from headstart.data.boxes.draft import class_label, is_id, number
from headstart.data.boxes.yolo_dataset import find_name_lists, is_name_file, read_dataset
from headstart.data.file_tree import LocatedFile, printable
from headstart.data.name_matching import match_names
from headstart.errors import DataError, UsageError

__all__ = ["ClassTable", "read_class_table"]


@dataclass(frozen=True)
class ClassTable:
    """Classes and their ids in annotation files.

    Attributes:
        names: Names by class id of the samples.
        ids: The user's id by declared name, None without a number; includes classes without boxes.
        image_ids: The user's image id by file name, of a COCO file.
    """

    names: tuple[str, ...]
    ids: Mapping[str, int | None] = field(default_factory=dict)
    image_ids: Mapping[str, int | str] = field(default_factory=dict)

    def all_names(self) -> tuple[str, ...]:
        """Return all declared names in the order of their ids, then the others."""
        declared = sorted(self.ids, key=lambda name: (self.ids[name] is None, self.ids[name] or 0))
        return tuple(dict.fromkeys((*declared, *self.names)))

    def coco_ids(self) -> dict[str, int]:
        """Return the ids of all classes: the user's own, or counted from 1."""
        return self._own(range(1 << 62)) or {name: i for i, name in enumerate(self.all_names(), start=1)}

    def yolo_ids(self) -> dict[str, int]:
        """Return the ids of all classes: the user's own if they count from 0, else positions."""
        names = self.all_names()
        return self._own(range(len(names))) or {name: i for i, name in enumerate(names)}

    def _own(self, possible: range) -> dict[str, int] | None:
        own = {name: value for name, value in self.ids.items() if value is not None and value in possible}
        if not own or len(own) < len(self.ids) or len(set(own.values())) < len(own):
            return None
        for name in self.all_names():
            own.setdefault(name, max(own.values()) + 1)
        return own

    def like(self, other: ClassTable) -> ClassTable:
        """Return the same names with the ids of another table.

        Raises:
            UsageError: A class is not in the other table.
        """
        matched = match_names(self.names, other.ids)
        missing = [name for name in self.names if name not in matched]
        if missing:
            raise UsageError(
                "the file of --like has no class " + ", ".join(f"`{printable(name)}`" for name in missing[:5]) + ".",
                hint="its classes are " + ", ".join(f"`{printable(name)}`" for name in [*other.ids][:10]),
            )
        renamed = {theirs: name for name, theirs in matched.items()}
        return ClassTable(self.names, {renamed.get(k, k): v for k, v in other.ids.items()}, other.image_ids)

    @staticmethod
    def of(names: Sequence[str], declared: Iterable[tuple[str, int | None]] = ()) -> ClassTable:
        """Create a table from names by class id and (name, id) pairs."""
        return ClassTable(tuple(names), dict(declared))


def read_class_table(path: str | os.PathLike[str]) -> ClassTable:
    """Read the class ids (and image ids) of an annotation file: COCO JSON, `data.yaml` or a file of names.

    Raises:
        DataError: The file cannot be read or names no class.
    """
    place = os.path.abspath(os.fspath(path))
    file = os.path.basename(place)
    if not os.path.isfile(place):
        raise DataError(
            f"`{printable(file)}` does not exist.", hint="--like takes a COCO JSON, data.yaml or names file"
        )
    ids: dict[str, int | None] = {}
    image_ids: dict[str, int | str] = {}
    if file.lower().endswith(".json"):
        value = load_json(place)
        value = value if isinstance(value, dict) else {}
        for item in _items(value, "categories"):
            key = number(item.get("id"))
            ids.setdefault(class_label(item.get("name", "")), None if key is None else int(key))
        for item in _items(value, "images"):
            if isinstance(item.get("id"), (int, str)) and is_id(item["id"]):
                image_ids[str(item.get("file_name"))] = item["id"]
    elif file.lower().endswith((".yaml", ".yml")):
        ids = {class_label(name): k for k, name in read_dataset(place).names.items()}
    elif is_name_file(located := LocatedFile(place, (), file)) and (lists := find_name_lists([located])):
        ids = {name: k for k, name in enumerate(lists[0].names) if name}
    if not ids:
        raise DataError(
            f"`{printable(file)}` names no classes.", hint="--like takes a COCO JSON, data.yaml or a file of names"
        )
    return ClassTable(tuple(ids), ids, image_ids)


def _items(value: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    listed = value.get(key)
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
