"""Infer labels, splits and groups from folder names.

A layout is used only if it is the only one that fits. If two fit, the error shows the `--layout` for each.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from headstart.data.file_tree import LocatedFile, clean_label
from headstart.errors import DataError, UsageError
from headstart.messages.numbers import pluralize
from headstart.types.codes import ReadingNote
from headstart.types.records import SplitName

__all__ = ["Reading", "read_folders", "split_name", "split_words"]

_SPLIT_WORDS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "tst": "test",
}
_SPLIT_SUFFIX = re.compile(r"[-_ ]?(set|data|images|imgs|split)$")


@dataclass(frozen=True, slots=True)
class Row:
    """One image with its label, split and group from its path."""

    file: LocatedFile
    label: str
    split: SplitName | None = None
    group: str | None = None


@dataclass
class Reading:
    """One interpretation of a dataset's layout.

    Attributes:
        layout: Short name, e.g. `class folders`.
        template: The `--layout` that selects it.
        rows: The labeled images.
        unlabeled: Images without a label in this layout.
        notes: Assumptions, and what is not used.
        has_inferred_groups: Whether a folder level was used as groups without `--layout`.
    """

    layout: str
    template: str
    rows: list[Row] = field(default_factory=list)
    unlabeled: list[LocatedFile] = field(default_factory=list)
    notes: list[ReadingNote] = field(default_factory=list)
    has_inferred_groups: bool = False


def split_name(folder: str) -> SplitName | None:
    """Return the split that a folder or cell names, in any case (`Train`, `VAL`, `valid`, `test_set`), or None."""
    word = _SPLIT_SUFFIX.sub("", folder.strip().lower())
    return _SPLIT_WORDS.get(word)


@lru_cache(maxsize=65_536)
def split_words(folder: str) -> frozenset[SplitName]:
    """Return all splits named by words of a folder or file name: `test_images`, `seg_train`, `val2017`."""
    whole = split_name(folder)
    words = re.findall(r"[^\W\d_]+", folder.lower())
    named = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS and word != "dev"}
    return frozenset(named | {whole} if whole else named)


def read_folders(images: Sequence[LocatedFile]) -> Reading:
    """Infer class folders, with splits above or below them, and groups where they are nested.

    Raises:
        DataError: No folder gives a label.
        UsageError: Two layouts fit.
    """
    wrapper = 0
    while True:
        tops = {p.folders[wrapper] for p in images if len(p.folders) > wrapper}
        deeper = any(len(p.folders) > wrapper + 1 for p in images)
        if len(tops) == 1 and deeper and split_name(next(iter(tops))) is None:
            wrapper += 1  # one folder around everything, as in unpacked archives
            continue
        break
    prefix = "*/" * wrapper
    inside = [p for p in images if len(p.folders) > wrapper]
    stray = [p for p in images if len(p.folders) <= wrapper]
    if not inside:
        raise DataError(
            f"found {pluralize(len(images), 'image')} but no class folders; expected one subfolder per class.",
            hint="sort them into class folders, pass a table (image,label), or set --label-pattern if the label is "
            "in the file name, e.g. '{label}_*'",
        )
    splits = {top: split_name(top) for top in {p.folders[wrapper] for p in inside}}
    named = [top for top, split in splits.items() if split]
    if len(named) == len(splits):
        reading = _below_splits(inside, wrapper, prefix)
    elif len(named) >= 2 and "train" in splits.values():
        others = sorted(set(splits) - set(named))
        raise UsageError(
            f"two layouts fit: the folders {_some(named)} are splits and {_some(others)} is something else, or all of "
            "them are classes.",
            hint=f"move {_some(others)} away, or use --layout '{prefix}{{label}}/**' to read all of them as classes",
        )
    else:
        reading = _below(inside, wrapper, prefix, None)
    reading.unlabeled.extend(stray)
    return reading


def _below_splits(images: Sequence[LocatedFile], level: int, prefix: str) -> Reading:
    """Read `<split>/<class>/...`, all splits alike; images directly in a split folder have no label."""
    deep = [p for p in images if len(p.folders) > level + 1]
    if not deep:
        raise DataError(
            "the split folders hold images but no class folders; expected `train/<class>/*`.",
            hint="sort them into class folders, or set --label-pattern if the label is in the file name",
        )
    reading = _below(deep, level + 1, prefix + "{split}/", level)
    reading.unlabeled.extend(p for p in images if len(p.folders) == level + 1)
    reading.layout = "split folders with " + reading.layout
    return reading


def _below(images: Sequence[LocatedFile], level: int, prefix: str, split_level: int | None) -> Reading:
    """Read class folders at `level`, or one of the nested forms below them."""
    label_level, group_level, shape = level, level + 1, "{label}/*"
    layout = "class folders"
    nested = [p for p in images if len(p.folders) > level + 1]
    if nested:
        seconds = {p.folders[level + 1] for p in nested}
        if split_level is None and len(nested) == len(images) and all(split_name(s) for s in seconds):
            split_level, group_level = level + 1, level + 2
            layout, shape = "class folders with splits inside", "{label}/{split}/*"
        elif _which_is_class(nested, images, level, prefix) == "second":
            label_level, group_level = level + 1, level
            layout, shape = "group folders with classes inside", "{group}/{label}/*"
        else:
            layout, shape = "class folders with groups inside", "{label}/{group}/*"
    reading = Reading(layout, prefix + shape)
    for image in images:
        folders = image.folders
        if len(folders) <= max(label_level, -1 if split_level is None else split_level):
            reading.unlabeled.append(image)
            continue
        split = split_name(folders[split_level]) if split_level is not None else None
        group = clean_label(folders[group_level]) if nested and len(folders) > group_level else None
        reading.rows.append(Row(image, clean_label(folders[label_level]), split, group))
        reading.has_inferred_groups |= group is not None
    return reading


def _which_is_class(nested: Sequence[LocatedFile], images: Sequence[LocatedFile], level: int, prefix: str) -> str:
    """Return whether the `first` or the `second` of two nested folder levels is the class.

    The same few names under every top folder (`patient07/benign`) are classes; names that look like
    numbered items are groups. Anything else is an error.

    Raises:
        UsageError: Both fit.
    """
    parents: dict[str, set[str]] = defaultdict(set)
    for image in nested:
        parents[image.folders[level + 1]].add(image.folders[level])
    tops = {p.folders[level] for p in images}
    seconds = set(parents)
    recurring = sum(len(v) > 1 for v in parents.values())
    top_ids, second_ids = _look_like_ids(tops), _look_like_ids(seconds)
    if len(tops) == 1:
        return "second" if len(seconds) > 1 and not second_ids else "first"
    if second_ids and not top_ids:
        return "first"
    if len(seconds) > 1 and recurring == len(seconds):
        if top_ids and not second_ids:
            return "second"
        if len(tops) >= 20 and len(tops) >= 5 * len(seconds):
            return "second"
    elif recurring <= 0.1 * len(seconds):
        sizes = Counter(p.folders[: level + 2] for p in nested)
        if len(images) > len(nested) or len(seconds) == len(tops) or len(seconds) >= 5 * len(tops):
            return "first"
        if sorted(sizes.values())[len(sizes) // 2] < 10:
            return "first"
    raise UsageError(
        f"two layouts fit: {_some(tops)} are classes and {_some(seconds)} are groups, or {_some(seconds)} are classes.",
        hint=f"use --layout '{prefix}{{label}}/{{group}}/*' for the first, --layout '{prefix}{{group}}/{{label}}/*' "
        "for the second, or put `*` for a level without meaning",
    )


def _look_like_ids(names: set[str]) -> bool:
    """Return whether names are numbered items: most hold a digit, or they share all but a short ending."""
    if len(names) < 2:
        return any(any(c.isdigit() for c in n) for n in names)
    if sum(any(c.isdigit() for c in n) for n in names) >= 0.7 * len(names):
        return True
    ordered = sorted(names)
    first, last = ordered[0], ordered[-1]
    shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return shared >= 3 and all(len(n) - shared <= 2 for n in names)


def _some(names: Sequence[str] | set[str]) -> str:
    ordered = sorted(names)
    shown = ", ".join(f"`{clean_label(n)}`" for n in ordered[:4])
    return shown if len(ordered) <= 4 else f"{shown} ... ({len(ordered)})"
