"""Finish a reading: order, class names, and an inventory in which every file is used or has a reason."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from headstart.data.file_tree import FileTree, LocatedFile, matches_pattern
from headstart.data.name_matching import fold_name
from headstart.data.reading import Reading, Row
from headstart.data.reading_notes import (
    images_note,
    merge_notes,
    restart_in_classes,
    shared_group_notes,
    similar_name_notes,
)
from headstart.data.split_words import split_name
from headstart.errors import DataError, UsageError
from headstart.types.codes import ReadingKind, ReadingNote, Severity, UnusedReason
from headstart.types.inventory import Inventory, TableUse, UnusedFile
from headstart.types.records import Sample, Samples

__all__ = ["complete_inventory", "exclude_files", "finish_reading", "natural_order"]

_EXAMPLES = 5
_ROW_KINDS = frozenset({"missing", "elsewhere", "ambiguous", "no-label"})
_TABLE_ENDS = (".csv", ".tsv", ".jsonl", ".txt", ".lst", ".xlsx", ".xls", ".ods", ".json")


def natural_order(name: str) -> tuple[str, str]:
    """Return a sort key in which numbers count as numbers: 1, 2, 10."""
    return re.sub(r"\d+", lambda match: match.group().zfill(20), name), name


def exclude_files(tree: FileTree, patterns: Sequence[str]) -> list[LocatedFile]:
    """Remove files that match a pattern from a tree, and return them.

    Raises:
        UsageError: A pattern matches no file.
    """
    removed: list[LocatedFile] = []
    for pattern in patterns:
        found = [f for f in (*tree.images, *tree.tables, *tree.other_files) if matches_pattern(f, pattern)]
        if not found and not any(matches_pattern(f, pattern) for f in removed):
            raise UsageError(
                f"--exclude '{pattern}' matches no file.", hint="to exclude a class, use --exclude-classes NAME"
            )
        removed += found
        gone = {f.path for f in found}
        for files in (tree.images, tree.tables, tree.other_files):
            files[:] = [f for f in files if f.path not in gone]
    return removed


def finish_reading(
    reading: Reading,
    root: str,
    notes: list[ReadingNote],
    needs_labels: bool,
    tree: FileTree | None = None,
    excluded: Sequence[LocatedFile] = (),
) -> Samples:
    """Return samples in a fixed order, with the layout, the notes (warnings first) and the inventory.

    Args:
        reading: The chosen reading.
        root: Folder of the relative names.
        notes: Notes about the files below it.
        needs_labels: As in `sources.read`.
        tree: All files; None for a single table.
        excluded: Files that match `--exclude`.

    Raises:
        DataError: No image has a label.
    """
    is_tabled = reading.layout in ("table", "list")
    if is_tabled:
        _merge_spellings(reading)
    problems = reading.problems
    rows: list[tuple[LocatedFile, str | None, str | None, str | None]] = [
        (r.file, r.label or None, r.split, r.group) for r in reading.rows
    ]
    columns = reading.columns
    if not needs_labels:
        problems = [p for p in problems if p.kind != "no-label"]  # such images are used, too
        has_splits = any(split for _, _, split, _ in rows)
        for file in reading.unlabeled:
            split = next((s for s in map(split_name, file.folders) if s), None) if has_splits else None
            rows.append((file, None, split, None))
        columns = {c: v + [""] * (len(rows) - len(v)) for c, v in columns.items()}
    if not rows:
        raise DataError("no image has a label.", hint="expected one subfolder per class with its images inside")
    order = list(range(len(rows)))
    if not is_tabled:
        order.sort(key=lambda i: rows[i][0].name)
    items = tuple(Sample(rows[i][0].path, rows[i][0].name, *rows[i][1:]) for i in order)  # type: ignore[arg-type]
    class_names = tuple(sorted({s.label for s in items if s.label}, key=natural_order))
    unlabeled = [] if is_tabled or not needs_labels else reading.unlabeled
    notes = [
        *reading.notes,
        *images_note(ReadingKind.UNLABELED_IMAGES, unlabeled),
        *notes,
        *similar_name_notes(class_names),
    ]
    notes += [*_unused_notes(reading, excluded), *_shared_groups(reading)]
    used_names = [n.evidence["file"] for n in notes if n.kind is ReadingKind.NAMES_FROM_FILE]
    reading.tables += [TableUse(name, "names", 0, 0) for name in used_names]
    inventory = Inventory(tuple(dict.fromkeys(s.name for s in items)), tuple(reading.tables))
    if tree is not None:
        reasons = {f.name: reason for reason, files in reading.unused.items() for f in files}
        reasons |= {f.name: UnusedReason.EXCLUDED for f in excluded}
        inventory = complete_inventory(inventory, tree, reasons)
        notes += _table_notes(inventory)
    merged = merge_notes(notes)
    return Samples(
        items=items,
        class_names=class_names,
        root=root,
        layout=reading.layout,
        notes=tuple(sorted(merged, key=lambda n: n.severity is Severity.INFO)),
        problems=tuple(problems),
        columns={c: tuple(v[i] for i in order) for c, v in columns.items()},
        used_columns={f"{role}_column": column for role, column in reading.roles.items()},
        has_inferred_groups=reading.has_inferred_groups,
        inventory=inventory,
    )


def _shared_groups(reading: Reading) -> list[ReadingNote]:
    """Return a note about groups of a column that occur in several classes."""
    column = reading.roles.get("group")
    if column is None:
        return []
    pairs = [(row.group, row.label) for row in reading.rows]
    may_restart = restart_in_classes(column, pairs)
    return shared_group_notes(pairs, column, f"{column}+label", column=column, may_restart=may_restart)


def _unused_notes(reading: Reading, excluded: Sequence[LocatedFile]) -> list[ReadingNote]:
    """Return notes about auxiliary images, images in no split and excluded files."""
    notes = []
    for reason, kind in (
        (UnusedReason.AUXILIARY, ReadingKind.AUXILIARY_IMAGES),
        (UnusedReason.IN_NO_SPLIT, ReadingKind.IMAGES_IN_NO_SPLIT),
    ):
        for note in images_note(kind, reading.unused.get(reason, [])):
            files = ", ".join(f"`{t.path}`" for t in reading.tables)
            notes.append(replace(note, evidence={**note.evidence, "file": files}) if files else note)
    if excluded:
        names = tuple(f.name for f in excluded[:_EXAMPLES])
        notes.append(ReadingNote(ReadingKind.FILES_EXCLUDED, len(excluded), names))
    return notes


def _table_notes(inventory: Inventory) -> list[ReadingNote]:
    """Return a note about tables and text files that are not used, without README files."""
    loose = [u.path for u in inventory.unused if u.reason == UnusedReason.TABLE_NOT_UNDERSTOOD]
    loose = [path for path in loose if "readme" not in path.lower()]
    return [ReadingNote(ReadingKind.TABLES_UNUSED, len(loose), tuple(loose[:_EXAMPLES]))] if loose else []


def complete_inventory(inventory: Inventory, tree: FileTree, reasons: Mapping[str, str]) -> Inventory:
    """Return the inventory with a reason for each file that it does not use.

    Args:
        inventory: The used images and tables.
        tree: All files.
        reasons: Known reasons by path; other files get one by their kind.
    """
    unused = {**reasons, **{p.name: p.kind for p in tree.problems}, **dict(tree.passed_over)}
    for image in tree.images:
        unused.setdefault(image.name, UnusedReason.NO_LABEL)
    for file in (*tree.tables, *tree.other_files):
        is_table = file.file.lower().endswith(_TABLE_ENDS)
        unused.setdefault(file.name, UnusedReason.TABLE_NOT_UNDERSTOOD if is_table else UnusedReason.NOT_AN_IMAGE)
    used = {*inventory.images, *(table.path for table in inventory.tables)}
    left = tuple(UnusedFile(path, str(reason)) for path, reason in sorted(unused.items()) if path not in used)
    return replace(inventory, unused=left)


def _merge_spellings(reading: Reading) -> None:
    """Give labels that differ only in case, blanks, Unicode form or as 1 and 1.0 their most frequent spelling."""
    counts = Counter(row.label for row in reading.rows)
    groups: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        number = re.fullmatch(r"(-?\d+)\.0+", label)
        groups[label if len(label) == 1 else fold_name(number[1] if number else label)].append(label)
    same = [
        sorted(labels, key=lambda n: (-counts[n], n != n.lower(), n)) for labels in groups.values() if len(labels) > 1
    ]
    if not same:
        return
    chosen = {label: labels[0] for labels in same for label in labels}
    reading.rows = [Row(r.file, chosen.get(r.label, r.label), r.split, r.group) for r in reading.rows]
    same.sort(key=len, reverse=True)
    names = tuple(name for labels in same for name in labels)
    evidence = {"groups": [list(labels) for labels in same]}
    reading.notes.append(ReadingNote(ReadingKind.CLASSES_MERGED, len(same), names[:_EXAMPLES], evidence))
