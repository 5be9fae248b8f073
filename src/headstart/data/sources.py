"""Read images and labels from any supported layout.

`read` raises if two layouts fit, instead of guessing. Nothing is written next to the data.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.data.archives import Unpacked, is_unsupported_archive
from headstart.data.class_names import FIRST_IDS
from headstart.data.containers.store import IN_MEMORY, open_stored
from headstart.data.file_names import suggest_pattern
from headstart.data.file_tree import FileTree, LocatedFile, clean_label, resolve_path, walk_files
from headstart.data.folders import read_folders
from headstart.data.formats import IMAGES, PICKLE, container_kind, export_step
from headstart.data.inventory import exclude_files, finish_reading
from headstart.data.judging import judge
from headstart.data.label_files import (
    add_columns,
    describe_use,
    open_table,
    propose_tables,
    readings_by_column,
    without_names,
)
from headstart.data.label_sidecars import read_sidecars
from headstart.data.layouts import Template, label_matcher
from headstart.data.listed_folders import choose_listed, read_listed_folders
from headstart.data.lists import name_folders, name_numbers
from headstart.data.options import ReadOptions
from headstart.data.paths import PathFinder
from headstart.data.position_lists import label_by_position
from headstart.data.reading import Reading, Row, ask
from headstart.data.reading_notes import images_note, tree_notes
from headstart.data.split_lists import apply_split_lists
from headstart.data.split_words import cell_split, split_name
from headstart.data.table_rows import UNLABELED, table_reading
from headstart.errors import DataError, UsageError
from headstart.messages.numbers import pluralize
from headstart.types.codes import ReadingKind, UnusedReason
from headstart.types.records import Problem, Samples, SplitName

__all__ = ["read"]

_SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")


def read(data: str | Path, options: ReadOptions | None = None, *, needs_labels: bool = True, **given: Any) -> Samples:
    """Read a dataset: its images and their labels.

    Args:
        data: A folder, a table (.csv, .tsv, .jsonl, .json), a list (.txt, `path label`) or a container (.zip, .tar,
            .npz, .npy, .parquet, .arrow).
        options: How it is read.
        needs_labels: Whether images without a label are left out.
        given: Single fields of `options`.

    Returns:
        The images, sorted by name or in the order of the table, with the detected layout, notes and inventory.
        `problems` lists files that cannot be used.

    Raises:
        DataError: There is nothing to learn from.
        UsageError: Two layouts fit, or an option does not fit the data.
    """
    options = replace(options or ReadOptions(), **given)
    samples = _read(data, options, needs_labels)
    if options.pages is None:
        return samples
    from headstart.data.page_selection import with_pages

    return with_pages(samples, options.pages)


def _read(data: str | Path, options: ReadOptions, needs_labels: bool) -> Samples:
    if options.first_id not in (None, *FIRST_IDS):
        raise UsageError(f"--first-id expects 0, 1 or none, not `{options.first_id}`.")
    if IN_MEMORY in Path(data).parts and not os.path.exists(data):
        raise DataError(
            "the data were objects in memory, and their copy in the cache folder was deleted.",
            hint="pass the objects again",
        )
    place, shown = resolve_path(data, "a folder of images, a table or a container")
    extension = os.path.splitext(place)[1].lower()
    if os.path.isdir(place):
        stored = open_stored(place)
        if stored is not None:
            from headstart.data.containers.reader import read_stored

            return read_stored(stored, options, needs_labels, stored.layout)
        return _read_folder(Unpacked(place), options, needs_labels)
    if extension in _SPREADSHEETS:
        raise UsageError(
            f"`{shown}` is a spreadsheet, which is not supported.", hint="save as CSV (File > Save As > CSV UTF-8)"
        )
    if container_kind(place) or _is_pixel_table(place):
        file = LocatedFile(os.path.abspath(place), (), os.path.basename(place))
        return _read_containers(FileTree("", containers=[file], shown=shown), options, needs_labels)
    if is_unsupported_archive(place):
        raise UsageError(f"`{shown}` is an unsupported archive.", hint="unpack it, and pass the folder")
    if step := export_step(place):
        raise UsageError(f"`{shown}` is a {extension} file, which is not supported.", hint=f"{extension}: {step}")
    if extension in IMAGES:
        raise UsageError(f"`{shown}` is a single image; expected a folder of labeled images.")
    if options.layout:
        raise UsageError("--layout cannot be used with a table.", hint="remove --layout")
    if options.exclude:
        raise UsageError("--exclude cannot be used with a table.", hint="remove --exclude, or pass the folder")
    if options.table:
        raise UsageError("--table cannot be used with a table.", hint="remove --table, or pass the folder")
    root = os.path.dirname(os.path.abspath(place))
    finder = PathFinder(root, allow_external_paths=options.allow_external_paths)
    table = open_table(place, finder, options)
    if len(table.label_columns) > 1 and options.label_column is None and options.label_pattern is None:
        raise ask(readings_by_column(table, finder))
    is_named = name_numbers([table], finder, first_id=options.first_id)
    if options.first_id is not None and not is_named:
        raise without_names()
    label_pattern = options.label_pattern
    if table.label is None and label_pattern is None and not needs_labels:
        label_pattern = UNLABELED
    reading = table_reading(table, finder, label_template=label_pattern)
    reading.tables.append(describe_use(os.path.basename(place), table, reading))
    if extension in (".txt", ".lst"):
        reading.layout = "list"
    return finish_reading(reading, root, [], needs_labels)


def _is_pixel_table(path: str) -> bool:
    """Return whether a file is a table of pixels; its reader is imported only for tables."""
    if not path.lower().endswith((".csv", ".tsv")):
        return False
    from headstart.data.containers.pixel_tables import is_pixel_table

    return is_pixel_table(path)


def _read_containers(tree: FileTree, options: ReadOptions, needs_labels: bool, depth: int = 0) -> Samples:
    """Read containers; their readers are imported only for them."""
    from headstart.data.containers.reader import read_containers

    return read_containers(tree, options, needs_labels, _read_folder, depth=depth)


def _read_folder(place: Unpacked, options: ReadOptions, needs_labels: bool) -> Samples:
    tree = walk_files(place.folder, allow_external_paths=options.allow_external_paths, shown=place.shown)
    tree.problems.extend(place.problems)
    if not tree.images and not tree.containers:
        tree.containers = [file for file in tree.tables if _is_pixel_table(file.path)]
        tree.tables = [file for file in tree.tables if file not in tree.containers]
    if tree.containers and not tree.images:
        return _read_containers(tree, options, needs_labels, place.depth)
    matlab = [file for file in tree.containers if file.file.lower().endswith(".mat")]  # tables about the images
    tree.tables += matlab
    tree.containers = [file for file in tree.containers if file not in matlab]
    beside = "a container beside image files; pass it by itself"
    tree.problems += [Problem(file.name, "container", beside) for file in tree.containers]
    excluded = exclude_files(tree, options.exclude or ())
    if not tree.images:
        _refuse_empty(tree)
    if options.layout or options.label_pattern:
        if options.first_id is not None:
            raise without_names()
        reading = _by_template(tree, options.layout, options.label_pattern)
        finder = PathFinder(tree.root, images=tree.images, excluded={file.path for file in excluded})
        if not reading.has_splits:
            apply_split_lists(reading, tree, finder)
        add_columns(reading, propose_tables(tree, finder, options), finder)
    else:
        reading = _choose(tree, options, needs_labels, {file.path for file in excluded})
    reading.problems = [*tree.problems, *reading.problems]
    return finish_reading(reading, tree.root, tree_notes(tree), needs_labels, tree, excluded)


def _choose(tree: FileTree, options: ReadOptions, needs_labels: bool, excluded: Collection[str]) -> Reading:
    """Return the reading of a folder by its tables, lists and class folders.

    Raises:
        HeadstartError: None fits, or several that differ.
    """
    finder = PathFinder(
        tree.root, allow_external_paths=options.allow_external_paths, images=tree.images, excluded=excluded
    )
    proposals = propose_tables(tree, finder, options)
    sidecars = read_sidecars(tree)
    if sidecars is not None:
        proposals.readings.append(sidecars)
    folders: list[Reading] = []
    errors = [*proposals.unread, *proposals.unrelated]
    if options.table is None:
        try:
            listed = read_listed_folders(tree)
            folders = choose_listed(read_folders(tree.images), tree) if listed is None else [listed]
        except (DataError, UsageError) as caught:
            is_first = not proposals.unread or suggest_pattern(tree.images) is not None
            errors = [caught, *errors] if is_first else [*errors, caught]
    if sheets := [f.name for f in tree.tables if f.file.lower().endswith(_SPREADSHEETS)]:
        hint = "save as CSV (File > Save As > CSV UTF-8)"
        errors = [DataError(f"`{sheets[0]}` is a spreadsheet, which is not supported.", hint=hint), *errors]
    if not needs_labels and not folders and not proposals.readings:
        reading = Reading("images", "**")
        reading.unlabeled = list(tree.images)
        return reading
    reading = judge(folders, proposals.readings, proposals.refused, errors)
    is_table = any(table.role == "labels" for table in reading.tables)
    if not is_table:
        label_by_position(reading, tree)
    apply_split_lists(reading, tree, finder, [(f, t) for f, t in proposals.unlabeled if t.split])
    if is_table:
        _leave_rest(reading, tree)
    else:
        name_folders(reading, finder)
    add_columns(reading, proposals, finder)
    return reading


def _leave_rest(reading: Reading, tree: FileTree) -> None:
    """Mark the images that no table names as not used."""
    paths = {file.path for file in (*reading.unlabeled, *(row.file for row in reading.rows))}
    paths |= {file.path for files in reading.unused.values() for file in files}
    rest = [image for image in tree.images if image.path not in paths]
    if rest:
        reading.unused[UnusedReason.NOT_IN_TABLE] = rest
        reading.notes += images_note(ReadingKind.IMAGES_NOT_IN_TABLE, rest)


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
            split = _split_of(image) if template is None else None
        reading.rows.append(Row(image, label, split, clean_label(fields.get("group", "")) or None))
    if not reading.rows:
        raise DataError(
            f"no image matches {reading.layout}; the first is `{tree.images[0].name}`.",
            hint="the pattern is matched against the path below the data folder; `*` does not cross a `/`, `**` does",
        )
    return reading


def _split_of(image: LocatedFile) -> SplitName | None:
    """Return the split that the folders of an image name; the held-out one of several (`test1/train/`)."""
    split = next((s for s in map(split_name, image.folders) if s), None)
    held_out = (s for folder in image.folders if (s := cell_split(folder)) not in (None, "train"))
    return next(held_out, split) if split == "train" else split


def _refuse_empty(tree: FileTree) -> None:
    shown = tree.shown_path()
    foreign = Counter(os.path.splitext(p.name)[1].lower() for p in tree.problems if p.kind == "foreign-format")
    if foreign:
        extension, count = foreign.most_common(1)[0]
        raise DataError(
            f"`{shown}` has no readable image, but {pluralize(count, f'{extension} file')}.",
            hint=export_step(f"x{extension}") or export_step("", PICKLE),
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
