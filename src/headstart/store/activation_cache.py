"""Cache activations of augmented views at a cut, in half precision and memory-mapped.

Keys identify file, view and augmentation; folders identify network, cut and preprocessing. Entries are therefore never
stale. `store.shards` writes rows atomically, with checksums, and supports concurrent processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.store.shards import Shards, drop_folders, free_bytes

__all__ = ["DEFAULT_LIMIT_BYTES", "ActivationCache", "ActivationPartition", "RowLayout", "row_key"]

DEFAULT_LIMIT_BYTES = 8 << 30
"""Size limit of all cached activations; the least recently used partitions are deleted first."""


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Layout of a row: the tensors at the cut and the pooled features before it.

    Attributes:
        names: Name of each part.
        shapes: Shape of each part, without the batch dimension.
        dtype: `float16`, or `float32` if values exceed half precision.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtype: str = "float16"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the number of values of each part."""
        return tuple(int(np.prod(shape)) for shape in self.shapes)

    @property
    def row_size(self) -> int:
        """Return the number of values in a row."""
        return sum(self.sizes)

    @property
    def row_bytes(self) -> int:
        """Return the size of a row on disk in bytes."""
        return self.row_size * np.dtype(self.dtype).itemsize

    def pack(self, parts: dict[str, NDArray[np.float32]]) -> NDArray[np.floating]:
        """Concatenate parts, each (B, *shape), to (B, row_size) rows.

        Raises:
            OverflowError: A value exceeds half precision.
        """
        count = len(next(iter(parts.values())))
        flat = np.concatenate([parts[name].reshape(count, -1) for name in self.names], axis=1)
        if self.dtype == "float16" and not np.abs(flat).max(initial=0.0) < 65504.0:
            raise OverflowError("a value exceeds half precision")
        return flat.astype(self.dtype)

    def unpack(self, rows: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
        """Split (B, row_size) rows into parts, each (B, *shape), without copying."""
        parts, start = {}, 0
        for name, shape, size in zip(self.names, self.shapes, self.sizes, strict=True):
            parts[name] = rows[:, start : start + size].reshape(len(rows), *shape)
            start += size
        return parts


def row_key(digest: bytes, view: str) -> bytes:
    """Return the 16-byte key of a view of an image; `view` is `plain` or encodes augmentation, seed and number."""
    return hashlib.blake2b(digest + view.encode(), digest_size=16).digest()


class ActivationPartition:
    """Cached rows of one prefix graph, preprocessing and layout.

    Args:
        folder: Folder of the shards, created on the first write.
        layout: Layout of the rows.
    """

    def __init__(self, folder: Path, layout: RowLayout) -> None:
        self.folder = folder
        self.layout = layout
        self._shards = Shards(folder, layout.row_bytes)

    def __len__(self) -> int:
        return len(self._shards)

    def __contains__(self, key: bytes) -> bool:
        return key in self._shards

    @property
    def write_error(self) -> str | None:
        """Return why the last write failed, or None."""
        return self._shards.write_error

    def get(self, key: bytes) -> NDArray[np.floating] | None:
        """Return a memory-mapped (row_size,) row, or None if it is missing or damaged."""
        row = self._shards.get(key)
        return None if row is None else row.view(self.layout.dtype)

    def put(self, keys: Sequence[bytes], rows: NDArray[np.floating]) -> bool:
        """Write one shard; its rows are available immediately.

        Returns:
            False if the write failed; `write_error` states the reason.
        """
        if not len(keys):
            return False
        rows = np.ascontiguousarray(rows, dtype=self.layout.dtype)
        return self._shards.put(keys, rows.view(np.uint8))

    def refresh(self) -> None:
        """Load shards that this or another process has written since."""
        self._shards.refresh()


class ActivationCache:
    """All partitions of activations below one root.

    Args:
        root: The cache folder (see `system.cache_root`).
        limit_bytes: Size limit of all partitions.
    """

    def __init__(self, root: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.root = root / "boundary"
        self.limit_bytes = limit_bytes

    def space(self, prefix_digest: str, spec_digest: str, layout: RowLayout) -> ActivationPartition:
        """Return the partition of a prefix, preprocessing and layout; the prefix digest covers weights and cut."""
        text = f"{prefix_digest}/{spec_digest}/{layout.names}/{layout.shapes}/{layout.dtype}/1"
        return ActivationPartition(self.root / hashlib.sha256(text.encode()).hexdigest()[:32], layout)

    def room_bytes(self) -> int:
        """Return how many bytes may be written: the size limit, but at most half of the free disk space."""
        return min(self.limit_bytes, free_bytes(self.root) // 2)

    def bound(self, keep: ActivationPartition | None = None) -> int:
        """Delete the least recently used partitions down to the size limit; return the number of bytes deleted.

        Processes that have mapped a deleted partition can continue to read it.
        """
        return drop_folders(self.root, self.limit_bytes, None if keep is None else keep.folder)
