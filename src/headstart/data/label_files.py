"""Find the tables and lists of a folder that label its images, and read each of them as a candidate.

Tables that belong together are one candidate: one per split (`train.csv`, `test.csv`) or one per folder
(`train/_classes.csv`, `valid/_classes.csv`).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from headstart.data.class_names import NAME_FILES
from headstart.data.columns import MissingColumnError, assign_columns, find_image_column
from headstart.data.file_tree import FileTree, LocatedFile, clean_label, printable
from headstart.data.formats import IMAGES
from headstart.data.lists import name_numbers, read_list
from headstart.data.matlab import matlab_names, matlab_vectors
from headstart.data.options import ReadOptions
from headstart.data.paths import Claim, PathFinder, PathMatch
from headstart.data.positional import positional_rows
from headstart.data.reading import Reading, SplitQuestionError, UnusableSplitError
from headstart.data.reading_notes import group_notes
from headstart.data.split_lists import NUMBERED_SPLITS
from headstart.data.split_words import cell_split, is_train_and_val, split_words
from headstart.data.table_rows import table_reading
from headstart.data.tables import Table, load_table
from headstart.data.unit_names import is_placeholder
from headstart.errors import DataError, HeadstartError, UsageError
from headstart.messages.files import shell_path
from headstart.types.codes import ReadingKind, ReadingNote, UnusedReason
from headstart.types.inventory import TableUse
from headstart.types.records import Problem, SplitName

__all__ = [
    "LISTS",
    "TABLES",
    "Proposals",
    "add_columns",
    "describe_use",
    "find_listed_images",
    "open_table",
    "propose_tables",
    "without_names",
]

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".mat")
"""Extensions of tables."""

LISTS = (".txt", ".lst")
"""Extensions of lists."""

_PREDICTED = frozenset({"submission", "prediction", "predictions", "predicted", "preds"})
_SCORES = frozenset({"probability", "confidence", "score", "ood_score"})
_MAX_FILES = 200  # that are opened
_EXAMPLES = 5
_MAX_VECTORS = 8  # MATLAB files of one folder


@dataclass
class Proposals:
    """Candidate readings of tables and lists, likeliest first, and why other files are none.

    Attributes:
        readings: The candidates.
        refused: Errors of files that name images of the folder, with the number of their rows.
        unread: Errors of other tables.
        unrelated: Errors of other files.
        unlabeled: Tables that name images, and have no column for labels.
        labeled: Tables that name images, and have one.
        has_numbered_names: Whether numbers and a names file were found, so that `--first-id` has an effect.
    """

    readings: list[Reading] = field(default_factory=list)
    refused: list[tuple[HeadstartError, int]] = field(default_factory=list)
    unread: list[HeadstartError] = field(default_factory=list)
    unrelated: list[HeadstartError] = field(default_factory=list)
    unlabeled: list[tuple[LocatedFile, Table]] = field(default_factory=list)
    labeled: list[tuple[LocatedFile, Table]] = field(default_factory=list)
    has_numbered_names: bool = False


def open_table(path: str, finder: PathFinder, options: ReadOptions) -> Table:
    """Read a table or list, and find its columns.

    Raises:
        DataError: It is unreadable, or names no image.
        UsageError: A column of an option does not exist.
    """
    if path.lower().endswith(TABLES):
        return assign_columns(load_table(path), finder, options)
    table = read_list(path, finder)
    return table if table.image else assign_columns(table, finder, options)


def find_listed_images(path: str, finder: PathFinder) -> list[PathMatch | Problem]:
    """Return the image of each row of a table or list, labeled or not, in their order.

    Of several images with the name of a row, that in a folder for tests is meant.

    Raises:
        DataError: The file is unreadable, or no column names images.
    """
    table = load_table(path) if path.lower().endswith(TABLES) else read_list(path, finder)
    column = table.image or find_image_column(table, finder)
    found = []
    for line, cells in table.lines:
        cell, where = cells.get(column, "").strip(), f"line {line} of {printable(os.path.basename(path))}"
        hit = finder.look_up(cell, where)
        if isinstance(hit, Problem) and hit.kind == "ambiguous":
            hit = finder.look_up(cell, where, Claim(frozenset({"test"})))
        found.append(hit)
    return found


def add_columns(reading: Reading, proposals: Proposals, finder: PathFinder) -> None:
    """Add columns, such as patients, of tables that do not give the labels, but have nearly all images of a reading."""
    for file, table in (*proposals.unlabeled, *proposals.labeled):
        if not table.split or table.label:
            _add_columns(reading, file, table, finder.of_table(file))


def _add_columns(reading: Reading, file: LocatedFile, table: Table, finder: PathFinder) -> None:
    roles = {table.image, table.split}
    new = [c for c in table.header if c not in roles and c not in {*reading.columns, *reading.roles.values()}]
    if not new or file.name in {used.path for used in reading.tables}:
        return
    cells_of: dict[str, dict[str, str]] = {}
    for _, cells in table.lines:
        hit = finder.look_up(cells.get(table.image, "").strip(), file.name)
        if isinstance(hit, PathMatch):
            cells_of.setdefault(hit.file.path, cells)
    num_known = sum(row.file.path in cells_of for row in reading.rows)
    if 10 * num_known < 9 * len(reading.rows):
        return
    for column in new:
        reading.columns[column] = [cells_of.get(row.file.path, {}).get(column, "") for row in reading.rows]
    if table.group in new and not any(row.group for row in reading.rows):
        own = reading.columns[table.group]
        groups = [None if is_placeholder(cell) else clean_label(cell) for cell in own]
        reading.notes += group_notes(table.group, groups, [row.file.name for row in reading.rows])
        reading.rows = [replace(row, group=group) for row, group in zip(reading.rows, groups, strict=True)]
        reading.roles["group"] = table.group
    rest = len(table.lines) - num_known
    reading.tables.append(TableUse(file.name, "columns", len(table.lines), num_known, {"other": rest} if rest else {}))


def describe_use(name: str, table: Table, reading: Reading) -> TableUse:
    """Return how many rows of a table were used, and why the others were not."""
    reasons = Counter(p.kind for p in reading.problems)
    if len(table.votes) > 1:
        reasons["tied"] = len(reading.unused.get(UnusedReason.TIED_LABELS, []))
    reasons["repeated"] = max(0, len(table.lines) - len(reading.rows) - sum(reasons.values()))
    return TableUse(name, "labels", len(table.lines), len(reading.rows), {k: n for k, n in reasons.items() if n})


def without_names() -> UsageError:
    """Return the error of a `first_id` without effect."""
    return UsageError(
        "--first-id cannot be used here: the data have no list of numbered classes with a names file.",
        hint="remove --first-id",
    )


def readings_by_column(table: Table, finder: PathFinder) -> list[Reading]:
    """Return the readings of a table by each column that may be the label.

    Raises:
        HeadstartError: No column can be used.
    """
    readings: list[Reading] = []
    error: HeadstartError | None = None
    for column in table.label_columns:
        try:
            reading = table_reading(replace(table, label=column), finder)
        except (DataError, UsageError) as caught:
            error = error or caught
            continue
        reading.layout = f"column `{column}` of `{os.path.basename(table.path)}`"
        reading.option = f"--label-column {shell_path(column)}"
        reading.detail = table.heading
        readings.append(reading)
    if not readings and error is not None:
        raise error
    return readings


def _predictions(file: LocatedFile, column: str) -> DataError:
    """Return the error of a table whose column of scores shows that its labels are predictions."""
    hint = f"use --table {shell_path(file.name)} if its labels are correct"
    return DataError(f"`{file.name}` has the column `{printable(column)}`, as predictions have.", hint=hint)


def propose_tables(tree: FileTree, finder: PathFinder, options: ReadOptions) -> Proposals:
    """Read all tables and lists of a folder that label its images.

    Raises:
        UsageError: The table of an option does not exist, a column may be a split, or `first_id` has no effect.
        DataError: A column of splits has other values.
    """
    proposals = Proposals()
    opened: list[tuple[LocatedFile, Table]] = []
    for file in _candidates(tree, options):
        own = finder.of_table(file)
        try:
            table = open_table(file.path, own, options)
        except (DataError, UsageError) as error:
            num_rows = _num_rows_of_images(file, own)
            if num_rows and isinstance(error, (SplitQuestionError, UnusableSplitError)):
                raise
            if num_rows and not isinstance(error, MissingColumnError):
                proposals.refused.append((error, num_rows))
            else:
                is_table = file.file.lower().endswith((".csv", ".tsv", ".jsonl", ".ndjson", ".mat"))
                (proposals.unread if is_table else proposals.unrelated).append(error)
            continue
        if table.label is None:
            proposals.unlabeled.append((file, table))
        elif options.table is None and (scores := [c for c in table.others if c.lower() in _SCORES]):
            proposals.unread.append(_predictions(file, scores[0]))
        else:
            opened.append((file, table))
    proposals.labeled = list(opened)
    opened += _positional_tables(tree, finder, options)
    named_by = _matlab_names(tree)
    for together in _sets(opened):
        label_columns = together[0][1].label_columns
        for column in label_columns:
            chosen = [(file, replace(table, label=column)) for file, table in together]
            try:
                own = finder.of_table(chosen[0][0])
                if name_numbers([t for _, t in chosen], own, first_id=options.first_id, stated=named_by):
                    proposals.has_numbered_names = True
                reading = _join(chosen, finder)
            except UnusableSplitError:
                raise
            except (DataError, UsageError) as error:
                proposals.refused.append((error, sum(len(table.lines) for _, table in together)))
                continue
            reading.option = f"--table {_pattern([file.name for file, _ in together])}"
            if len(label_columns) > 1:
                reading.layout = f"column `{column}` of table"
                reading.option = f"--label-column {shell_path(column)}"
                reading.detail = together[0][1].heading
            proposals.readings.append(reading)
    named = {n.evidence["file"] for r in proposals.readings for n in r.notes if n.kind is ReadingKind.NAMES_FROM_FILE}
    proposals.readings = [r for r in proposals.readings if r.template not in named]
    proposals.readings.sort(key=_rank)
    proposals.refused.sort(key=lambda refused: -refused[1])
    if options.first_id is not None and not proposals.has_numbered_names:
        raise without_names()
    return proposals


def _candidates(tree: FileTree, options: ReadOptions) -> list[LocatedFile]:
    """Return the files that may label images, those near the root first.

    Raises:
        UsageError: There is no table of the requested name.
    """
    files = [f for f in (*tree.tables, *tree.other_files) if f.file.lower().endswith((*TABLES, *LISTS))]
    if options.table is not None:
        chosen = [f for f in files if options.table in (f.name, f.path) or fnmatchcase(f.name, options.table)]
        if not chosen:
            raise UsageError(
                f"--table: there is no table `{options.table}` below the data folder.",
                hint="its path is relative to the data folder",
            )
        return chosen
    numbered = {f.folders for f in files if f.file.lower() == NUMBERED_SPLITS}
    files = [f for f in files if not (f.folders in numbered and f.file.lower().endswith(LISTS))]
    files = [f for f in files if not _looks_predicted(f)]
    return sorted(files, key=lambda f: (len(f.folders), f.folders, f.file))[:_MAX_FILES]


def _matlab_names(tree: FileTree) -> dict[str, list[str]]:
    """Return the class names of MATLAB files as lines `number name`; MATLAB counts from 1."""
    named = {}
    for file in [f for f in tree.tables if f.file.lower().endswith(".mat")][:_MAX_FILES]:
        with contextlib.suppress(DataError):
            names = matlab_names(file.path)
            if len(names) > 1 and not any(os.path.splitext(name)[1].lower() in IMAGES for name in names):
                named[file.name] = [f"{i} {name}" for i, name in enumerate(names, start=1)]
    return named


def _positional_tables(tree: FileTree, finder: PathFinder, options: ReadOptions) -> list[tuple[LocatedFile, Table]]:
    """Return the table of labels by position that the MATLAB files of a folder hold, if there is one."""
    inside: dict[tuple[str, ...], list[LocatedFile]] = defaultdict(list)
    for file in tree.tables:
        if file.file.lower().endswith(".mat"):
            inside[file.folders].append(file)
    found = []
    for files in inside.values():
        vectors: dict[str, list[int]] = {}
        for file in files[:_MAX_VECTORS]:
            with contextlib.suppress(DataError):
                vectors |= matlab_vectors(file.path)
        rows = positional_rows(vectors, tree.images)
        if rows:
            header = ["image", *rows[0][1]]
            lines = [(i, {"image": image.name, **cells}) for i, (image, cells) in enumerate(rows, start=1)]
            holder = next(f for f in files if set(header[1:]) & set(matlab_vectors(f.path)))
            examples = tuple(image.name for image, _ in rows[:_EXAMPLES])
            note = ReadingNote(ReadingKind.LABELS_BY_POSITION, len(rows), examples, {"file": holder.name})
            table = Table(holder.path, lines, "image", None, header=header, notes=[note])
            found.append((holder, assign_columns(table, finder, options)))
    return found


def _looks_predicted(file: LocatedFile) -> bool:
    """Return whether a file name is that of predictions or of a form for them."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", os.path.splitext(file.file)[0])
    return bool({word.lower() for word in words} & _PREDICTED)


