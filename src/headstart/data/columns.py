"""Find the image, label, split and group columns of a table by option, by name and by content.

The image column is the one whose cells resolve to files, whatever its name.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from headstart.data.file_tree import clean_label, printable
from headstart.data.options import ReadOptions
from headstart.data.paths import PathFinder
from headstart.data.split_words import split_name
from headstart.data.tables import GROUP_NAMES, IMAGE_NAMES, LABEL_NAMES, SPLIT_NAMES, Table, load_table, plain_name
from headstart.errors import DataError, UsageError

__all__ = ["assign_columns", "read_labeled_table"]

_WEAK_LABELS = ("choice", "diagnosis", "dx", "species", "breed", "level", "grade", "variety", "finding", "y")
_FLAGS = {"is_valid": "val", "is_val": "val", "is_validation": "val", "is_test": "test", "is_train": "train"}
_TRUE, _FALSE = frozenset({"1", "1.0", "true", "yes", "t"}), frozenset({"0", "0.0", "false", "no", "f", ""})
_PROBE = 50
_EXTRA_SPLITS = ("fold", "phase", "usage")


def read_labeled_table(path: str, finder: PathFinder, options: ReadOptions) -> Table:
    """Read a table and find its columns; one column per class becomes one label column.

    Raises:
        DataError: The table is unreadable or empty, no column names images, or a split cannot be used.
        UsageError: Several columns could be the label, or a column of an option does not exist.
    """
    return assign_columns(load_table(path), finder, options)


def assign_columns(table: Table, finder: PathFinder, options: ReadOptions) -> Table:
    """Find the columns of a loaded table; see `read_labeled_table`."""
    shown = printable(os.path.basename(table.path))
    header = table.header
    if not any(plain_name(c) in IMAGE_NAMES for c in header) and any(finder.exists(c) for c in header if c):
        first = dict(zip((names := [f"column{i}" for i in range(1, len(header) + 1)]), header, strict=True))
        lines = [(n, dict(zip(names, cells.values(), strict=False))) for n, cells in table.lines]
        table.header, table.lines = names, [(1, first), *lines]
        header = names
    if not table.lines:
        raise DataError(
            f"the table `{shown}` has no rows.", hint="expected a header and one row per image: image,label"
        )
    image = _option(table, options.image_column, "--image-column") or _image_column(table, finder)
    if image is None:
        listed = ", ".join(f"`{c}`" for c in header[:10])
        raise DataError(
            f"the table `{shown}` has no image column; its columns are {listed}.",
            hint="name the columns image,label (and optionally split,group), or use --image-column and --label-column",
        )
    table.image = image
    free = [c for c in header if c != image]
    table.split = None
    if options.split_column != "none":
        table.split = _option(table, options.split_column, "--split-column") or _split_column(table, free, shown)
    table.group = None
    if options.group_column != "none":
        table.group = _option(table, options.group_column, "--group-column") or next(
            (c for c in free if plain_name(c) in GROUP_NAMES), None
        )
    free = [c for c in free if c not in (table.split, table.group)]
    table.label = _option(table, options.label_column, "--label-column") or _label_column(table, free, shown)
    return table


def _cells(table: Table, column: str) -> list[str]:
    return [cells.get(column, "").strip() for _, cells in table.lines]


def _option(table: Table, name: str | None, option: str) -> str | None:
    if name is None:
        return None
    found = next((c for c in table.header if c == name or plain_name(c) == plain_name(name)), None)
    if found is None:
        raise UsageError(
            f"`{printable(os.path.basename(table.path))}` has no column `{name}`; its columns are "
            + ", ".join(f"`{c}`" for c in table.header[:10])
            + ".",
            hint=f"give {option} one of them",
        )
    return found


def _image_column(table: Table, finder: PathFinder) -> str | None:
    """Return the column with the most different cells that resolve to files; a usual name breaks ties."""
    lines = table.lines[:: max(1, len(table.lines) // _PROBE)]
    best: tuple[int, bool, str] | None = None
    for column in table.header:
        cells = {cells.get(column, "").strip() for _, cells in lines} - {""}
        hits = sum(finder.exists(cell) for cell in cells)
        key = (hits, plain_name(column) in IMAGE_NAMES, column)
        if 2 * hits >= len(cells) > 0 and hits and (best is None or key[:2] > best[:2]):
            best = key
    if best is not None:
        return best[2]
    return next((c for wanted in IMAGE_NAMES for c in table.header if plain_name(c) == wanted), None)


def _split_column(table: Table, free: Sequence[str], shown: str) -> str | None:
    """Return the split column; flags such as `is_valid` become split names in place.

    Raises:
        DataError: The column has other values than splits.
    """
    flags = [c for c in free if plain_name(c) in _FLAGS]
    if flags:
        for number, cells in table.lines:
            named: str = ""
            for column in flags:
                value, split = cells.get(column, "").strip().lower(), _FLAGS[plain_name(column)]
                if value not in _TRUE | _FALSE:
                    raise DataError(
                        f"line {number} of `{shown}` has the {column} `{value}`; expected true or false.",
                        hint="correct it, or use --split-column none to ignore the column",
                    )
                if value in _TRUE:
                    named = split
                elif split == "train" and not named:
                    named = "test"
            cells[flags[0]] = named or "train"
        for column in flags[1:]:
            for _, cells in table.lines:
                cells.pop(column, None)
            table.header.remove(column)
        return flags[0]
    named_column = next((c for c in free if plain_name(c) in SPLIT_NAMES), None)
    if named_column is not None:
        return named_column
    for column in free:
        values = set(_cells(table, column)) - {""}
        if len(values) > 1 and all(split_name(value) for value in values):
            return column
    unusable = next((c for c in free if plain_name(c) in _EXTRA_SPLITS), None)
    if unusable is not None:
        shown_values = ", ".join(f"`{v}`" for v in sorted(set(_cells(table, unusable)))[:4])
        raise DataError(
            f"the column `{unusable}` of `{shown}` has {shown_values}; expected train, val and test.",
            hint="write the names of the splits, or use --split-column none to ignore the column",
        )
    return None


def _label_column(table: Table, free: Sequence[str], shown: str) -> str | None:
    """Return the label column, or None if no column can be it.

    Raises:
        UsageError: Several columns could be the label.
    """
    named = [c for c in free if plain_name(c) in LABEL_NAMES]
    if named:
        return _agreed(table, sorted(named, key=lambda c: LABEL_NAMES.index(plain_name(c))), shown)
    classes = [c for c in free if set(_cells(table, c)) <= _TRUE | _FALSE and set(_cells(table, c)) & _TRUE]
    if len(classes) > 1:
        return _from_one_hot(table, classes, shown)
    weak = [c for c in free if plain_name(c) in _WEAK_LABELS]
    if weak:
        return weak[0]
    plausible = [c for c in free if 1 < len(set(_cells(table, c)) - {""}) <= max(2, len(table.lines) // 2)]
    if len(plausible) > 1:
        heading = f" (`{table.heading}`)" if table.heading else ""
        raise UsageError(
            f"several columns of `{shown}`{heading} could be the label: "
            + ", ".join(f"`{c}`" for c in plausible)
            + ".",
            hint="use " + " or ".join(f"--label-column '{c}'" for c in plausible[:4]),
        )
    return plausible[0] if plausible else None


def _agreed(table: Table, columns: Sequence[str], shown: str) -> str:
    """Return one of several label columns that map one-to-one, names before numbers."""
    first, *rest = columns
    for other in rest:
        pairs = set(zip(_cells(table, first), _cells(table, other), strict=True))
        if len(pairs) != len({a for a, _ in pairs}) or len(pairs) != len({b for _, b in pairs}):
            raise UsageError(
                f"two columns of `{shown}` could be the label: `{first}` and `{other}`, and they disagree.",
                hint=f"use --label-column '{first}' or --label-column '{other}'",
            )
        if all(a.lstrip("-").isdigit() for a, _ in pairs):
            first = other
    return first


def _from_one_hot(table: Table, classes: Sequence[str], shown: str) -> str:
    """Add a label column from one column per class.

    Raises:
        DataError: A row has several classes.
    """
    column = "label"
    for number, cells in table.lines:
        marked = [c for c in classes if cells.get(c, "").strip().lower() in _TRUE]
        if len(marked) > 1:
            raise DataError(
                f"line {number} of `{shown}` has several labels ({', '.join(f'`{c}`' for c in marked)}): "
                "multi-label data are not supported; expected one label per image.",
                hint="keep one label per image",
            )
        cells[column] = clean_label(marked[0]) if marked else ""
        for c in classes:
            cells.pop(c, None)
    table.header = [*(c for c in table.header if c not in classes), column]
    return column
