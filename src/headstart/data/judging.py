"""Choose between candidate readings of a folder: by its tables and lists, and by its class folders.

Readings with equal labels and splits are one; the one that explains more is taken. Readings that differ are a question
to the user, the likelier first.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from headstart.data.folder_words import is_storage_name
from headstart.data.name_matching import fold_name
from headstart.data.reading import LabelEvidence, Reading, Row, ask
from headstart.data.split_words import split_words
from headstart.errors import HeadstartError
from headstart.messages.files import shell_path
from headstart.messages.numbers import pluralize
from headstart.types.codes import ReadingKind, ReadingNote
from headstart.types.records import SplitName

__all__ = ["judge"]


def judge(
    folders: Sequence[Reading],
    tables: Sequence[Reading],
    refused: Sequence[tuple[HeadstartError, int]],
    others: Sequence[HeadstartError],
) -> Reading:
    """Return the reading that explains the data.

    Args:
        folders: Readings by class folders, likeliest first.
        tables: Readings of tables and lists, likeliest first.
        refused: Why tables that name images of the folder cannot be used, and their number of rows; largest first.
        others: Why there is no other reading, the most helpful first.

    Raises:
        HeadstartError: No reading fits.
        UsageError: Several readings fit, and they differ.
    """
    tables = _join_disjoint(_without_explained(tables))
    is_alone = not tables and not refused
    classes = [f for f in folders if is_alone or (len(set(f.labels.values())) > 1 and not _only_stores(f, tables))]
    num_rows = max((len(table.rows) for table in tables if table.evidence is not LabelEvidence.NUMBERS), default=0)
    if not classes and refused and refused[0][1] > num_rows:
        raise refused[0][0]
    if not tables and not folders and others:
        raise others[0]
    folders = classes or ([] if tables else folders)
    for table in tables:
        equal = [folder for folder in folders if _agrees(table, folder)]
        if equal:
            return _take(table, equal[0])
    tables = [t for t in tables if not (folders and t.evidence is LabelEvidence.NUMBERS)]
    candidates = sorted([*tables, *folders], key=lambda reading: -reading.evidence)
    if len(candidates) == 1:
        return candidates[0]
    if len(tables) == len(folders) == 1:
        (table,), (folder,) = tables, folders
        completed = _complete(folder, table)
        if completed is not None:
            return completed
        table.detail = _difference(table, folder)
    raise ask(candidates[:4])


def _without_explained(tables: Sequence[Reading]) -> list[Reading]:
    """Return the readings of tables without those that another one includes."""
    tables = [t for t in tables if not any(_is_class_map(t, other) for other in tables)]
    kept: list[Reading] = []
    for table in sorted(tables, key=lambda r: (-len(r.rows), not r.has_splits)):
        if not any(_includes(other, table) for other in kept):
            kept.append(table)
    return [table for table in tables if any(table is other for other in kept)]


def _join_disjoint(tables: Sequence[Reading]) -> Sequence[Reading]:
    """Return one reading of tables with the same columns and different images; several that differ stay apart."""
    paths = [path for table in tables for path in table.labels]
    if len(tables) < 2 or len(set(paths)) < len(paths) or any(t.roles != tables[0].roles for t in tables):
        return tables
    versions = {frozenset((r.label, os.path.splitext(r.file.file)[0]) for r in t.rows) for t in tables}
    tops = [{row.file.folders[:1] for row in table.rows} for table in tables]
    if len(versions) == 1 and all(len(top) == 1 for top in tops) and len({*map(frozenset, tops)}) == len(tables):
        names = ["".join(*top) for top in tops]
        for table, own in zip(tables, names, strict=True):
            table.option = " ".join(f"--exclude {shell_path(name)}" for name in names if name != own)
            table.detail = "they name the same files in different folders"
        return tables
    whole, *others = tables
    state_splits(tables)
    for other in others:
        for name in {*whole.columns, *other.columns}:
            before = whole.columns.setdefault(name, [""] * len(whole.rows))
            before += other.columns.get(name, [""] * len(other.rows))
        whole.rows += other.rows
        whole.unlabeled += other.unlabeled
        whole.problems += other.problems
        whole.tables += other.tables
        whole.notes += other.notes
        for reason, files in other.unused.items():
            whole.unused.setdefault(reason, []).extend(files)
    return [whole]


def state_splits(readings: Sequence[Reading]) -> None:
    """Give rows without a split the one that the name of their table states, if several are stated."""
    stated = {row.split for reading in readings for row in reading.rows if row.split}
    if len(stated | {reading.named_split for reading in readings if reading.named_split}) < 2:
        return
    for reading in readings:
        reading.rows = [replace(row, split=row.split or reading.named_split) for row in reading.rows]


def _is_class_map(table: Reading, other: Reading) -> bool:
    """Return whether a table has one image per class of another one: icons, such as Meta.csv beside Train.csv."""
    labels = [row.label for row in table.rows]
    return (
        table.named_split is None
        and 1 < len(labels) == len(set(labels)) < len(other.rows)
        and (set(labels) >= {row.label for row in other.rows} and not set(table.labels) & set(other.labels))
    )


def _includes(whole: Reading, part: Reading) -> bool:
    """Return whether a reading gives all images of another one the same labels, with splits where that has any."""
    labels = whole.labels
    return (whole.has_splits or not part.has_splits) and all(
        labels.get(row.file.path) == row.label for row in part.rows
    )


def _only_stores(folder: Reading, tables: Sequence[Reading]) -> bool:
    """Return whether folders only store images, by their names and by the labels of a table.

    They do if all names say so (`images_2`, `part_1`), and most folders hold several classes of a table.
    """
    names = {row.label for row in folder.rows}
    if all(is_storage_name(name) for name in names):
        return True
    stores = {n for n in names if is_storage_name(n) or split_words(n) or any(c.isdigit() for c in n)}
    by_path = folder.labels
    for table in tables:
        inside: dict[str, Counter[str]] = defaultdict(Counter)
        for row in table.rows:
            if row.file.path in by_path:
                inside[by_path[row.file.path]][row.label] += 1
        mixed = {n for n, counts in inside.items() if counts.most_common(1)[0][1] < 0.8 * counts.total()}
        if any(is_storage_name(n) or split_words(n) for n in mixed) or (
            stores == names and 2 * len(mixed) > len(inside)
        ):
            return True
    return False


def _agrees(table: Reading, folder: Reading) -> bool:
    """Return whether a table labels all images of class folders in the same way, names for numbers included."""
    labels = table.labels
    pairs = Counter((labels.get(row.file.path), row.label) for row in folder.rows)
    if any(label is None for label, _ in pairs):
        return False
    if all(fold_name(str(a)) == fold_name(b) for a, b in pairs):
        return True
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) and all(
        str(a).isdigit() for a, _ in pairs
    )


def _take(table: Reading, folder: Reading) -> Reading:
    """Return a table that agrees with class folders, with their names for its numbers, and their splits and groups."""
    placed = {row.file.path: row for row in folder.rows}
    names = {row.label: placed[row.file.path].label for row in table.rows if row.file.path in placed}
    renamed = {number: name for number, name in names.items() if fold_name(number) != fold_name(name)}
    if renamed:
        evidence = {"names": dict([*renamed.items()][:5]), "source": "folders"}
        table.notes.append(ReadingNote(ReadingKind.NAMES_FROM_PATHS, len(renamed), tuple(renamed.values()), evidence))
    split = placed if folder.has_splits and not table.has_splits else {}
    table.rows = [
        replace(row, label=renamed.get(row.label, row.label), split=_split_of(row, split), group=_group_of(row, placed))
        for row in table.rows
    ]
    table.has_inferred_groups = folder.has_inferred_groups and not table.roles.get("group")
    return table


def _split_of(row: Row, placed: dict[str, Row]) -> SplitName | None:
    return placed[row.file.path].split if row.file.path in placed else row.split


def _group_of(row: Row, placed: dict[str, Row]) -> str | None:
    return row.group or (placed[row.file.path].group if row.file.path in placed else None)


def _complete(folder: Reading, table: Reading) -> Reading | None:
    """Return class folders with the labels of a table for other images of the same classes; None if they differ."""
    labels = folder.labels
    if any(row.file.path in labels for row in table.rows):
        return None
    if not {row.label for row in table.rows} <= set(labels.values()):
        return None
    state_splits([folder, table])
    tabled = table.labels
    folder.rows += table.rows
    folder.unlabeled = [image for image in folder.unlabeled if image.path not in tabled]
    folder.problems += table.problems
    folder.tables += table.tables
    folder.notes += table.notes
    return folder


def _difference(table: Reading, folder: Reading) -> str:
    """Return how a table and class folders differ, with an example."""
    placed = folder.labels
    both = [row for row in table.rows if row.file.path in placed]
    for row in both:
        if row.label != placed[row.file.path]:
            return f"`{row.file.name}` is `{row.label}` in the table and `{placed[row.file.path]}` by its folder"
    return f"the table has {len(both):,} of {pluralize(len(placed), 'image')} in class folders"
