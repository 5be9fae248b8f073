"""Store rows of bytes under keys: atomic, checked on first read, memory-mapped.

Rows are in shards that are written under a temporary name and renamed, each row with its checksum, and never changed
in place. A shard is complete or absent, a damaged row is detected on first read and remade, and two processes at worst
store the same rows twice.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import CacheError
from headstart.utils.system import atomic_file, describe_os_error, drop_stale, private_folder

__all__ = ["Shards", "drop_folders", "free_bytes"]

_MAGIC = b"HSBOUND1"
_ALIGN = 64


@dataclass(frozen=True, slots=True)
class _Shard:
    """One shard file.

    Attributes:
        path: The file.
        content: Its bytes, memory-mapped.
        bounds: (n + 1,) start of each row, and the end of the last one.
        sums: n checksums.
    """

    path: Path
    content: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    sums: list[int]


class Shards:
    """Rows in one folder.

    Args:
        folder: Folder of the shards, created with the first one.
        row_bytes: Length of every row, or None if rows differ in length.
    """

    def __init__(self, folder: Path, row_bytes: int | None = None) -> None:
        self.folder = folder
        self.write_error: str | None = None
        self._row_bytes = row_bytes
        self._rows: dict[bytes, tuple[int, int]] = {}
        self._shards: list[_Shard] = []
        self._used: set[int] = set()
        self._checked: set[bytes] = set()
        self._seen: set[str] = set()
        self.refresh()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def get(self, key: bytes) -> NDArray[np.uint8] | None:
        """Return (n,) bytes, memory-mapped, or None if the row is missing or damaged."""
        place = self._rows.get(key)
        if place is None:
            return None
        number, i = place
        shard = self._shards[number]
        row = shard.content[shard.bounds[i] : shard.bounds[i + 1]]
        if key not in self._checked:
            if zlib.crc32(row.data) != shard.sums[i]:
                self._rows.pop(key, None)
                with contextlib.suppress(OSError):
                    shard.path.unlink()  # its other rows stay available, each after its own check
                return None
            self._checked.add(key)
        if number not in self._used:
            self._used.add(number)
            with contextlib.suppress(OSError):
                os.utime(shard.path)  # last use, for `drop_oldest`
        return row

    def put(self, keys: Sequence[bytes], rows: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> bool:
        """Write one shard; its rows are available immediately.

        Args:
            keys: n keys.
            rows: n rows of bytes.

        Returns:
            False if the disk refused; `write_error` states the reason.
        """
        if not len(keys) or self.write_error:
            return False
        meta: dict[str, Any] = {"keys": [k.hex() for k in keys], "sums": [zlib.crc32(r.data) for r in rows]}
        if self._row_bytes is None:
            meta["sizes"] = [len(r) for r in rows]
        header = json.dumps(meta, separators=(",", ":")).encode()
        start = _start(len(header))
        head = _MAGIC + len(header).to_bytes(8, "little") + zlib.crc32(header).to_bytes(4, "little") + header
        path = self.folder / f"{uuid.uuid4().hex}.rows"
        try:
            private_folder(self.folder)
            with atomic_file(path) as temporary, open(temporary, "wb") as file:
                file.write(head.ljust(start, b"\0"))
                for row in rows:
                    file.write(row.data)
        except (OSError, CacheError) as error:
            self.write_error = describe_os_error(error)
            return False
        if self._open(path):
            self._used.add(len(self._shards) - 1)
        return True

    def refresh(self) -> None:
        """Find shards written since, by this process or another."""
        if not self.folder.is_dir():
            return
        drop_stale(self.folder)
        for path in sorted(self.folder.glob("*.rows")):
            if path.name not in self._seen:
                self._open(path)
        with contextlib.suppress(OSError):
            os.utime(self.folder)  # last use, for `drop_folders`

    def drop_oldest(self, size_bytes: int, limit_bytes: int) -> bool:
        """Make room for a shard: delete the least recently used ones, but none that this process has read or written.

        Args:
            size_bytes: Size of the new shard.
            limit_bytes: Size limit of all shards of the folder.

        Returns:
            Whether there is room: within the limit, and within half of the free disk space.
        """
        files = []
        with contextlib.suppress(OSError):
            for path in self.folder.glob("*.rows"):
                with contextlib.suppress(OSError):
                    files.append((path.stat().st_mtime, path.stat().st_size, path))
        own = {self._shards[number].path for number in self._used}
        total = sum(size for _, size, _ in files)
        oldest = [entry for entry in sorted(files) if entry[2] not in own]
        while total + size_bytes > limit_bytes or size_bytes > free_bytes(self.folder) // 2:
            if not oldest:
                return False
            _, size, path = oldest.pop(0)
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size
        return True

    def _open(self, path: Path) -> bool:
        """Map a shard; False if it is missing or damaged."""
        self._seen.add(path.name)
        try:
            with open(path, "rb") as file:
                fixed = file.read(len(_MAGIC) + 12)
                length = int.from_bytes(fixed[8:16], "little")
                header = file.read(length) if 0 < length < 1 << 30 else b""
                if fixed[:8] != _MAGIC or zlib.crc32(header).to_bytes(4, "little") != fixed[16:20]:
                    raise ValueError("no header")
                meta = json.loads(header)
                keys = [bytes.fromhex(key) for key in meta["keys"]]
                sizes = meta["sizes"] if self._row_bytes is None else [self._row_bytes] * len(keys)
                bounds = np.cumsum([_start(length), *sizes], dtype=np.int64)
                if os.fstat(file.fileno()).st_size != bounds[-1] or not len(keys) == len(sizes) == len(meta["sums"]):
                    raise ValueError("rows are missing")
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError:
            return False  # deleted by another process, or too many open files: its rows are remade
        except (ValueError, KeyError, TypeError):
            with contextlib.suppress(OSError):
                path.unlink()
            return False
        self._shards.append(_Shard(path, np.frombuffer(mapped, dtype=np.uint8), bounds, meta["sums"]))
        for i, key in enumerate(keys):
            self._rows[key] = (len(self._shards) - 1, i)
        return True


def free_bytes(folder: Path) -> int:
    """Return the free disk space at a folder, existing or not, in bytes."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def drop_folders(root: Path, limit_bytes: int, keep: Path | None = None) -> int:
    """Delete the least recently used folders until the size limit holds; returns the number of bytes deleted.

    A process that has mapped one of them can continue to read it.

    Args:
        root: The parent folder.
        limit_bytes: Size limit of all folders.
        keep: A folder that is not deleted.
    """
    if not root.is_dir():
        return 0
    spaces = []
    for folder in root.iterdir():
        with contextlib.suppress(OSError):
            if folder.is_dir():
                size = sum(f.stat().st_size for f in folder.iterdir())
                spaces.append((folder.stat().st_mtime, size, folder))
    total, dropped = sum(s for _, s, _ in spaces), 0
    for _, size, folder in sorted(spaces):
        if total - dropped <= limit_bytes:
            break
        if folder == keep:
            continue
        shutil.rmtree(folder, ignore_errors=True)
        dropped += size
    return dropped


def _start(header_bytes: int) -> int:
    """Return the offset of the first row."""
    return -(-(len(_MAGIC) + 12 + header_bytes) // _ALIGN) * _ALIGN
