"""Turn the rows of a table into labeled images: look up files, labels, splits and groups."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from headstart.data.columns import several_labels
from headstart.data.file_tree import LocatedFile, clean_label, printable
from headstart.data.layouts import label_matcher
from headstart.data.name_matching import fold_name
from headstart.data.paths import Claim, PathFinder, PathMatch, contested
from headstart.data.reading import Reading, Row, UnusableSplitError, listed
from headstart.data.reading_notes import group_notes
from headstart.data.split_words import cell_split, split_name, split_words
from headstart.data.tables import Table
from headstart.data.unit_names import is_placeholder
from headstart.errors import DataError
from headstart.messages.numbers import pluralize
from headstart.types.codes import Evidence, ReadingKind, ReadingNote, UnusedReason
from headstart.types.records import Problem

__all__ = ["UNLABELED", "table_reading"]

UNLABELED = "^()"
"""Label template of images without labels."""

_NO_LABEL = frozenset({"", "nan", "<na>"})


def table_reading(
    table: Table, finder: PathFinder, *, split: str | None = None, label_template: str | None = None
) -> Reading:
    """Look up the images of a table.

    Args:
        table: The table.
        finder: Path lookup of the folder.
        split: The split of all rows, if the file name states it.
        label_template: Reads the label from the image's name instead of a column.

    Returns:
        The labeled rows, with the rows that cannot be used and the other columns.

    Raises:
        DataError: No image of the table exists, a split is unknown, or there is no label.
    """
    shown = printable(os.path.basename(table.path))
    if table.label is None and label_template is None:
        raise DataError(
            f"the table `{shown}` has no label column; its columns are {listed(table.header, 10)}.",
            hint="use --label-column, or name the columns image,label (and optionally split,group)",
        )
    template = label_matcher(label_template) if label_template else None
    if table.label is not None and template is None:
        votes = [cells.get(column, "").strip() for column in table.votes for _, cells in table.lines]
        _refuse_other_tasks(votes, table.label, shown)
    reading = Reading("table", table.path, evidence=table.evidence)
    annotators = table.votes if len(table.votes) > 1 and template is None else []
    label_role = ", ".join(annotators) or table.label
    roles = {"image": table.image, "label": label_role, "split": table.split, "group": table.group}
    reading.roles = {role: column for role, column in roles.items() if column}
    problems = reading.problems
    others = table.others
    columns = reading.columns
    columns.update({c: [] for c in others})
    files = _find_files(table, finder, split, problems)
    for line, cells in table.lines:
        file = files.get(line)
        if file is None:
            continue
        where = f"line {line} of {shown}"
        texts = [template(file.name)] if template else [cells.get(column, "") for column in table.votes or [""]]
        labels = [clean_label(text or "") for text in texts]
        labels = [n for n in labels if not (is_placeholder(n) if annotators else n.casefold() in _NO_LABEL)]
        if not labels:
            problems.append(Problem(file.name, "no-label", f"{where} has no label"))
            reading.unlabeled.append(file)
            continue
        word = cells.get(table.split, "") if table.split else (split or "")
        named = cell_split(word)
        if word.strip() and named is None:
            raise UnusableSplitError(
                f"line {line} of `{shown}` has the {table.split} `{word}`; expected train, val or test.",
                hint="correct it, or use --split-column none to ignore the column",
            )
        group = cells.get(table.group, "").strip() if table.group else ""
        group = "" if is_placeholder(group) else clean_label(group)
        for label in labels:
            reading.rows.append(Row(file, label, named, group or None))
            for column in others:
                columns[column].append(cells.get(column, ""))
    finder.refuse_outside(shown)
    if not reading.rows and not (label_template == UNLABELED and reading.unlabeled):
        raise DataError(
            _none_usable(table, shown, problems), hint="paths in a table are relative to the table's folder"
        )
    _take_majority(reading, annotators)
    reading.notes += [*table.notes, *finder.notes()]
    if table.group:
        reading.notes += group_notes(table.group, [r.group for r in reading.rows], [r.file.name for r in reading.rows])
    if table.split is None and split is None:
        _splits_from_folders(reading)
    return reading


def _refuse_other_tasks(cells: Sequence[str], column: str, shown: str) -> None:
    """Raise if cells hold several labels each, or measured numbers.

    Raises:
        DataError: They do.
    """
    example = several_labels(cells)
    if example is not None:
        raise DataError(
            f"the column `{column}` of `{shown}` has several labels in a cell, e.g. `{example}`: multi-label data are "
            "not supported; expected one label per image.",
            hint="keep one label per image",
        )
    filled = [cell for cell in cells if cell]
    different = set(filled)
    numbers = []
    for cell in different:
        try:
            numbers.append(float(cell))
        except ValueError:
            return
    counts = Counter(filled)
    is_measured = len(numbers) > 10 and any(not number.is_integer() for number in numbers)
    num_single = sum(count == 1 for count in counts.values())
    if is_measured or (len(numbers) > 50 and num_single >= 0.2 * len(numbers)):
        raise DataError(
            f"the column `{column}` of `{shown}` has {len(numbers):,} different numbers: regression is not supported; "
            "expected class names.",
            hint="write class names, e.g. by ranges, or name another column with --label-column",
        )


def _take_majority(reading: Reading, annotators: Sequence[str]) -> None:
    """Keep one row per image: the most frequent label of its rows or annotators; images with a tie are not used."""
    columns = reading.columns
    by_image: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(reading.rows):
        by_image[row.file.path].append(i)
    several = {path: rows for path, rows in by_image.items() if len(rows) > 1}
    if not several and not annotators:
        return
    for rows in several.values():
        if len({reading.rows[i].split for i in rows}) > 1:
            raise DataError(
                f"`{reading.rows[rows[0]].file.name}` is in two splits; expected each image in one split.",
                hint="correct the rows, or use --split-column none to ignore the column",
            )
    chosen: list[int] = []
    num_disagreeing = num_repeated = 0
    repeated: list[str] = []
    tied: list[LocatedFile] = []
    for rows in by_image.values():
        (label, most), *others = Counter(reading.rows[i].label for i in rows).most_common()
        num_disagreeing += bool(others)
        if not others and len(rows) > 1:
            num_repeated += len(rows) - 1
            repeated.append(reading.rows[rows[0]].file.name)
        if others and others[0][1] == most:
            tied.append(reading.rows[rows[0]].file)
        else:
            chosen.append(next(i for i in rows if reading.rows[i].label == label))
    for name in list(columns):
        if any(len({columns[name][i] for i in rows}) > 1 for rows in several.values()):
            del columns[name]  # a property of the row, such as the rater
        else:
            columns[name] = [columns[name][i] for i in chosen]
    if num_disagreeing or annotators:
        examples = tuple(f.name for f in tied[:5])
        evidence: Evidence = {"num_rows": len(reading.rows), "num_images": len(by_image), "num_tied": len(tied)}
        evidence = {**evidence, "columns": list(annotators)} if annotators else evidence
        reading.notes.append(ReadingNote(ReadingKind.LABELS_BY_MAJORITY, num_disagreeing, examples, evidence))
    elif num_repeated:
        reading.notes.append(ReadingNote(ReadingKind.REPEATED_ROWS, num_repeated, tuple(repeated[:5])))
    reading.rows = [reading.rows[i] for i in chosen]
    if tied:
        reading.unused[UnusedReason.TIED_LABELS] = tied


def _find_files(table: Table, finder: PathFinder, split: str | None, problems: list[Problem]) -> dict[int, LocatedFile]:
    """Return the file of each line; `problems` lists lines without one."""
    shown = printable(os.path.basename(table.path))
    own = (os.path.splitext(os.path.basename(table.path))[0], *finder.base)
    of_table = frozenset({split}) if split else frozenset().union(*map(split_words, own))
    texts = {cells.get(table.label, "") for _, cells in table.lines} if table.label else None
    labels = None if texts is None else frozenset(fold_name(clean_label(text)) for text in texts)
    hits: dict[int, PathMatch] = {}
    claims: dict[tuple[str, str], Claim] = {}  # by the cells of split and label
    for line, cells in table.lines:
        cell, where = cells.get(table.image, "").strip(), f"line {line} of {shown}"
        if not cell:
            problems.append(Problem(where, "missing", "the row names no image"))
            continue
        key = (cells.get(table.split or "", ""), cells.get(table.label or "", ""))
        claim = claims.get(key)
        if claim is None:
            word = cell_split(key[0]) if table.split else None
            claim = Claim(frozenset({word}) if word else of_table)
            if labels is not None:
                claim = replace(claim, label=fold_name(clean_label(key[1])), labels=labels)
            claims[key] = claim
        hit = finder.look_up(cell, where, claim)
        if isinstance(hit, PathMatch):
            hits[line] = hit
            continue
        if hit.kind == "outside":
            finder.outside.append(f"{where}: {printable(cell)}")
        problems.append(hit)
    paths: dict[str, set[str]] = defaultdict(set)
    for hit in hits.values():
        paths[hit.file.path].add(hit.path)
    has_train = any("train" in split_words(f) for hit in hits.values() for f in hit.file.folders)
    files = {}
    for line, hit in hits.items():
        if hit.how == "elsewhere" and len(paths[hit.file.path]) > 1:
            problems.append(contested(hit.cell, hit.file))
        elif hit.splits - {"train"} and not has_train:
            # A table without splits is about training images; the folder indicates that these are others.
            named = " and ".join(f"`{s}`" for s in sorted(hit.splits))
            detail = f"there is no such file (line {line} of {shown}); `{hit.file.name}` is in a folder for {named}"
            problems.append(Problem(printable(hit.cell), "elsewhere", detail))
        else:
            finder.record(hit)
            files[line] = hit.file
    return files


def _splits_from_folders(reading: Reading) -> None:
    """Set the splits of rows from their folders, if those name training images and others."""
    splits = [next((s for s in map(split_name, row.file.folders) if s), None) for row in reading.rows]
    counts = Counter(s for s in splits if s)
    if len(counts) < 2 or "train" not in counts:
        return
    reading.rows = [replace(row, split=s) for row, s in zip(reading.rows, splits, strict=True)]
    ordered = {s: counts[s] for s in ("train", "val", "test") if counts[s]}
    reading.notes.append(ReadingNote(ReadingKind.SPLITS_FROM_FOLDERS, sum(counts.values()), (), {"splits": ordered}))


def _none_usable(table: Table, shown: str, problems: Sequence[Problem]) -> str:
    """Return why no row of a table can be used: the most frequent kind of problem, with its first instance."""
    if not problems:
        return f"no row of `{shown}` can be used."
    kind = Counter(p.kind for p in problems).most_common(1)[0][0]
    first = next(p for p in problems if p.kind == kind)
    return f"none of {pluralize(len(table.lines), 'row')} of `{shown}` can be used: `{first.name}`: {first.detail}."
