"""Address many images inside one file, so that a container of 100,000 images needs one file instead of 100,000.

The path of a packed image is that of the pack, followed by offset, length and extension, as if the pack were a folder:
`.../images.pack/1024+512.jpg`.
"""

from __future__ import annotations

import os
import re

__all__ = ["PACK", "packed_path", "read_packed"]

PACK = "images.pack"
"""File name of every pack."""

_PATH = re.compile(rf"^(.*[/\\]{re.escape(PACK)})[/\\](\d+)\+(\d+)(\.\w*)?$", re.DOTALL)


def packed_path(folder: str, offset: int, length: int, suffix: str) -> str:
    """Return the path of an image in the pack of a folder."""
    return os.path.join(folder, PACK, f"{offset}+{length}{suffix}")


def read_packed(path: str | os.PathLike[str], limit: int | None = None) -> bytes | None:
    """Return the bytes of a packed image, at most `limit` of them; None for any other path.

    Raises:
        OSError: The pack cannot be read.
    """
    match = _PATH.match(text) if PACK in (text := os.fspath(path)) else None
    if match is None:
        return None
    with open(match[1], "rb") as file:
        file.seek(int(match[2]))
        return file.read(int(match[3]) if limit is None else min(limit, int(match[3])))
