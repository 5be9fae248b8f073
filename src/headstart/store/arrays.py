"""Store rows of arrays with one layout: pooled features, or the tensors that cross a cut."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.store.cache import Cache
from headstart.store.rows import RowStore

__all__ = ["ArrayRows", "RowLayout"]


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
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def slices(self) -> dict[str, slice]:
        """Return the place of each part in a row."""
        ends = list(itertools.accumulate(self.sizes))
        return {name: slice(end - size, end) for name, size, end in zip(self.names, self.sizes, ends, strict=True)}

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
        places = zip(self.slices.items(), self.shapes, strict=True)
        return {name: rows[:, place].reshape(len(rows), *shape) for (name, place), shape in places}


class ArrayRows(RowStore):
    """Rows of one layout.

    Args:
        folder: Folder of the shards, created on the first write.
        layout: Layout of the rows.
        cache: See `RowStore`.
    """

    def __init__(self, folder: Path, layout: RowLayout, cache: Cache | None = None) -> None:
        self.layout = layout
        super().__init__(folder, cache)

    @classmethod
    def open(cls, cache: Cache, part: str, layout: RowLayout, *identity: str) -> ArrayRows:
        """Return the rows of one graph and preprocessing (their digests) in a part of the cache."""
        shape = (layout.names, layout.shapes, layout.dtype)
        return cls(cache.folder(part, *identity, *shape), layout, cache)

    def get(self, key: bytes) -> NDArray[Any] | None:
        """Return a memory-mapped (row_size,) row, or None if it is missing or damaged."""
        row = super().get(key)
        return None if row is None else row.view(self.layout.dtype)
