"""Provide system helpers: CPU cores, cache folder, atomic writes (standard library only)."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from headstart.errors import CacheError

__all__ = [
    "Clock",
    "atomic_file",
    "atomic_folder",
    "available_cores",
    "cache_root",
    "describe_os_error",
    "drop_stale",
    "file_digest",
    "fsync_path",
    "private_folder",
    "release_idle_threads",
]

Clock: TypeAlias = Callable[[], float]
"""Monotonic clock of time budgets in seconds; tests replace it."""

_STALE_S = 3600.0


def available_cores() -> int:
    """Return the number of cores available to this process, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def release_idle_threads() -> None:
    """Let idle torch threads sleep instead of spin; call before torch is imported, which reads the setting once.

    Spinning threads slow down all other work, including the view workers (`benchmarks/bench_finetune_speed.py`).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def cache_root() -> Path:
    """Return the cache folder: `HEADSTART_CACHE`, otherwise the cache folder of the user.

    Linux uses `XDG_CACHE_HOME`, macOS `~/Library/Caches`, Windows `%LOCALAPPDATA%`.
    """
    named = os.environ.get("HEADSTART_CACHE")
    if named:
        return Path(named).expanduser()
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "headstart"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "headstart" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "headstart"
    return Path.home() / ".cache" / "headstart"


def private_folder(folder: Path) -> Path:
    """Create a folder that only this user can read, with its parents.

    Raises:
        CacheError: The folder cannot be created.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(
            f"cannot create the cache folder `{folder}` ({error.strerror or error}).",
            hint="set a writable folder: HEADSTART_CACHE=/some/folder",
        ) from error
    return folder


def describe_os_error(error: OSError | CacheError) -> str:
    """Return the reason of a write error as text."""
    if isinstance(error, CacheError):
        return error.message.rstrip(".")
    is_full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    return "the disk is full" if is_full else (error.strerror or str(error))


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_path(path: Path) -> None:
    """Flush a file, or if possible a folder, to disk."""
    if sys.platform == "win32" and path.is_dir():
        return  # folders cannot be opened on Windows; renames are journaled
    handle = os.open(path, os.O_RDONLY if sys.platform != "win32" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path next to `target` that atomically replaces it on success."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        fsync_path(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def drop_stale(folder: Path) -> None:
    """Remove temporary files of `atomic_file` from killed processes, at least an hour old."""
    for stale in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - stale.stat().st_mtime > _STALE_S:  # younger files may be in use
                stale.unlink()


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `target` that is atomically renamed to it on success.

    If `target` already exists (another process was faster), the new folder is discarded.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir(mode=0o700, parents=True)
    try:
        yield temporary
        for file in temporary.iterdir():
            if file.is_file():
                fsync_path(file)
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
