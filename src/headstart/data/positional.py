"""Read labels that are given by position: the n-th number of a vector belongs to the n-th image of a folder.

The images must be numbered without gaps, as many as there are numbers; otherwise nothing proves their order.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from headstart.data.file_tree import LocatedFile
from headstart.data.split_words import split_words
from headstart.types.records import SplitName

__all__ = ["positional_rows"]

_MIN_IMAGES = 4
_NUMBER = re.compile(r"(\d+)\D*$")
_INDEX_SUFFIX = re.compile(r"[-_]?(ids?|idx|inds?|index|indices)$", re.IGNORECASE)


def positional_rows(
    vectors: Mapping[str, Sequence[int]], images: Sequence[LocatedFile]
) -> list[tuple[LocatedFile, dict[str, str]]]:
    """Return the images of the only folder that fits, with their numbers and splits as cells of a table.

    Args:
        vectors: Numbers by the name of their vector. Vectors named after splits (`trnid`, `valid`, `tstid`) that hold
            the number of each image once are its splits.
        images: All images.
    """
    fitting = []
    for numbered in _numbered_folders(images):
        splits = _splits(vectors, len(numbered))
        labels = {
            name: values
            for name, values in vectors.items()
            if len(values) == len(numbered) and 1 < len(set(values)) <= len(values) // 2 and not split_words(name)
        }
        if labels:
            fitting.append((numbered, labels, splits))
    if len(fitting) != 1:
        return []
    numbered, labels, splits = fitting[0]
    rows = []
    for i, image in enumerate(numbered):
        cells = {name: str(values[i]) for name, values in labels.items()}
        rows.append((image, {**cells, "split": splits[i]} if splits else cells))
    return rows


def _numbered_folders(images: Sequence[LocatedFile]) -> list[list[LocatedFile]]:
    """Return the images of each folder in the order of their numbers, where these are 0, 1, 2 ... or 1, 2, 3 ..."""
    inside: dict[tuple[str, ...], list[LocatedFile]] = defaultdict(list)
    for image in images:
        inside[image.folders].append(image)
    folders = []
    for files in inside.values():
        numbers = {}
        for file in files:
            number = _NUMBER.search(file.file.rsplit(".", 1)[0])
            if number is not None:
                numbers[int(number[1])] = file
        first = min(numbers, default=2)
        if len(numbers) == len(files) >= _MIN_IMAGES and first <= 1 and max(numbers) == len(files) - 1 + first:
            folders.append([numbers[n] for n in sorted(numbers)])
    return folders


def _splits(vectors: Mapping[str, Sequence[int]], count: int) -> list[SplitName]:
    """Return the split of each image from vectors of their numbers, or nothing."""
    named: dict[SplitName, list[int]] = {}
    for name, values in vectors.items():
        words = split_words(_INDEX_SUFFIX.sub("", name)) or split_words(name)
        if len(words) == 1:
            named.setdefault(next(iter(words)), []).extend(values)
    by_number = {number: split for split, values in named.items() for number in values}
    first = min(by_number, default=0)
    is_partition = sorted(n for values in named.values() for n in values) == [*range(first, first + count)]
    return [by_number[n] for n in sorted(by_number)] if is_partition and len(named) > 1 and first <= 1 else []
