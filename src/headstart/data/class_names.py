"""Name numbered classes from a file of names.

A number becomes a name by its position only with evidence of where counting starts: a 0, a number equal to the number
of names, or image paths that contain the names. Without evidence the user decides.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from headstart.data.file_tree import clean_label, printable
from headstart.data.name_matching import fold_name
from headstart.errors import UsageError
from headstart.types.codes import ReadingKind, ReadingNote

__all__ = ["FIRST_IDS", "NAME_FILES", "ClassNaming", "find_name_files", "name_classes", "stated_names"]

NAME_FILES = ("labels.txt", "classes.txt", "class_names.txt", "label_list.txt", "names.txt", "synsets.txt")
"""File names, in lower case, that may hold class names; earlier ones are preferred."""

FIRST_IDS = (0, 1, "none")
"""Values of `--first-id`: the number of the first name, or `none` to keep the numbers as class names."""

_HEADERS = frozenset(
    {"class", "classes", "label", "labels", "name", "names", "class_name", "class_names", "classname", "category"}
)
_BACKGROUND = frozenset({"background", "__background__", "_background_"})
_STATED = re.compile(r"(\d+)(?:\s*[:;,=|\t]\s*|\s+)(\S.*)")
_STATED_LAST = re.compile(r"(.*\S)(?:\s*[:;,=|\t]\s*|\s+)(\d+)")
_LETTERS, _LETTERS_AND_DIGITS = re.compile(r"[^\W\d_]+"), re.compile(r"[^\W_]+")
_MIN_LETTERS = 3  # of a name searched inside path components


@dataclass(frozen=True, slots=True)
class ClassNaming:
    """Names of numbered classes.

    Attributes:
        names: Class name by number; empty where the numbers stay.
        notes: Which file was used and why, or why none was used.
    """

    names: Mapping[int, str]
    notes: tuple[ReadingNote, ...] = ()


@dataclass(frozen=True, slots=True)
class _Option:
    """One interpretation of a names file: name by number, and the first number (None: the file states the numbers)."""

    names: dict[int, str]
    first_id: int | None


@dataclass(frozen=True, slots=True)
class _Decided:
    """The selected option, its evidence, and the number of image paths that contain the name of their class."""

    option: _Option
    reason: str
    num_agreeing: int = 0


def find_name_files(folder: str) -> list[str]:
    """Return the files in a folder that may hold class names, preferred ones first."""
    try:
        present = {name.casefold(): name for name in sorted(os.listdir(folder), reverse=True)}
    except OSError:
        return []
    return [os.path.join(folder, present[name]) for name in NAME_FILES if name in present]


def name_classes(
    files: Mapping[str, Sequence[str]],
    rows: Sequence[tuple[int, str]],
    list_name: str,
    *,
    first_id: int | str | None = None,
) -> ClassNaming:
    """Select the names of numbered classes.

    Args:
        files: Lines of each names file, by file name, preferred ones first.
        rows: Class number and relative path of each image.
        list_name: Name of the list, for messages.
        first_id: One of `FIRST_IDS`, as set by the user; None decides by evidence.

    Raises:
        UsageError: Several interpretations fit, or paths contradict the only one.
    """
    ids = {number for number, _ in rows}
    if first_id == "none" or not ids:
        return ClassNaming({}, tuple(_unused(file, ids, "option") for file in files if first_id == "none"))
    decided: dict[str, _Decided] = {}
    notes: list[ReadingNote] = []
    undecided: UsageError | None = None
    for file, lines in files.items():
        options = [o for o in _options(lines) if first_id in (None, o.first_id) or o.first_id is None]
        fitting = [o for o in options if ids <= set(o.names)]
        if not fitting:
            if any(o.names for o in options):
                notes.append(_unused(file, ids, "ids_without_name", max(len(o.names) for o in options)))
            continue
        try:
            decided[file] = _decide(fitting, rows, ids, file, list_name, is_explicit=first_id is not None)
        except UsageError as error:
            undecided = undecided or error
    if not decided:
        if undecided is not None:
            raise undecided
        return ClassNaming({}, tuple(notes))
    (file, chosen), *others = decided.items()
    names = {k: chosen.option.names[k] for k in sorted(ids)}
    for other, decision in others:
        differing = [k for k in names if fold_name(decision.option.names[k]) != fold_name(names[k])]
        if differing:
            k = differing[0]
            raise UsageError(
                f"`{file}` and `{other}` name the classes of `{list_name}` differently: {k} is `{names[k]}` or "
                f"`{decision.option.names[k]}`.",
                hint="move the wrong file away, or use --first-id none to keep the numbers as class names",
            )
    evidence = {
        "file": file,
        "first_id": chosen.option.first_id,
        "reason": chosen.reason,
        "num_images": len(rows),
        "num_agreeing": chosen.num_agreeing,
        "names": {str(k): name for k, name in [*names.items()][:5]},
    }
    examples = tuple([*names.values()][:5])
    return ClassNaming(names, (ReadingNote(ReadingKind.NAMES_FROM_FILE, len(names), examples, evidence), *notes))


def _unused(file: str, ids: set[int], reason: str, num_names: int = 0) -> ReadingNote:
    evidence = {"file": file, "reason": reason, "num_names": num_names}
    if ids:
        evidence |= {"smallest_id": min(ids), "largest_id": max(ids)}
    return ReadingNote(ReadingKind.NAMES_FILE_UNUSED, 1, (file,), evidence)


def _options(lines: Sequence[str]) -> list[_Option]:
    """Return all interpretations of the lines of a names file."""
    names = [clean_label(line.removeprefix("\ufeff")) for line in lines]
    while names and not names[-1]:
        names.pop()
    filled = [name for name in names if name]
    stated = _stated(filled)
    if stated is not None:
        return [_Option(stated, None)]
    if filled and filled[0].casefold() in _HEADERS:
        names, filled = names[names.index(filled[0]) + 1 :], filled[1:]
    options = []
    for listed in [filled] if len(filled) == len(names) else [names, filled]:  # a blank line may count or not
        for first in (0, 1):
            option = _Option({i: name for i, name in enumerate(listed, start=first) if name}, first)
            if option not in options:
                options.append(option)
    return options


def stated_names(lines: Sequence[str]) -> dict[int, str] | None:
    """Return names by number where every line states its number, besides a header; None otherwise."""
    names = [name for line in lines if (name := clean_label(line.removeprefix("\ufeff")))]
    return _stated(names) or _stated(names[1:])


def _stated(names: Sequence[str]) -> dict[int, str] | None:
    """Return names by number where every line states its number, before or after the name."""
    for pattern, number, name in ((_STATED, 1, 2), (_STATED_LAST, 2, 1)):
        matches = [pattern.fullmatch(line) for line in names]
        by_number = {int(m[number]): m[name].strip() for m in matches if m is not None}
        is_whole = len(by_number) == len(names) == len({fold_name(n) for n in by_number.values()})
        is_counted = sorted(by_number) in ([*range(len(by_number))], [*range(1, len(by_number) + 1)])
        if names and is_whole and (is_counted or number == 1):
            return by_number
    return None


def _decide(
    fitting: Sequence[_Option],
    rows: Sequence[tuple[int, str]],
    ids: set[int],
    file: str,
    list_name: str,
    *,
    is_explicit: bool,
) -> _Decided:
    """Return the option that the evidence supports.

    Raises:
        UsageError: Several options remain, or image paths contradict the only one.
    """
    alike: dict[tuple[str, ...], _Option] = {}
    for option in fitting:
        alike.setdefault(tuple(option.names[k] for k in sorted(ids)), option)
    options = [*alike.values()]
    search = _Search({name for option in options for name in option.names.values()})
    names_in = [(k, search.names_in(path)) for k, path in rows]
    votes = [_votes(option, names_in) for option in options]
    if len(options) == 1:
        option, (agreeing, opposing, _) = options[0], votes[0]
        if opposing > agreeing and not is_explicit:
            pairs = zip(rows, names_in, strict=True)
            k, path = next(row for row, (_, names) in pairs if names and option.names[row[0]] not in names)
            start = "by its own numbers" if option.first_id is None else f"counted from {option.first_id}"
            raise UsageError(
                f"`{file}` names class {k} of `{list_name}` `{option.names[k]}` ({start}), but the path of "
                f"`{printable(path)}` names another class.",
                hint="correct the names file, or use --first-id none to keep the numbers as class names"
                + ("" if option.first_id is None else f", --first-id {option.first_id} if it is correct"),
            )
        if is_explicit or option.first_id is None:
            return _Decided(option, "option" if is_explicit and option.first_id is not None else "stated", agreeing)
        return _Decided(option, "zero_occurs" if 0 in ids else "last_id", agreeing)
    for option, (agreeing, opposing, num_ids) in zip(options, votes, strict=True):
        rivals = [v for o, v in zip(options, votes, strict=True) if o is not option]
        is_clear = agreeing and opposing <= 0.1 * agreeing and num_ids >= min(2, len(ids))
        if is_clear and all(v[0] <= 0.1 * agreeing for v in rivals):
            return _Decided(option, "paths", agreeing)
    first = min(ids)
    from_0 = next((o for o in options if o.first_id == 0), options[0])
    from_1 = next((o for o in options if o.first_id == 1), options[-1])
    if from_0.names.get(0, "").casefold() in _BACKGROUND and len(options) == 2:
        return _Decided(from_0, "background")
    if from_0.first_id == from_1.first_id:  # only blank lines are in doubt
        raise UsageError(
            f"`{file}` has blank lines between its names, so class {first} of `{list_name}` is `{from_0.names[first]}` "
            f"or `{from_1.names[first]}`.",
            hint="remove or fill the blank lines, or use --first-id none to keep the numbers as class names",
        )
    raise UsageError(
        f"`{list_name}` numbers its classes {first} to {max(ids)} and `{file}` has {len(from_0.names)} names, so class "
        f"{first} is `{from_0.names[first]}` if the first name is number 0, or `{from_1.names[first]}` if it is "
        "number 1.",
        hint="use --first-id 0, --first-id 1, or --first-id none to keep the numbers as class names",
    )


def _votes(option: _Option, names_in: Sequence[tuple[int, frozenset[str]]]) -> tuple[int, int, int]:
    """Count paths with the name of their class, paths with only other names, and the classes of the former."""
    agreeing = [k for k, names in names_in if names == {option.names[k]}]
    opposing = sum(bool(names) and option.names[k] not in names for k, names in names_in)
    return len(agreeing), opposing, len(set(agreeing))


class _Search:
    """Find class names in paths: a component that equals the name or contains it as whole words.

    Args:
        names: Class names.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._whole: dict[str, str] = {}
        self._words: dict[re.Pattern[str], dict[tuple[str, ...], str]] = {_LETTERS: {}, _LETTERS_AND_DIGITS: {}}
        for name in names:
            self._whole[fold_name(name)] = name
            pattern = _LETTERS_AND_DIGITS if any(c.isdigit() for c in name) else _LETTERS
            words = tuple(pattern.findall(name.casefold()))
            if sum(map(len, words)) >= _MIN_LETTERS:
                self._words[pattern][words] = name
        self._longest = max((len(words) for known in self._words.values() for words in known), default=0)

    def names_in(self, path: str) -> frozenset[str]:
        """Return all names in a path; only names of whole components where there are any."""
        *folders, file = path.replace("\\", "/").split("/")
        parts = [*folders, os.path.splitext(file)[0]]
        whole = {self._whole[key] for key in map(fold_name, parts) if key in self._whole}
        if whole:
            return frozenset(whole)
        in_path = set()
        for pattern, known in self._words.items():
            for words in (pattern.findall(part.casefold()) for part in parts):
                for i in range(len(words)):
                    for j in range(i + 1, min(len(words), i + self._longest) + 1):
                        name = known.get(tuple(words[i:j]))
                        if name is not None:
                            in_path.add(name)
        return frozenset(in_path)
