"""Bound the cache folder: one size limit for all rows, one lock, and the sizes of its parts."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.errors import CacheError
from headstart.utils.locks import FolderLock
from headstart.utils.system import describe_os_error

__all__ = ["LIMIT_BYTES", "ROWS", "Cache", "CacheInfo", "cache_info", "clear_cache", "row_key"]

LIMIT_BYTES = 16 << 30
"""Size limit of all rows on disk; the least recently used shards are deleted first."""

ROWS = ".rows"
"""Suffix of shard files."""

_PARTS = ("features", "activations", "decoded", "scans")
_SHARE = 2  # one folder may fill a half of the limit, so that a large data set does not displace everything else


def row_key(digest: bytes, view: str) -> bytes:
    """Return the 16-byte key of one view of one file.

    Args:
        digest: SHA-256 of the content of the file.
        view: `plain`, the augmentation with seed and number, a decoding rule, or a part of the scan.
    """
    return hashlib.blake2b(digest + view.encode(), digest_size=16).digest()


class Cache:
    """The rows under one cache folder.

    Args:
        root: The cache folder (see `system.cache_root`).
        limit_bytes: Size limit of all rows.
    """

    def __init__(self, root: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self.root = root
        self.limit_bytes = limit_bytes

    def folder(self, part: str, *identity: object) -> Path:
        """Return the folder of rows with one identity, e.g. network, preprocessing and layout."""
        text = "/".join(str(value) for value in identity)
        return self.root / part / hashlib.sha256(text.encode()).hexdigest()[:32]

    def free_bytes(self) -> int:
        """Return how many bytes one folder may use: half of the size limit, but at most half of the free disk space."""
        return min(self.limit_bytes // _SHARE, free_bytes(self.root) // 2)

    def make_room(self, size_bytes: int, folder: Path, used: Collection[Path]) -> bool:
        """Make room for a shard: delete the least recently used ones.

        Processes that have mapped a deleted shard can continue to read it.

        Args:
            size_bytes: Size of the new shard.
            folder: Folder of the new shard.
            used: Shards that must not be deleted.

        Returns:
            Whether there is room: within the limit, and within half of the free disk space.
        """
        files = sorted(self._files())
        excess = sum(size for _, size, _ in files) + size_bytes - self.limit_bytes
        own = sum(size for _, size, path in files if path.parent == folder) + size_bytes - self.limit_bytes // _SHARE
        short = size_bytes - free_bytes(self.root) // 2
        if max(excess, own, short) <= 0:
            return True
        with self.locked() as is_locked:
            for _, size, path in files if is_locked else ():
                is_own = path.parent == folder
                if path in used or not (excess > 0 or short > 0 or (is_own and own > 0)):
                    continue
                with contextlib.suppress(OSError):
                    path.unlink()
                    excess, own = excess - size, own - size * is_own
                    short = size_bytes - free_bytes(self.root) // 2
        return not is_locked or max(excess, own, short) <= 0  # another process is making room

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the lock of deletions and merges; yields False if another process holds it."""
        lock = FolderLock(self.root)
        is_locked = lock.acquire()
        try:
            yield is_locked
        finally:
            lock.release()

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Yield (last use, bytes, path) of each shard."""
        for part in _PARTS:
            for path in (self.root / part).glob(f"*/*{ROWS}"):
                with contextlib.suppress(OSError):
                    status = path.stat()
                    yield status.st_mtime, status.st_size, path


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """Size of one part of the cache."""

    name: str
    num_files: int
    size_bytes: int


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


def free_bytes(folder: Path) -> int:
    """Return the free disk space at a folder, existing or not, in bytes."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
