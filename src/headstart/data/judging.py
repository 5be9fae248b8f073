"""Choose between candidate readings of a folder: by its tables and lists, and by its class folders.

Readings with equal labels and splits are one; the one that explains more is taken. Readings that differ are a question
to the user, the likelier first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from headstart.data.folders import is_storage_name
from headstart.data.name_matching import fold_name
from headstart.data.reading import LabelEvidence, Reading, Row, ask
from headstart.errors import HeadstartError
from headstart.messages.numbers import pluralize
from headstart.types.codes import ReadingKind, ReadingNote
from headstart.types.records import SplitName

__all__ = ["judge"]


def judge(
    folders: Sequence[Reading],
    tables: Sequence[Reading],
    refused: Sequence[HeadstartError],
    others: Sequence[HeadstartError],
) -> Reading:
    """Return the reading that explains the data.

    Args:
        folders: Readings by class folders, likeliest first.
        tables: Readings of tables and lists, likeliest first.
        refused: Why tables that name images of the folder cannot be used.
        others: Why there is no other reading, the most helpful first.

    Raises:
        HeadstartError: No reading fits.
        UsageError: Several readings fit, and they differ.
    """
    tables = _join_disjoint(_without_explained(tables))
    classes = [f for f in folders if len({row.label for row in f.rows}) > 1 and not _only_stores(f, tables)]
    if not tables and (errors := [*([] if classes else refused), *([] if folders else others)]):
        raise errors[0]
    folders = classes or ([] if tables else folders)
    for table in tables:
        equal = [folder for folder in folders if _agrees(table, folder)]
        if equal:
            return _take(table, equal[0])
    tables = [t for t in tables if not (folders and t.evidence is LabelEvidence.NUMBERS)]
    candidates = [*tables, *folders]
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
    whole, *others = tables
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
    if not tables and all(is_storage_name(name) for name in names):
        return True
    if not all(is_storage_name(name) or any(c.isdigit() for c in name) for name in names):
        return False
    by_path = folder.labels
    for table in tables:
        inside: dict[str, Counter[str]] = defaultdict(Counter)
        for row in table.rows:
            if row.file.path in by_path:
                inside[by_path[row.file.path]][row.label] += 1
        mixed = [counts for counts in inside.values() if counts.most_common(1)[0][1] < 0.8 * counts.total()]
        if 2 * len(mixed) > len(inside):
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
        evidence = {"names": dict([*renamed.items()][:5]), "file": table.template}
        table.notes.append(ReadingNote(ReadingKind.NAMES_FROM_FOLDERS, len(renamed), tuple(renamed.values()), evidence))
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