def _pattern(names: Sequence[str]) -> str:
    """Return the `--table` that selects these files."""
    if len(names) == 1:
        return shell_path(names[0])
    start = _shared(names)
    return f"'{start}*{_shared([name[len(start) :][::-1] for name in names])[::-1]}'"


def _shared(names: Sequence[str]) -> str:
    """Return the longest start that all names share."""
    first, last = min(names), max(names)
    return first[: next((i for i, c in enumerate(first) if c != last[i : i + 1]), len(first))]


def _num_rows_of_images(file: LocatedFile, finder: PathFinder) -> int:
    """Return the number of rows of a file if any cell of the first ones names an image of the folder, else 0."""
    if file.file.lower() in NAME_FILES:
        return 0
    is_table = file.file.lower().endswith(TABLES)
    try:
        lines = (load_table(file.path) if is_table else read_list(file.path, finder)).lines
    except HeadstartError:
        return 0
    is_about = any(finder.exists(cell.strip()) for _, cells in lines[:10] for cell in cells.values())
    return len(lines) if is_about else 0


def _sets(opened: Sequence[tuple[LocatedFile, Table]]) -> list[list[tuple[LocatedFile, Table]]]:
    """Return tables that belong together: their paths differ in split words only (`Train/x.csv`, `Test/x.csv`)."""
    sets: dict[str, list[tuple[LocatedFile, Table]]] = defaultdict(list)
    for file, table in opened:
        stem, extension = os.path.splitext(file.file)
        is_metadata = stem.lower() == "metadata" and file.folders
        key = "metadata" if is_metadata else _without_split("/".join((*file.folders, stem)))
        sets[key + extension.lower()].append((file, table))
    found: list[list[tuple[LocatedFile, Table]]] = []
    for key, same in sets.items():
        if {"train", "val"} <= {_file_split(file) for file, _ in same}:  # trainval is both of them
            same = [(f, t) for f, t in same if not is_train_and_val(f.file)]
        found += [same] if _is_per_split(same) or key.startswith("metadata.") else [[one] for one in same]
    return found


