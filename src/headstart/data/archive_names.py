"""Decode file names of archives that were written in a legacy code page without saying which.

UTF-8 is certain where it is valid. Otherwise the code page is the most likely one: each is given the probability of its
characters, by script and by the level of the character set, and names of an archive share one code page.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from headstart.errors import UsageError

__all__ = ["NameEncoding", "check_encoding", "guess_encoding"]

_MARGIN = 2.0  # nats between the best and the second code page
_RARE = 1e-7
_PRIOR = {"gbk": 1.0, "cp437": 0.1}  # nats


@dataclass(frozen=True, slots=True)
class NameEncoding:
    """The encoding of names.

    Attributes:
        name: Codec of Python, e.g. `gbk`.
        is_certain: Whether it is proven, or given by the user.
        other: The second most likely codec where the first is hardly more likely, else None.
    """

    name: str
    is_certain: bool
    other: str | None = None


def check_encoding(name: str) -> str:
    """Return a given encoding if Python knows it.

    Raises:
        UsageError: It does not.
    """
    try:
        "".encode(name)
    except LookupError as error:
        raise UsageError(
            f"unknown encoding `{name}`.", hint="e.g. gbk, shift_jis, euc_kr, big5, cp866, cp1251, cp437"
        ) from error
    return name


def guess_encoding(names: Iterable[bytes]) -> NameEncoding:
    """Return the encoding of paths with bytes above 127; each of their parts counts once."""
    text = b"/".join(dict.fromkeys(part for name in names for part in name.split(b"/") if not part.isascii()))
    try:
        text.decode("utf-8")
        return NameEncoding("utf-8", True)
    except UnicodeDecodeError:
        pass
    scores = {codec: _log_likelihood(text, codec) for codec in _MODELS}
    best = max(scores, key=lambda codec: scores[codec])
    near = (c for c in scores if scores[best] - scores[c] < _MARGIN and text.decode(c) != text.decode(best))
    return NameEncoding(best, False, next(near, None))


def _log_likelihood(text: bytes, codec: str) -> float:
    try:
        decoded = text.decode(codec)
    except UnicodeDecodeError:
        return -math.inf
    model, total = _MODELS[codec], _PRIOR.get(codec, 0.0)
    for i, char in enumerate(decoded):
        if char > "\x7f":
            before = decoded[i - 1] if i else "/"
            after = decoded[i + 1] if i + 1 < len(decoded) else "/"
            total += math.log(model(char, before, after))
    return total


def _level(codec: str, first: int, last: int, size: int) -> Callable[[str], float]:
    """Return the probability of a character of the more frequent level of a double-byte set."""

    def probability(char: str) -> float:
        try:
            raw = char.encode(codec)
        except UnicodeEncodeError:
            return _RARE
        return 1 / size if len(raw) == 2 and first <= raw[0] << 8 | raw[1] <= last else _RARE

    return probability


_GB_1, _GB_2 = _level("gb2312", 0xB0A1, 0xD7F9, 3755), _level("gb2312", 0xD8A1, 0xF7FE, 3008)
_BIG5_1, _BIG5_2 = _level("big5", 0xA440, 0xC67E, 5401), _level("big5", 0xC940, 0xF9D5, 7652)
_JIS_1, _JIS_2 = _level("cp932", 0x889F, 0x9872, 2965), _level("cp932", 0x989F, 0xEAA4, 3390)
_HANGUL = _level("euc_kr", 0xB0A1, 0xC8FE, 2350)


def _chinese(char: str, before: str, after: str) -> float:
    return max(0.9 * _GB_1(char), 0.1 * _GB_2(char))


def _traditional(char: str, before: str, after: str) -> float:
    return max(0.9 * _BIG5_1(char), 0.1 * _BIG5_2(char))


def _japanese(char: str, before: str, after: str) -> float:
    if "\u3041" <= char <= "\u30fc":  # kana
        return 0.5 / 83
    return max(0.45 * _JIS_1(char), 0.03 * _JIS_2(char))


def _korean(char: str, before: str, after: str) -> float:
    return _HANGUL(char)


def _cyrillic(char: str, before: str, after: str) -> float:
    """Return the probability of a Cyrillic letter: not within a Latin word, upper case at the start of a word only."""
    if not ("а" <= char.lower() <= "я" or char.lower() == "ё"):
        return _RARE
    if any(c.isascii() and c.isalpha() for c in (before, after)):
        return 1e-5
    is_inside = before.isalpha()
    return 1 / 33 if char.islower() or not is_inside else 1 / 33 if before.isupper() else 1e-3


def _western(char: str, before: str, after: str) -> float:
    """Return the probability of an accented Latin letter: most letters of a word are ASCII."""
    if not unicodedata.name(char, "").startswith("LATIN "):
        return _RARE
    has_ascii = any(c.isascii() and c.isalpha() for c in (before, after))
    is_cased = char.islower() or not before.isalpha() or before.isupper()
    return 1 / 40 if has_ascii and is_cased else 1e-4


_MODELS: dict[str, Callable[[str, str, str], float]] = {
    "gbk": _chinese,
    "cp932": _japanese,
    "cp949": _korean,
    "cp950": _traditional,
    "cp866": _cyrillic,
    "cp1251": _cyrillic,
    "cp437": _western,
    "cp850": _western,
    "cp1252": _western,
}
