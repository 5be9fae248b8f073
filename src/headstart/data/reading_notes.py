"""Create and merge notes about assumptions of the dataset reader and data that it does not use."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from headstart.data.file_tree import FileTree, LocatedFile
from headstart.data.name_matching import find_alike
from headstart.data.unit_names import UNITS
from headstart.types.codes import ReadingKind, ReadingNote

__all__ = [
    "group_notes",
    "images_note",
    "merge_notes",
    "restart_in_classes",
    "shared_group_notes",
    "similar_name_notes",
    "tree_notes",
]

_EXAMPLES = 5
_SAME_IN_CLASSES = UNITS | {
    *("fold", "folds", "kfold", "phase", "usage", "batch", "day", "date", "site", "center", "hospital", "scanner")
}


def images_note(kind: ReadingKind, images: Sequence[LocatedFile]) -> list[ReadingNote]:
    """Return a note about images, with their number in each top folder; none without images."""
    if not images:
        return []
    folders = Counter(f"{image.folders[0]}/" if image.folders else "./" for image in images)
    names = tuple(image.name for image in images[:_EXAMPLES])
    return [ReadingNote(kind, len(images), names, {"folders": dict(folders.most_common())})]


def group_notes(column: str, groups: Sequence[str | None], names: Sequence[str]) -> list[ReadingNote]:
    """Return a note about images without a group in a column that gives groups to others."""
    alone = [name for name, group in zip(names, groups, strict=True) if not group]
    if not alone or len(alone) == len(groups):
        return []
    return [ReadingNote(ReadingKind.GROUPS_UNKNOWN, len(alone), tuple(alone[:_EXAMPLES]), {"column": column})]


def shared_group_notes(
    pairs: Iterable[tuple[str | None, str]], pattern: str, pattern_if_separate: str, **evidence: Any
) -> list[ReadingNote]:
    """Return a note if groups of several classes have the same name: they are one group, or one in each class.

    Args:
        pairs: Group and class of each image.
        pattern: The `--group-from` of one group.
        pattern_if_separate: The `--group-from` of one group in each class.
        evidence: More about the groups.
    """
    classes: dict[str, set[str]] = defaultdict(set)
    for group, label in pairs:
        if group:
            classes[group].add(label)
    shared = [group for group, labels in classes.items() if len(labels) > 1]
    if not shared:
        return []
    counts = {"num_groups": len(classes), "num_if_separate": sum(map(len, classes.values()))}
    options = {"pattern": pattern, "pattern_if_separate": pattern_if_separate}
    examples = tuple(shared[:_EXAMPLES])
    return [ReadingNote(ReadingKind.GROUPS_SHARED, len(shared), examples, {**counts, **options, **evidence})]


def restart_in_classes(column: str, pairs: Iterable[tuple[str | None, str]]) -> bool:
    """Return whether the groups of a column may be numbered anew in each class: `dish1`, `dish2` ... or `A`, `B` ...

    A column that names a unit, such as `patient` or `fold`, gives the same unit in every class.
    """
    ids: dict[str, set[str]] = defaultdict(set)
    for group, label in pairs:
        if group:
            ids[label].add(group)
    counts = Counter(group for own in ids.values() for group in own)
    if set(re.split(r"[\W_]+", column.lower())) & _SAME_IN_CLASSES or 2 * sum(n > 1 for n in counts.values()) < len(
        counts
    ):
        return False
    for own in ids.values():
        numbers = [int(digits[-1]) for group in own if (digits := re.findall(r"\d+", group))]
        if numbers and (len(numbers) < len(own) or max(numbers) > 2 * len(own)):
            return False
        if not numbers and any(len(group) > 1 for group in own):
            return False
    return True


def tree_notes(tree: FileTree) -> list[ReadingNote]:
    """Return notes about empty folders and files that are not images."""
    notes = []
    if tree.empty_folders:
        names = sorted(tree.empty_folders)
        notes.append(ReadingNote(ReadingKind.EMPTY_FOLDERS, len(names), tuple(names[:_EXAMPLES])))
    if tree.others:
        kinds = dict(tree.others.most_common())
        notes.append(ReadingNote(ReadingKind.OTHER_FILES, sum(kinds.values()), (), {"extensions": kinds}))
    return notes


def similar_name_notes(class_names: Iterable[str]) -> list[ReadingNote]:
    """Return one note about all class names that differ only in case, blanks or Unicode form."""
    groups = find_alike(class_names)
    if not groups:
        return []
    names = tuple(name for group in groups for name in group)
    evidence = {"groups": [list(group) for group in groups]}
    return [ReadingNote(ReadingKind.CLASSES_ALIKE, len(groups), names[:_EXAMPLES], evidence)]


def merge_notes(notes: Iterable[ReadingNote]) -> list[ReadingNote]:
    """Merge notes of the same kind and file: counts are added, examples and lists of evidence concatenated."""
    merged: dict[tuple[ReadingKind, Any], ReadingNote] = {}
    for note in notes:
        key = (note.kind, note.evidence.get("file"))
        before = merged.get(key)
        if before is None:
            merged[key] = note
            continue
        evidence = dict(before.evidence)
        for name, value in note.evidence.items():
            if isinstance(value, list):
                evidence[name] = [*evidence.get(name, ()), *value][:_EXAMPLES]
            elif isinstance(value, dict):
                known = evidence.get(name, {})
                is_count = all(isinstance(v, int) for v in value.values())
                evidence[name] = dict(Counter(known) + Counter(value)) if is_count else {**known, **value}
        examples = (*before.examples, *note.examples)[:_EXAMPLES]
        merged[key] = ReadingNote(note.kind, before.count + note.count, examples, evidence)
    return list(merged.values())
