"""Read what belongs to a whole YOLO dataset: `data.yaml`, Darknet's `obj.data`, and files of class names.

All scalars of `data.yaml` are text (`no`, `007`); nothing is built or run. A line of a names file is the name of the id
that is its position, blank lines included, unless every line states its id.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from headstart.data.boxes.draft import Draft, class_label, number
from headstart.data.file_tree import LocatedFile, clean_label, printable
from headstart.data.formats import IMAGES
from headstart.data.text import read_text, text_lines
from headstart.errors import DataError, MissingExtraError
from headstart.types.codes import ReadingKind, ReadingNote

__all__ = [
    "NAME_FILES",
    "Dataset",
    "NameList",
    "choose_names",
    "find_name_lists",
    "is_absolute",
    "is_name_file",
    "name_numbers",
    "names_note",
    "numbered_note",
    "read_dataset",
]

NAME_FILES = (
    *("classes.txt", "obj.names", "_darknet.labels", "labels.txt", "class_names.txt", "names.txt"),
    "predefined_classes.txt",
)
_SUGGESTED = "predefined_classes.txt"  # what labelImg suggests, not what it wrote
_SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_PLACE = re.compile(r"^(path|train|val|valid|validation|test)\s*:")
_NUMBERED = re.compile(r"(\d+)\s*[:;,=|\t ]\s*(\S.*)")


@dataclass
class Dataset:
    """Content of `data.yaml` or `obj.data`.

    Attributes:
        names: Class name by id, as typed.
        places: (split, folder or list file as written).
        keypoints: Numbers per line after the box (`kpt_shape`), 0 without keypoints.
    """

    names: dict[int, str] = field(default_factory=dict)
    places: list[tuple[str, str]] = field(default_factory=list)
    keypoints: int = 0


@dataclass(frozen=True)
class NameList:
    """Names by id of one file, with `names[i]` None for a blank line."""

    file: LocatedFile
    names: tuple[str | None, ...]

    def by_id(self, used: Sequence[int]) -> tuple[dict[int, str], int]:
        """Return names by id and the id of the first name, the reading that names all used ids.

        Counting from 0 with blank lines is the format; counting without blank lines or from 1 is used only if it names
        all ids and the format does not.

        Raises:
            DataError: Two other readings name all ids, differently.
        """
        filled = tuple(name for name in self.names if name)
        readings = [({i: n for i, n in enumerate(self.names) if n}, 0)]
        readings += [(dict(enumerate(filled)), 0), (dict(enumerate(filled, start=1)), 1)]
        fitting = [reading for reading in readings if set(used) <= set(reading[0])]
        if not fitting or fitting[0] is readings[0] or not used:
            return readings[0]
        if any({i: names[i] for i in used} != {i: fitting[0][0][i] for i in used} for names, _ in fitting):
            raise DataError(
                f"`{self.file.name}` has blank lines, so the ids {min(used)} to {max(used)} can be named in two ways.",
                hint="remove the blank lines, or replace them by names",
            )
        return fitting[0]


def is_name_file(file: LocatedFile) -> bool:
    """Return whether the file name is one of a list of class names."""
    return file.file.casefold() in NAME_FILES or file.file.casefold().endswith(".names")


def find_name_lists(files: Sequence[LocatedFile]) -> list[NameList]:
    """Return all lists of class names, those with the usual names first."""
    found = []
    named = [f for f in files if is_name_file(f)]
    for file in sorted(
        named, key=lambda f: NAME_FILES.index(f.file.casefold()) if f.file.casefold() in NAME_FILES else 9
    ):
        names = [class_label(line.removeprefix("\ufeff")) for line in text_lines(file.path)]
        while names and not names[-1]:
            names.pop()
        filled = [name for name in names if name]
        if filled and not any(_is_data(name) for name in filled):
            found.append(NameList(file, _stated(filled) or tuple(name or None for name in names)))
    own = [names for names in found if names.file.file.casefold() != _SUGGESTED]
    return own or found


def choose_names(
    lists: Sequence[NameList], ids: Sequence[int], preferred: LocatedFile | None = None
) -> tuple[NameList, dict[int, str], int]:
    """Return the list used, names by id, and the id of the first name.

    Raises:
        DataError: Two lists name a class differently.
    """
    first = max(lists, key=lambda found: (found.file is preferred, len(found.names)))
    names, first_id = first.by_id(ids)
    for other in lists:
        named, _ = other.by_id(ids)
        differing = [k for k in ids if k in names and k in named and class_label(names[k]) != class_label(named[k])]
        if differing:
            k = differing[0]
            raise DataError(
                f"`{first.file.name}` and `{other.file.name}` name the classes differently: {k} is "
                f"`{printable(names[k])}` or `{printable(named[k])}`.",
                hint="pass each folder on its own, or remove the wrong list (--exclude ignores a file)",
            )
    return first, names, first_id


def names_note(used: NameList, names: dict[int, str], first_id: int) -> ReadingNote:
    """Return the note that names come from a file."""
    shown = {str(k): name for k, name in [*names.items()][:5]}
    reason = "last_id" if first_id else "format"
    evidence = {"file": used.file.name, "names": shown, "reason": reason, "first_id": first_id}
    return ReadingNote(ReadingKind.NAMES_FROM_FILE, len(names), (), evidence)


def numbered_note(numbers: Sequence[str]) -> ReadingNote:
    """Return the note that classes are called by their numbers, since there are no names."""
    return ReadingNote(ReadingKind.CLASSES_NUMBERED, len(numbers), tuple(numbers[:5]))


def name_numbers(draft: Draft, lists: Sequence[NameList]) -> None:
    """Replace classes that are all numbers by the names of a file, or note that there are no names.

    Raises:
        DataError: Two lists name a class differently.
    """
    labels = {box.label.strip() for image in draft.images for box in image.boxes}
    if not labels or not all(label.isdecimal() for label in labels):
        return
    if not lists:
        draft.notes.append(numbered_note(sorted(labels, key=lambda label: (int(label), label))))
        return
    used, by_id, first_id = choose_names(lists, sorted(map(int, labels)))
    for image in draft.images:
        image.boxes = [replace(b, label=by_id.get(int(b.label), b.label)) for b in image.boxes]
    draft.classes = {class_label(name): k for k, name in by_id.items()}
    draft.notes.append(names_note(used, by_id, first_id))


def read_dataset(path: str) -> Dataset:
    """Read `data.yaml` or Darknet's `obj.data`.

    Raises:
        DataError: The file is not valid YAML, contains object tags (rejected for safety), or has no class names.
    """
    if path.lower().endswith(".data"):
        return _read_darknet(path)
    value = _load_yaml(path)
    shown = printable(os.path.basename(path))
    if not isinstance(value, dict):
        raise DataError(f"`{shown}` has no `name: value` lines; expected `names` and `train`.")
    dataset = Dataset(_names(value.get("names"), value.get("nc"), shown))
    shape = value.get("kpt_shape")
    if isinstance(shape, list) and len(shape) == 2 and all(str(v).isdigit() for v in shape):
        dataset.keypoints = int(shape[0]) * int(shape[1])
    base = _text(value.get("path"))
    for key, split in _SPLIT_KEYS.items():
        places = value.get(key)
        for place in map(_text, places if isinstance(places, list) else [places]):
            if place:
                dataset.places.append((split, f"{base}/{place}" if base and not is_absolute(place) else place))
    return dataset


def is_absolute(path: str) -> bool:
    """Return whether a path of any system is absolute."""
    return path.startswith(("/", "\\")) or (len(path) > 1 and path[1] == ":")


def _read_darknet(path: str) -> Dataset:
    """Return the splits of `obj.data`; its names are in the file of names."""
    dataset = Dataset()
    for line in text_lines(path):
        key, _, value = line.partition("=")
        if key.strip() in _SPLIT_KEYS and value.strip():
            dataset.places.append((_SPLIT_KEYS[key.strip()], value.strip().replace("\\", "/")))
    return dataset


def _load_yaml(path: str) -> Any:
    """Return the content of a YAML file, with all plain scalars as text.

    Raises:
        DataError: See `read_dataset`.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("reading a data.yaml", "train") from error

    class TextLoader(yaml.SafeLoader):
        """Loads plain scalars as text."""

        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - overrides that of the parent

    shown = printable(os.path.basename(path))
    try:
        return yaml.load(_with_slashes(read_text(path, 1 << 22)[0]), Loader=TextLoader)
    except OSError as error:
        raise DataError(f"cannot read `{shown}` ({error.strerror or error}).") from error
    except yaml.constructor.ConstructorError as error:
        raise DataError(
            f"`{shown}` has a YAML tag that creates an object ({error.problem}), which is not allowed.",
            hint="use only names, numbers and lists",
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"`{shown}` is not valid YAML: {error}") from error


