"""Find the image, label, split and group columns of a table by option, by name and by content.

The image column is the one whose cells resolve to files, whatever its name.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence

from headstart.data.file_names import name_prefix
from headstart.data.file_tree import clean_label, printable
from headstart.data.options import ReadOptions
from headstart.data.paths import PathFinder
from headstart.data.reading import LabelEvidence, SplitQuestionError, UnusableSplitError, ask_between
from headstart.data.split_words import cell_split, split_name
from headstart.data.tables import GROUP_NAMES, IMAGE_NAMES, LABEL_NAMES, SPLIT_NAMES, Table, plain_name
from headstart.data.unit_names import UNITS, is_placeholder
from headstart.errors import DataError, UsageError
from headstart.messages.files import shell_path
from headstart.messages.numbers import pluralize
from headstart.types.codes import ReadingKind, ReadingNote
from headstart.types.records import SplitName

__all__ = ["MissingColumnError", "assign_columns", "find_image_column", "several_labels"]

_USUAL_LABELS = (
    *("choice", "diagnosis", "dx", "species", "breed", "level", "grade", "variety", "finding", "y"),
    *("tag", "tags", "type", "emotion", "disease", "family", "genus", "ground_truth", "annotation"),
)
_NOT_LABELS = frozenset(
    {
        *("age", "sex", "gender", "date", "time", "year", "width", "height", "size", "channels", "camera", "scanner"),
        *("site", "rater", "annotator", "worker"),
    }
)
_ITEMS = UNITS | {"id", "scan", "session", "user", "index"}
_SEPARATORS = ("|", ";", ",", "+", "&", "/", " ")
_LABEL_WORDS = frozenset(["label", "labels", "class", "classes", "category", "target", "classname"])
_WITH_BOX = re.compile(r"(\S+)( -?\d+(\.\d+)?){4}")
_TRUE, _FALSE = frozenset({"1", "1.0", "true", "yes", "t"}), frozenset({"0", "0.0", "-1", "false", "no", "f", ""})
_ANNOTATOR = re.compile(
    r"(?P<who>rater|annotator|labeler|labeller|reader|grader|observer|reviewer|expert|worker|coder|radiologist|"
    r"pathologist|doctor|physician)_?(\d+|[a-z])(_(label|class|grade|diagnosis|rating|score|vote))?"
    r"|(?P<label>label|class|grade|diagnosis|rating|vote|annotation)_?((rater|annotator|reader|grader|expert)_?)?"
    r"(\d+|[a-h])"
)
_MIN_AGREEING = 0.5  # of the rows of columns such as `label_a`, which may also be labels of several kinds
_PROBE = 50
_EXTRA_SPLITS = ("fold", "folds", "kfold", "cv_fold", "phase", "usage")


class MissingColumnError(UsageError):
    """A table does not have the column of an option."""


def assign_columns(table: Table, finder: PathFinder, options: ReadOptions) -> Table:
    """Find the columns of a loaded table; one column per class becomes one label column.

    Raises:
        DataError: No column names images, a row has several labels, or a split cannot be used.
        UsageError: A column of an option does not exist.
    """
    shown = printable(os.path.basename(table.path))
    image = _option(table, options.image_column, "--image-column") or find_image_column(table, finder)
    table.image = image
    if options.split_column != "none" and finder.has_images and not finder.names_splits:
        _split_prefixes(table)
    free = [c for c in table.header if c != image]
    table.group = None
    if options.group_column != "none":
        table.group = _option(table, options.group_column, "--group-column") or next(
            (c for c in free if plain_name(c) in GROUP_NAMES), None
        )
    free = [c for c in free if c != table.group]
    table.split = None
    if options.split_column != "none":
        table.split = _option(table, options.split_column, "--split-column") or _split_column(table, free, shown)
    chosen = _option(table, options.label_column, "--label-column")
    table.label_columns, table.annotators, table.evidence = [], [], LabelEvidence.NAMED
    if chosen is not None:
        table.label_columns = [chosen]
    else:
        _find_label_columns(table, [c for c in table.header if c in free and c != table.split], shown)
    table.label = table.label_columns[0] if table.label_columns else None
    for column in table.label_columns:
        _drop_boxes(table, column)
    return table


def _drop_boxes(table: Table, column: str) -> None:
    """Keep the labels of cells that hold labels with boxes: `n01440764 1 1 7 7`."""
    filled = [cell for cell in _cells(table, column) if cell]
    if not filled or not all(re.fullmatch(rf"(?:{_WITH_BOX.pattern}\s*)+", cell) for cell in filled):
        return
    table.notes.append(ReadingNote(ReadingKind.BOXES_UNUSED, len(filled), tuple(filled[:5])))
    for _, cells in table.lines:
        cells[column] = " ".join(dict.fromkeys(m[1] for m in _WITH_BOX.finditer(cells.get(column, ""))))


def _cells(table: Table, column: str) -> list[str]:
    return [cells.get(column, "").strip() for _, cells in table.lines]


def _option(table: Table, name: str | None, option: str) -> str | None:
    if name is None:
        return None
    found = next((c for c in table.header if c == name or plain_name(c) == plain_name(name)), None)
    if found is None:
        raise MissingColumnError(
            f"`{printable(os.path.basename(table.path))}` has no column `{name}`; its columns are "
            + ", ".join(f"`{c}`" for c in table.header[:10])
            + ".",
            hint=f"pass one of them to {option}",
        )
    return found


def find_image_column(table: Table, finder: PathFinder) -> str:
    """Return the column with the most different cells that resolve to files; a usual name breaks ties.

    A table without a header gets the columns `column1`, `column2` ...

    Raises:
        DataError: There are no rows, or no column names images.
    """
    shown, header = printable(os.path.basename(table.path)), table.header
    if not any(plain_name(c) in IMAGE_NAMES for c in header) and any(finder.exists(c) for c in header if c):
        first = dict(zip((names := [f"column{i}" for i in range(1, len(header) + 1)]), header, strict=True))
        lines = [(n, dict(zip(names, cells.values(), strict=False))) for n, cells in table.lines]
        table.header, table.lines = names, [(1, first), *lines]
    if not table.lines:
        raise DataError(
            f"the table `{shown}` has no rows.", hint="expected a header and one row per image: image,label"
        )
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
    usual = next((c for wanted in IMAGE_NAMES for c in table.header if plain_name(c) == wanted), None)
    if usual is None:
        listed = ", ".join(f"`{c}`" for c in table.header[:10])
        raise DataError(
            f"the table `{shown}` has no image column; its columns are {listed}.",
            hint="name the columns image,label (and optionally split,group), or use --image-column and --label-column",
        )
    return usual


def _split_flag(table: Table, column: str) -> SplitName | None:
    """Return the split of a column such as `is_valid`, or `train` if it holds true and false."""
    name = plain_name(column)
    if name.startswith("is_"):
        return split_name(name.removeprefix("is_"))
    is_flag = len({cell.lower() for cell in _cells(table, column)} & (_TRUE | _FALSE)) > 1
    return split_name(name) if is_flag else None


def _split_column(table: Table, free: Sequence[str], shown: str) -> str | None:
    """Return the split column; flags such as `is_valid` become split names in place.

    Raises:
        UnusableSplitError: A flag has other values than true and false.
        SplitQuestionError: The column has other values than splits.
    """
    flags = {c: flag for c in free if (flag := _split_flag(table, c)) is not None}
    if flags:
        for number, cells in table.lines:
            named: str = ""
            for column in flags:
                value, split = cells.get(column, "").strip().lower(), flags[column]
                if value not in _TRUE | _FALSE:
                    raise UnusableSplitError(
                        f"line {number} of `{shown}` has the {column} `{value}`; expected true or false.",
                        hint="correct it, or use --split-column none to ignore the column",
                    )
                if value in _TRUE:
                    named = split
                elif split == "train" and not named:
                    named = "test"
            cells[next(iter(flags))] = named or "train"
        chosen, *others = flags
        for column in others:
            for _, cells in table.lines:
                cells.pop(column, None)
            table.header.remove(column)
        return chosen
    named_column = next((c for c in free if plain_name(c) in SPLIT_NAMES), None)
    if named_column is not None:
        return named_column
    for column in free:
        values = set(_cells(table, column)) - {""}
        if len(values) > 1 and all(cell_split(value) for value in values):
            return column
    unusable = next((c for c in free if plain_name(c) in _EXTRA_SPLITS), None)
    if unusable is not None:
        raise _ask_about_folds(table, unusable, shown)
    return None


def _ask_about_folds(table: Table, column: str, shown: str) -> SplitQuestionError:
    """Return the question about a column such as `fold`, whose values are no splits: held out in turn, or not used."""
    counts = Counter(_cells(table, column))
    values = ", ".join(f"`{value}` {n:,}" for value, n in sorted(counts.items())[:4]) + " ..." * (len(counts) > 4)
    held_out = f"each of {pluralize(len(counts), 'value')} ({values}) is scored with a model of the others"
    question = ask_between(
        [
            (f"column `{column}` of `{shown}`: {held_out}", f"--group-column {shell_path(column)}"),
            ("the column is not used, and there is no split", "--split-column none"),
        ]
    )
    return SplitQuestionError(str(question), hint=question.hint)


def _split_prefixes(table: Table) -> None:
    """Turn split names at the start of all paths into a column, where no folder of the data names a split."""
    paths = [cell.replace("\\", "/").lstrip("./").partition("/") for cell in _cells(table, table.image)]
    splits = [split_name(first) if rest else None for first, _, rest in paths]
    if None in splits or len(set(splits)) < 2 or "train" not in splits or "split" in table.header:
        return
    table.header = [*table.header, "split"]
    for (_, cells), (first, _, rest) in zip(table.lines, paths, strict=True):
        cells[table.image], cells["split"] = rest, first


def _find_label_columns(table: Table, free: Sequence[str], shown: str) -> None:
    """Set the columns that may be the label: by name, one per class, or by content, words before numbers.

    Raises:
        DataError: A row has several labels.
    """
    exact = [c for c in free if plain_name(c) in LABEL_NAMES]
    annotators = [] if exact else _annotators(table, free)
    if annotators:
        table.label_columns, table.annotators = annotators[:1], annotators
        return
    numbered = [c for c in free if re.fullmatch(r"(label|class|tag)_?\d+", plain_name(c))]
    if len(numbered) > 1:
        raise DataError(
            f"`{shown}` has several labels in a row ({', '.join(f'`{c}`' for c in numbered[:4])}): multi-label data "
            "are not supported; expected one label per image.",
            hint=f"choose one column: --label-column '{numbered[0]}'",
        )
    named = sorted(exact, key=lambda c: LABEL_NAMES.index(plain_name(c)))
    named = named or [c for c in free if _LABEL_WORDS & set(plain_name(c).split("_"))]
    if named:
        table.label_columns = _distinct(table, named)
        return
    flags = [c for c in free if set(_cells(table, c)) <= _TRUE | _FALSE and not re.fullmatch(r"column\d+", c)]
    usable = [c for c in free if not set(plain_name(c).split("_")) & (_NOT_LABELS | _ITEMS)]
    candidates = free if len(free) == 1 else usable
    measured = [c for c in candidates if c not in flags and all(map(_is_number, _cells(table, c)))]
    if sum(bool(set(_cells(table, c)) & _TRUE) for c in flags) > 1 and len(measured) != 1:
        table.label_columns = [_from_one_hot(table, flags, shown)]
        return
    usual = [c for c in free if plain_name(c) in _USUAL_LABELS]
    if usual:
        table.label_columns = _distinct(table, usual)
        return
    words: list[str] = []
    numbers: list[str] = []
    for column in usable:
        values = set(_cells(table, column)) - {""}
        kind = numbers if all(_is_number(v) for v in values) else words
        if 1 < len(values) <= max(2, len(table.lines) // 2) or several_labels(_cells(table, column)):
            kind.append(column)
    table.evidence = LabelEvidence.TEXT if words else LabelEvidence.NUMBERS
    if words:
        table.label_columns = words
    elif not _name_by_files(table, numbers):
        is_measured = len(measured) == 1 and set(numbers) <= {*flags, *measured}
        table.label_columns = measured if is_measured else numbers


def _annotators(table: Table, free: Sequence[str]) -> list[str]:
    """Return the columns with labels of several annotators in each row: `rater1`, `rater2` or `label_a`, `label_b`.

    They share a vocabulary; columns that are named as labels also agree in most rows, unlike several labels.
    """
    for kind in ("who", "label"):
        found = {c: m for c in free if (m := _ANNOTATOR.fullmatch(plain_name(c))) is not None and m[kind]}
        columns = [c for c in found if found[c][kind] == next(iter(found.values()))[kind]]
        votes = [[cell.casefold() for cell in _cells(table, c)] for c in columns]
        words = [{vote for vote in own if not is_placeholder(vote)} for own in votes]
        shared = Counter(word for own in words for word in own)
        is_shared = len(words) > 1 and all(words) and 2 * sum(n > 1 for n in shared.values()) >= len(shared)
        if not is_shared or not 1 < len(shared) <= max(2, len(table.lines) // 2):
            continue
        rows = [[v for v in row if not is_placeholder(v)] for row in zip(*votes, strict=True)]
        several = [row for row in rows if len(row) > 1]
        num_agreeing = sum(2 * Counter(row).most_common(1)[0][1] > len(row) for row in several)
        if kind == "who" or num_agreeing >= _MIN_AGREEING * max(1, len(several)):
            return columns
    return []


def _name_by_files(table: Table, columns: Sequence[str]) -> bool:
    """Use the column of numbers that maps one-to-one to the words in the file names, with these words as labels."""
    prefixes = [name_prefix(cell) for cell in _cells(table, table.image)]
    if "" in prefixes or not 1 < len(set(prefixes)) <= len(prefixes) / 2:
        return False
    for column in columns:
        names = dict(zip(_cells(table, column), prefixes, strict=True))
        pairs = set(zip(_cells(table, column), prefixes, strict=True))
        if len(pairs) == len(names) == len(set(names.values())):
            for (_, cells), name in zip(table.lines, prefixes, strict=True):
                cells[column] = name
            evidence = {"names": dict([*names.items()][:5]), "source": "file_names"}
            table.notes.append(
                ReadingNote(ReadingKind.NAMES_FROM_PATHS, len(names), tuple(names.values())[:5], evidence)
            )
            table.label_columns, table.evidence = [column], LabelEvidence.NAMED
            return True
    return False


def several_labels(cells: Sequence[str]) -> str | None:
    """Return the longest cell that holds several labels, if the cells of a column do."""
    filled = [cell for cell in cells if cell]
    different = set(filled)
    quoted = [c for c in different if c[0] in "[{" and len(re.findall(r"'[^']*'|\"[^\"]*\"", c.partition("[")[2])) > 1]
    if quoted:
        return max(quoted, key=len)
    for separator in _SEPARATORS:
        parts = {cell: {p.strip() for p in cell.split(separator)} - {""} for cell in different}
        several = [cell for cell in different if len(parts[cell]) > 1]
        if not several:
            continue
        counts = Counter(part for own in parts.values() for part in own)
        related = [cell for cell in several if parts[cell] & different]
        in_several = {part for cell in several for part in parts[cell]}
        is_shared = 2 * sum(counts[part] > 1 for part in in_several) >= len(in_several)
        is_list = separator == "," and is_shared
        is_list |= separator in "|;" and (bool(related) or any(counts[part] > 1 for part in in_several))
        is_composed = len(counts) <= 0.6 * len(different) and 2 * len(related) >= len(several)
        if is_list or is_composed or any(parts[cell] <= different for cell in several):
            return max(related or several, key=len)
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _distinct(table: Table, columns: Sequence[str]) -> list[str]:
    """Return the columns without those that map one-to-one to another; names are preferred to numbers."""
    kept: list[str] = []
    for column in columns:
        for i, other in enumerate(kept):
            pairs = set(zip(_cells(table, other), _cells(table, column), strict=True))
            if len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}):
                if all(_is_number(a) for a, _ in pairs):
                    kept[i] = column
                break
        else:
            kept.append(column)
    return kept


def _from_one_hot(table: Table, classes: Sequence[str], shown: str) -> str:
    """Add a label column from one column per class.

    Raises:
        DataError: A row has several classes.
    """
    column = "one column per class"
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
