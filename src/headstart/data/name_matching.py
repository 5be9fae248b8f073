"""Compare class names regardless of case, spaces and Unicode form."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache

__all__ = ["find_alike", "fold_name", "match_names"]


@lru_cache(maxsize=65_536)
def fold_name(name: str) -> str:
    """Return a key that is equal for names that differ only in case, spaces or Unicode form.

    Hyphens and underscores between other characters count as spaces; other punctuation counts (`C`, `C++`, `1+`, `1-`).
    """
    text = unicodedata.normalize("NFKC", name).casefold()
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc"))
    text = re.sub(r"(?<=[^\W_])[-_]+(?=[^\W_])", " ", text)
    return unicodedata.normalize("NFC", "".join(text.split())) or name


def find_alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return groups of two or more different names with one key, sorted."""
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        groups[fold_name(name)].add(name)
    return sorted(tuple(sorted(same)) for same in groups.values() if len(same) > 1)


def match_names(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Map each name to its known name: an identical one, else the only one with the same key.

    Names without a match are absent. A key that several known names share matches none of them.
    """
    exact = set(known)
    by_key: dict[str, set[str]] = defaultdict(set)
    for name in exact:
        by_key[fold_name(name)].add(name)
    matched = {}
    for name in names:
        same = by_key.get(fold_name(name), set())
        if name in exact:
            matched[name] = name
        elif len(same) == 1:
            matched[name] = next(iter(same))
    return matched
