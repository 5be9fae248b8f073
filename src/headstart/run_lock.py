"""One process at a time works on a run.

The claim is a lock that the system lets go of when the process ends, however it ends; the number of a
process says too little, since another one may have it by now.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

__all__ = ["LOCK", "RunLock"]

LOCK = "lock"
"""Name of the file that is locked."""


class RunLock:
    """The claim on one run.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self._handle: int | None = None

    def take(self) -> bool:
        """Claim the run until `drop` or the end of the process.

        Returns:
            False where another process has it.  A file system without locks lets everybody in.
        """
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return True  # a folder that cannot be written to is found out about when something is saved
        try:
            _lock(handle)
        except (BlockingIOError, PermissionError):
            os.close(handle)
            return False
        except OSError:
            pass
        self._handle = handle
        return True

    def drop(self) -> None:
        """Let go of it."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = None

    def end(self) -> None:
        """Let go of a run that is over, and takes the file away: nobody will claim it again."""
        if sys.platform == "win32":  # there, what is open cannot be deleted
            self.drop()
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.drop()

    def is_taken(self) -> bool:
        """Return whether another process has it now."""
        if not self.path.exists():
            return False
        is_free = self.take()
        self.drop()
        return not is_free


def _lock(handle: int) -> None:
    """Lock the file, or raises at once where it is locked."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
