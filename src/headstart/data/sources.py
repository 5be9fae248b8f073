"""Read images and labels from any supported layout.

`read` raises if two layouts fit, instead of guessing. Nothing is written next to the data.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from headstart.data.archives import unpack
from headstart.data.class_names import FIRST_IDS
from headstart.data.file_tree import FileTree, LocatedFile, clean_label, resolve_path, walk_files
from headstart.data.folders import Reading, Row, read_folders, split_name, split_words
from headstart.data.formats import EXPORT_STEPS, IMAGES
from headstart.data.layouts import Template, label_matcher
from headstart.data.lists import first_lines, name_numbers, read_list
from headstart.data.paths import PathFinder, PathMatch
from headstart.data.reading_notes import images_note, merge_notes, similar_name_notes, tree_notes
from headstart.data.tables import Table, read_table, table_reading
from headstart.errors import DataError, HeadstartError, UsageError
from headstart.messages.numbers import pluralize
from headstart.types.codes import ReadingKind, ReadingNote, Severity
from headstart.types.records import Problem, Sample, Samples

__all__ = ["read"]

_SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
_ARCHIVES = (".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz")
_ReadResult = tuple[Reading, list[Problem], dict[str, list[str]]]


def read(
    data: str | Path,
    *,
    allow_external_paths: bool = False,
    label_pattern: str | None = None,
    layout: str | None = None,
    first_id: int | str | None = None,
    task: str = "classify",
) -> Samples:
    """Read a dataset: its images and their labels.

    Args:
        data: A folder, a table (.csv, .tsv, .jsonl), a list (.txt, `path label`) or a .zip.
        allow_external_paths: Follow links and paths that leave the data folder.
        label_pattern: Where the label is in the file name: a template such as `{label}_*` or a
            regular expression with a capture group.
        layout: The folder levels, e.g. `{group}/{label}/*`; fields are label, group and split.
        first_id: For lists of numbered classes with a names file: the number of the first name, 0 or 1, or
            `none` to keep the numbers as class names; None decides by evidence.
        task: `classify` needs labels; `images` takes every image, labeled or not.

    Returns:
        The images, sorted by name or in the order of the table, with the detected layout and notes.
        `problems` lists files that cannot be used.

    Raises:
        DataError: There is nothing to learn from.
        UsageError: Two layouts fit, or an option does not fit the data.
    """
    if task not in ("classify", "images"):
        raise UsageError(f"read() expects the task `classify` or `images`, not `{task}`.")
    if first_id not in (None, *FIRST_IDS):
        raise UsageError(f"--first-id expects 0, 1 or none, not `{first_id}`.")
    options = _Options(allow_external_paths, label_pattern, layout, first_id, task)
    place, shown = resolve_path(data, "a folder of images, a table or a .zip")
    extension = os.path.splitext(place)[1].lower()
    if os.path.isdir(place):
        return _read_folder(place, options, [])
    if extension in _SPREADSHEETS:
        raise UsageError(
            f"`{shown}` is a spreadsheet, which is not supported.", hint="save as CSV (File > Save As > CSV UTF-8)"
        )
    if extension == ".zip":
        folder, problems = unpack(place)
        return _read_folder(folder, replace(options, allow_external_paths=False, shown=shown), problems)
    if extension in _ARCHIVES:
        raise UsageError(f"`{shown}` is an unsupported archive.", hint="unpack it, and pass the folder")
    if extension in IMAGES or extension in EXPORT_STEPS:
        raise UsageError(f"`{shown}` is a single image; expected a folder of labeled images.")
    if layout:
        raise UsageError("--layout cannot be used with a table.", hint="remove --layout")
    root = os.path.dirname(os.path.abspath(place))
    finder = PathFinder(root, allow_external_paths=allow_external_paths)
    is_list = extension not in (".csv", ".tsv", ".jsonl", ".ndjson")
    table = read_list(place, finder) if is_list else read_table(place)
    is_named = is_list and name_numbers([table], finder, first_id=first_id)
    if first_id is not None and not is_named:
        raise _without_names()
    if table.label is None and label_pattern is None and task == "images":
        label_pattern = "^()"  # no label needed
    result = table_reading(table, finder, label_template=label_pattern)
    if extension in (".txt", ".lst"):
        result[0].layout = "list"
    return _finish(result, root, [], task)


@dataclass(frozen=True, slots=True)
class _Options:
    """Options of `read`."""

    allow_external_paths: bool
    label_pattern: str | None
    layout: str | None
    first_id: int | str | None
    task: str
    shown: str = ""  # name of the folder in messages: the file name of an archive


def _without_names() -> UsageError:
    return UsageError(
        "--first-id cannot be used here: the data have no list of numbered classes with a names file.",
        hint="remove --first-id",
    )


def _read_folder(place: str, options: _Options, problems: list[Problem]) -> Samples:
    allow_external_paths, layout, label_pattern, task = (
        options.allow_external_paths,
        options.layout,
        options.label_pattern,
        options.task,
    )
    tree = walk_files(place, allow_external_paths=allow_external_paths, shown=options.shown)
    tree.problems.extend(problems)
    if not tree.images:
        _refuse_empty(tree)
    if layout or label_pattern:
        if options.first_id is not None:
            raise _without_names()
        reading = _by_template(tree, layout, label_pattern)
        return _finish((reading, tree.problems, {}), tree.root, tree_notes(tree), task)
    tables = _label_tables(tree, allow_external_paths, options.first_id)
    folders: Reading | None = None
    error: HeadstartError | None = None
    try:
        folders = read_folders(tree.images)
    except (DataError, UsageError) as caught:
        error = caught
    if tables is not None:
        if folders is not None:
            _refuse_conflict(tables[0], folders, tree)
        result = (tables[0], [*tree.problems, *tables[1]], tables[2])
        return _finish(result, tree.root, tree_notes(tree), task)
    if folders is None:
        if task != "images":
            assert error is not None
            raise error
        folders = Reading("images", "**")
        folders.unlabeled = list(tree.images)
    return _finish((folders, tree.problems, {}), tree.root, tree_notes(tree), task)


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


def _label_tables(tree: FileTree, allow_external_paths: bool, first_id: int | str | None) -> _ReadResult | None:
    """Read the label tables inside a folder, or return None if there are none.

    Raises:
        UsageError: Several tables could hold the labels.
    """
    named = [t for t in tree.tables if t.file.lower() in ("metadata.csv", "metadata.jsonl")]
    plain = [t for t in tree.tables if not t.folders and t not in named]
    candidates: list[tuple[LocatedFile, Table]] = []
    is_named = False
    for file in named or [t for t in plain if t.file.lower().endswith((".csv", ".tsv", ".jsonl"))]:
        try:
            table = read_table(file.path)
        except (DataError, UsageError):
            if named:
                raise
            continue
        if table.label is not None and "probability" not in (c.lower() for c in table.others):
            candidates.append((file, table))
    if not candidates:
        finder = PathFinder(tree.root, allow_external_paths=allow_external_paths)
        for file in plain:
            if not file.file.lower().endswith((".txt", ".lst")) or not first_lines(file.path):
                continue
            try:
                table = read_list(file.path, finder)
            except DataError:
                continue
            if table.label is not None:
                candidates.append((file, table))
        is_named = bool(candidates) and name_numbers([table for _, table in candidates], finder, first_id=first_id)
    if first_id is not None and not is_named:
        raise _without_names()
    if not candidates:
        return None
    splits = [split_name(os.path.splitext(f.file)[0]) for f, _ in candidates]
    if len(candidates) > 1 and not named and not all(splits):
        raise UsageError(
            "several tables could hold the labels: " + ", ".join(f"`{f.name}`" for f, _ in candidates[:6]) + ".",
            hint=f"pass the right one: {tree.shown_path(_most_likely(f for f, _ in candidates).path)}",
        )
    return _join_tables(candidates, [None if len(candidates) == 1 else s for s in splits], tree, allow_external_paths)


def _most_likely(tables: Iterable[LocatedFile]) -> LocatedFile:
    """Return the table most likely to hold training labels: not one for predictions or other splits."""

    def rank(file: LocatedFile) -> tuple[bool, bool]:
        is_form = any(word in file.file.lower() for word in ("submission", "sample", "prediction"))
        splits = split_words(os.path.splitext(file.file)[0])
        return is_form or bool(splits - {"train"}), "train" not in splits

    return min(tables, key=rank)


def _join_tables(
    candidates: list[tuple[LocatedFile, Table]], splits: list[str | None], tree: FileTree, allow_external_paths: bool
) -> _ReadResult:
    """Combine one or several tables (one per split, or one per folder) into one reading."""
    whole = Reading("table", candidates[0][0].name)
    problems: list[Problem] = []
    columns: dict[str, list[str]] = {}
    taken: dict[str, tuple[PathMatch, LocatedFile]] = {}
    for (table_file, table), split in zip(candidates, splits, strict=True):
        folder = os.path.dirname(table_file.path)
        inside = next((s for s in map(split_name, table_file.folders) if s), None)
        finder = PathFinder(folder, allow_external_paths=allow_external_paths)
        part, part_problems, part_columns = table_reading(table, finder, split=split or inside)
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
        problems.extend(part_problems)
        for name, cells in part_columns.items():
            columns.setdefault(name, [""] * before).extend(cells)
        for cells in columns.values():
            cells.extend([""] * (len(whole.rows) - len(cells)))
        whole.notes += part.notes
        whole.unlabeled += part.unlabeled
    tabled = {r.file.path for r in whole.rows}
    rest = [p for p in tree.images if p.path not in tabled]
    whole.notes += images_note(ReadingKind.IMAGES_NOT_IN_TABLE, rest)
    return whole, problems, columns


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


def _finish(result: _ReadResult, root: str, notes: list[ReadingNote], task: str) -> Samples:
    """Return samples in a fixed order, with the layout and the notes, warnings first."""
    reading, problems, columns = result
    if task == "images":
        problems = [p for p in problems if p.kind != "no-label"]  # such images are used, too
    rows = [(r.file, r.label, r.split, r.group) for r in reading.rows]
    if task == "images":
        rows = [(f, label or None, s, g) for f, label, s, g in rows]  # type: ignore[misc]
        has_splits = any(s for _, _, s, _ in rows)
        for file in reading.unlabeled:
            split = next((s for s in map(split_name, file.folders) if s), None) if has_splits else None
            rows.append((file, None, split, None))  # type: ignore[arg-type]
        columns = {c: v + [""] * (len(rows) - len(v)) for c, v in columns.items()}
    if not rows:
        raise DataError("no image has a label.", hint="expected one subfolder per class with its images inside")
    order = list(range(len(rows)))
    is_tabled = reading.layout in ("table", "list")
    if not is_tabled:  # rows without a label are among the problems
        order.sort(key=lambda i: rows[i][0].name)
    items = tuple(Sample(rows[i][0].path, rows[i][0].name, *rows[i][1:]) for i in order)
    class_names = tuple(sorted({s.label for s in items if s.label}))
    unlabeled = images_note(ReadingKind.UNLABELED_IMAGES, [] if is_tabled or task == "images" else reading.unlabeled)
    notes = merge_notes([*reading.notes, *unlabeled, *notes, *similar_name_notes(class_names)])
    return Samples(
        items=items,
        class_names=class_names,
        root=root,
        layout=reading.layout,
        notes=tuple(sorted(notes, key=lambda n: n.severity is Severity.INFO)),
        problems=tuple(problems),
        columns={c: tuple(v[i] for i in order) for c, v in columns.items()},
        has_inferred_groups=reading.has_inferred_groups,
    )
