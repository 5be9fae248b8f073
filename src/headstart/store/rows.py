"""Store rows of bytes under keys: crash-safe, checked on first read, memory-mapped.

A shard is written under a temporary name and renamed, each row with its checksum, and never changed in place. So a
shard is complete or absent, a damaged row is detected on first read and remade, and two processes at worst store the
same rows twice. Many small shards are merged.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import time
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import CacheError
from headstart.store.cache import ROWS, Cache
from headstart.utils.system import atomic_file, describe_os_error, drop_stale, private_folder

__all__ = ["RowStore"]

Row = NDArray[np.uint8]

_MAGIC = b"HSROWS01"
_INDEX = np.dtype([("key", "V16"), ("end", "<u8"), ("checksum", "<u4")])
_ALIGN = 64
_SMALL_BYTES = 2 << 20  # smaller shards are read instead of mapped, and merged
_MAX_SMALL = 8
_SHARD_BYTES = 64 << 20
_SHARD_SECONDS = 10.0  # maximum work lost when a run is killed
_MAX_WAITING = 192 << 20  # in memory, if the disk is slower than what makes the rows


@dataclass(eq=False, slots=True)
class _Shard:
    """One shard file.

    Attributes:
        path: The file.
        keys: (n,) keys of 16 bytes.
        content: Its bytes, memory-mapped unless it is small.
        mapping: The memory map of a large one.
        bounds: (n + 1,) start of each row, and the end of the last one.
        checksums: (n,) CRC-32 of each row.
        is_checked: (n,) whether the checksum of a row was compared.
        num_unchecked: Number of rows of which it was not.
        is_used: Whether this process has read or written a row.
    """

    path: Path
    keys: list[bytes]
    content: Row
    mapping: mmap.mmap | None
    bounds: list[int]
    checksums: list[int]
    is_checked: bytearray
    num_unchecked: int
    is_used: bool = False

    def row(self, i: int) -> Row | None:
        """Return a row, or None if it is damaged."""
        row = self.content[self.bounds[i] : self.bounds[i + 1]]
        if not self.is_checked[i]:
            if zlib.crc32(row.data) != self.checksums[i]:
                return None
            self.is_checked[i] = 1
            self.num_unchecked -= 1
            if self.num_unchecked == 0 and self.mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
                self.mapping.madvise(mmap.MADV_DONTNEED)  # most rows are read once: release the memory
        return row


class RowStore:
    """Rows in one folder; thread-safe.

    Args:
        folder: Folder of the shards, created on the first write.
        cache: Bounds the size of all rows; None for a folder without a limit.

    Attributes:
        shard_rows: Added rows that are written as one shard.
        held_bytes: Size of the rows that stay in memory if the disk refuses them.
        write_error: Why the disk refused rows, or None; the store is then read-only.
    """

    def __init__(self, folder: Path, cache: Cache | None = None) -> None:
        self.folder = folder
        self.shard_rows = 1 << 30
        self.held_bytes = 0
        self.write_error: str | None = None
        self._cache = cache
        self._shards: dict[str, _Shard] = {}
        self._places: dict[bytes, tuple[_Shard, int]] = {}
        self._added: dict[bytes, Row] = {}  # not yet on disk
        self._added_bytes = 0
        self._since = 0.0  # time of the first of them
        self._lock = threading.Lock()  # of the added rows
        self._writing = threading.Lock()
        self.refresh()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: bytes) -> bool:
        return key in self._added or key in self._places

    @property
    def is_behind(self) -> bool:
        """Return whether the disk is slower than the rows that are added."""
        return self._added_bytes > _MAX_WAITING

    def get(self, key: bytes) -> Row | None:
        """Return memory-mapped (n,) bytes, or None if the row is missing or damaged."""
        row = self._added.get(key)
        if row is not None:
            return row
        place = self._places.get(key)
        if place is None:
            return None
        shard, i = place
        row = shard.row(i)
        if row is None:
            self._places.pop(key, None)
            with contextlib.suppress(OSError):
                shard.path.unlink()  # its other rows stay available, each after its own check
            return None
        if not shard.is_used:
            shard.is_used = True
            with contextlib.suppress(OSError):
                os.utime(shard.path)  # last use, for the size limit
        return row

    def add(self, rows: Mapping[bytes, NDArray[Any]], *, is_waiting: bool = True) -> None:
        """Add rows that are available immediately and written later, several at once.

        Args:
            rows: Rows of bytes, or of the array's type, by key.
            is_waiting: Whether to wait while another thread writes; False keeps more rows in memory (see `is_behind`).
        """
        with self._lock:
            if not self._added:
                self._since = time.monotonic()
            for key, row in rows.items():
                if key in self or (self.write_error and self._added_bytes + row.nbytes > self.held_bytes):
                    continue
                self._added[key] = row.view(np.uint8)
                self._added_bytes += row.nbytes
            is_due = len(self._added) >= self.shard_rows or self._added_bytes >= _SHARD_BYTES
            is_late = time.monotonic() - self._since > _SHARD_SECONDS
        if is_due or (is_late and self._added):
            self.flush(is_waiting=is_waiting)

    def flush(self, *, is_waiting: bool = True) -> None:
        """Write the added rows; without waiting, only if no other thread is writing."""
        if self.write_error or not self._added or not self._writing.acquire(blocking=is_waiting):
            return
        try:
            with self._lock:
                rows = dict(self._added)
            is_written = self._put(rows)
            with self._lock:
                for key in list(rows)[:: 1 if is_written else -1]:
                    if is_written or self._added_bytes > self.held_bytes:
                        self._added_bytes -= self._added.pop(key).nbytes
                self._since = time.monotonic()
        finally:
            self._writing.release()

    def put(self, rows: Mapping[bytes, NDArray[Any]]) -> bool:
        """Write one shard of rows now.

        Returns:
            False if the disk refused; `write_error` states the reason.
        """
        with self._writing:
            return self._put(rows)

    def refresh(self) -> None:
        """Load shards that this or another process has written since."""
        if not self.folder.is_dir():
            return
        drop_stale(self.folder)
        for _ in range(2):  # another process may merge shards while they are listed
            paths = [path for path in sorted(self.folder.glob(f"*{ROWS}")) if path.name not in self._shards]
            if sum(self._open(path) for path in paths) == len(paths):
                break

    def _put(self, rows: Mapping[bytes, NDArray[Any]]) -> bool:
        if self.write_error:
            return False
        self.refresh()  # another process may have written the same rows
        new = {key: row for key, row in rows.items() if key not in self._places}
        if new and self._write(new):
            self._merge()
        return not self.write_error

    def _write(self, rows: Mapping[bytes, NDArray[Any]]) -> bool:
        size = sum(row.nbytes for row in rows.values())
        used = {shard.path for shard in self._shards.values() if shard.is_used}
        try:
            if self._cache is not None and not self._cache.make_room(size, self.folder, used):
                raise CacheError("the size limit of the cache, or half of the free disk space, is used")
            private_folder(self.folder)
            path = self.folder / f"{uuid.uuid4().hex}{ROWS}"
            with atomic_file(path) as temporary:
                _write_shard(temporary, rows)
        except (OSError, CacheError) as error:
            self.write_error = describe_os_error(error)
            return False
        if self._open(path):
            self._shards[path.name].is_used = True
        return True

    def _merge(self) -> None:
        """Write many small shards as one; safe to interrupt."""
        small = [s for s in self._shards.values() if len(s.content) <= _SMALL_BYTES]
        if len(small) <= _MAX_SMALL:
            return
        with self._cache.locked() if self._cache is not None else contextlib.nullcontext(True) as is_locked:
            if not is_locked:
                return
            small = [s for s in small if s.path.exists()]  # another process may have merged them
            rows = {key: row for s in small for i, key in enumerate(s.keys) if (row := s.row(i)) is not None}
            if len(small) > _MAX_SMALL and self._write(rows):
                for shard in small:
                    with contextlib.suppress(OSError):
                        shard.path.unlink()
                    del self._shards[shard.path.name]

    def _open(self, path: Path) -> bool:
        """Read the index of a shard; False if it is missing or damaged."""
        try:
            shard = _read_shard(path)
        except OSError:
            return False  # deleted by another process, or too many open files: its rows are remade
        except ValueError:
            with contextlib.suppress(OSError):
                path.unlink()
            return False
        self._shards[path.name] = shard
        for i, key in enumerate(shard.keys):
            self._places[key] = shard, i
        return True


def _write_shard(path: Path, rows: Mapping[bytes, NDArray[Any]]) -> None:
    """Write magic, number of rows, checksum of the index, index and rows."""
    index = np.zeros(len(rows), dtype=_INDEX)
    index["key"] = np.frombuffer(b"".join(rows), dtype="V16")
    index["end"] = _start(len(rows)) + np.cumsum([row.nbytes for row in rows.values()])
    index["checksum"] = [zlib.crc32(row.data) for row in rows.values()]
    text = index.tobytes()
    head = _MAGIC + len(rows).to_bytes(8, "little") + zlib.crc32(text).to_bytes(4, "little") + text
    with open(path, "wb") as file:
        file.write(head.ljust(_start(len(rows)), b"\0"))
        for row in rows.values():
            file.write(row.data)


def _read_shard(path: Path) -> _Shard:
    """Read the index of a shard and map its rows.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(len(_MAGIC) + 12)
        num = int.from_bytes(head[8:16], "little")
        if head[:8] != _MAGIC or _start(num) > size:
            raise ValueError("no index")
        text = file.read(num * _INDEX.itemsize)
        index = np.frombuffer(text, dtype=_INDEX)
        bounds = [_start(num), *index["end"].tolist()]
        if zlib.crc32(text) != int.from_bytes(head[16:], "little") or bounds[-1] != size:
            raise ValueError("rows are missing")
        is_mapped = size > _SMALL_BYTES
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if is_mapped else None
        file.seek(0)
        content = np.frombuffer(mapping or file.read(), dtype=np.uint8)
    keys = index["key"].tobytes()
    return _Shard(
        path=path,
        keys=[keys[16 * i : 16 * i + 16] for i in range(num)],
        content=content,
        mapping=mapping,
        bounds=bounds,
        checksums=index["checksum"].tolist(),
        is_checked=bytearray(num),
        num_unchecked=num,
    )


def _start(num_rows: int) -> int:
    """Return the offset of the first row."""
    return -(-(len(_MAGIC) + 12 + num_rows * _INDEX.itemsize) // _ALIGN) * _ALIGN
