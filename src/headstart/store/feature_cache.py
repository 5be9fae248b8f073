"""Cache pooled features by content, safe with two processes and with SIGKILL.

A shard is one uncompressed `.npz`, written under a temporary name and renamed, and never changed in place. So a shard
is complete or absent; zip's checksums detect a damaged one, which is deleted and rebuilt; two processes at worst store
the same rows twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import uuid
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import CacheError
from headstart.store.shards import drop_folders
from headstart.utils.system import atomic_file, describe_os_error, drop_stale, private_folder

__all__ = ["DEFAULT_LIMIT_BYTES", "CacheInfo", "FeatureCache", "FeatureSpace", "cache_info", "clear_cache"]

DEFAULT_LIMIT_BYTES = 4 << 30
"""Size limit of all pooled features; the least recently used spaces are deleted first."""

_MERGE_ABOVE = 8  # number of small shards of one space from which they are merged
_SMALL_ROWS = 256
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """Size of one part of the cache."""

    name: str
    num_files: int
    size_bytes: int


class FeatureSpace:
    """Features of one (backbone graph, preprocessing, view): file digest to a row of each block.

    Args:
        folder: Folder of the shards, created with the first one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: dict[bytes, tuple[int, int]] = {}
        self._shards: list[dict[str, NDArray[np.float32]]] = []
        self._files: list[Path] = []
        self.write_error: str | None = None
        self._load()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._rows

    def get(self, digest: bytes) -> dict[str, NDArray[np.float32]] | None:
        """Return one (D,) row per block, or None if this image is not cached."""
        place = self._rows.get(digest)
        if place is None:
            return None
        shard, row = place
        return {name: block[row] for name, block in self._shards[shard].items()}

    def put(self, digests: list[bytes], blocks: Mapping[str, NDArray[np.float32]]) -> bool:
        """Write one shard; its rows are available when the space is opened next.

        Args:
            digests: n digests of 32 bytes.
            blocks: (n, D) float32 by block name.

        Returns:
            False if the disk refused (full, read-only); `write_error` states the reason, and the
            rows are not cached.
        """
        if not digests or self.write_error:
            return False
        keys = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(digests), 32)
        path = self.folder / f"{uuid.uuid4().hex}.npz"
        try:
            private_folder(self.folder)
            with atomic_file(path) as temporary, open(temporary, "wb") as file:
                arrays: dict[str, Any] = {f"block_{name}": block for name, block in blocks.items()}
                np.savez(file, digests=keys, **arrays)
        except (OSError, CacheError) as error:
            self.write_error = describe_os_error(error)
            return False
        self._files.append(path)
        return True

    def merge(self) -> None:
        """Merge many small shards into one; safe to interrupt.

        Only small shards are merged, so a large space is never held in memory twice.
        """
        if len(self._files) <= _MERGE_ABOVE or self.write_error:
            return
        small: list[tuple[Path, NDArray[np.uint8], dict[str, NDArray[np.float32]]]] = []
        for path in sorted(self.folder.glob("*.npz")):
            with contextlib.suppress(*_UNREADABLE):
                keys, blocks = _read_shard(path, most_rows=_SMALL_ROWS)
                if blocks:
                    small.append((path, keys, blocks))
        if len(small) <= _MERGE_ABOVE:
            return
        blocks = {name: np.concatenate([shard[name] for _, _, shard in small]) for name in small[0][2]}
        if self.put([key.tobytes() for _, keys, _ in small for key in keys], blocks):
            for path, _, _ in small:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _load(self) -> None:
        if not self.folder.is_dir():
            return
        drop_stale(self.folder)
        for path in sorted(self.folder.glob("*.npz")):
            try:
                keys, blocks = _read_shard(path)
            except FileNotFoundError:
                continue  # merged by another process: its rows are in the merged shard or are rebuilt
            except _UNREADABLE:
                with contextlib.suppress(OSError):
                    path.unlink()
                continue
            self._add(path, keys, blocks)
        with contextlib.suppress(OSError):
            os.utime(self.folder)  # last use, for the size limit

    def _add(self, path: Path, keys: NDArray[np.uint8], blocks: dict[str, NDArray[np.float32]]) -> None:
        shard = len(self._shards)
        self._shards.append(blocks)
        self._files.append(path)
        for row, key in enumerate(keys):
            self._rows[key.tobytes()] = (shard, row)


def _read_shard(path: Path, most_rows: int | None = None) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.float32]]]:
    """Return (n, 32) digests and (n, D) blocks of one shard; no blocks if it has more than `most_rows`.

    Raises one of `_UNREADABLE` if it is damaged.
    """
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as data:
        keys = data["digests"]
        if most_rows is not None and len(keys) > most_rows:
            return keys, {}
        blocks = {name[6:]: data[name] for name in data.files if name.startswith("block_")}
    if not blocks or any(len(block) != len(keys) for block in blocks.values()):
        raise ValueError("rows are missing")
    return keys, blocks


class FeatureCache:
    """All feature spaces under one root.

    Args:
        root: The cache folder (see `system.cache_root`).
        limit_bytes: Size limit of all spaces.
    """

    def __init__(self, root: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.root = root / "features"
        self.limit_bytes = limit_bytes

    def space(self, graph_digest: str, spec_digest: str, view: str = "plain") -> FeatureSpace:
        """Return the space of one graph, preprocessing and view; its key is the digest of the three."""
        key = hashlib.sha256(f"{graph_digest}/{spec_digest}/{view}/1".encode()).hexdigest()[:32]
        return FeatureSpace(self.root / key)

    def bound(self, keep: FeatureSpace | None = None) -> int:
        """Delete the least recently used spaces until the limit holds; returns the number of bytes deleted."""
        return drop_folders(self.root, self.limit_bytes, None if keep is None else keep.folder)


def cache_info(root: Path) -> list[CacheInfo]:
    """Return the number of files and bytes of each part of the cache."""
    parts = []
    if root.is_dir():
        for folder in sorted(p for p in root.iterdir() if p.is_dir()):
            files = [f for f in folder.rglob("*") if f.is_file()]
            parts.append(CacheInfo(folder.name, len(files), sum(f.stat().st_size for f in files)))
    return parts


def clear_cache(root: Path, part: str | None = None) -> int:
    """Delete the cache, or one part of it; returns the number of bytes freed.

    Raises:
        CacheError: Some of it cannot be deleted.
    """
    freed = 0
    refused: list[tuple[str, str]] = []
    for info in cache_info(root):
        if part is None or info.name == part:
            _delete(root / info.name, refused)
            freed += info.size_bytes
    if refused:
        raise CacheError(
            f"cannot delete `{refused[0][0]}` ({refused[0][1]}).",
            hint="check whether another user or program is using it; the rest was deleted",
        )
    return freed


def _delete(folder: Path, refused: list[tuple[str, str]]) -> None:
    """Delete a folder as far as possible, and add (path, reason) of the rest to `refused`."""

    def note(_function: Any, path: str, error: Any) -> None:
        problem = error if isinstance(error, BaseException) else error[1]
        if isinstance(problem, OSError) and not isinstance(problem, FileNotFoundError):
            refused.append((path, describe_os_error(problem)))

    if sys.version_info >= (3, 12):
        shutil.rmtree(folder, onexc=note)
    else:
        shutil.rmtree(folder, onerror=note)
