"""The boundary cache: what the frozen prefix says about stored views, kept in half precision and mapped.

The one decision: rows lie in shards that are written beside their place and renamed into it, each row
with its checksum, and are never changed in place.  A shard is whole or absent, a damaged row is found
when it is first read and made again, and two processes at worst store the same rows twice.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import mmap
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.machine import atomic_file, private_folder

__all__ = ["DEFAULT_LIMIT_BYTES", "BoundaryCache", "BoundarySpace", "RowLayout", "row_key"]

DEFAULT_LIMIT_BYTES = 8 << 30
"""What all boundary rows together may take on the disk; the spaces unused for longest go first."""

_MAGIC = b"HSBOUND1"
_ALIGN = 64


@dataclass(frozen=True, slots=True)
class RowLayout:
    """What one row holds: the tensors that cross the cut and the pooled features made before it.

    Attributes:
        names: Name of each part.
        shapes: Shape of each part, without the batch.
        dtype: `float16`, or `float32` where values do not fit into half precision.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtype: str = "float16"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each part."""
        return tuple(int(np.prod(shape)) for shape in self.shapes)

    @property
    def row_size(self) -> int:
        """Values in a row."""
        return sum(self.sizes)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row on the disk."""
        return self.row_size * np.dtype(self.dtype).itemsize

    def pack(self, parts: dict[str, NDArray[np.float32]]) -> NDArray[np.floating]:
        """(B, row_size) rows of a batch of parts, each (B, *shape).

        Raises:
            OverflowError: A value does not fit into half precision.
        """
        count = len(next(iter(parts.values())))
        flat = np.concatenate([parts[name].reshape(count, -1) for name in self.names], axis=1)
        if self.dtype == "float16" and not np.abs(flat).max(initial=0.0) < 65504.0:
            raise OverflowError("a value does not fit into half precision")
        return flat.astype(self.dtype)

    def unpack(self, rows: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
        """The parts of (B, row_size) rows, views into them."""
        parts, start = {}, 0
        for name, shape, size in zip(self.names, self.shapes, self.sizes, strict=True):
            parts[name] = rows[:, start : start + size].reshape(len(rows), *shape)
            start += size
        return parts


def row_key(digest: bytes, view: str) -> bytes:
    """16 bytes that name one view of one picture; `view` is `plain` or says augmentation, seed and number."""
    return hashlib.blake2b(digest + view.encode(), digest_size=16).digest()


class BoundarySpace:
    """Rows of one (prefix graph, pixel spec, layout).

    Args:
        folder: Where its shards lie; made when the first one is written.
        layout: What a row holds.
    """

    def __init__(self, folder: Path, layout: RowLayout) -> None:
        self.folder = folder
        self.layout = layout
        self.write_error: str | None = None
        self._rows: dict[bytes, tuple[int, int]] = {}
        self._maps: list[NDArray[np.floating]] = []
        self._sums: list[list[int]] = []
        self._checked: set[bytes] = set()
        self._seen: set[str] = set()
        self.refresh()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def get(self, key: bytes) -> NDArray[np.floating] | None:
        """(row_size,) row, mapped from the disk, or None where it is not there or is damaged."""
        place = self._rows.get(key)
        if place is None:
            return None
        shard, i = place
        row: NDArray[np.floating] = self._maps[shard][i]
        if key not in self._checked:
            if zlib.crc32(row.tobytes()) != self._sums[shard][i]:
                del self._rows[key]
                return None
            self._checked.add(key)
        return row

    def put(self, keys: Sequence[bytes], rows: NDArray[np.floating]) -> bool:
        """Writes one shard; its rows are found at once.

        Returns:
            False where the disk refused: the reason stands in `write_error`.
        """
        if not len(keys) or self.write_error:
            return False
        rows = np.ascontiguousarray(rows, dtype=self.layout.dtype)
        header = json.dumps(
            {"keys": [k.hex() for k in keys], "sums": [zlib.crc32(r.tobytes()) for r in rows]}, separators=(",", ":")
        ).encode()
        start = -(-(len(_MAGIC) + 12 + len(header)) // _ALIGN) * _ALIGN
        head = _MAGIC + len(header).to_bytes(8, "little") + zlib.crc32(header).to_bytes(4, "little") + header
        path = self.folder / f"{uuid.uuid4().hex}.rows"
        try:
            private_folder(self.folder)
            with atomic_file(path) as temporary, open(temporary, "wb") as file:
                file.write(head.ljust(start, b"\0"))
                file.write(rows.tobytes())
        except OSError as error:
            full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
            self.write_error = "the disk is full" if full else (error.strerror or str(error))
            return False
        self._open(path)
        return True

    def refresh(self) -> None:
        """Finds shards that were written since, by this process or another."""
        if not self.folder.is_dir():
            return
        for stale in self.folder.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - stale.stat().st_mtime > 3600:  # another process may be writing it now
                    stale.unlink()
        for path in sorted(self.folder.glob("*.rows")):
            if path.name not in self._seen:
                self._open(path)
        with contextlib.suppress(OSError):
            os.utime(self.folder)  # last used, for the bound on size

    def _open(self, path: Path) -> None:
        self._seen.add(path.name)
        try:
            with open(path, "rb") as file:
                fixed = file.read(len(_MAGIC) + 12)
                length = int.from_bytes(fixed[8:16], "little")
                header = file.read(length) if 0 < length < 1 << 30 else b""
                if fixed[:8] != _MAGIC or zlib.crc32(header).to_bytes(4, "little") != fixed[16:20]:
                    raise ValueError("no header")
                meta = json.loads(header)
                start = -(-(len(_MAGIC) + 12 + length) // _ALIGN) * _ALIGN
                count = len(meta["keys"])
                if os.fstat(file.fileno()).st_size != start + count * self.layout.row_bytes:
                    raise ValueError("rows are missing")
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            flat = np.frombuffer(mapped, dtype=self.layout.dtype, count=count * self.layout.row_size, offset=start)
        except FileNotFoundError:
            return  # dropped by another process: its rows are made again
        except (OSError, ValueError, KeyError):
            with contextlib.suppress(OSError):
                path.unlink()
            return
        shard = len(self._maps)
        self._maps.append(flat.reshape(count, self.layout.row_size))
        self._sums.append(meta["sums"])
        for i, key in enumerate(meta["keys"]):
            self._rows[bytes.fromhex(key)] = (shard, i)


class BoundaryCache:
    """All spaces under one root.

    Args:
        root: The cache folder (see `machine.cache_root`).
        limit_bytes: What they may take together.
    """

    def __init__(self, root: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.root = root / "boundary"
        self.limit_bytes = limit_bytes

    def space(self, prefix_digest: str, spec_digest: str, layout: RowLayout) -> BoundarySpace:
        """The space of one prefix (its digest says weights and cut), pixel spec and layout."""
        text = f"{prefix_digest}/{spec_digest}/{layout.names}/{layout.shapes}/{layout.dtype}/1"
        return BoundarySpace(self.root / hashlib.sha256(text.encode()).hexdigest()[:32], layout)

    def room_bytes(self) -> int:
        """Bytes that may still be written: within the limit (older spaces can go), and half of what is free."""
        place = self.root
        while not place.exists() and place != place.parent:
            place = place.parent
        return min(self.limit_bytes, shutil.disk_usage(place).free // 2)

    def bound(self, keep: BoundarySpace | None = None) -> int:
        """Drops the spaces unused for longest until the limit holds; returns the bytes dropped.

        A process that has one of them mapped keeps reading it.
        """
        if not self.root.is_dir():
            return 0
        spaces = []
        for folder in self.root.iterdir():
            with contextlib.suppress(OSError):
                size = sum(f.stat().st_size for f in folder.iterdir())
                spaces.append((folder.stat().st_mtime, size, folder))
        total, dropped = sum(s for _, s, _ in spaces), 0
        for _, size, folder in sorted(spaces):
            if total - dropped <= self.limit_bytes:
                break
            if keep is not None and folder == keep.folder:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            dropped += size
        return dropped
