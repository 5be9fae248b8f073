"""Recognize split names in folders, file names and table cells."""

from __future__ import annotations

import re
from functools import lru_cache

from headstart.types.records import SplitName

__all__ = ["split_name", "split_words"]

_SPLIT_WORDS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "tst": "test",
}
_SPLIT_SUFFIX = re.compile(r"[-_ ]?(set|data|images|imgs|split)$")


def split_name(folder: str) -> SplitName | None:
    """Return the split that a folder or cell names, in any case (`Train`, `VAL`, `valid`, `test_set`), or None."""
    word = _SPLIT_SUFFIX.sub("", folder.strip().lower())
    return _SPLIT_WORDS.get(word)


@lru_cache(maxsize=65_536)
def split_words(folder: str) -> frozenset[SplitName]:
    """Return all splits named by words of a folder or file name: `test_images`, `seg_train`, `val2017`."""
    whole = split_name(folder)
    words = re.findall(r"[^\W\d_]+", folder.lower())
    named = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS and word != "dev"}
    return frozenset(named | {whole} if whole else named)
