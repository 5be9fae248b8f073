"""Infer labels, splits and groups from folder names.

Levels without meaning are removed first: wrappers, doubled folders (`train/train/`), storage folders (`images/`) and
copies of the class folders. A layout is used only if it is the only one that fits.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from headstart.data.file_names import find_masks, suggest_pattern
from headstart.data.file_tree import LocatedFile, clean_label
from headstart.data.folder_copies import Folder, find_copies, find_versions, folder_tree
from headstart.data.folder_words import AUXILIARY, STORAGE, is_storage_name
from headstart.data.reading import Reading, Row, listed
from headstart.data.reading_notes import shared_group_notes
from headstart.data.split_words import split_name, split_words
from headstart.errors import DataError
from headstart.messages.numbers import pluralize
from headstart.types.codes import ReadingKind, ReadingNote, UnusedReason
from headstart.types.records import SplitName

__all__ = ["read_folders"]


@dataclass(frozen=True, slots=True)
class _Placed:
    """An image with the positions and names of its meaningful folder levels, outermost first."""

    file: LocatedFile
    levels: tuple[int, ...]
    names: tuple[str, ...]


@dataclass
class _Levels:
    """Images with their meaningful levels, and those of auxiliary folders and copies."""

    placed: list[_Placed] = field(default_factory=list)
    auxiliary: list[LocatedFile] = field(default_factory=list)
    copies: dict[str, list[LocatedFile]] = field(default_factory=dict)


def read_folders(images: Sequence[LocatedFile]) -> list[Reading]:
    """Infer class folders, with splits above or below them, and groups where they are nested.

    Returns:
        All readings that fit, the likelier first.

    Raises:
        DataError: No folder gives a label.
    """
    levels = _Levels()
    _reduce(folder_tree(images), 0, (), None, levels)
    placed = sorted(levels.placed, key=lambda p: (*p.file.folders, p.file.file))
    placed = _without_auxiliary(placed, levels)
    inside = [p for p in placed if p.levels]
    if not inside:
        found = f"found {pluralize(len(images), 'image')} but no class folders"
        raise _without_classes(images, found, "one subfolder per class")
    readings = _by_top_folders(inside)
    if all(_names_splits(reading) for reading in readings):
        raise _without_classes(images, "the split folders hold images but no class folders", "`train/<class>/*`")
    for reading in readings:
        reading.unlabeled.extend(p.file for p in placed if not p.levels)
        reading.option = reading.option or f"--layout '{reading.template}'"
        if levels.auxiliary:
            reading.unused[UnusedReason.AUXILIARY] = list(levels.auxiliary)
        for folder, copied in levels.copies.items():
            reading.unused.setdefault(UnusedReason.COPY, []).extend(copied)
            evidence = {"folders": {folder: len(copied)}}
            reading.notes.append(ReadingNote(ReadingKind.COPIES_UNUSED, len(copied), (folder,), evidence))
    return readings


def _without_auxiliary(placed: list[_Placed], levels: _Levels) -> list[_Placed]:
    """Return the images without those of auxiliary folders beside split folders (`train`, `test`, `ground_truth`)."""
    tops = {p.names[0] for p in placed if p.levels}
    if sum(split_name(top) is not None for top in tops) < 2:
        return placed
    auxiliary = [p for p in placed if p.levels and p.names[0].lower() in AUXILIARY]
    levels.auxiliary += [p.file for p in auxiliary]
    return [p for p in placed if not p.levels or p.names[0].lower() not in AUXILIARY]


def _stems(folder: Folder) -> set[str]:
    """Return the names of the images directly in a folder, without extension."""
    return {os.path.splitext(image.file)[0] for image in folder.images}


def _reduce(folder: Folder, depth: int, kept: tuple[int, ...], name: str | None, levels: _Levels) -> None:
    """Add the images of a folder with the levels that have a meaning.

    Args:
        folder: The folder.
        depth: Its number of levels below the root.
        kept: Meaningful levels above and including it.
        name: Its own name; None for the root and for wrappers.
        levels: Receives the images.
    """
    children = folder.folders
    for copy in find_copies(folder, depth, name):
        copied = sorted(children[copy].walk(), key=lambda f: f.name)
        levels.copies["/".join(copied[0].folders[: depth + 1])] = copied
        children = {n: c for n, c in children.items() if n != copy}
    masks = find_masks(folder.images)
    levels.auxiliary += masks
    hidden = {image.path for image in masks}
    for image in folder.images:
        if image.path not in hidden:
            levels.placed.append(_Placed(image, kept, tuple(image.folders[i] for i in kept)))
    for child_name in [
        n for n in children if n.lower() in AUXILIARY
    ]:  # with the class folders of its siblings, or the images beside it
        child = children[child_name]
        is_parallel = child.folders and child.folders.keys() <= children.keys()
        is_beside = kept and child.images and not child.folders and _stems(child) <= _stems(folder)
        if is_parallel or is_beside:
            levels.auxiliary += sorted(child.walk(), key=lambda f: f.name)
            children = {n: c for n, c in children.items() if n != child_name}
    storage = [n for n in children if n.lower() in STORAGE]
    if len(storage) == 1 and all(n.lower() in STORAGE | AUXILIARY for n in children):
        for other, child in children.items():
            if other == storage[0]:
                _reduce(child, depth + 1, kept, name, levels)
            else:
                levels.auxiliary += sorted(child.walk(), key=lambda f: f.name)
        return
    if len(children) == 1 and not folder.images:
        (only, child), *_ = children.items()
        is_doubled = name is not None and only.casefold() == name.casefold()
        is_wrapper = not kept and bool(child.folders) and split_name(only) is None
        if is_doubled or is_wrapper:
            _reduce(child, depth + 1, kept, name if is_doubled else None, levels)
            return
    if not kept and len(children) == 1 and folder.images:  # a wrapper with loose images beside it
        (only, child), *_ = children.items()
        if child.folders and split_name(only) is None:
            _reduce(child, depth + 1, kept, None, levels)
            return
    for child_name, child in children.items():
        _reduce(child, depth + 1, (*kept, depth), child_name, levels)


def _without_classes(images: Sequence[LocatedFile], found: str, expected: str) -> DataError:
    """Return the error of images without class folders, with the labels in their file names if there are any."""
    pattern = suggest_pattern(images)
    if pattern is None:
        hint = (
            "sort them into class folders, pass a table (image,label), or set --label-pattern if the label is in the "
        )
        return DataError(f"{found}; expected {expected}.", hint=hint + "file name, e.g. --label-pattern '{label}_*'")
    text, counts = pattern
    shown = ", ".join(f"`{name}` {count:,}" for name, count in counts.most_common(4)) + " ..." * (len(counts) > 4)
    return DataError(
        f"{found}; file names have the words {shown}.", hint=f"use --label-pattern '{text}' for these classes"
    )


def _names_splits(reading: Reading) -> bool:
    """Return whether all classes are named by splits: `train`, `test1`."""
    words = [split_words(label) for label in {row.label for row in reading.rows}]
    return bool(words) and all(len(w) == 1 for w in words) and any("train" in w for w in words)


def _by_top_folders(images: Sequence[_Placed]) -> list[Reading]:
    """Read images by their outermost meaningful folders: splits, classes or both."""
    inner: dict[str, set[str]] = defaultdict(set)
    for image in images:
        inner[image.names[0]].update(image.names[1:2])
    beside = _beside_classes(images, inner)
    if beside is not None:
        return [beside]
    splits = _splits_of(inner)
    others = sorted(set(inner) - set(splits))
    if splits and not any(inner[name] for name in others):
        readings = _below_splits([p for p in images if p.names[0] in splits], splits)
        for reading in readings:
            reading.unlabeled.extend(p.file for p in images if p.names[0] in others)
        return readings
    if splits and "train" in splits.values() and len(splits) > 1:
        chosen = _below_splits([p for p in images if p.names[0] in splits], splits)
        if len(chosen) == 1:
            chosen[0].option = " ".join(f"--exclude '{name}'" for name in others)
            chosen[0].layout += f" without {listed(others)}"
        whole = _below(images, 0, None, force_label=True)
        outer = _template(images[0], {0: "label"}, 0).split("{label}")[0]
        whole[0].option = f"--layout '{outer}{{label}}/**'"
        return [*chosen, *whole]
    return _below(images, 0, None)


def _beside_classes(images: Sequence[_Placed], inner: dict[str, set[str]]) -> Reading | None:
    """Read class folders with a folder for validation or test beside them, which holds the same classes or none.

    None if the folders are of another kind.
    """
    named = {name: split for name in inner if (split := split_name(name)) not in (None, "train")}
    held_out = {
        name: split for name, split in named.items() if inner[name] or split == "test"
    }  # `valid` may be a class
    classes = set(inner) - set(held_out)
    is_flat = not any(inner[name] for name in classes)
    if not held_out or len(classes) < 2 or not is_flat or not all(inner[name] <= classes for name in held_out):
        return None
    placed = [p for p in images if p.names[0] in held_out and len(p.levels) > 1]
    reading = _assign([p for p in images if p.names[0] in classes], {0: "label"}, "class folders", None, None)
    if placed:
        reading.rows = [replace(row, split="train") for row in reading.rows]
        reading.rows += [Row(p.file, clean_label(p.names[1]), held_out[p.names[0]]) for p in placed]
        counts = Counter(str(row.split) for row in reading.rows)
        note = ReadingNote(ReadingKind.SPLITS_FROM_FOLDERS, len(reading.rows), (), {"splits": dict(counts)})
        reading.notes.append(note)
    reading.unlabeled += [p.file for p in images if p.names[0] in held_out and len(p.levels) == 1]
    return reading


def _splits_of(inner: dict[str, set[str]]) -> dict[str, SplitName]:
    """Return the split of each top folder that names one; empty if the names mean something else.

    Folders such as `seg_train` count if several name different splits and hold folders of the same names.
    """
    exact = {name: split for name in inner if (split := split_name(name)) is not None}
    if exact and (len(exact) == len(inner) or len(exact) >= 2):
        known = set.union(*(inner[name] for name in exact))
        parts = {n: next(iter(w)) for n in inner if n not in exact and len(w := split_words(n)) == 1}
        return exact | {name: split for name, split in parts.items() if inner[name] and inner[name] <= known}
    if exact and "train" in exact.values() and all(not inner[n] for n in inner if n not in exact):
        return exact if any(inner[n] for n in exact) else {}
    named: dict[str, SplitName] = {}
    for name in inner:
        words = split_words(name)
        if len(words) == 1:
            (named[name],) = words
    deep = [inner[name] for name in named if inner[name]]
    if len(set(named.values())) < 2 or "train" not in named.values() or not deep:
        return {}
    shared = set.union(*deep)
    recurring = [n for n in shared if sum(n in names for names in deep) > 1]
    return named if len(deep) == 1 or 2 * len(recurring) >= len(shared) else {}


def _below_splits(images: Sequence[_Placed], splits: dict[str, SplitName]) -> list[Reading]:
    """Read `<split>/<class>/...`, all splits alike; images directly in a split folder have no label."""
    deep = [p for p in images if len(p.levels) > 1]
    if not deep:
        files = [p.file for p in images]
        raise _without_classes(files, "the split folders hold images but no class folders", "`train/<class>/*`")
    readings = _below(deep, 1, splits)
    for reading in readings:
        reading.unlabeled.extend(p.file for p in images if len(p.levels) == 1)
        reading.layout = "split folders with " + reading.layout
    return readings


def _below(
    images: Sequence[_Placed], level: int, splits: dict[str, SplitName] | None, *, force_label: bool = False
) -> list[Reading]:
    """Read class folders at `level`, or one of the nested forms below them."""
    roles = {level: "label"} if splits is None else {0: "split", level: "label"}
    layout, split_level = "class folders", None if splits is None else 0
    nested = [p for p in images if len(p.levels) > level + 1]
    if nested and not force_label:
        seconds = {p.names[level + 1] for p in nested}
        mixed = _of_mixed_depth(images, level, roles)
        if mixed:
            return mixed
        if splits is None and len(nested) == len(images) and all(split_name(s) for s in seconds):
            split_level = level + 1
            if _repeat_classes(nested, level):
                roles = {level: "group", level + 1: "split", level + 2: "label"}
                layout = "group folders with split folders with class folders"
            else:
                roles |= {level + 1: "split", level + 2: "group"}
                layout = "class folders with splits inside"
        elif len(nested) == len(images) and _only_store_classes(nested, level):
            roles = {**{k: role for k, role in roles.items() if role != "label"}, level + 1: "label"}
        elif versions := _by_version(nested, level, roles, splits):
            return [*versions, *_by_either_level(nested, level, roles, splits)]
        elif (which := _which_is_class(nested, images, level)) is None:
            return _by_either_level(nested, level, roles, splits)
        elif which == "second":
            roles |= {level: "group", level + 1: "label"}
            layout = "group folders with classes inside"
        else:
            roles[level + 1] = "group"
            layout = "class folders with groups inside"
    return [_assign(images, roles, layout, splits, split_level)]


def _only_store_classes(images: Sequence[_Placed], level: int) -> bool:
    """Return whether the folders of a level are named as stores of images, with different class folders inside each."""
    inside: dict[str, set[str]] = defaultdict(set)
    for image in images:
        inside[image.names[level + 1]].add(image.names[level])
    tops = {image.names[level] for image in images}
    is_apart = all(len(holders) == 1 for holders in inside.values())
    return len(tops) > 1 and is_apart and all(map(is_storage_name, tops)) and not _look_like_ids(set(inside))


def _repeat_classes(images: Sequence[_Placed], level: int) -> bool:
    """Return whether the folders below splits are the same few under every top folder, so that they are the classes."""
    inner: dict[str, set[str]] = defaultdict(set)
    for image in images:
        inner[image.names[level]].update(image.names[level + 2 : level + 3] or [""])
    (first, *others) = inner.values()
    return "" not in first and len(first) > 1 and bool(others) and all(names == first for names in others)


def _assign(
    images: Sequence[_Placed],
    roles: dict[int, str],
    layout: str,
    splits: dict[str, SplitName] | None,
    split_level: int | None,
) -> Reading:
    """Return the reading in which meaningful levels have these roles."""
    by_role = {role: level for level, role in roles.items()}
    label_level, group_level = by_role["label"], by_role.get("group")
    deepest = max(images, key=lambda p: len(p.levels))
    reading = Reading(layout, _template(deepest, roles, max(by_role["label"], group_level or 0, split_level or 0)))
    labels = {name: clean_label(name) for p in images for name in p.names[label_level : label_level + 1]}
    for image in images:
        names = image.names
        if len(names) <= max(label_level, -1 if split_level is None else split_level):
            reading.unlabeled.append(image.file)
            continue
        split = None
        if split_level is not None:
            split = (splits or {}).get(names[split_level]) or split_name(names[split_level])
        group = clean_label(names[group_level]) if group_level is not None and len(names) > group_level else None
        reading.rows.append(Row(image.file, labels[names[label_level]], split, group))
        reading.has_inferred_groups |= group is not None
    if reading.has_inferred_groups and group_level is not None and group_level > label_level:
        patterns = _group_expression(reading.template), _group_expression(reading.template, is_by_class=True)
        reading.notes += shared_group_notes([(row.group, row.label) for row in reading.rows], *patterns)
    return reading


def _group_expression(template: str, *, is_by_class: bool = False) -> str:
    """Return the `--group-from` expression of the group folder of a layout, or of class and group folder together."""
    names = {"{label}": "([^/]*)" if is_by_class else "[^/]*", "{group}": "([^/]*)", "{split}": "[^/]*", "*": "[^/]*"}
    through_group = template[: template.index("{group}") + len("{group}")].split("/")
    return "^" + "/".join([*(names.get(part, re.escape(part)) for part in through_group), ""])


def _template(image: _Placed, roles: dict[int, str], last: int) -> str:
    """Return the `--layout` of an image for roles of its meaningful levels, up to the level `last`."""
    position = {original: i for i, original in enumerate(image.levels)}
    parts = []
    for original, name in enumerate(image.file.folders):
        i = position.get(original)
        if i is None:
            parts.append(name if name.lower() in STORAGE else "*")
        elif i <= last:
            parts.append(f"{{{roles[i]}}}" if i in roles else "*")
    return "/".join([*parts, "*"])


def _of_mixed_depth(images: Sequence[_Placed], level: int, roles: dict[int, str]) -> list[Reading]:
    """Return both readings if some top folders hold images and others only subfolders that may be classes."""
    inner: dict[str, set[str]] = defaultdict(set)
    flat = set()
    for image in images:
        top, *rest = image.names[level:]
        inner[top].update(rest[:1])
        if not rest:
            flat.add(top)
    deep = {top for top, seconds in inner.items() if len(seconds) > 1 and top not in flat}
    seconds = {name for top in deep for name in inner[top]}
    if not deep or not flat or any(inner[top] for top in flat) or _look_like_ids(seconds):
        return []
    prefix = "{split}/" if "split" in roles.values() else ""
    outer = _assign(images, roles, "class folders", None, None)
    outer.option = f"--layout '{prefix}{{label}}/**'"
    rows = [Row(p.file, clean_label(p.names[-1])) for p in images]
    innermost = Reading("innermost folders", "", f"--layout '{prefix}**/{{label}}/*'", rows=rows)
    outer.detail = f"{listed(deep)} holds the folders {listed(seconds)}"
    return [outer, innermost]


def _which_is_class(nested: Sequence[_Placed], images: Sequence[_Placed], level: int) -> str | None:
    """Return whether the `first` or the `second` of two nested folder levels is the class; None if both fit.

    The same few names under every top folder (`patient07/benign`) are classes; names that look like
    numbered items are groups.
    """
    parents: dict[str, set[str]] = defaultdict(set)
    for image in nested:
        parents[image.names[level + 1]].add(image.names[level])
    tops = {p.names[level] for p in images}
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
        sizes = Counter(p.names[: level + 2] for p in nested)
        if len(images) > len(nested) or len(seconds) == len(tops) or len(seconds) >= 5 * len(tops):
            return "first"
        if sorted(sizes.values())[len(sizes) // 2] < 10:
            return "first"
    return None


def _by_either_level(
    nested: Sequence[_Placed], level: int, roles: dict[int, str], splits: dict[str, SplitName] | None
) -> list[Reading]:
    """Return the readings in which the outer or the inner one of two nested levels is the class."""
    readings = []
    num_outer, num_inner = (len({p.names[i] for p in nested}) for i in (level, level + 1))
    roles_of = [("label", "group"), ("group", "label")]
    for first, second in roles_of if num_outer <= num_inner else roles_of[::-1]:
        both = {**roles, level: first, level + 1: second}
        reading = _assign(nested, both, f"{first} folders outside", splits, None if splits is None else 0)
        reading.option = f"--layout '{reading.template}'"
        reading.detail = "a level without meaning is `*`"
        readings.append(reading)
    return readings


def _by_version(
    nested: Sequence[_Placed], level: int, roles: dict[int, str], splits: dict[str, SplitName] | None
) -> list[Reading]:
    """Return the reading of one version of the images, if the folders of a level hold several; else nothing."""
    folders: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for image in nested:
        folders[image.names[level]].append((image.names[level + 1], image.file.file))
    first, *others = find_versions(folders) or [""]
    if not others:
        return []
    own = {role_level: role for role_level, role in roles.items() if role != "label"} | {level + 1: "label"}
    chosen = [image for image in nested if image.names[level] == first]
    reading = _assign(chosen, own, f"class folders of `{first}`", splits, None if splits is None else 0)
    reading.option = " ".join(f"--exclude '{name}'" for name in others)
    reading.detail = f"{listed(others)} {'holds' if len(others) == 1 else 'hold'} other versions of the same images"
    return [reading]


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
