"""Decode text files written on other systems: UTF-8, UTF-16, GBK and Windows-1252."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["decode", "head_lines", "read_text", "text_lines"]

_HIGH = re.compile(rb"[\x80-\xff]+")


def read_text(path: str, max_bytes: int = -1) -> tuple[str, str]:
    """Return the text of a file and the name of its encoding; see `decode`.

    Args:
        path: The file.
        max_bytes: Read only this many bytes; -1 reads all.

    Raises:
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as file:
        return decode(file.read(max_bytes))


def text_lines(path: str) -> list[str]:
    """Return the lines of a text file; empty if it is unreadable."""
    try:
        return read_text(path)[0].splitlines()
    except OSError:
        return []


def head_lines(path: str, limit: int = 20) -> list[str]:
    """Return the first lines of a file of at most 1 MB per 1,000 lines; empty if it is unreadable."""
    try:
        return read_text(path, 1000 * max(limit, 1000))[0].splitlines()[:limit]
    except OSError:
        return []


def decode(data: bytes) -> tuple[str, str]:
    """Return text and the encoding, `utf-8` or the one that the bytes suggest.

    A byte order mark decides, then zero bytes (UTF-16), then valid UTF-8. Otherwise most bytes above 127 stand in pairs
    in GBK, and alone in Windows-1252.
    """
    for mark, encoding in ((b"\xff\xfe\x00\x00", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, "replace"), encoding
    if data[:64].count(0) >= max(1, len(data[:64]) // 3):
        encoding = "utf-16-be" if data[0] == 0 else "utf-16-le"
        return data.decode(encoding, "replace"), encoding
    try:  # the usual case
        return data.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError as error:
        if error.start > len(data) - 4 and error.start:  # cut within a character
            return data[: error.start].decode("utf-8-sig"), "utf-8"
    runs = [len(run) for run in _HIGH.findall(data)]
    if 2 * sum(length % 2 == 0 for length in runs) >= len(runs):
        try:
            return data.decode("gb18030"), "GB18030"
        except UnicodeDecodeError:
            pass
    return data.decode("cp1252", "replace"), "Windows-1252"
