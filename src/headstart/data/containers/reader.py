"""Store the images of containers, and read labels from the stored rows with the reader of tables."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from headstart.data.archive_names import check_encoding
from headstart.data.archives import Unpacked, unpack
from headstart.data.columns import assign_columns
from headstart.data.containers.arrays import open_arrays, write_arrays
from headstart.data.containers.columnar import write_columnar
from headstart.data.containers.pixel_tables import write_pixel_tables
from headstart.data.containers.store import StoredTable, TableWriter, content_key, open_stored, store_table
from headstart.data.containers.webdataset import is_webdataset, write_shards
from headstart.data.file_tree import FileTree, LocatedFile, printable
from headstart.data.formats import container_kind
from headstart.data.inventory import finish_reading
from headstart.data.label_files import readings_by_column
from headstart.data.options import ReadOptions
from headstart.data.paths import Claim, PathFinder, PathMatch
from headstart.data.reading import ask
from headstart.data.reading_notes import merge_notes
from headstart.data.table_rows import UNLABELED, table_reading
from headstart.data.tables import Table
from headstart.errors import CacheError, DataError, HeadstartError, UsageError
from headstart.preprocessing.packed_files import packed_path
from headstart.types.codes import ReadingKind, ReadingNote, UnusedReason
from headstart.types.inventory import TableUse, UnusedFile
from headstart.types.records import Problem, Samples

__all__ = ["read_containers", "read_stored", "store_containers"]

_EXAMPLES = 5
_MAX_NESTING = 2
_DESCRIPTION = re.compile(r"(^|/)(readme[^/]*|license[^/]*|(dataset_info|dataset_dict|state)\.json)$", re.IGNORECASE)
_SHARD = re.compile(r"^(.*?)(\d{5})-of-(\d{5})(\.\w+)$")


def read_containers(
    tree: FileTree,
    options: ReadOptions,
    needs_labels: bool,
    read_folder: Callable[[Unpacked, ReadOptions, bool], Samples],
    depth: int = 0,
) -> Samples:
    """Read the containers of a tree without images; archives are unpacked and read as folders.

    Args:
        tree: The containers and the files beside them.
        options: How they are read.
        needs_labels: As in `sources.read`.
        read_folder: Reads unpacked archives.
        depth: Number of archives around the tree.

    Raises:
        DataError: Archives are nested too deeply, or a container has no images or no labels.
    """
    shown = tree.shown_path()
    if options.name_encoding:
        check_encoding(options.name_encoding)
    stored = store_containers(tree.containers, options, shown)
    others = [*tree.tables, *tree.other_files]
    if stored is not None:
        stored.unused += [(file.name, str(UnusedReason.TABLE_NOT_UNDERSTOOD)) for file in others]
        stored.problems += tree.problems
        return read_stored(stored, options, needs_labels, shown)
    if depth > _MAX_NESTING:
        raise DataError(f"`{shown}` has archives in archives in archives.", hint="unpack them, and pass the folder")
    unpacked = unpack(tree.containers, others, name_encoding=options.name_encoding, shown=shown)
    unpacked.problems += tree.problems
    unpacked.depth = depth + 1
    try:
        samples = read_folder(unpacked, replace(options, allow_external_paths=False), needs_labels)
    except HeadstartError as error:
        if tree.root:
            error.message += f" Unpacked: {', '.join(f'`{file.name}`' for file in tree.containers[:4])}."
        raise
    return replace(samples, notes=tuple(merge_notes([*unpacked.notes, *samples.notes])))


def store_containers(files: Sequence[LocatedFile], options: ReadOptions, shown: str) -> StoredTable | None:
    """Store the images of containers that hold their labels; None for archives of folders.

    Args:
        files: The containers.
        options: How they are read.
        shown: Name of the data in messages.

    Raises:
        DataError: A container is damaged or has no images.
        MissingExtraError: A dependency is missing.
        UsageError: There are containers of several kinds, or several parts could be the images.
    """
    kinds: dict[str, list[LocatedFile]] = defaultdict(list)
    for file in files:
        kind = container_kind(file.file)
        is_shard = kind == "tar" and is_webdataset(file.path)
        kinds["webdataset" if is_shard else "archive" if kind in ("tar", "zip") else kind or "pixels"].append(file)
    if len(kinds) > 1:
        examples = ", ".join(f"`{printable(same[0].file)}`" for same in kinds.values())
        raise UsageError(f"`{shown}` has containers of several kinds: {examples}.", hint="pass one of them")
    (layout,) = kinds
    if layout == "archive":
        return None
    named = [(file.name, file.path) for file in files]

    def write(writer: TableWriter) -> None:
        if layout == "arrays":
            write_arrays(*open_arrays(named), options, shown, writer)
        elif layout == "parquet":
            write_columnar(named, options, writer)
        elif layout == "pixels":
            write_pixel_tables(named, writer)
        else:
            write_shards(named, writer)

    parts = (options.image_column, options.label_column, options.first_id)
    stored = open_stored(store_table(content_key(layout, named, *parts), layout, write))
    if stored is None:
        raise CacheError("a folder of the cache is damaged.", hint="headstart cache clear")
    stored.notes += _missing_shards([name for name, _ in named])
    return stored


def _missing_shards(names: Sequence[str]) -> list[ReadingNote]:
    """Return a note on shards whose number is missing, as `00001-of-00002` beside `00000-of-00002`."""
    missing = []
    matches = [match for name in names if (match := _SHARD.match(name))]
    present = {match.group(0) for match in matches}
    for match in matches:
        for number in range(int(match[3])):
            name = f"{match[1]}{number:05d}-of-{match[3]}{match[4]}"
            if name not in present:
                missing.append(name)
    names = list(dict.fromkeys(missing))
    return [ReadingNote(ReadingKind.SHARDS_MISSING, len(names), tuple(names[:_EXAMPLES]))] if names else []


def read_stored(stored: StoredTable, options: ReadOptions, needs_labels: bool, shown: str) -> Samples:
    """Read labels, splits and groups of stored images.

    Args:
        stored: Images and rows.
        options: How they are read.
        needs_labels: As in `sources.read`.
        shown: Name of the data in messages.

    Raises:
        DataError: No image has a label.
        UsageError: Several columns could be the label, or an option does not fit.
    """
    _refuse_options(options)
    column = next(name for name in ("image", "_image", "__image") if all(name not in r.cells for r in stored.rows))
    header = list(dict.fromkeys(name for row in stored.rows for name in row.cells))
    lines = [(i, {**dict.fromkeys(header, ""), **row.cells}) for i, row in enumerate(stored.rows)]
    if not stored.has_paths:
        header.insert(0, column)
        lines = [(i, {column: row.name, **cells}) for row, (i, cells) in zip(stored.rows, lines, strict=True)]
        label = options.label_column or ("label" if "label" in header else stored.label_column)
        options = replace(options, image_column=column, label_column=label if label in header else options.label_column)
    elif stored.image_column and options.image_column is None:
        options = replace(options, image_column=stored.image_column)
    is_free = stored.has_external_paths or (stored.has_paths and options.allow_external_paths)
    finder = PathFinder(stored.root, allow_external_paths=is_free) if stored.has_paths else _PackFinder(stored)
    table = assign_columns(Table(shown, lines, "", None, header=header), finder, options)
    pattern = options.label_pattern
    if len(table.label_columns) > 1 and options.label_column is None and pattern is None:
        raise ask(readings_by_column(table, finder))
    if table.label is None and pattern is None and not needs_labels:
        pattern = UNLABELED
    elif table.label is None and pattern is None:
        listed = ", ".join(f"`{name}`" for name in header if name != column) or "none"
        raise DataError(
            f"the images of `{shown}` have no labels; its other columns are: {listed}.",
            hint="add labels: an array `labels` (.npy: pass the folder), a column `label`, members `.cls`; or use "
            "--label-column",
        )
    reading = table_reading(table, finder, label_template=pattern)
    reading.problems += stored.problems
    reading.notes += stored.notes
    reading.notes += _unused_note(stored)
    reading.tables += _table_uses(stored, {row.file.name for row in reading.rows})
    samples = finish_reading(reading, stored.root, [], needs_labels)
    unused = tuple(UnusedFile(name, reason) for name, reason in stored.unused)
    inventory = replace(samples.inventory, unused=(*samples.inventory.unused, *unused))
    return replace(samples, root=shown, layout=stored.layout, inventory=inventory)


class _PackFinder(PathFinder):
    """Find the images of a stored table by their names.

    Args:
        stored: The table.
    """

    def __init__(self, stored: StoredTable) -> None:
        super().__init__(stored.root)
        self._files = {
            row.name: LocatedFile(packed_path(stored.root, row.offset, row.length, row.suffix), (), row.name)
            for row in stored.rows
        }

    def look_up(self, cell: str, where: str, claim: Claim | None = None) -> PathMatch | Problem:
        """Return the image with this name; other cells are not images."""
        file = self._files.get(cell)
        if file is None:
            return Problem(cell, "missing", f"there is no such image ({where})")
        return PathMatch(file, "exact", cell, cell)


def _unused_note(stored: StoredTable) -> list[ReadingNote]:
    """Return a note on unused parts of a container, without descriptions of the dataset."""
    names = [name for name, _ in stored.unused if not _DESCRIPTION.search(name)]
    return [ReadingNote(ReadingKind.PARTS_UNUSED, len(names), tuple(names[:_EXAMPLES]))] if names else []


def _table_uses(stored: StoredTable, used: set[str]) -> list[TableUse]:
    """Return the rows of each container; with paths of the user, all rows count as used."""
    rows = Counter(row.source for row in stored.rows)
    rows_used = Counter(row.source for row in stored.rows if stored.has_paths or row.name in used)
    return [
        TableUse(name, "labels", n, rows_used[name], {"no-label": n - rows_used[name]} if n > rows_used[name] else {})
        for name, n in rows.items()
    ]


def _refuse_options(options: ReadOptions) -> None:
    """Raise an error if an option has no effect on containers.

    Raises:
        UsageError: It has none.
    """
    for name in ("layout", "exclude", "table"):
        if getattr(options, name):
            raise UsageError(f"--{name} cannot be used with this container.", hint=f"remove --{name}")