def _with_slashes(text: str) -> str:
    """Return YAML with `/` in the paths of splits, where double quotes would make `\\t` of Windows paths a tab."""
    lines, is_place = [], False
    for line in text.splitlines():
        if line[:1] not in (" ", "\t", "-", "#", ""):
            is_place = bool(_PLACE.match(line))
        lines.append(line.replace("\\", "/") if is_place else line)
    return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else ""
    return "" if text.lower() in ("null", "~", "none") else text.replace("\\", "/")


def _names(names: Any, count: Any, shown: str) -> dict[int, str]:
    """Return names from a list or `id: name` lines.

    Raises:
        DataError: These are no names, or not as many as stated.
    """
    if names is None or names == "":
        return {}
    listed = names if isinstance(names, list) else names.values() if isinstance(names, dict) else ()
    if not all(isinstance(n, str) for n in listed):  # a name is one word, not a structure
        raise DataError(f"`names` in `{shown}` must contain only class names.")
    if isinstance(names, list):
        by_id = {i: n.strip() or str(i) for i, n in enumerate(names)}
    elif isinstance(names, dict) and all(str(k).isdigit() for k in names):
        by_id = {int(k): n.strip() or str(k) for k, n in names.items()}
    else:
        raise DataError(f"`names` in `{shown}` must be a list or `number: name` lines.")
    if isinstance(count, str) and count.isdigit() and int(count) != len(by_id):
        raise DataError(
            f"`{shown}` states nc: {count} but has {len(by_id)} names.",
            hint="correct the wrong one; class ids depend on it",
        )
    return by_id


def _stated(lines: Sequence[str]) -> tuple[str | None, ...] | None:
    """Return names by position if every line states its id (`0 nut`)."""
    matches = [_NUMBERED.fullmatch(line) for line in lines]
    by_id = {int(m[1]): m[2] for m in matches if m is not None and len(m[1]) < 5}
    if len(by_id) < len(lines) or len(lines) < 2:
        return None
    return tuple(by_id.get(i) for i in range(max(by_id) + 1))


def _is_data(line: str) -> bool:
    """Return whether a line names an image or is a box rather than a class name."""
    parts = line.split()
    is_box = len(parts) >= 5 and all(number(p) is not None for p in parts[1:])
    return is_box or os.path.splitext(clean_label(parts[0]))[1].lower() in IMAGES