def _is_per_split(same: Sequence[tuple[LocatedFile, Table]]) -> bool:
    splits = [_file_split(file) or _folder_split(file) for file, _ in same]
    return len(set(splits)) == len(splits) and None not in splits


def _without_split(path: str) -> str:
    """Return a path without the words that name splits."""
    parts = re.split(r"([\W_]+)", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", path))
    return "".join("*" if split_words(part) and not part.isspace() else part for part in parts)


def _folder_split(file: LocatedFile) -> SplitName | None:
    splits = [s for folder in file.folders if (s := cell_split(folder))]
    return splits[-1] if splits else None


def _file_split(file: LocatedFile) -> SplitName | None:
    return cell_split(os.path.splitext(file.file)[0])


def _rank(reading: Reading) -> tuple[bool, bool, int]:
    """Sort key: readings of tables for other splits than training last, then those with weak evidence."""
    words = split_words(os.path.splitext(os.path.basename(reading.template))[0])
    has_splits = reading.has_splits
    return bool(words - {"train"}) and not has_splits, "train" not in words and not has_splits, -reading.evidence


def _join(together: Sequence[tuple[LocatedFile, Table]], finder: PathFinder) -> Reading:
    """Return one reading of one or several tables (one per split, or one per folder).

    Raises:
        DataError: Rows of two tables mean one image.
    """
    whole = Reading("table", together[0][0].name, evidence=min(t.evidence for _, t in together))
    taken: dict[str, tuple[PathMatch, LocatedFile]] = {}
    known: set[tuple[str, str, SplitName | None]] = set()  # one image in two splits is a leak, which the check reports
    for file, table in together:
        split = (_file_split(file) if len(together) > 1 else None) or _folder_split(file)
        own = finder.of_table(file)
        part = table_reading(table, own, split=split)
        whole.roles = part.roles
        whole.named_split = split or _file_split(file)
        for path, hit in own.matches().items():
            first, other = taken.setdefault(path, (hit, file))
            if first.path != hit.path and "elsewhere" in (first.how, hit.how) and not file.folders:
                raise DataError(
                    f"`{first.cell}` of `{other.name}` and `{hit.cell}` of `{file.name}` differ, but only "
                    f"`{hit.file.name}` has this name, so at least one of the images is missing.",
                    hint="put the missing images at their paths, or pass one table",
                )
        kept = [i for i, row in enumerate(part.rows) if (row.file.path, row.label, row.split) not in known]
        known |= {(row.file.path, row.label, row.split) for row in part.rows}
        before = len(whole.rows)
        whole.rows += [part.rows[i] for i in kept]
        part.rows = [part.rows[i] for i in kept]
        whole.tables.append(describe_use(file.name, table, part))
        whole.problems += part.problems
        for reason, files in part.unused.items():
            whole.unused.setdefault(reason, []).extend(files)
        for name, cells in part.columns.items():
            whole.columns.setdefault(name, [""] * before).extend(cells[i] for i in kept)
        for cells in whole.columns.values():
            cells.extend([""] * (len(whole.rows) - len(cells)))
        whole.notes += part.notes
        whole.unlabeled += part.unlabeled
    if together[0][0].file.lower().endswith(LISTS):
        whole.layout = "list"
    return whole
