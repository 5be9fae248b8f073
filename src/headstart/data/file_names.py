"""Find labels in file names: `cat.0.jpg`, `great_pyrenees_12.jpg`, `12_cat.jpg`."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from headstart.data.file_tree import LocatedFile

__all__ = ["find_masks", "name_prefix", "suggest_pattern"]

_MASK = re.compile(
    r"(.+?)[._ -]+(?:masks?|segmentation|segmented|seg|gt|groundtruth|label|trimap)(?:[._ -]*\d+)?", re.IGNORECASE
)
_NUMBERED = re.compile(r"(.*[^\W\d_])([._\- ]*)\(?\d+\)?")

_NUMBER_FIRST = re.compile(r"\d+[._\- ]*([^\W\d_](?:.*[^\W\d_])?)")


def find_masks(images: Sequence[LocatedFile]) -> list[LocatedFile]:
    """Return the images of a folder that are masks of others by their names: `1_mask.png` beside `1.png`."""
    named = [(image, _MASK.fullmatch(os.path.splitext(image.file)[0])) for image in images]
    if not any(match for _, match in named):
        return []
    stems = {os.path.splitext(image.file)[0] for image, match in named if match is None}
    return [image for image, match in named if match is not None and match[1] in stems]


def name_prefix(path: str) -> str:
    """Return the words before the number that ends a file name; empty without words or number."""
    match = _NUMBERED.fullmatch(os.path.splitext(re.split(r"[/\\]", path)[-1])[0])
    return match[1] if match else ""


def suggest_pattern(images: Iterable[LocatedFile]) -> tuple[str, Counter[str]] | None:
    """Return the `--label-pattern` that reads labels from file names, with the images of each label.

    None if fewer than half of the names have words before a number and not all have a number before words, or if the
    words are not shared by few groups of images.
    """
    files = [image.file for image in images]
    ends = Counter(m[1] for file in files if (m := _NUMBER_FIRST.fullmatch(os.path.splitext(file)[0])))
    if ends.total() == len(files) and 1 < len(ends) <= len(files) / 2:
        return r"^\d+[._ -]*([^/]*[^\W\d_])\.\w+$", ends
    counts = Counter(prefix for file in files if (prefix := name_prefix(file)))
    if not 2 * counts.total() >= len(files) or not 1 < len(counts) <= counts.total() / 2:
        return None
    gaps = {m[2] for file in files if (m := _NUMBERED.fullmatch(os.path.splitext(file)[0]))}
    end = next(iter(gaps))
    is_plain = len(gaps) == 1 and end and counts.total() == len(files) and not any(end in prefix for prefix in counts)
    return (f"{{label}}{end}*" if is_plain else r"^([^/]*[^\W\d_])[._ -]*\d+\D*$"), counts
