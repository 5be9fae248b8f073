"""Read images and labels from any supported layout.

`read` raises if two layouts fit, instead of guessing. Nothing is written next to the data.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.data.archives import unpack
from headstart.data.class_names import FIRST_IDS
from headstart.data.columns import assign_columns, read_labeled_table
from headstart.data.file_tree import FileTree, LocatedFile, clean_label, resolve_path, walk_files
from headstart.data.folders import is_storage_name, read_folders
from headstart.data.formats import EXPORT_STEPS, IMAGES
from headstart.data.inventory import exclude_files, finish_reading
from headstart.data.layouts import Template, label_matcher
from headstart.data.lists import first_lines, name_numbers, read_list
from headstart.data.options import ReadOptions
from headstart.data.paths import PathFinder, PathMatch
from headstart.data.reading import Reading, Row
from headstart.data.reading_notes import images_note, tree_notes
from headstart.data.split_lists import NUMBERED_SPLITS, apply_split_lists
from headstart.data.split_words import split_name, split_words
from headstart.data.tables import Table, table_reading
from headstart.errors import DataError, HeadstartError, UsageError
from headstart.messages.numbers import pluralize
from headstart.types.codes import ReadingKind, UnusedReason
from headstart.types.inventory import TableUse
from headstart.types.records import Problem, Samples

__all__ = ["read"]

_SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
_ARCHIVES = (".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz")
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
_PREDICTION_WORDS = frozenset({"submission", "sample", "prediction", "predictions"})


def read(data: str | Path, options: ReadOptions | None = None, *, task: str = "classify", **given: Any) -> Samples:
    """Read a dataset: its images and their labels.

    Args:
        data: A folder, a table (.csv, .tsv, .jsonl, .json), a list (.txt, `path label`) or a .zip.
        options: How it is read.
        task: `classify` needs labels; `images` takes every image, labeled or not.
        given: Single fields of `options`.

    Returns:
        The images, sorted by name or in the order of the table, with the detected layout, notes and inventory.
        `problems` lists files that cannot be used.

    Raises:
        DataError: There is nothing to learn from.
        UsageError: Two layouts fit, or an option does not fit the data.
    """
    options = replace(options or ReadOptions(), **given)
    if task not in ("classify", "images"):
        raise UsageError(f"read() expects the task `classify` or `images`, not `{task}`.")
    if options.first_id not in (None, *FIRST_IDS):
        raise UsageError(f"--first-id expects 0, 1 or none, not `{options.first_id}`.")
    place, shown = resolve_path(data, "a folder of images, a table or a .zip")
    extension = os.path.splitext(place)[1].lower()
    if os.path.isdir(place):
        return _read_folder(place, options, task, [])
    if extension in _SPREADSHEETS:
        raise UsageError(
            f"`{shown}` is a spreadsheet, which is not supported.", hint="save as CSV (File > Save As > CSV UTF-8)"
        )
    if extension == ".zip":
        folder, problems = unpack(place)
        return _read_folder(folder, replace(options, allow_external_paths=False), task, problems, shown)
    if extension in _ARCHIVES:
        raise UsageError(f"`{shown}` is an unsupported archive.", hint="unpack it, and pass the folder")
    if extension in EXPORT_STEPS:
        raise UsageError(
            f"`{shown}` is a {extension} file, which is not supported.", hint=f"{extension}: {EXPORT_STEPS[extension]}"
        )
    if extension in IMAGES:
        raise UsageError(f"`{shown}` is a single image; expected a folder of labeled images.")
    if options.layout:
        raise UsageError("--layout cannot be used with a table.", hint="remove --layout")
    if options.exclude:
        raise UsageError("--exclude cannot be used with a table.", hint="remove --exclude, or pass the folder")
    root = os.path.dirname(os.path.abspath(place))
    finder = PathFinder(root, allow_external_paths=options.allow_external_paths)
    is_list = extension not in _TABLES
    table = _open_list(place, finder, options) if is_list else read_labeled_table(place, finder, options)
    is_named = name_numbers([table], finder, first_id=options.first_id)
    if options.first_id is not None and not is_named:
        raise _without_names()
    label_pattern = options.label_pattern
    if table.label is None and label_pattern is None and task == "images":
        label_pattern = "^()"  # no label needed
    reading = table_reading(table, finder, label_template=label_pattern)
    reading.tables.append(_table_use(os.path.basename(place), table, reading))
    if extension in (".txt", ".lst"):
        reading.layout = "list"
    return finish_reading(reading, root, [], task)


def _open_list(path: str, finder: PathFinder, options: ReadOptions) -> Table:
    table = read_list(path, finder)
    return table if table.image else assign_columns(table, finder, options)


def _table_use(name: str, table: Table, reading: Reading) -> TableUse:
    reasons = Counter(p.kind for p in reading.problems)
    reasons["repeated"] = max(0, len(table.lines) - len(reading.rows) - sum(reasons.values()))
    return TableUse(name, "labels", len(table.lines), len(reading.rows), {k: n for k, n in reasons.items() if n})


def _without_names() -> UsageError:
    return UsageError(
        "--first-id cannot be used here: the data have no list of numbered classes with a names file.",
        hint="remove --first-id",
    )


def _read_folder(place: str, options: ReadOptions, task: str, problems: list[Problem], shown: str = "") -> Samples:
    tree = walk_files(place, allow_external_paths=options.allow_external_paths, shown=shown)
    tree.problems.extend(problems)
    excluded = exclude_files(tree, options.exclude or ())
    if not tree.images:
        _refuse_empty(tree)
    if options.layout or options.label_pattern:
        if options.first_id is not None:
            raise _without_names()
        reading = _by_template(tree, options.layout, options.label_pattern)
    else:
        reading = _choose(tree, options, task)
    reading.problems = [*tree.problems, *reading.problems]
    return finish_reading(reading, tree.root, tree_notes(tree), task, tree, excluded)


def _choose(tree: FileTree, options: ReadOptions, task: str) -> Reading:
    """Return the reading of a folder by its tables or its class folders.

    Raises:
        UsageError: They contradict each other.
    """
    folders: Reading | None = None
    error: HeadstartError | None = None
    try:
        folders = read_folders(tree.images)
    except (DataError, UsageError) as caught:
        error = caught
    table = _label_tables(tree, options, folders)
    if table is not None:
        added = _labels_for_rest(table, folders)
        if added is not None:
            return added
        if folders is not None:
            _refuse_conflict(table, folders, tree)
        return table
    if folders is not None:
        apply_split_lists(folders, tree)
        return folders
    if task != "images":
        assert error is not None
        raise error
    reading = Reading("images", "**")
    reading.unlabeled = list(tree.images)
    return reading


def _labels_for_rest(table: Reading, folders: Reading | None) -> Reading | None:
    """Return the folders with the labels of a table for the other images, if these are of the same classes."""
    if folders is None or len({row.label for row in folders.rows}) < 2:
        return None
    labels = folders.labels
    if any(row.file.path in labels for row in table.rows):
        return None
    if not {row.label for row in table.rows} <= set(labels.values()):
        return None
    tabled = table.labels
    folders.rows += table.rows
    folders.unlabeled = [image for image in folders.unlabeled if image.path not in tabled]
    folders.problems += table.problems
    folders.tables += table.tables
    folders.notes += [note for note in table.notes if note.kind is not ReadingKind.IMAGES_NOT_IN_TABLE]
    return folders


def _by_template(tree: FileTree, layout: str | None, label_pattern: str | None) -> Reading:
    """Read labels by `--layout` or `--label-pattern`, or the label by one and the other fields by the other."""
    template = Template(layout) if layout else None
    matcher = label_matcher(label_pattern) if label_pattern else None
    if template and ("label" in template.fields) == (matcher is not None):
        raise UsageError(
            "both --layout and --label-pattern set the label."
            if matcher
            else f"the layout `{layout}` has no {{label}}, so no image would get one.",
            hint="e.g. --layout '{split}/{label}/*', or --layout '{group}/*' with --label-pattern '{label}_*'",
        )
    reading = Reading(f"the layout `{layout}`" if layout else f"the pattern `{label_pattern}`", layout or "**")
    for image in tree.images:
        fields = template.match(image.name) if template else {}
        label = clean_label((matcher(image.name) if matcher else (fields or {}).get("label")) or "")
        if fields is None or not label:
            reading.unlabeled.append(image)
            continue
        if "split" in fields:
            split = split_name(fields["split"])
            if split is None:
                raise UsageError(
                    f"with the layout `{layout}`, the image `{image.name}` would be in a split `{fields['split']}`; "
                    "expected train, val or test.",
                    hint="put `*` for a level without meaning",
                )
        else:
            split = next((s for s in map(split_name, image.folders) if s), None) if not template else None
        reading.rows.append(Row(image, label, split, clean_label(fields.get("group", "")) or None))
    if not reading.rows:
        raise DataError(
            f"no image matches {reading.layout}; the first is `{tree.images[0].name}`.",
            hint="the pattern is matched against the path below the data folder; `*` does not cross a `/`, `**` does",
        )
    return reading


def _label_tables(tree: FileTree, options: ReadOptions, folders: Reading | None) -> Reading | None:
    """Read the label tables inside a folder, or return None if there are none.

    Raises:
        UsageError: Several tables could hold the labels.
    """
    names = Counter(t.file.lower() for t in tree.tables if t.folders)
    named = [
        t
        for t in tree.tables
        if t.file.lower() in ("metadata.csv", "metadata.jsonl")
        or (t.folders and names[t.file.lower()] > 1 and split_name(t.folders[-1]) and t.file.lower().endswith(_TABLES))
    ]
    json_files = [f for f in tree.other_files if f.file.lower().endswith(".json") and not f.folders]
    plain = [t for t in (*tree.tables, *json_files) if not t.folders and t not in named]
    finder = PathFinder(tree.root, allow_external_paths=options.allow_external_paths)
    candidates, errors = _open_tables(named or plain, options)
    if not candidates:
        candidates, more = _open_lists(plain, finder, options)
        errors += more
    is_named = False
    if candidates and not named:
        is_named = name_numbers([table for _, table in candidates], finder, first_id=options.first_id)
    if options.first_id is not None and not is_named:
        raise _without_names()
    if not candidates:
        is_labeled = folders is not None and len({row.label for row in folders.rows}) > 1
        is_storage = folders is not None and all(is_storage_name(row.label) for row in folders.rows[:1])
        if errors and (not is_labeled or is_storage):
            raise errors[0]
        return None
    splits = [split_name(os.path.splitext(f.file)[0]) for f, _ in candidates]
    if any(splits) and not all(splits):  # a map of the classes, such as Meta.csv beside Train.csv
        maps = [
            file for (file, table), split in zip(candidates, splits, strict=True) if not split and _is_class_map(table)
        ]
        kept = [(pair, split) for pair, split in zip(candidates, splits, strict=True) if pair[0] not in maps]
        candidates, splits = [pair for pair, _ in kept], [split for _, split in kept]
    if len(candidates) > 1 and not named and not all(splits):
        candidates = _most_complete(candidates, options, tree)
        splits = [None] * len(candidates)
    return _join_tables(
        candidates, [None if len(candidates) == 1 else s for s in splits], tree, options.allow_external_paths
    )


def _open_tables(
    files: Sequence[LocatedFile], options: ReadOptions
) -> tuple[list[tuple[LocatedFile, Table]], list[HeadstartError]]:
    """Return the tables with labels, and why others cannot be used; tables of predictions are passed over."""
    candidates: list[tuple[LocatedFile, Table]] = []
    errors: list[HeadstartError] = []
    for file in files:
        if not file.file.lower().endswith(_TABLES) or set(_words_of(file)) & _PREDICTION_WORDS:
            continue
        finder = PathFinder(os.path.dirname(file.path), allow_external_paths=options.allow_external_paths)
        try:
            table = read_labeled_table(file.path, finder, options)
        except (DataError, UsageError) as error:
            if file.file.lower() in ("metadata.csv", "metadata.jsonl"):
                raise
            errors.append(error)
            continue
        if table.label is not None and "probability" not in (c.lower() for c in table.others):
            candidates.append((file, table))
    return candidates, errors


def _open_lists(
    files: Sequence[LocatedFile], finder: PathFinder, options: ReadOptions
) -> tuple[list[tuple[LocatedFile, Table]], list[HeadstartError]]:
    """Return the lists with labels, and questions about their columns."""
    candidates: list[tuple[LocatedFile, Table]] = []
    errors: list[HeadstartError] = []
    if any(file.file.lower() == NUMBERED_SPLITS for file in files):
        return candidates, errors  # these lists are joined by number
    for file in files:
        if not file.file.lower().endswith((".txt", ".lst")) or not first_lines(file.path):
            continue
        try:
            table = _open_list(file.path, finder, options)
        except DataError:
            continue
        except UsageError as error:
            errors.append(error)
            continue
        if table.label is not None:
            candidates.append((file, table))
    return candidates, errors


def _words_of(file: LocatedFile) -> list[str]:
    stem = os.path.splitext(file.file)[0]
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", stem)]


def _is_class_map(table: Table) -> bool:
    """Return whether each label occurs once."""
    labels = [cells.get(table.label or "", "") for _, cells in table.lines]
    return 1 < len(labels) == len(set(labels))


def _most_complete(
    candidates: Sequence[tuple[LocatedFile, Table]], options: ReadOptions, tree: FileTree
) -> list[tuple[LocatedFile, Table]]:
    """Return the one table that says all that the others say.

    Raises:
        UsageError: There is none.
    """
    readings = []
    for file, table in candidates:
        finder = PathFinder(os.path.dirname(file.path), allow_external_paths=options.allow_external_paths)
        reading = table_reading(table, finder)
        reading.layout = f"table `{file.name}`"
        reading.option = tree.shown_path(file.path)
        readings.append((file, table, reading))
    for file, table, reading in sorted(readings, key=lambda r: (-len(r[2].rows), not r[2].has_splits)):
        labels = reading.labels
        others = [r for f, _, r in readings if f is not file]
        is_whole = all(labels.get(row.file.path) == row.label for other in others for row in other.rows)
        if is_whole and (reading.has_splits or not any(other.has_splits for other in others)):
            return [(file, table)]
    likely = _most_likely(f for f, _ in candidates)
    readings.sort(key=lambda r: r[0] is not likely)
    shown = "; ".join(reading.describe() for _, _, reading in readings[:4])
    raise UsageError(
        f"several tables could hold the labels: {shown}.",
        hint=f"pass the right one: {tree.shown_path(likely.path)}",
    )


def _most_likely(tables: Iterable[LocatedFile]) -> LocatedFile:
    """Return the table most likely to hold training labels: not one for predictions or other splits."""

    def rank(file: LocatedFile) -> tuple[bool, bool]:
        is_form = any(word in file.file.lower() for word in ("submission", "sample", "prediction"))
        splits = split_words(os.path.splitext(file.file)[0])
        return is_form or bool(splits - {"train"}), "train" not in splits

    return min(tables, key=rank)


def _join_tables(
    candidates: list[tuple[LocatedFile, Table]], splits: list[str | None], tree: FileTree, allow_external_paths: bool
) -> Reading:
    """Combine one or several tables (one per split, or one per folder) into one reading."""
    whole = Reading("table", candidates[0][0].name)
    columns = whole.columns
    taken: dict[str, tuple[PathMatch, LocatedFile]] = {}
    for (table_file, table), split in zip(candidates, splits, strict=True):
        folder = os.path.dirname(table_file.path)
        inside = next((s for s in map(split_name, table_file.folders) if s), None)
        finder = PathFinder(folder, allow_external_paths=allow_external_paths)
        part = table_reading(table, finder, split=split or inside)
        whole.tables.append(_table_use(table_file.name, table, part))
        for path, hit in finder.matches().items():
            first, other = taken.setdefault(path, (hit, table_file))
            if first.path != hit.path and "elsewhere" in (first.how, hit.how) and not table_file.folders:
                raise DataError(
                    f"`{first.cell}` of `{other.name}` and `{hit.cell}` of `{table_file.name}` differ, but "
                    f"only `{hit.file.name}` has this name, so at least one of the images is missing.",
                    hint="put the missing images at their paths, or pass one table",
                )
        before = len(whole.rows)
        for row in part.rows:
            file = LocatedFile(row.file.path, (*table_file.folders, *row.file.folders), row.file.file)
            whole.rows.append(replace(row, file=file))
        whole.problems += part.problems
        for reason, files in part.unused.items():
            whole.unused.setdefault(reason, []).extend(files)
        for name, cells in part.columns.items():
            columns.setdefault(name, [""] * before).extend(cells)
        for cells in columns.values():
            cells.extend([""] * (len(whole.rows) - len(cells)))
        whole.notes += part.notes
        whole.unlabeled += part.unlabeled
    tabled = {r.file.path for r in whole.rows} | {
        f.path for f in (*whole.unlabeled, *(file for files in whole.unused.values() for file in files))
    }
    rest = [p for p in tree.images if p.path not in tabled]
    if rest:
        whole.unused[UnusedReason.NOT_IN_TABLE] = rest
        whole.notes += images_note(ReadingKind.IMAGES_NOT_IN_TABLE, rest)
    return whole


def _refuse_conflict(table: Reading, folders: Reading, tree: FileTree) -> None:
    """Raise an error if the labels of the table and of the folders differ.

    Raises:
        UsageError: The labels differ.
    """
    by_folder = {r.file.path: r for r in folders.rows}
    both = [(r, by_folder[r.file.path]) for r in table.rows if r.file.path in by_folder]
    labels = {f.label for _, f in both}
    if not both or len(labels) < 2:
        return  # a single folder of images (`images/`) is not a class
    if _is_storage(both):
        return
    differing = next(((t, f) for t, f in both if t.label != f.label), None)
    if differing is None and len(both) == len(by_folder):
        return
    if differing is None:
        detail = f"the table has {len(table.rows):,} of {pluralize(len(by_folder), 'image')} in class folders"
    else:
        tabled, placed = differing
        detail = f"`{tabled.file.name}` is `{tabled.label}` in the table and `{placed.label}` by its folder"
    place = tree.shown_path(os.path.join(tree.root, table.template))
    raise UsageError(
        f"two layouts fit: the table `{table.template}` and the {folders.layout}; {detail}.",
        hint=f"pass the table itself ({place}), or use --layout '{folders.template}' for the folders",
    )


def _is_storage(both: Sequence[tuple[Row, Row]]) -> bool:
    """Return whether the folders only store images: by their names, and most hold several classes of the table."""
    inside: dict[str, Counter[str]] = defaultdict(Counter)
    for tabled, placed in both:
        inside[placed.label][tabled.label] += 1
    mixed = [counts for counts in inside.values() if counts.most_common(1)[0][1] < 0.8 * counts.total()]
    is_named = all(is_storage_name(name) or any(c.isdigit() for c in name) for name in inside)
    return is_named and 2 * len(mixed) > len(inside)


def _refuse_empty(tree: FileTree) -> None:
    shown = tree.shown_path()
    foreign = Counter(os.path.splitext(p.name)[1].lower() for p in tree.problems if p.kind == "foreign-format")
    if foreign:
        extension, count = foreign.most_common(1)[0]
        raise DataError(
            f"`{shown}` has no readable image, but {pluralize(count, f'{extension} file')}.",
            hint=EXPORT_STEPS.get(extension, "export them as PNG"),
        )
    if tree.problems:
        first = tree.problems[0]
        raise DataError(
            f"`{shown}` has no readable image; `{first.name}`: {first.detail}"
            + (f" (and {len(tree.problems) - 1} more)." if len(tree.problems) > 1 else "."),
        )
    kinds = ", ".join(f"{n} {e}" for e, n in tree.others.most_common(3)) or "nothing"
    raise DataError(
        f"`{shown}` contains no images (found: {kinds}).",
        hint="expected one subfolder per class with its images inside",
    )
