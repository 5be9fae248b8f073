"""Lock a folder for one process.

The operating system releases the lock when the process ends, even if it is killed. A stored process id is not enough,
because another process may have the same id later.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

__all__ = ["LOCK", "FolderLock"]

LOCK = "lock"
"""Name of the lock file."""


class FolderLock:
    """Lock of one folder.

    Args:
        folder: A run folder or the cache folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self._handle: int | None = None

    def acquire(self) -> bool:
        """Lock the folder until `release` or the end of the process.

        Returns:
            False if another process holds the lock; True on file systems without locks.
        """
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return True  # an unwritable folder raises when something is saved
        try:
            _lock(handle)
        except (BlockingIOError, PermissionError):
            os.close(handle)
            return False
        except OSError:
            pass
        self._handle = handle
        return True

    def release(self) -> None:
        """Release the lock."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = None

    def remove(self) -> None:
        """Release the lock of a finished run and delete its file."""
        if sys.platform == "win32":  # open files cannot be deleted on Windows
            self.release()
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.release()

    def is_locked(self) -> bool:
        """Return whether another process holds the lock."""
        if not self.path.exists():
            return False
        is_free = self.acquire()
        self.release()
        return not is_free


def _lock(handle: int) -> None:
    """Lock the file without waiting; raise if it is locked."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
